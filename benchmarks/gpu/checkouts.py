"""Checkouts of published code, which stages import from."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from benchmarks.gpu.record import Context

CHECKOUTS = {
    "GUIDED_DIFFUSION": ("openai/guided-diffusion", "guided_diffusion"),
    "DOMAINSTUDIO": ("bbzhu-jy16/DomainStudio", "Unconditional"),
    "STYLEGAN2_PYTORCH": ("rosinality/stylegan2-pytorch", "op"),
    "STYLEGAN2_ADA": ("NVlabs/stylegan2-ada-pytorch", "torch_utils"),
}
"""Environment variables that name checkouts: the repository, a folder that is in it."""


def checkout(context: Context, stage: str, variable: str) -> Path | None:
    """The folder that the variable names; none, and a row that says so, where it names no such checkout."""
    repository, folder = CHECKOUTS[variable]
    path = Path(os.environ.get(variable, "")).resolve()
    if variable in os.environ and (path / folder).is_dir():
        return path
    context.row(stage, repository, "dropped", message=f"{variable} names no checkout of {repository}")
    return None


@contextmanager
def modules_of(path: Path) -> Iterator[None]:
    """Modules of a checkout can be imported inside, and are forgotten afterwards: two may have the same names. So is
    the process group that they may have made.
    """
    known, paths = set(sys.modules), list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = paths
        for name in set(sys.modules) - known:
            module = sys.modules[name]
            of_checkout = str(getattr(module, "__file__", None) or "").startswith(str(path))
            if of_checkout or getattr(module, "__spec__", None) is None:  # a stub of what it imports and does not use
                del sys.modules[name]
        if dist.is_initialized():
            dist.destroy_process_group()
