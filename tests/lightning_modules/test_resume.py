"""A run that was stopped and resumed ends in the same bits as one that never stopped, within one process."""

from pathlib import Path
from typing import Any

import tiny
import torch
from torch.optim.lr_scheduler import OneCycleLR

from tenshot.callbacks import EMA, SampleGrid, StepCheckpoint
from tenshot.datamodules import FewShot, SyntheticFaces
from tenshot.lightning_modules import DDPM

DROPOUT = {"unet": tiny.unet_config(dropout=0.3, **tiny.SMALL)}


def fit(folder: Path, steps: int, module: DDPM, data: Any, resume: bool = False, **arguments: Any) -> dict[str, Any]:
    """Train to that step, and read the checkpoint of it."""
    callbacks = [StepCheckpoint(every_n_steps=100), SampleGrid(every_n_steps=2, count=1, columns=1)]
    path = max((folder / "checkpoints").glob("*.ckpt")) if resume else None
    trainer = tiny.trainer(folder, steps, *callbacks, ema=EMA(0.9), **arguments)
    trainer.fit(module, data, ckpt_path=path)
    return torch.load(folder / "checkpoints" / f"step={steps:08d}.ckpt", weights_only=True)


def assert_resuming_changes_nothing(
    folder: Path, make: Any, data: Any, stop: int, steps: int, **arguments: Any
) -> None:
    whole = fit(folder / "whole", steps, make(), data(), **arguments)
    fit(folder / "halves", stop, make(), data(), **arguments)
    torch.manual_seed(12345)  # another process would be in another state
    resumed = fit(folder / "halves", steps, make(), data(), resume=True, **arguments)

    assert whole["global_step"] == resumed["global_step"] == steps
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "ema", "timesteps", "timestep_bins", "tenshot"):
        tiny.assert_same(resumed[part], whole[part], part)
    moments = whole["optimizer_states"][0]["state"][0]
    assert moments["exp_avg"].abs().max() > 0  # so the comparison is of something


def test_dropout_hidden_labels_flips_schedule_and_average(tmp_path: Path):
    def make() -> DDPM:
        schedule = lambda optimizer: OneCycleLR(optimizer, 1e-2, total_steps=4)  # noqa: E731
        unet = {"unet": tiny.unet_config(dropout=0.3, num_classes=9, **tiny.SMALL), "label_drop": 0.5}
        return tiny.randomised(tiny.ddpm(**unet, lr_scheduler=schedule, preview_sampler=tiny.QUICK))

    def data() -> SyntheticFaces:
        return tiny.faces(labels=True)

    assert_resuming_changes_nothing(tmp_path, make, data, 2, 4, accumulate_grad_batches=2)


def test_few_shots_that_come_round_within_a_batch_and_validation(tmp_path: Path, shots: Path):
    def make() -> DDPM:
        return tiny.randomised(tiny.ddpm(**DROPOUT, preview_sampler=tiny.QUICK))

    def data() -> FewShot:
        return FewShot(str(shots), shots=3, image_size=16, batch_size=4, val_root=str(shots))

    often = {"val_check_interval": 2, "check_val_every_n_epoch": None}
    assert_resuming_changes_nothing(tmp_path, make, data, 3, 4, **often)


def test_the_history_of_loss_aware_timesteps(tmp_path: Path):
    """Three steps of noise, so that the histories are full, and the draws depend on them, before the run stops."""
    made: list[DDPM] = []

    def make() -> DDPM:
        process = tiny.process(num_steps=3, schedule="cosine")
        method = {
            "unet": tiny.unet_config(**tiny.SMALL),
            "objective": "vlb",
            "timesteps": "loss_aware",
            "diffusion": process,
            "preview_sampler": tiny.Sampler("ddim", "2"),
        }
        made.append(tiny.randomised(tiny.ddpm(**method)))
        return made[-1]

    def data() -> Any:
        return tiny.faces(batch_size=16)

    assert_resuming_changes_nothing(tmp_path, make, data, 4, 5)
    stopped = made[1].denoiser.timesteps.state_dict()["counts"]
    assert stopped.sum() == 4 * 16
    assert stopped.min() >= 10
    probabilities = made[1].denoiser.timesteps.probabilities()  # type: ignore[attr-defined]
    assert (probabilities - 1 / 3).abs().max() > 0.01
    assert made[2].denoiser.timesteps.state_dict()["counts"].sum() == 5 * 16
