import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import tiny

from tenshot.cli import COMMANDS, HELP
from tenshot.cli.registry import CLASSES, parameters

TOP = Path(__file__).parents[2]


def test_help_and_version_answer_without_heavy_imports():
    code = (
        "import sys; from tenshot.cli import main; main(['--help']); main(['--version']); main([]);"
        "print(sorted({'torch', 'lightning', 'numpy', 'PIL', 'jsonargparse'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    lines = done.stdout.splitlines()

    assert lines[-1] == "[]"
    assert f"tenshot {version('tenshot')}" in lines
    for command in COMMANDS:
        assert done.stdout.count(f"  {command} ") >= 2  # with --help and without any word


def test_a_mistake_in_the_command_is_found_without_heavy_imports():
    code = (
        "import sys\nfrom tenshot.cli import main\ntry: main(['fitt'])\nexcept SystemExit as end: print(end.code)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stdout.split() == ["1", "False"]


ENVIRONMENT = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}


def test_the_console_script_is_main():
    script = Path(sys.executable).parent / "tenshot"
    if not script.exists():
        pytest.skip("tenshot is not installed in this environment")
    done = subprocess.run([script, "predikt"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "tenshot: error: unknown command 'predikt' (did you mean 'predict'?): see tenshot --help\n"


def test_every_recipe_and_command_that_texts_name_exists():
    """In the help, the README, the pages and the recipes themselves."""
    texts = {"--help": HELP}
    for pattern in ("*.md", "docs/**/*.md", "configs/**/*.yaml"):
        texts |= {str(path.relative_to(TOP)): path.read_text() for path in TOP.glob(pattern)}
    for name, text in texts.items():
        for recipe in re.findall(r"\bconfigs/[\w./-]+\.yaml", text):
            assert (TOP / recipe).is_file(), f"{name} names {recipe}, which is not there"
        for command in re.findall(r"^(?:# Run[\w ]*: |  |\$ )tenshot (\w+)", text, re.MULTILINE):
            assert command in COMMANDS, f"{name} names tenshot {command}, which is not there"


@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if name not in ("convert", "prepare", "adapt", "compare", "cas")]
)
def test_the_options_of_a_command(tenshot: tiny.Run, command: str):
    outcome = tenshot(command, "--help")
    assert outcome.status == 0
    for option in ("--config", "--model", "--data", "--ckpt_path", "--images.count", "--trainer.max_steps"):
        assert f"{option} " in outcome.out


@pytest.mark.parametrize(("group", "name"), [(group, cls.__name__) for group in CLASSES for cls in CLASSES[group]])
def test_the_options_of_a_class(tenshot: tiny.Run, group: str, name: str):
    outcome = tenshot("fit", f"--{group}.help", name)
    assert outcome.status == 0
    described = re.findall(rf"^  --{group}\.(\w+)(?=[^\n]*\n? +\S+)", outcome.out, re.MULTILINE)
    cls = next(cls for cls in CLASSES[group] if cls.__name__ == name)
    assert set(described) >= {option for option in parameters(cls) if "." not in option}
    assert cls.__doc__.split("\n")[0].rstrip(".") in outcome.out  # type: ignore[union-attr]


def test_preparing_says_what_it_does(tenshot: tiny.Run):
    outcome = tenshot("prepare", "--help")
    assert outcome.status == 0
    assert "Crop and resize the images of a data set once" in " ".join(outcome.out.split())
    assert "cdc (Lanczos, centre crop)" in " ".join(outcome.out.split())


def test_converting_says_what_it_does(tenshot: tiny.Run):
    outcome = tenshot("convert", "--help")
    assert outcome.status == 0
    assert "Write a network as safetensors" in " ".join(outcome.out.split())
