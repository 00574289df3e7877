"""What is imported, what a wheel holds, and the names that ``tenshot`` gives."""

import ast
import fnmatch
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

import tenshot

TOP = Path(__file__).parents[1]
LINKS = TOP / "src" / "tenshot"
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
NOT_SHIPPED = {"tests", "benchmarks", "scripts", "docs", "build"}


def shipped_folders() -> set[str]:
    """The packages at the top of the repository."""
    return {path.parent.name for path in TOP.glob("*/__init__.py")} - NOT_SHIPPED


def test_every_package_is_linked():
    links = {path.name: path for path in LINKS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert links.keys() == shipped_folders()
    for name, link in links.items():
        assert link.is_symlink()
        assert link.resolve() == TOP / name


def test_every_python_file_is_in_a_package_of_the_wheel():
    settings = PROJECT["tool"]["setuptools"]["packages"]["find"]
    packages = set(find_packages(str(TOP / settings["where"][0])))
    files = [path for name in shipped_folders() for path in (TOP / name).rglob("*.py")]
    assert {".".join(("tenshot", *path.parent.relative_to(TOP).parts)) for path in files} | {"tenshot"} == packages


def test_every_other_file_is_in_the_wheel():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    patterns = [f"{package.replace('.', '/')}/{pattern}" for package, some in data.items() for pattern in some]
    patterns += [pattern.replace("**/", "") for pattern in patterns]
    files = [path for name in shipped_folders() for path in (TOP / name).rglob("*") if path.is_file()]
    names = [f"tenshot/{path.relative_to(TOP)}" for path in files if path.suffix not in (".py", ".pyc")]
    assert len(names) > 40
    assert [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []
    assert (LINKS / "py.typed").exists()
    assert "py.typed" in data["tenshot"]


def test_every_package_has_its_floor():
    [contract] = PROJECT["tool"]["importlinter"]["contracts"]
    floors = {name for layer in contract["layers"] for name in layer.split(" | ")}
    assert floors == {f"tenshot.{package}" for package in shipped_folders()} - {"tenshot.configs"}


def test_what_is_imported_is_this_checkout():
    assert Path(tenshot.__file__).parent == LINKS
    assert Path(importlib.import_module("tenshot.models").__file__ or "").resolve() == TOP / "models" / "__init__.py"


def test_every_name_is_the_object_that_type_checkers_see():
    """Of what is imported for them alone."""
    tree = ast.parse((LINKS / "__init__.py").read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    told = {alias.name: str(node.module) for node in imports for alias in node.names}
    assert told.keys() | {"__version__"} == set(tenshot.__all__)
    for name, home in told.items():
        assert getattr(tenshot, name) is getattr(importlib.import_module(home), name)
    assert set(tenshot.__all__) <= set(dir(tenshot))
    assert tenshot.__version__ == PROJECT["project"]["version"]
    with pytest.raises(AttributeError, match="module 'tenshot' has no attribute 'DPM'"):
        tenshot.DPM  # noqa: B018


def test_the_methods_and_data_of_the_command_line_are_names_of_the_package():
    from tenshot.cli.registry import DATA, METHODS

    assert {kind.__name__ for kind in (*METHODS, *DATA)} <= set(tenshot.__all__)


def python(code: str, path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code]
    return subprocess.run(words, cwd=folder, env={"PYTHONPATH": str(path)}, capture_output=True, text=True, timeout=120)


def test_an_import_of_the_package_alone_imports_nothing_heavy(tmp_path: Path):
    done = python("import sys, tenshot; print('torch' in sys.modules, 'numpy' in sys.modules)", LINKS.parent, tmp_path)
    assert done.stdout == "False False\n", done.stderr


def test_links_that_were_lost_are_one_line(tmp_path: Path):
    """Git without links writes files that hold where they would lead."""
    (tmp_path / "tenshot").mkdir()
    (tmp_path / "tenshot" / "__init__.py").write_bytes((LINKS / "__init__.py").read_bytes())
    (tmp_path / "tenshot" / "errors").write_text("../../errors")
    last = python("import tenshot.errors", tmp_path, tmp_path).stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "core.symlinks=true" in last


def test_the_module_is_the_command(tmp_path: Path):
    words = [sys.executable, "-m", "tenshot", "--help"]
    done = subprocess.run(
        words, cwd=tmp_path, env={"PYTHONPATH": str(LINKS.parent)}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("usage: tenshot COMMAND"), done.stderr


def test_no_file_is_longer_than_a_reader_holds():
    folders = [*shipped_folders(), "benchmarks", "scripts", "tests"]
    lines = {path: len(path.read_text().splitlines()) for name in folders for path in (TOP / name).rglob("*.py")}
    assert len(lines) > 200
    assert {path: count for path, count in lines.items() if count > 300} == {}
