"""What each of two gloo processes with sharded weights (FSDP2) does, and one process to compare them with.

Run by ``run_ranks``, this file is the script of one rank.
"""

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import tiny_piti
import tiny_stages
import torch
from by_image import ByImage, NumberedFaces
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torch.distributed.tensor import DTensor

from tenshot.callbacks import EMA, SampleGrid, StepCheckpoint
from tenshot.checkpoints.runs import checkpoint_path
from tenshot.cli import main
from tenshot.distributed.sharding import gathered
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM, PITI, NoisyClassifier, Pairwise, SuperResolution
from tenshot.run import FullySharded, fully_sharded

PAIRWISE = Pairwise(image=3, high_frequency=2, high_frequency_mse=1e-4, pairs="all")
VARIANTS: dict[str, dict[str, Any]] = {  # of training: how
    "long": {"steps": 8, "val_check_interval": 4, "gradient_clip_val": 0.4, "lr": 0.1, "unet": tiny.SMALL},
    "accumulated": {
        "steps": 2,
        "accumulate_grad_batches": 2,
        "unet": {"channel_mult": (1,), "attention_resolutions": (16,), "checkpoint_blocks": True},
        "gradient_clip_val": 0.01,
        "gradient_clip_algorithm": "value",
        "lr": 0.1,
    },
    "half": {"steps": 2, "precision": "bf16-mixed", "lr": 0.1, "unet": tiny.SMALL | {"checkpoint_blocks": True}},
}
SHARDED: dict[str, Any] = {"trainer": {"devices": 2, "strategy": {"class_path": "tenshot.callbacks.FullySharded"}}}
CHANGES: dict[str, Any] = {
    "model": {
        "init_args": {
            "unet": {"dropout": 0.2},
            "diffusion": {"num_steps": 50},
            "objective": "vlb",
            "timesteps": "loss_aware",
            "preview_sampler": {"method": "ddim", "steps": "ddim2"},
            # with a small eps Adam would make steps of what is rounding: gradients of biases before a norm
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "eps": 0.001}},
        }
    },
    "data": {"init_args": {"num_val": 5, "batch_size": 2}},
    "trainer": {"max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None, "log_every_n_steps": 1},
    "checkpoint": {"every_n_steps": 2, "keep": 9},
    "grid": {"every_n_steps": 4, "count": 3, "columns": 3},
}


class Follow(Callback):
    """The loss of every micro-batch and the means of validation."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.val_losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.val_losses.append(trainer.callback_metrics["val/loss"].item())


def train(folder: Path, batch_size: int, how: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """Adapt by DDPM-PA, and tell what came of it."""
    how = {"val_check_interval": 2, "check_val_every_n_epoch": None} | how | arguments
    rate, unet = how.pop("lr"), tiny.unet_config(**how.pop("unet"))
    source = folder / f"source{os.environ.get('RANK', 0)}.safetensors"
    tiny.weights_file(source, tiny.randomised(tiny.ddpm(unet=unet), 1))
    module = ByImage(
        PAIRWISE,
        init_from=str(source),
        unet=unet,
        optimizer=lambda params: torch.optim.SGD(params, lr=rate, momentum=0.5),
        preview_sampler=tiny.QUICK,
        collapse_every_n_steps=how["val_check_interval"],
    )
    follow, ema, steps = Follow(), EMA(0.9), how.pop("steps")
    grid = SampleGrid(every_n_steps=steps, count=3, columns=3)
    trainer = tiny.trainer(folder, steps, follow, grid, ema=ema, **how)
    trainer.fit(module, NumberedFaces(batch_size))
    assert module.source is not None
    with gathered(module.unet):
        kinds = {name: weight.dtype for name, weight in module.unet.named_parameters()}
    return {
        "losses": follow.losses,
        "val_losses": follow.val_losses,
        "alike": trainer.callback_metrics["collapse/adapted"].item(),
        "grid": np.asarray(Image.open(folder / "samples" / f"step={steps:08d}.png")).tolist(),
        "weights": {name: whole(value) for name, value in module.unet.state_dict().items()},
        "average": {name: whole(value) for name, value in ema.average["unet"].items()},
        "kinds": kinds,
        "shared": [isinstance(weight, DTensor) for weight in module.unet.parameters()]
        + [isinstance(weight, DTensor) for weight in module.source.network.parameters()],
    }


def whole(value: Tensor) -> Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()


def classifier(folder: Path) -> NoisyClassifier:
    return NoisyClassifier(tiny.unet_config(out_channels=9, **tiny.SMALL), tiny.process(), optimizer=tiny.adam(1e-3))


def stage(folder: Path) -> SuperResolution:
    """A stage that is told s, of random weights."""
    trained = tiny_stages.stage(unet=tiny.unet_config(**tiny.SMALL), augmentation=tiny_stages.NOISY)
    return SuperResolution(
        init_from=tiny_stages.saved(folder, tiny.randomised(trained)),
        optimizer=tiny.adam(1e-3),
        preview_sampler=tiny.QUICK,
    )


def encoder(folder: Path) -> PITI:
    """A condition encoder beside a frozen network of random weights, and grids that it draws while sharded."""
    start = tiny_stages.saved(folder, tiny.randomised(tiny_piti.piti(piti=tiny_piti.TINY)))
    return PITI(init_from=start, stage=1, optimizer=tiny.adam(1e-3), preview_sampler=tiny.QUICK)


OTHERS: dict[str, Callable[[Path], LightningModule]] = {"classifier": classifier, "stage": stage, "encoder": encoder}


def losses_of(folder: Path, make: Callable[[Path], LightningModule], strategy: Any) -> list[float]:
    """The losses of two steps."""
    folder.mkdir(parents=True, exist_ok=True)
    module, follow = make(folder), Follow()
    torch.manual_seed(0)
    grid = SampleGrid(every_n_steps=2, count=3, columns=3)
    trainer = tiny.trainer(folder, 2, follow, *([grid] if make is encoder else []), devices=2, strategy=strategy)
    given: dict[str, Any] = {"pairs": "mask", "condition_size": 32} if make is encoder else {"labels": True}
    trainer.fit(module, tiny.faces(batch_size=2, num_val=4 if make is encoder else 0, **given))
    return follow.losses


def complaints(folder: Path, rank: int) -> list[str]:
    """What comes of a disk that is full, and of weights that are no numbers, on the second rank alone."""
    said = []
    on_the_disk = fully_sharded.written

    def full(content: Any, path: Path) -> None:
        on_the_disk(content, path)
        if rank == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Spoil(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
            weight: DTensor = pl_module.unet.conv.weight  # type: ignore[union-attr,assignment]
            with torch.no_grad():
                weight.to_local().fill_(torch.nan if rank == 1 else 0)

    for name, spoiled in (("full", False), ("spoiled", True)):
        fully_sharded.written = on_the_disk if spoiled else full  # type: ignore[attr-defined]
        callbacks = [*([Spoil()] if spoiled else []), StepCheckpoint()]
        trainer = tiny.trainer(folder / name, 1, *callbacks, devices=2, strategy=FullySharded())
        try:
            trainer.fit(DDPM(tiny.unet_config(**tiny.SMALL), preview_sampler=tiny.QUICK), tiny.faces())
        except InputError as error:
            said.append(str(error))
    fully_sharded.written = on_the_disk  # type: ignore[attr-defined]
    return said


def one_rank(folder: Path, config: str) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    for name, how in VARIANTS.items():
        torch.save(train(folder, 2, how, devices=2, strategy=FullySharded()), folder / f"{name}{rank}.pt")
    for name, make in OTHERS.items():
        losses = [losses_of(folder / f"{name}{rank}", make, strategy) for strategy in ("ddp", FullySharded())]
        torch.save(losses, folder / f"{name}{rank}.pt")
    torch.save(complaints(folder, rank), folder / f"complaints{rank}.pt")

    run, resumed, killed, ddp = (str(folder / name) for name in ("run", "resumed", "killed", "ddp"))
    fit = ["fit", "--config", config, "--trainer.default_root_dir"]
    main([*fit, run])
    if rank == 0:
        shutil.copytree(run, resumed)
        shutil.rmtree(checkpoint_path(Path(resumed), 4))
        shutil.copytree(resumed, killed)
    torch.distributed.barrier()
    main([*fit, resumed, "--ckpt_path", "last"])
    main(["predict", "--ckpt_path", run, "--images.count", "7", "--images.batch_size", "3"])
    main([*fit, ddp, "--trainer.strategy", "ddp", "--trainer.max_steps", "2"])
    main([*fit, str(folder / "from_ddp"), "--ckpt_path", ddp])

    on_the_disk = fully_sharded.written

    def half(content: Any, path: Path) -> None:
        on_the_disk(content, path)
        if rank == 1:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            (folder / "the end").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    fully_sharded.written = half  # type: ignore[attr-defined]
    main([*fit, killed, "--ckpt_path", "last"])


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]), sys.argv[2])
