"""Two gloo processes: the gradient of the joint batch, ranks that stay the same, and the same images as from one.

Run by ``run_ranks``, this file is the script of one rank.
"""

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from by_image import ByImage, NumberedFaces
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from ranks import run_ranks
from torch import Tensor

from tenshot.callbacks import NanGuard
from tenshot.callbacks.image_writer import to_uint8
from tenshot.cli import main
from tenshot.lightning_modules import DDPM, Pairwise
from tenshot.models import Adaptation

STEPS = 3
EVALUATION = [
    "--data.shots",
    "3",
    "--evaluate.features",
    "random",
    "--evaluate.samples",
    "7",
    "--evaluate.reference",
    "9",
]
METHODS = {
    "ddpm": Pairwise(0, 0, 0),
    "ddpm_pa": Pairwise(image=300, high_frequency=200, high_frequency_mse=1e-4, pairs="all"),
    "lora": Pairwise(0, 0, 0),
}
ADAPTED = {"lora": Adaptation(rank=2)}
CHANGES: dict[str, Any] = {
    "model": {
        "init_args": {
            "unet": {"dropout": 0.2},
            "diffusion": {"num_steps": 50},
            "objective": "vlb",
            "timesteps": "loss_aware",
            "preview_sampler": {"method": "ddim", "steps": "ddim2"},
        }
    },
    "data": {"init_args": {"num_val": 5, "batch_size": 2}},
    "trainer": {"max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None, "log_every_n_steps": 1},
    "checkpoint": {"every_n_steps": 2},
    "grid": {"every_n_steps": 2, "count": 3, "columns": 3},
}
DDP = {"trainer": {"devices": 2, "strategy": "ddp"}}


class Follow(Callback):
    """The weights after every step, and what validation logs."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.val_losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        self.weights.append({name: value.clone() for name, value in pl_module.state_dict().items()})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.val_losses.append(trainer.callback_metrics["val/loss"].item())


def train_by_image(folder: Path, batch_size: int, name: str, **arguments: Any) -> Follow:
    unet = tiny.unet_config(**tiny.SMALL)
    source = tiny.weights_file(
        folder / f"source{os.environ.get('RANK', 0)}.safetensors", tiny.randomised(tiny.ddpm(unet=unet), 1)
    )
    sgd = lambda params: torch.optim.SGD(params, lr=0.1)  # noqa: E731 - Adam would magnify roundings
    method = ByImage(METHODS[name], init_from=str(source), unet=unet, optimizer=sgd, adapt=ADAPTED.get(name))
    method.configure_model()
    follow = Follow()
    trainer = tiny.trainer(
        folder, STEPS, follow, val_check_interval=1, check_val_every_n_epoch=None, **arguments
    )  # fmt: skip
    trainer.fit(tiny.randomised(method), NumberedFaces(batch_size))  # type: ignore[type-var]
    return follow


def one_rank(folder: Path, config: str) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    for name in METHODS:
        follow = train_by_image(folder, 2, name, devices=2, strategy="ddp")
        torch.save({"weights": follow.weights, "val_losses": follow.val_losses}, folder / f"{name}{rank}.pt")

    def dump(self: NanGuard, trainer: Trainer, pl_module: DDPM) -> None:
        [ema] = [callback for callback in trainer.callbacks if hasattr(callback, "average")]  # type: ignore[attr-defined]
        state = {"weights": pl_module.state_dict(), "history": pl_module.denoiser.timesteps.state_dict()}
        torch.save(state | {"average": ema.average, "seed": torch.initial_seed()}, folder / f"end{rank}.pt")

    NanGuard.on_train_end = dump  # type: ignore[method-assign,assignment]
    main(["fit", "--config", config, "--trainer.default_root_dir", str(folder / "run")])
    main(["predict", "--ckpt_path", str(folder / "run"), "--images.count", "7", "--images.batch_size", "3"])
    main(["test", "--ckpt_path", str(folder / "run"), *EVALUATION])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes left."""
    folder = tmp_path_factory.mktemp("ranks")
    config = tiny.config_file(folder, CHANGES, DDP)
    run_ranks(__file__, folder, config, timeout=200)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Follow]:
    """One process with the joint batch."""
    folder = tmp_path_factory.mktemp("alone")
    return {name: train_by_image(folder, 4, name) for name in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_that_of_the_joint_batch(ranks: Path, alone: dict[str, Follow], method: str):
    whole = alone[method].weights
    for rank in range(2):
        shared = torch.load(ranks / f"{method}{rank}.pt")
        for step, (ours, theirs) in enumerate(zip(shared["weights"], whole, strict=True)):
            for name, value in theirs.items():
                message = lambda m, at=f"step {step}, {name}": f"{at}: {m}"  # noqa: E731
                torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5, msg=message)
    moved = {name for name, value in whole[-1].items() if not torch.equal(value, whole[0][name])}
    assert all("lora_" in name for name in moved) == (method in ADAPTED)
    assert max((whole[-1][name] - whole[0][name]).abs().max() for name in moved) > 1e-3


def test_pairs_of_all_ranks_train_otherwise_than_none(alone: dict[str, Follow]):
    """So that the comparison above is of something."""
    plain, pairs = (alone[method].weights[-1]["unet.conv.weight"] for method in ("ddpm", "ddpm_pa"))
    assert (plain - pairs).abs().max() > 1e-4


def test_validation_means_are_over_all_images_of_uneven_shares(ranks: Path, alone: dict[str, Follow]):
    expected = alone["ddpm"].val_losses
    assert len(set(expected)) == STEPS
    for rank in range(2):
        assert torch.load(ranks / f"ddpm{rank}.pt")["val_losses"] == pytest.approx(expected, rel=1e-5)


def test_ranks_draw_different_noise_and_stay_the_same(ranks: Path):
    first, second = (torch.load(ranks / f"end{rank}.pt") for rank in range(2))

    assert first.pop("seed") != second.pop("seed")
    tiny.assert_same(first, second)
    assert first["history"]["counts"].sum() == 4 * 2 * 2  # steps, ranks, images


def test_the_checkpoint_is_what_the_ranks_ended_with(ranks: Path):
    content = torch.load(ranks / "run" / "checkpoints" / "step=00000004.ckpt", weights_only=True)
    end = torch.load(ranks / "end0.pt")

    tiny.assert_same(content["state_dict"], end["weights"])
    tiny.assert_same(content["ema"]["weights"], end["average"])
    tiny.assert_same(content["timesteps"], end["history"])


def test_grids_are_drawn_by_all_ranks_in_order(ranks: Path):
    module = DDPM(init_from=str(ranks / "run"), preview_sampler=tiny.QUICK)
    module.configure_model()
    expected = to_uint8(module.sample(torch.arange(3), preview=True)).numpy()

    samples = ranks / "run" / "samples"
    assert sorted(path.name for path in samples.iterdir()) == ["step=00000002.png", "step=00000004.png"]
    grid = np.asarray(Image.open(samples / "step=00000004.png"))
    for column in range(3):
        assert (grid[2 + 18 :][:16, 2 + 18 * column :][:, :16] == expected[column]).all()


def test_test_measures_what_one_process_measures(ranks: Path, tmp_path: Path):
    words = ["--trainer.devices", "1", "--trainer.strategy", "auto", "--trainer.default_root_dir", str(tmp_path)]
    main(["test", "--ckpt_path", str(ranks / "run"), *EVALUATION, *words])
    ours, theirs = (
        json.loads((folder / "evaluations" / "step=00000004.json").read_text()) for folder in (ranks / "run", tmp_path)
    )
    assert len(theirs["values"]) > 8
    expected = {name: np.nan if value is None else value for name, value in theirs["values"].items()}
    assert {name: np.nan if value is None else value for name, value in ours["values"].items()} == pytest.approx(
        expected, rel=1e-5, abs=1e-9, nan_ok=True
    )
    assert ours["metrics"]["frechet"]["settings"] == theirs["metrics"]["frechet"]["settings"]


def test_predict_draws_what_one_process_draws(ranks: Path, tmp_path: Path):
    words = ["predict", "--ckpt_path", str(ranks / "run"), "--images.count", "7", "--images.dir", str(tmp_path)]
    main([*words, "--trainer.devices", "1", "--trainer.strategy", "auto"])
    ours, theirs = (
        {path.name: path.read_bytes() for path in folder.glob("*.png")}
        for folder in (ranks / "run" / "images", tmp_path)
    )
    assert ours == theirs
    assert sorted(theirs) == [f"{number:06d}.png" for number in range(7)]
    assert len(set(theirs.values())) == 7


def test_a_run_of_two_writes_one_log(ranks: Path):
    [log] = (ranks / "run" / "logs").glob("*/metrics.csv")
    rows = list(csv.DictReader(log.open()))
    assert [row["step"] for row in rows if row["train/loss"]] == ["0", "1", "2", "3"]
    assert len([row for row in rows if row["val/loss"]]) == 2


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]), sys.argv[2])
