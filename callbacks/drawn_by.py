"""What draws images: all that a sample depends on besides its number, and where the weights are from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from tenshot.callbacks.ema import EMA
from tenshot.checkpoints.shipped import shipped_file
from tenshot.datamodules.conditions import Conditions
from tenshot.distributed.sharding import whole
from tenshot.distributed.trainer_attributes import callback_of
from tenshot.lightning_modules import Cascade, FolderGenerator
from tenshot.run.code_version import code_version

__all__ = ["DrawnBy", "drawn_by", "drawn_by_cascade", "options_of", "weights_sha256"]

SETTINGS = ("diffusion_config", "sampler", "truncation")
"""Attributes of methods that samples depend on besides the weights."""
LATER: dict[str, dict[str, Any]] = {
    "diffusion_config": {"time": "timestep", "data_std": 1.0}, "sampler": {"temperature": 1.0},
}  # fmt: skip
"""Fields of a process and of a sampler that folders drawn earlier do not record, and what they were then."""
OF_STAGES = ("stage", "drawn_s", "start_step")
"""Likewise of a super-resolution stage."""


@dataclass(frozen=True)
class DrawnBy:
    """What draws a set of samples.

    Args:
        depends_on: All that sample i is a function of besides i; a set of samples is continued only where it is equal.
        origin: Where that is from: ``checkpoint`` (or the file that was drawn from without training), ``step``,
            ``weights`` (ema, raw, or what was read), ``code``. For the reader.
    """

    depends_on: dict[str, Any]
    origin: dict[str, Any]

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits, equal where ``depends_on`` is."""
        return hashlib.sha256(json.dumps(self.depends_on, sort_keys=True).encode()).hexdigest()[:16]


def drawn_by(trainer: Trainer, pl_module: LightningModule, seed: int, step: int, conditions: Conditions) -> DrawnBy:
    """What the trainer's module draws with now; to be called on all ranks, with the weights that are to draw in place.

    Args:
        trainer: Its EMA says which weights are used.
        pl_module: With its weights loaded.
        seed: Of the samples.
        step: Optimiser step of the weights.
        conditions: Of the samples; recorded as ``condition`` where something was chosen.
    """
    ema = callback_of(trainer, EMA)
    depends_on = _method(pl_module) | {"seed": seed, "precision": str(trainer.precision)}
    if isinstance(pl_module, Cascade):
        depends_on |= drawn_by_cascade(pl_module, len(pl_module.generators))
    if (enlarged := conditions.enlarged(pl_module)) is not None:
        depends_on |= enlarged
    if conditions.recorded is not None:  # so that the default is what it was before there was a choice
        depends_on["condition"] = conditions.recorded
    file = trainer.ckpt_path or (None if trainer.training else getattr(pl_module, "init_from", None))
    read = "raw" if trainer.ckpt_path or trainer.training else getattr(pl_module, "weights_origin", None) or "raw"
    origin = {
        "checkpoint": str(shipped_file(file) or Path(file).resolve()) if file else None,
        "step": step,
        "weights": "ema" if ema is not None and ema.average and ema.evaluate == "ema" else read,
        "code": code_version(),
    }
    return DrawnBy(depends_on, origin)


def drawn_by_cascade(cascade: Cascade, count: int) -> dict[str, Any]:
    """What the images of the first generators of a cascade depend on: ``base.weights_sha256`` and so on."""
    told: dict[str, Any] = {}
    for number, generator in enumerate(cascade.generators[:count]):
        name = f"stages[{number - 1}]" if number else "base"
        told |= {f"{name}.{key}": value for key, value in _method(generator).items() if value is not None}
        if number < len(cascade.stages):
            told[f"{name}.noise_left"] = cascade.noise_left(number)
    return told


def _method(pl_module: LightningModule) -> dict[str, Any]:
    """What images of a method depend on, besides what they are asked for."""
    weights = weights_sha256({name: pl_module.get_submodule(name) for name in getattr(pl_module, "averaged", ())})
    network = next((pl_module.get_submodule(name) for name in getattr(pl_module, "averaged", ())), None)
    config, guide, folder = getattr(network, "config", None), getattr(pl_module, "guide", None), _folder(pl_module)
    guidance = guide and {"scale": guide.scale, "classifier_sha256": weights_sha256({"classifier": guide.network})}
    depends_on = {
        "method": type(pl_module).__name__,
        "weights_sha256": weights,
        "folder": folder,
        **options_of(pl_module),
        "guidance": guidance,
        "classes": getattr(pl_module, "num_classes", None),
        "image_size": getattr(config, "image_size", None) or getattr(pl_module, "size", None),
    }
    return depends_on | {name: getattr(pl_module, name) for name in OF_STAGES if hasattr(pl_module, name)}


def options_of(pl_module: LightningModule) -> dict[str, Any]:
    """Of these the options of how a method draws: its process, sampler, truncation and classifier-free guidance."""
    told = {name: _plain(getattr(pl_module, name, None)) for name in SETTINGS}
    for setting, then in LATER.items():  # without what is as it was before there was a choice: folders of then go on
        if isinstance(told[setting], dict):
            told[setting] = {name: value for name, value in told[setting].items() if then.get(name) != value}
    free = getattr(pl_module, "classifier_free", None)
    if free is not None and free.scale != 1:  # else images are those without it
        told["classifier_free"] = _plain(free)
    return told


def weights_sha256(networks: Mapping[str, nn.Module]) -> str | None:
    """SHA-256 of the names, types, shapes and bytes of all weights; of sharded weights, on all ranks; None for none.

    Equal weights have equal hashes, whatever else their checkpoints hold and wherever they lie.
    """
    if not networks:
        return None
    digest = hashlib.sha256()
    for name in sorted(networks):
        for key, value in networks[name].state_dict().items():
            weight = whole(value).detach().cpu().contiguous()
            digest.update(f"{name}.{key} {weight.dtype} {tuple(weight.shape)}\n".encode())
            digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _folder(pl_module: LightningModule) -> str | None:
    """Where images come from that lie in a folder already."""
    return str(Path(pl_module.root).resolve()) if isinstance(pl_module, FolderGenerator) else None


def _plain(value: Any) -> Any:
    """As JSON gives it back; counts of steps as words, since 25 and "25" are the same."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: str(part) if name == "steps" else _plain(part) for name, part in asdict(value).items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value
