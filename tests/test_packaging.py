"""A wheel would lack, without a word, what pyproject.toml does not list."""

import subprocess
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
NOT_SHIPPED = {"tests", "benchmarks", "scripts", "docs", "build"}


def packages() -> set[str]:
    """Every folder with an __init__.py, dotted."""
    tops = [path for path in TOP.iterdir() if (path / "__init__.py").exists() and path.name not in NOT_SHIPPED]
    folders = [path.parent.relative_to(TOP) for top in tops for path in top.rglob("__init__.py")]
    return {".".join(folder.parts) for folder in folders}


def test_every_package_is_in_the_wheel():
    assert {f"tenshot.{package}" for package in packages()} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_folder_of_python_files_is_a_package():
    tops = {package.split(".")[0] for package in packages()}
    folders = {path.parent for top in tops for path in (TOP / top).rglob("*.py")}
    assert {".".join(folder.relative_to(TOP).parts) for folder in folders} == packages()


def test_type_checkers_and_tests_see_every_package():
    links = {path.name: path for path in (TOP / ".typing" / "tenshot").iterdir()}
    tops = {package.split(".")[0] for package in packages()}
    assert links.keys() == tops
    for name, link in links.items():
        assert link.is_symlink()
        assert link.resolve() == TOP / name
    assert {f"tenshot.{top}" for top in tops if top != "configs"} == set(PROJECT["tool"]["mypy"]["packages"])


def test_every_package_has_its_floor():
    [contract] = PROJECT["tool"]["importlinter"]["contracts"]
    floors = {name for layer in contract["layers"] for name in layer.split(" | ")}
    assert floors == {f"tenshot.{package.split('.')[0]}" for package in packages()} - {"tenshot.configs"}


def test_recipes_are_in_the_wheel():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["tenshot.configs"]
    configs = TOP / "configs"
    shipped = {path for pattern in patterns for path in configs.glob(pattern)}
    assert shipped >= {path for path in configs.rglob("*") if path.suffix in (".yaml", ".yml")}
    assert shipped


def test_what_is_imported_is_this_checkout():
    import tenshot.models

    assert Path(tenshot.models.__file__).resolve() == TOP / "models" / "__init__.py"


def test_a_process_that_a_test_starts_imports_this_checkout_too(tmp_path: Path):
    words = [sys.executable, "-c", "import tenshot.models; print(tenshot.models.__file__)"]
    printed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(printed.strip()).resolve() == TOP / "models" / "__init__.py"
