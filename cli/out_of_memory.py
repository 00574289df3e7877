"""What to change where a device is out of memory."""

import re
from typing import Any

import torch
from lightning.pytorch import LightningModule

from tenshot.checkpoints import KINDS, Kind
from tenshot.lightning_modules.adversarial import AdversarialModule

__all__ = ["is_out_of_memory", "out_of_memory"]

WORDS = ("out of memory", "ALLOC_FAILED")
"""In errors of CUDA and its libraries, which are plain RuntimeErrors."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no room for something."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in WORDS)
    )


def out_of_memory(error: BaseException, command: str, method: LightningModule) -> str:
    """One line: what was asked for, and what to change.

    Args:
        error: As the device's library worded it.
        command: Of tenshot.
        method: What was to be done.
    """
    asked = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    total = re.search(r"total capacity of ([\d.]+ \w+)", str(error))
    facts = [asked and f"{asked[1]} more were asked for", total and f"of {total[1]}"]
    said = ", ".join(filter(None, facts))
    return f"the device is out of memory{f' ({said})' if said else ''}: {_remedy(command, method)}"


def _remedy(command: str, method: LightningModule) -> str:
    if command in ("test", "search"):
        return "lower --evaluate.batch_size"
    if command == "predict":
        return "lower --images.batch_size"
    if command == "paint":
        return "close what else uses it, or set --trainer.accelerator cpu"
    if command == "validate":
        return "lower --data.batch_size"
    drawn = "; if it was while samples were drawn, lower --evaluate.batch_size or --grid.count"
    if isinstance(method, AdversarialModule) and hasattr(method, "micro_batch"):
        return "set --model.micro_batch to a part of --data.batch_size, or lower that" + drawn
    name = next((name for name in KINDS if hasattr(method, f"{name}_config")), None)
    kind: Kind[Any] | None = getattr(method, "kind", KINDS[name]) if name else None
    config = (getattr(method, f"{name}_config") or kind.config) if kind else None
    recomputes = getattr(config, "checkpoint_blocks", None)  # none: it cannot
    blocks = f"set --model.{kind.name}.checkpoint_blocks true, or " if kind and recomputes is False else ""
    if isinstance(method, AdversarialModule):
        return f"{blocks}lower --data.batch_size (docs/memory.md){drawn}"
    return (
        f"{blocks}lower --data.batch_size and raise --trainer.accumulate_grad_batches by as much (docs/memory.md); "
        f"where the weights alone do not fit, add --config configs/trainer/fsdp.yaml{drawn}"
    )
