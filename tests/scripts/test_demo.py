"""The demo's commands, one after the other in this process, on tiny sources."""

import csv
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from debug_size import debug_size
from PIL import Image

from tenshot.callbacks import StepCheckpoint
from tenshot.checkpoints import shipped
from tenshot.cli import main
from tenshot.cli.convert import convert_file

TOP = Path(__file__).parents[2]


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, with the module beside it."""
    monkeypatch.syspath_prepend(str(TOP / "scripts"))
    spec = importlib.util.spec_from_file_location("demo_script", TOP / "scripts" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_ends_in_a_table_a_picture_and_a_page(demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(TOP / "configs")
    (tmp_path / "package").mkdir()
    tiny.weights_file(
        tmp_path / "package/faces64.safetensors", tiny.randomised(tiny.ddpm(unet=tiny.unet_config(image_size=32)))
    )
    tiny.trainer(tmp_path / "gan", 1, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    convert_file(str(tmp_path / "gan"), str(tmp_path / "package/faces64_stylegan2.safetensors"))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    changes = {"STEPS": {"fine-tuned": 1}, "METHODS": ("fine-tuned",), "SIZE": 32, "lanes": lambda: (1, None)}
    for name, value in changes.items():
        monkeypatch.setattr(demo, name, value)
    for name in ("TARGET", "EVALUATION", "SOLVER"):
        small = {"64": "32", "100": "6", "10": "4"}
        steps = {"10": "2"} if name == "SOLVER" else small
        monkeypatch.setattr(demo, name, tuple(steps.get(word, word) for word in getattr(demo, name)))
    monkeypatch.setattr(demo, "COLUMNS", 3)
    monkeypatch.setattr(demo, "SAMPLES", 6)
    pictures: list[int] = []

    def in_turn(stages: list[Any], at_a_time: int, threads: int | None) -> Iterator[Any]:
        for stage in stages:
            for command in stage.commands:
                words = list(command)
                if command[0] == "fit":
                    recipe = yaml.safe_load(Path(command[2]).read_text())
                    words += [*debug_size(recipe, stage.folder), "--data.image_size", "32"]
                main([*words, "--trainer.enable_progress_bar", "false"])
            yield stage
            pictures.append(Image.open("demo/image.png").height)

    monkeypatch.setattr(demo, "run_stages", in_turn)
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    monkeypatch.setenv("TENSHOT_DEMO", "demo")
    demo.main()

    with open("demo/table.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header[2:] == ["true images", "fine-tuned"]
    assert [line[0] for line in lines] == [*demo.MEASURES, ""]
    numbers = {line[0]: [float(cell) for cell in line[2:] if cell != "undefined"] for line in lines[:-1]}
    truth, tuned = numbers["fd_efficientnet_lite0"]
    assert truth < tuned  # a source that was never trained draws noise
    row = Image.open("demo/image.png").height // 4  # shots, two sources, a method
    assert pictures == [3 * row] * 3
    assert Path("demo/comparison/index.html").exists()


def test_a_source_that_is_missing_is_one_line(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(demo.InputError, match="no source comes with this version: `make demo-full` trains them"):
        demo.found_sources(None)
    with pytest.raises(demo.InputError, match=r"faces64.safetensors: is not there: `make demo-full` trains it"):
        demo.found_sources(tmp_path)
    (tmp_path / "faces64.safetensors").touch()
    capsys.readouterr()
    assert demo.found_sources(None) == {"faces64": "tenshot:faces64"}
    assert capsys.readouterr().out.startswith("without CDC: tenshot:faces64_stylegan2 does not come with this version")
    stages = demo.stages_of(tmp_path, {"faces64": "tenshot:faces64"})
    assert [stage.name for stage in stages] == ["sources", "DDPM-PA", "fine-tuned", "true images"]
    (tmp_path / "faces64_stylegan2.safetensors").touch()
    assert demo.found_sources(None) == {name: f"tenshot:{name}" for name in ("faces64", "faces64_stylegan2")}
    assert demo.found_sources(tmp_path)["faces64"] == str(tmp_path / "faces64.safetensors")
