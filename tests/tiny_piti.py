"""PITI at a size that takes a test no time: 16 px from conditions of 32 px."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import glide_files
import tiny
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from tenshot.datamodules import SyntheticFaces
from tenshot.lightning_modules import PITI, DensePredictor
from tenshot.models import GlideUNet, PITIConfig

M = TypeVar("M", bound=LightningModule)

CONFIG = PITIConfig(**(glide_files.UNET | glide_files.CONDITION | {"dropout": 0.0}))
TINY = replace(CONFIG, channel_mult=(1,), attention_resolutions=(), condition_layers=1)


def piti(**arguments: Any) -> PITI:
    """A method with its network, which trains all of it where it begins with nothing."""
    start = {} if "init_from" in arguments else {"piti": CONFIG, "stage": 2}
    quick = {"sampler": tiny.QUICK, "preview_sampler": tiny.QUICK, "optimizer": tiny.adam()}
    module = PITI(**(start | quick | arguments))
    torch.manual_seed(0)
    module.configure_model()
    return module


def predictor(**arguments: Any) -> DensePredictor:
    """A segmenter of the nine regions of ``pairs()``; a fresh one finds the first class everywhere."""
    network = tiny.unet_config(channel_mult=(1,), attention_resolutions=(), out_channels=9)
    module = DensePredictor(**({"predictor": network, "optimizer": tiny.adam()} | arguments))
    module.configure_model()
    return module


def seeing(module: M) -> M:
    """The method with random weights, at scales at which its output depends on the condition: by a fifth of it."""
    tiny.randomised(module)
    for name, weight in module.named_parameters():
        if weight.dim() == 1 and name.endswith("weight"):  # of norms
            weight.data += 1
    return module


def pairs(**arguments: Any) -> SyntheticFaces:
    return tiny.faces(**({"pairs": "mask", "condition_size": 32} | arguments))


def masks(count: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


def public_file(path: Path, network: GlideUNet, part: str = "") -> str:
    """The public file of a network, or that of its part ``encoder.`` alone, as the first stage writes it."""
    state = glide_files.public(network)
    torch.save({name.removeprefix(part): value for name, value in state.items() if name.startswith(part)}, path)
    return str(path)


def config(folder: Path, method: str = "PITI", **options: Any) -> str:
    """A configuration of a run on pairs, with these options of the method."""
    model = {"class_path": method, "init_args": {"sampler": {"method": "ddim", "steps": "ddim2"}} | options}
    path = folder / "piti.yaml"
    data = {"class_path": "SyntheticFaces", "init_args": tiny.COMMAND_LINE["data"]["init_args"] | {"num_val": 4}}
    data["init_args"]["pairs"] = "mask"
    grid = {"every_n_steps": 1, "count": 3, "columns": 3}
    return str(tiny.write_yaml(path, tiny.COMMAND_LINE | {"model": model, "data": data, "grid": grid}))
