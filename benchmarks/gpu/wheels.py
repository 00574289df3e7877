"""Fills ``.gpu-wheels`` with what a machine with torch, Lightning and the like still lacks: ``make gpu-wheels``."""

import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.gpu.bare import WHEELS, metadata

GIVEN = """
certifi charset-normalizer click einops filelock fsspec grpcio idna jinja2 lightning lightning-utilities markdown
markdown-it-py mdurl numpy packaging pillow protobuf pygments pytorch-lightning pyyaml requests rich safetensors
scipy setuptools tensorboard torch torchmetrics torchvision tqdm typing-extensions urllib3
"""
"""What the machine has: torch, torchvision, lightning, torchmetrics, einops, safetensors, rich, tensorboard, theirs."""
TAKEN = """
annotated-types anyio cwevals==0.0.1b1 distro docstring-parser googleapis-common-protos h11 httpcore httpx
importlib-resources jsonargparse lpips opentelemetry-api opentelemetry-exporter-http-transport
opentelemetry-exporter-otlp-common opentelemetry-exporter-otlp-proto-common opentelemetry-exporter-otlp-proto-http
opentelemetry-proto opentelemetry-sdk opentelemetry-semantic-conventions platformdirs pydantic pydantic-core
pywavelets sniffio torch-fidelity typeshed-client typing-inspection wandb xxhash
"""
EXTRAS = {"jsonargparse": "signatures"}
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
MOST_MIB = 50


def main() -> None:
    """Download the wheels of this environment's versions, and check that nothing is missing."""
    folder = Path(__file__).resolve().parents[2] / WHEELS
    for old in folder.glob("*.whl"):
        old.unlink()
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    words += ["--python-version", "3.12", "--implementation", "cp", "--dest", str(folder)]
    words += [word for platform in PLATFORMS for word in ("--platform", f"{platform}_x86_64")]
    subprocess.run([*words, *TAKEN.split()], check=True)
    found = {_normal(metadata(wheel)["Name"]): wheel for wheel in folder.glob("*.whl")}
    for name, wheel in sorted(found.items()):
        for need in needs(wheel, EXTRAS.get(name, "")):
            if need.name in found:
                fits = need.specifier.contains(metadata(found[need.name])["Version"], prereleases=True)
            else:
                fits = need.name in GIVEN.split()
            if not fits:
                raise SystemExit(f"{name} needs {need}: name it in benchmarks/gpu/wheels.py")
    size = sum(wheel.stat().st_size for wheel in found.values()) / 2**20
    print(f"{folder}: {len(found)} wheels, {size:.1f} MiB")
    if size > MOST_MIB:
        raise SystemExit(f"more than {MOST_MIB} MiB")


def needs(wheel: Path, extra: str) -> list[Requirement]:
    """What a wheel needs on Linux with Python 3.12, with an extra or ``""``."""
    there = {"extra": extra, "python_version": "3.12", "python_full_version": "3.12.3"}
    found = [Requirement(line) for line in metadata(wheel).get_all("Requires-Dist") or []]
    found = [need for need in found if need.marker is None or need.marker.evaluate(there)]
    for need in found:
        need.name = _normal(need.name)
    return found


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


if __name__ == "__main__":
    main()
