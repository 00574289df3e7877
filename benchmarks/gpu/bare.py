"""Makes a bare machine able to import the checkout: the folder of links, and wheels for what is not installed."""

import os
import stat
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

WHEELS = ".gpu-wheels"


def prepare(checkout: Path, packages: Path) -> list[str]:
    """Put the checkout and what is missing on the paths of this process and of those that it starts.

    Args:
        checkout: Of this repository.
        packages: Folder that wheels are unpacked into.

    Returns:
        The distributions that were taken from wheels.
    """
    packages.mkdir(parents=True, exist_ok=True)
    taken = []
    for wheel in sorted((checkout / WHEELS).glob("*.whl")):
        name = distribution(wheel)
        if not installed(name):
            unpack(wheel, packages)
            taken.append(name)
    if not installed("tenshot"):
        say_version(checkout, packages)
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    ours = [str(checkout), str(checkout / "src"), *inherited, str(checkout / "tests"), str(packages)]
    sys.path[1:1] = ours[:2]
    sys.path += ours[-2:]
    os.environ["PYTHONPATH"] = os.pathsep.join(ours)
    if taken:
        print(f"from {WHEELS}: {', '.join(taken)}", flush=True)
    return taken


def say_version(checkout: Path, packages: Path) -> None:
    """Let ``importlib.metadata`` know the version of the checkout, which runs write down."""
    about = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    folder = packages / f"{about['name']}-{about['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")


def metadata(wheel: Path) -> Message:
    """What a wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1]
        return HeaderParser().parsestr(archive.read(name).decode())


def distribution(wheel: Path) -> str:
    """The name in the wheel's metadata."""
    return str(metadata(wheel)["Name"])


def installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def unpack(wheel: Path, folder: Path) -> None:
    """Put a wheel's packages into a folder, programs executable as the wheel has them."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            first, _, rest = member.filename.partition("/")
            if first.endswith(".data"):
                kind, _, member.filename = rest.partition("/")
                if kind not in ("purelib", "platlib"):
                    continue
            path = Path(archive.extract(member, folder))
            mode = member.external_attr >> 16
            if path.is_file() and mode & stat.S_IXUSR:
                path.chmod(0o755)
