"""A device that is out of memory is one line with what to change, wherever it happens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import LightningModule

from tenshot.lightning_modules import DDPM, StyleGAN2
from tenshot.run import AtomicCheckpointIO, atomic_io

FULL = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.15 GiB is free."
)
GAN = {
    "model": {
        "class_path": "StyleGAN2",
        "init_args": {"stylegan2": {"image_size": 32, "channel_base": 256, "max_channels": 16, "latent_dim": 8}},
    },
    "data": {"class_path": "SyntheticFaces", "init_args": {"image_size": 32, "batch_size": 4, "num_images": 12}},
}


def full(*arguments: Any, **names: Any) -> Any:
    raise FULL


@pytest.mark.parametrize(
    ("command", "kind", "step", "remedy"),
    [
        ("fit", DDPM, "training_step", "set --model.unet.checkpoint_blocks true, or lower --data.batch_size and raise "
         "--trainer.accumulate_grad_batches"),
        ("fit", StyleGAN2, "generator_terms", "set --model.micro_batch"),
        ("test", DDPM, "sample", "lower --evaluate.batch_size"),
        ("predict", DDPM, "sample", "lower --images.batch_size"),
    ],
)  # fmt: skip
def test_in_a_step(
    tenshot: tiny.Run,
    run_copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    kind: type[LightningModule],
    step: str,
    remedy: str,
):
    monkeypatch.setattr(kind, step, full)
    words: list[str | Path] = ["--ckpt_path", run_copy]
    if command == "fit":
        config = tiny.write_yaml(tmp_path / "fit.yaml", tiny.COMMAND_LINE | (GAN if kind is StyleGAN2 else {}))
        words = ["--config", config, "--trainer.default_root_dir", tmp_path / "fresh"]
    if command == "test":
        words += ["--evaluate.features", "random", "--evaluate.samples", "2"]
    complaint = tenshot(command, *words).complaint
    assert complaint.startswith("the device is out of memory (2.00 GiB more were asked for, of 79.11 GiB): ")
    assert remedy in complaint


@pytest.mark.parametrize("error", [FULL, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublas")])
def test_in_a_save_it_is_no_failed_write(
    tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
):
    def fails(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(atomic_io, "written", fails)
    config = tiny.config_file(tmp_path, {"trainer": {"max_steps": 3}, "checkpoint": {"every_n_steps": 1}})
    outcome = tenshot("fit", "--config", config, "--trainer.default_root_dir", tmp_path / "run")
    assert outcome.complaint.startswith("the device is out of memory")
    assert "could not be written" not in outcome.err + outcome.log
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "make", [lambda: ValueError("a bug"), lambda: RuntimeError("a bug"), lambda: TypeError("a bug")]
)
def test_a_mistake_in_the_program_is_not_taken_for_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Exception]
):
    def fails(*arguments: Any) -> None:
        raise make()

    monkeypatch.setattr(atomic_io, "written", fails)
    io, failures = AtomicCheckpointIO(), list[Any]()
    path = tmp_path / "checkpoints" / "step=00000001.ckpt"
    with pytest.raises(type(make()), match="a bug"), atomic_io.reported(io, failures.append, later=False):
        io.save_checkpoint({"step": 1}, path)
    with atomic_io.reported(io, failures.append, later=True):
        io.save_checkpoint({"step": 1}, path)
    with pytest.raises(type(make()), match="a bug"):
        io.join()
    assert failures == []
