"""The wheel as others have it: ``make wheel``. Not part of ``make test``, for type checkers take a minute.

It is built without a network, from a source distribution of this checkout, and put into a fresh environment that has
the dependencies of this one, but not its checkout.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

PROJECT = """
import tenshot
from tenshot import DDPMPA, FewShot, Sampler
from tenshot.metrics import FrechetDistance

version: str = tenshot.__version__
data = FewShot("folder", image_size=32)
model = DDPMPA(init_from="file", sampler=Sampler("dpm_solver", 20))
metric = FrechetDistance
eta: float = model.sampler.eta

version = data.image_size
Sampler(eta="much")
tenshot.DPM
"""
"""A user's. The last three lines are mistakes that only annotations that were found can tell."""
MISTAKES = [number for number, line in enumerate(PROJECT.splitlines(), 1) if line][-3:]


def run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # ours
    return subprocess.run(list(map(str, words)), cwd=folder, env=env, capture_output=True, text=True, timeout=900)


def build(kind: str, source: Path, target: Path) -> Path:
    target.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    done = run(sys.executable, "-c", code, folder=source)
    assert done.returncode == 0, done.stderr
    [built] = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("build")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=TOP).stdout
    for name in filter(None, listed.split("\0")):
        if (TOP / name).exists():
            (place / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TOP / name, place / "checkout" / name, follow_symlinks=False)
    sdist = build("sdist", place / "checkout", place / "sdist")
    shutil.unpack_archive(sdist, place / "unpacked", filter="data")
    [source] = (place / "unpacked").iterdir()
    return build("wheel", source, place / "wheel")


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh one, with the wheel installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:  # what installing is, of a wheel without scripts but the command
        archive.extractall(packages)
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("\n".join(paths))  # whose own .pth files, our checkout's, are not read
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PROJECT)
    return tmp_path


def test_the_wheel_holds_every_file(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    links = TOP / "src" / "tenshot"
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder=TOP).stdout.splitlines()
    tops = {link.name for link in links.iterdir() if link.is_symlink()}
    expected = {f"tenshot/{name}" for name in listed if name.split("/")[0] in tops}
    assert held == expected | {"tenshot/__init__.py", "tenshot/__main__.py", "tenshot/py.typed"}


def test_the_command_runs_elsewhere(environment: Path, tmp_path: Path):
    python = environment / "bin" / "python"
    where = run(python, "-c", "import tenshot.cli as m; print(m.__file__)", folder=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(environment), where
    words = ("fit", "--model", "DDPM", "--model.unet.image_size", "16", "--data", "SyntheticFaces", "--print_config")
    done = run(python, "-m", "tenshot", *words, folder=tmp_path)
    assert "class_path: tenshot.DDPM" in done.stdout, done.stderr


def test_mypy_reads_its_types(environment: Path, project: Path):
    words = ("--python-executable", environment / "bin" / "python", "mine.py")
    told = run(sys.executable, "-m", "mypy", "--strict", *words, folder=project).stdout.splitlines()
    assert [int(line.split(":")[1]) for line in told if ": error: " in line] == MISTAKES, told


def test_pyright_reads_its_types(environment: Path, project: Path):
    program = shutil.which("pyright")
    if program is None:
        pytest.skip("there is no pyright on the PATH: pip install pyright")
    words = ("--pythonpath", environment / "bin" / "python", "mine.py")
    told = run(program, *words, folder=project).stdout.splitlines()
    errors = [line for line in told if " - error: " in line]
    assert [int(line.split(":")[1]) for line in errors] == MISTAKES, told
