"""``make cascade``: what it trains and draws fits together, and its picture has each size above the next."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torchvision.transforms.functional import to_pil_image

TOP = Path(__file__).parents[2]


def settings(recipe: str) -> dict[str, Any]:
    return yaml.safe_load((TOP / recipe).read_text())


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOP / "scripts"))
    monkeypatch.chdir(TOP)
    spec = importlib.util.spec_from_file_location("cascade_script", TOP / "scripts" / "cascade.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_runs_that_it_trains_are_those_of_the_cascade_and_their_sizes_follow_one_another(script: Any):
    cascade = settings(script.RECIPE)["model"]["init_args"]
    runs = [cascade["base"], *(stage["checkpoint"] for stage in cascade["stages"])]
    commands = [command for stage in script.stages_of(Path("x"), ()) for command in stage.commands]
    assert sorted(command[command.index("--trainer.default_root_dir") + 1] for command in commands) == sorted(runs)
    trained = {settings(recipe)["trainer"]["default_root_dir"]: settings(recipe) for recipe in script.TRAINED.values()}
    methods = [trained[run]["model"]["init_args"] for run in runs]
    assert [method["unet"]["image_size"] for method in methods] == [16, 32, 64]
    assert [method["low_res_size"] for method in methods[1:]] == [16, 32]
    for run, stage in zip(runs[1:], cascade["stages"], strict=True):
        noise = trained[run]["model"]["init_args"]["augmentation"]["noise"]
        assert 1 <= stage["augmentation_s"] <= noise["num_steps"]
    assert all("last" in command for command in commands)  # what was stopped goes on


def test_the_picture_has_each_size_above_the_next(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(script, "COUNT", 4)
    monkeypatch.setattr(script, "COLUMNS", 2)
    (tmp_path / "images").mkdir()
    for name, size in (("base", 2), ("stage0", 4)):
        (tmp_path / "kept" / name).mkdir(parents=True)
        for i in range(4):
            level = -1 + 2 * (10 * i + size) / 255
            save_file({"image": torch.full((3, size, size), level)}, tmp_path / f"kept/{name}/{i:06d}.safetensors")
    for i in range(4):
        to_pil_image(torch.full((3, 8, 8), 10 * i + 8, dtype=torch.uint8)).save(tmp_path / f"images/{i:06d}.png")
    picture = script.grid(tmp_path)
    assert picture.shape == (3, 6 * 8, 2 * 8)
    tiles = picture[0, 4::8, 4::8].tolist()
    assert tiles == [[2, 12], [4, 14], [8, 18], [22, 32], [24, 34], [28, 38]]
