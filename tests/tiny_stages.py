"""Super-resolution stages that take a test no time, 8 -> 16 px."""

from pathlib import Path
from typing import Any

import tiny
import torch
from torch import Tensor

from tenshot.diffusion import Augmentation, DiffusionConfig, LowResNoise
from tenshot.lightning_modules import DDPM, SuperResolution

NOISY = Augmentation(LowResNoise(100, s_min=0))
SIMPLE: dict[str, Any] = {
    "unet": tiny.unet_config(out_channels=3),
    "diffusion": DiffusionConfig(variance="fixed_large"),
}


def stage(**arguments: Any) -> SuperResolution:
    """8 -> 16 px."""
    start = {} if "init_from" in arguments else {"unet": tiny.unet_config(), "low_res_size": 8}
    quick = {"sampler": tiny.QUICK, "preview_sampler": tiny.QUICK, "optimizer": tiny.adam()}
    module = SuperResolution(**(start | quick | arguments))
    torch.manual_seed(0)
    module.configure_model()
    return module


def small(n: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def saved(folder: Path, module: DDPM) -> str:
    """A checkpoint of the method as it is."""
    checkpoint = {"state_dict": module.state_dict(), "pytorch-lightning_version": "2.5", "global_step": 7}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / "saved.ckpt")
    return str(folder / "saved.ckpt")


def load(module: SuperResolution, theirs: SuperResolution) -> None:
    checkpoint: dict[str, Any] = {"state_dict": theirs.state_dict()}
    theirs.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
