"""Mistakes and accidents that show only while a run goes on."""

import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from tenshot.cli import main
from tenshot.lightning_modules import DDPM
from tenshot.run import AtomicCheckpointIO


def test_a_loss_that_is_no_number(tenshot: tiny.Run, bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls, loss_terms = [], DDPM.loss_terms

    def terms(self: DDPM, *arguments: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        return {
            name: value * (torch.nan if len(calls) == 5 else 1) for name, value in loss_terms(self, *arguments).items()
        }

    monkeypatch.setattr(DDPM, "loss_terms", terms)
    words = [
        "--trainer.max_steps",
        "6",
        "--checkpoint.every_n_steps",
        "2",
        "--trainer.default_root_dir",
        tmp_path / "run",
    ]
    tiny.assert_one_line(
        tenshot("fit", "--config", bad / "good.yaml", *words),
        1,
        r"the loss became NaN or infinite at step 5: .*go on from step=00000004\.ckpt with --ckpt_path \S+/run$",
    )
    saved = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in saved] == ["step=00000002.ckpt", "step=00000004.ckpt"]
    for value in torch.load(saved[-1], weights_only=True)["state_dict"].values():
        assert value.isfinite().all()

    monkeypatch.undo()
    resumed = tenshot("fit", "--config", bad / "good.yaml", *words, "--ckpt_path", "last")
    assert resumed.status == 0
    assert (tmp_path / "run" / "checkpoints" / "step=00000006.ckpt").exists()


@pytest.mark.parametrize("bad_steps", [(4,), (4, 5)], ids=["for a while", "to the end"])
def test_a_full_disk(
    tenshot: tiny.Run, bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_steps: tuple[int, ...]
):
    """Training goes on without a checkpoint; a run that cannot save its end has failed."""
    save = torch.save

    def full(content: Any, file: Any) -> None:
        if content["global_step"] in bad_steps:
            file.write(b"part")
            raise OSError(28, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    run = tmp_path / "run"
    words = ["--trainer.max_steps", "5", "--checkpoint.every_n_steps", "2", "--trainer.default_root_dir", run]
    outcome = tenshot("fit", "--config", bad / "good.yaml", *words)

    left = {path.name for path in (run / "checkpoints").iterdir()}
    message = r"could not be written \(No space left on device\)"
    assert re.search(rf"step=00000004\.ckpt: {message}", outcome.log + outcome.err)
    if bad_steps == (4,):
        assert outcome.status == 0
        assert left == {"step=00000002.ckpt", "step=00000005.ckpt"}
    else:
        tiny.assert_one_line(
            outcome, 1, rf"step=00000005\.ckpt: {message}; the last whole checkpoint is .*step=00000002\.ckpt"
        )
        assert left == {"step=00000002.ckpt"}


def test_a_folder_for_images_that_is_a_file(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    outcome = tenshot("predict", "--ckpt_path", trained, "--images.count", "1", "--images.dir", tmp_path / "file")
    tiny.assert_one_line(outcome, 1, r"/file/drawn_by\.json: could not be written")


def test_a_mistake_of_ours_keeps_its_traceback(bad: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: Any, **named: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", fail)
    with pytest.raises(KeyError, match="ours"):
        main(["fit", "--config", str(bad / "good.yaml"), "--trainer.default_root_dir", str(bad / "ours")])
