"""A checkpoint belongs to the run in whose folder it lies, and nothing of another run is written over."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

from tenshot.checkpoints.runs import holds_run
from tenshot.cli.argv import with_config
from tenshot.cli.run_folder import for_training
from tenshot.lightning_modules import DDPM
from tenshot.models.pretrained import sha256


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


def steps(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step=")) for path in (run / "checkpoints").glob("step=*.ckpt"))


@pytest.fixture
def two_runs(trained: Path, tmp_path: Path) -> Path:
    """A folder with the runs ``a`` and ``a-2``, and ``c.yaml``, the recipe of both, which names the first."""
    for name in ("a", "a-2"):
        run = shutil.copytree(trained, tmp_path / name)
        whole = yaml.safe_load((run / "config.yaml").read_text())
        whole["trainer"]["default_root_dir"] = str(run)
        tiny.write_yaml(run / "config.yaml", whole)
    shutil.copy(tmp_path / "a" / "config.yaml", tmp_path / "c.yaml")
    return tmp_path


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("out of memory")


def stopped(*_: object) -> None:
    raise SystemExit(1)


@pytest.mark.parametrize(("what", "again"), [("size", []), ("memory", ["--ckpt_path", "last"]), ("stop", [])])
def test_a_start_that_failed_before_its_first_step_is_no_run(
    tenshot: tiny.Run, tmp_path: Path, shots: Path, what: str, again: list[str], monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    words = ["fit", "--config", tiny.config_file(tmp_path), "--trainer.default_root_dir", run]
    words += ["--data", "FewShot", "--data.root", shots, "--data.shots", "5"]
    wrong = ["--data.shots", "4", "--model.vlb_weight", "0.5"]
    with monkeypatch.context() as patch:
        if what == "size":
            wrong += ["--data.image_size", "32"]
        else:
            patch.setattr(DDPM, "training_step", out_of_memory if what == "memory" else stopped)
        assert tenshot(*words, *wrong).status == 1
    assert not holds_run(run)
    outcome = tenshot(*words, *again, "--trainer.max_steps", "1")
    assert outcome.status == 0, outcome.err
    assert "holds a run" not in outcome.log
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["model"]["init_args"]["vlb_weight"], config["data"]["init_args"]["shots"]) == (0.001, 5)
    assert "earlier" not in json.loads((run / "data.json").read_text())
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["run"]


def test_a_run_that_was_killed_after_its_first_step_stays_one(
    tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Though it has saved and logged nothing yet; and it is as old as its start."""
    run, step = tmp_path / "run", DDPM.training_step
    words = ["fit", "--config", tiny.config_file(tmp_path), "--trainer.default_root_dir", run]

    stepped = []

    def second(module: DDPM, batch: Any, batch_idx: int) -> Any:
        stepped.append(time.time())
        return stopped() if batch_idx else step(module, batch, batch_idx)

    began = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(DDPM, "training_step", second)
        assert tenshot(*words).status == 1
    assert holds_run(run)
    assert began <= (run / "config.yaml").stat().st_mtime < stepped[0]
    before = (run / "config.yaml").read_bytes()
    assert f"this one goes to {run}-2" in tenshot(*words).log
    assert (run / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("path", ["a-2", "a-2/checkpoints/step=00000004.ckpt", "link"])
def test_a_checkpoint_is_of_the_run_in_whose_folder_it_lies(two_runs: Path, path: str):
    (two_runs / "link").symlink_to(two_runs / "a-2" / "checkpoints" / "step=00000004.ckpt")
    folder, checkpoint = for_training(str(two_runs / path), two_runs / "a", False)
    assert folder == two_runs / "a-2"
    assert checkpoint is not None
    assert checkpoint.samefile(two_runs / "link")


def test_a_run_goes_on_where_its_checkpoint_is(tenshot: tiny.Run, two_runs: Path):
    before = hashes(two_runs / "a")
    words = ["fit", "--config", two_runs / "c.yaml", "--ckpt_path", two_runs / "a-2", "--trainer.max_steps", "5"]
    outcome = tenshot(*words)
    assert outcome.status == 0, outcome.err
    assert f"going on in {two_runs / 'a-2'}, the run of the checkpoint, not in {two_runs / 'a'}" in outcome.log
    assert hashes(two_runs / "a") == before
    assert steps(two_runs / "a-2") == [4, 5]
    assert not (two_runs / "a-3").exists()


def test_last_is_of_the_folder_that_is_named(tenshot: tiny.Run, two_runs: Path):
    before = hashes(two_runs / "a-2")
    words = ["fit", "--config", two_runs / "c.yaml", "--ckpt_path", "last", "--trainer.max_steps", "5"]
    assert tenshot(*words).status == 0
    assert steps(two_runs / "a") == [4, 5]
    assert hashes(two_runs / "a-2") == before


def test_a_file_of_no_run_begins_a_new_one(tenshot: tiny.Run, two_runs: Path):
    copied = Path(shutil.copy(two_runs / "a" / "checkpoints" / "step=00000004.ckpt", two_runs / "copied.ckpt"))
    before = [hashes(two_runs / name) for name in ("a", "a-2")]
    for config in ("c.yaml", "a/config.yaml"):  # a run's own gives no folder but that where it began
        line = ["fit", "--config", str(two_runs / config), "--ckpt_path", str(copied)]
        assert with_config(line) == line
    words = [*line, "--trainer.max_steps", "5"]
    outcome = tenshot(*words)
    assert outcome.status == 0, outcome.err
    assert f"going on from it in a new run, {two_runs / 'a-3'}" in outcome.log
    assert steps(two_runs / "a-3") == [5]
    complaint = tenshot(*words, "--trainer.default_root_dir", two_runs / "a").complaint
    assert "is of no run here" in complaint
    assert "holds another run, which is not written over" in complaint
    assert [hashes(two_runs / name) for name in ("a", "a-2")] == before


def test_a_folder_that_the_command_line_names_is_never_another_run_s(tenshot: tiny.Run, two_runs: Path):
    words = ["fit", "--config", two_runs / "c.yaml", "--ckpt_path", two_runs / "a-2", "--trainer.max_steps", "5"]
    before = [hashes(two_runs / name) for name in ("a", "a-2")]
    complaint = tenshot(*words, "--trainer.default_root_dir", two_runs / "a").complaint
    assert (
        f"is of the run {two_runs / 'a-2'}, but --trainer.default_root_dir {two_runs / 'a'} holds another" in complaint
    )
    assert tenshot(*words, "--trainer.default_root_dir", two_runs / "new").status == 0
    assert steps(two_runs / "new") == [5]
    assert [hashes(two_runs / name) for name in ("a", "a-2")] == before


def test_a_run_that_was_moved_goes_on_where_it_is(tenshot: tiny.Run, two_runs: Path):
    moved = shutil.copytree(two_runs / "a-2", two_runs / "elsewhere")
    before = hashes(two_runs / "a-2")
    assert (
        tenshot("fit", "--config", moved / "config.yaml", "--ckpt_path", "last", "--trainer.max_steps", "5").status == 0
    )
    assert tenshot("fit", "--ckpt_path", moved, "--trainer.max_steps", "6").status == 0  # by its own configuration
    assert steps(moved) == [5, 6]
    assert hashes(two_runs / "a-2") == before


def test_images_go_to_the_run_of_their_checkpoint(tenshot: tiny.Run, two_runs: Path):
    words = ["predict", "--config", two_runs / "c.yaml", "--ckpt_path", two_runs / "a-2", "--images.count", "1"]
    before = hashes(two_runs / "a")
    assert tenshot(*words).status == 0
    assert hashes(two_runs / "a") == before
    assert [path.name for path in (two_runs / "a-2" / "images").glob("*.png")] == ["000000.png"]
