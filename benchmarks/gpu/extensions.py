"""CUDA extensions of published code, compiled beside other stages and with a time limit.

``python -m benchmarks.gpu.extensions CHECKOUT FOLDER NAME`` compiles one.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import types
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.record import Context, Values

EXTENSIONS = {"STYLEGAN2_ADA": ("torch_utils.ops.bias_act", "torch_utils.ops.upfirdn2d"), "STYLEGAN2_PYTORCH": ("op",)}
"""By the variable that names the checkout, the modules whose import or use compiles them."""

PATIENCE = 60
"""Seconds that a stage waits for the compiler."""


def compile_ahead(context: Context) -> Path:
    """Start the compilers in the background, once a run; the folder that they write to."""
    folder = context.folder.parent / "extensions"
    if context.device.type != "cuda" or folder.exists():
        return folder
    folder.mkdir()
    for variable, names in EXTENSIONS.items():
        path = Path(os.environ.get(variable, "")).resolve()
        for name in names if variable in os.environ and path.is_dir() else ():
            words = [sys.executable, "-m", "benchmarks.gpu.extensions", str(path), str(folder), name]
            with (folder / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    words, stdout=log, stderr=subprocess.STDOUT, env=environment(folder), start_new_session=True
                )
            (folder / f"{name}.pid").write_text(str(process.pid))
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Of the compilers: this GPU's architecture alone, and the headers and libraries that PyTorch's packages bring."""
    major, minor = torch.cuda.get_device_capability() if torch.cuda.is_available() else (9, 0)
    found = {"TORCH_CUDA_ARCH_LIST": f"{major}.{minor}", "TORCH_EXTENSIONS_DIR": str(folder / "built")}
    homes = [Path(os.environ["CUDA_HOME"])] if "CUDA_HOME" in os.environ else []
    if compiler := shutil.which("nvcc"):
        homes.append(Path(compiler).resolve().parents[1])
    homes += [*sorted(Path("/usr/local").glob("cuda*")), *sorted(Path(torch.__file__).parents[1].glob("nvidia/*"))]
    links = folder / "links"  # PyTorch's packages have libcudart.so.13 alone, the linker looks for libcudart.so
    links.mkdir(exist_ok=True)
    for library in (path for home in homes for path in home.glob("lib/libcudart.so.*")):
        with suppress(FileExistsError):
            (links / "libcudart.so").symlink_to(library)
    for variable, kinds in (("CPATH", ("include",)), ("LIBRARY_PATH", ("lib64", "lib"))):
        given = [os.environ[variable]] if os.environ.get(variable) else []
        folders = [str(home / kind) for home in homes for kind in kinds if (home / kind).is_dir()]
        found[variable] = os.pathsep.join([*given, *folders, str(links)])
    return {**os.environ, **found}


def compiled(context: Context, variable: str) -> Values:
    """Wait for the compilers of a checkout: whether its extensions are there, their seconds, what failed."""
    if context.device.type != "cuda":
        return {"extensions": False, "why": "its extensions are for CUDA"}
    folder, names = compile_ahead(context), EXTENSIONS[variable]
    limit = time.time() + min(PATIENCE, context.seconds_left() / 2)
    while time.time() < limit and not all((folder / f"{name}.json").exists() for name in names):
        time.sleep(0.2)
    found: list[Values] = []
    for name in names:
        result = folder / f"{name}.json"
        if result.exists():
            found.append(json.loads(result.read_text()))
            continue
        with suppress(OSError, ValueError):
            os.killpg(int((folder / f"{name}.pid").read_text()), signal.SIGKILL)
        log = folder / f"{name}.log"
        said = log.read_text(errors="replace")[-400:] if log.exists() else "not begun"
        found.append({"ok": False, "message": f"{name}: no result in time: {said}"})
    os.environ.update(environment(folder))
    seconds = max(one.get("seconds", 0.0) for one in found)
    why = "\n".join(one["message"] for one in found if not one["ok"])
    return {"extensions": not why, "compile_seconds": seconds, **({"why": why} if why else {})}


def compile_one(path: str, folder: str, name: str) -> None:
    """Compile an extension and say in a file of its name how that went."""
    start = time.time()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            ok = load(Path(path), name)
            why = str(said[-1].message) if said and not ok else ""
        except (ImportError, OSError, RuntimeError, AttributeError):
            ok, why = False, traceback.format_exc()
    message = "" if ok else f"{name}: {' '.join(why.split())[-1200:]}"
    part = Path(folder) / f"{name}.part"
    part.write_text(json.dumps({"ok": ok, "seconds": time.time() - start, "message": message}))
    part.rename(Path(folder) / f"{name}.json")


def put_first(path: Path) -> None:
    """Import from a checkout before anything else, with a stub of what Python has no longer and it does not use."""
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    try:
        importlib.import_module("distutils.util")
    except ImportError:
        sys.modules["distutils"] = types.ModuleType("distutils")
        sys.modules["distutils.util"] = util = types.ModuleType("distutils.util")
        util.strtobool = lambda text: text.lower() in ("y", "yes", "t", "true", "on", "1")  # type: ignore[attr-defined]


def load(path: Path, name: str) -> bool:
    """Load an extension by the checkout's own code, which compiles it where that has not been done."""
    import torch.utils.cpp_extension as cpp

    put_first(path)
    plain = cpp.load

    def kept(*words: Any, **options: Any) -> Any:
        module = plain(*words, **options)
        return sys.modules.setdefault(module.__name__, module)  # where their loader looks, as older releases left it

    cpp.load = kept
    try:
        module = importlib.import_module(name)
        return bool(module._init()) if hasattr(module, "_init") else True
    finally:
        cpp.load = plain


if __name__ == "__main__":
    compile_one(*sys.argv[1:])
