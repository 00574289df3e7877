"""Networks of metrics run in plain float32, whatever the training around them uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tenshot.models.float32 import float32_products

__all__ = ["full_precision"]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No gradients, no autocast, and no float32 products in TF32 or bfloat16."""
    with float32_products(tf32=False), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        yield
