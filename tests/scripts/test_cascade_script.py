"""``make cascade``: what it trains, adapts and draws fits together, and its picture has each size above the next."""

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


def runs_of(recipe: str) -> list[str]:
    """Base and stages of a cascade."""
    cascade = settings(recipe)["model"]["init_args"]
    return [cascade["base"], *(stage["checkpoint"] for stage in cascade["stages"])]


def trained_by(script: Any, recipes: dict[str, str]) -> list[str]:
    """The folders of the runs that it trains, each of which goes on where it was stopped."""
    commands = [command for stage in script.stages_of(recipes, Path("x"), ()) for command in stage.commands]
    assert all(command[command.index("--ckpt_path") + 1] == "last" for command in commands)
    return sorted(command[command.index("--trainer.default_root_dir") + 1] for command in commands)


def test_the_runs_that_it_trains_are_those_of_the_cascade_and_their_sizes_follow_one_another(script: Any):
    cascade, runs = settings(script.RECIPE)["model"]["init_args"], runs_of(script.RECIPE)
    assert trained_by(script, script.TRAINED) == sorted(runs)
    trained = {settings(recipe)["trainer"]["default_root_dir"]: settings(recipe) for recipe in script.TRAINED.values()}
    methods = [trained[run]["model"]["init_args"] for run in runs]
    assert [method["unet"]["image_size"] for method in methods] == [16, 32, 64]
    assert [method["low_res_size"] for method in methods[1:]] == [16, 32]
    for run, stage in zip(runs[1:], cascade["stages"], strict=True):
        noise = trained[run]["model"]["init_args"]["augmentation"]["noise"]
        assert 1 <= stage["augmentation_s"] <= noise["num_steps"]


def test_what_is_adapted_is_the_cascade_before_it_on_one_set_of_ten_images(script: Any):
    runs = runs_of(script.FEW_SHOT)
    assert trained_by(script, script.ADAPTED) == sorted(runs)
    recipes = {settings(recipe)["trainer"]["default_root_dir"]: settings(recipe) for recipe in script.ADAPTED.values()}
    adapted = [recipes[run] for run in runs]
    assert [recipe["model"]["init_args"]["init_from"] for recipe in adapted] == runs_of(script.RECIPE)
    data = [recipe["data"]["init_args"] for recipe in adapted]
    assert [one.pop("image_size") for one in data] == [16, 32, 64]
    assert data[0]["shots"] == 10
    assert all(one == data[0] for one in data)


def test_a_few_shot_cascade_is_drawn_after_that_which_it_is_adapted_from(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun: list[str] = []

    def pretended(stages: list[Any], at_a_time: int, threads: int | None) -> Any:
        begun.extend(stage.name for stage in stages)
        return iter(stages)

    monkeypatch.setattr(script, "run_stages", pretended)
    monkeypatch.setattr(script, "grid", lambda root: torch.zeros(3, 2, 2, dtype=torch.uint8))
    monkeypatch.setattr(script, "lanes", lambda: (2, 1))
    monkeypatch.setenv("TENSHOT_CASCADE", str(tmp_path / "drawn"))
    for folder in ("drawn", "drawn_sunglasses"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr("sys.argv", ["cascade.py"])
    script.main()
    assert begun == [*script.TRAINED, "cascade"]
    begun.clear()
    monkeypatch.setattr("sys.argv", ["cascade.py", "--few-shot"])
    script.main()
    assert begun == [*script.TRAINED, "cascade", *script.ADAPTED, "cascade"]
    assert (tmp_path / "drawn_sunglasses" / "grid.png").is_file()


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
