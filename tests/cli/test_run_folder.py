"""A checkpoint belongs to the run in whose folder it lies, and nothing of another run is written over."""

import shutil
from pathlib import Path

import pytest
import tiny
import yaml

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


@pytest.mark.parametrize("path", ["a-2", "a-2/checkpoints/step=00000004.ckpt", "link"])
def test_a_run_goes_on_where_its_checkpoint_is(tenshot: tiny.Run, two_runs: Path, path: str):
    (two_runs / "link").symlink_to(two_runs / "a-2" / "checkpoints" / "step=00000004.ckpt")
    before = hashes(two_runs / "a")
    words = ["fit", "--config", two_runs / "c.yaml", "--ckpt_path", two_runs / path, "--trainer.max_steps", "5"]
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


@pytest.mark.parametrize("config", ["c.yaml", "a/config.yaml"])
def test_a_file_of_no_run_begins_a_new_one(tenshot: tiny.Run, two_runs: Path, config: str):
    copied = Path(shutil.copy(two_runs / "a" / "checkpoints" / "step=00000004.ckpt", two_runs / "copied.ckpt"))
    before = [hashes(two_runs / name) for name in ("a", "a-2")]
    words = ["fit", "--config", two_runs / config, "--ckpt_path", copied, "--trainer.max_steps", "5"]
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


def test_pictures_go_to_the_run_of_their_checkpoint(tenshot: tiny.Run, two_runs: Path):
    words = ["predict", "--config", two_runs / "c.yaml", "--ckpt_path", two_runs / "a-2", "--images.count", "1"]
    before = hashes(two_runs / "a")
    assert tenshot(*words).status == 0
    assert hashes(two_runs / "a") == before
    assert [path.name for path in (two_runs / "a-2" / "images").glob("*.png")] == ["000000.png"]
