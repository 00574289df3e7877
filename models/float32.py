"""How products of float32 numbers are computed on GPUs: as they are, or rounded to TF32, which is much faster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["float32_inference", "float32_products"]


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Inside the block matrix products and convolutions of float32 tensors are in TF32 on CUDA, or not rounded at all.

    TF32 keeps 10 of the 23 bits of the factors; sums stay float32. CPUs do not round in either case.

    PyTorch has an older interface and a newer one. The older sets both, and where only the newer is set the older
    raises when it is read, which Lightning and compilers do: so it is set by the older, and read by the newer.

    Args:
        tf32: Whether CUDA rounds.
    """
    backends: Any = torch.backends
    on_cpus = (backends.mkldnn.matmul, backends.mkldnn.conv)
    before = _matmul_precision(), backends.cudnn.conv.fp32_precision == "tf32", [s.fp32_precision for s in on_cpus]
    try:
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = tf32
        for switch in on_cpus:
            switch.fp32_precision = "ieee"
        yield
    finally:
        products, backends.cudnn.allow_tf32, of_cpus = before
        torch.set_float32_matmul_precision(products)
        for switch, precision in zip(on_cpus, of_cpus, strict=True):
            switch.fp32_precision = precision


@contextmanager
def float32_inference(device: torch.device) -> Iterator[None]:
    """For networks of metrics, whatever the training around them uses: no gradients, no autocast, and no TF32."""
    with float32_products(tf32=False), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        yield


def _matmul_precision() -> str:
    """As the older interface words it; where only the newer was set, the nearest."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        matmul: Any = torch.backends.cuda.matmul
        return "high" if matmul.fp32_precision == "tf32" else "highest"
