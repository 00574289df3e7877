"""Other ways to compute StyleGAN2's filter, of equal result: measured, to decide which one the model has."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu import adm
from tenshot.models.stylegan2 import fir


def filters() -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """By name, what gives the model another way inside a block; ``fir.py``'s own is measured without."""
    return {"by pools": pools, "in NCHW": nchw}


@contextmanager
def pools() -> Iterator[None]:
    """Three averages of neighbours for the taps [1, 3, 3, 1]."""
    with adm.replaced(fir, "fir_resample", by_pools):
        yield


@contextmanager
def nchw() -> Iterator[None]:
    """The depthwise convolution in NCHW, where CUDA has a kernel of PyTorch's own; copied there and back."""
    plain = fir.fir_resample

    def copied(x: Tensor, *words: object, **options: object) -> Tensor:
        return plain(x.contiguous(), *words, **options).contiguous(memory_format=torch.channels_last)  # type: ignore[arg-type]

    with adm.replaced(fir, "fir_resample", copied):
        yield


def by_pools(
    x: Tensor, taps: Tensor, up: int = 1, down: int = 1, padding: tuple[int, int] = (0, 0), gain: float = 1.0
) -> Tensor:
    """``fir_resample`` with the normalised taps [1, 3, 3, 1], which are three times [1, 1] / 2."""
    if up > 1:
        n, c, height, width = x.shape
        spread = x.new_zeros(n, c, height * up, width * up).contiguous(memory_format=torch.channels_last)
        spread[..., ::up, ::up] = x
        x = spread
    if padding != (0, 0):
        x = F.pad(x, (*padding, *padding))
    for stride in (1, 1, down):
        x = F.avg_pool2d(x, 2, stride)
    return x if gain == 1 else x * gain
