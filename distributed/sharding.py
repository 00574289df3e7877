"""A method's networks sharded over the ranks (FSDP2): each keeps a part of every weight, and gathers what it needs.

A network is gathered part by part, in the forward pass and again in the backward pass, and the gradients are sharded as
they come. So weights, gradients, optimiser states and the average take 1/ranks of the memory each; what each rank holds
of the images stays as it is. Whoever handles weights uses these functions, and need not know whether they are sharded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard

from tenshot.errors import InputError
from tenshot.models.pretrained.sharded import rows_of

__all__ = ["Parallelizes", "exchange", "gathered", "is_sharded", "local", "shard", "sharded_like", "whole"]


class Parallelizes(Protocol):
    """A network that can be sharded."""

    def parallelize(self, mesh: DeviceMesh, dtype: torch.dtype | None = None) -> None:
        """Shard the weights over the ranks of a mesh; gather them in a dtype, or as they are."""


def shard(network: Parallelizes, module: LightningModule) -> None:
    """Shard a network over the ranks, if the module is being trained by a strategy that does so.

    With ``--trainer.precision bf16-mixed`` it is gathered in bfloat16: half the traffic, and no second copy of the
    weights is kept for the backward pass, as autocast would. The weights themselves, and the gradients' sums, stay
    float32.

    Args:
        network: With its weights.
        module: Whose it is.

    Raises:
        InputError: The network is to be compiled.
    """
    mesh = module.device_mesh
    if mesh is None or not module.trainer.training:
        return
    if getattr(module, "compile_network", False):
        raise InputError("--model.compile true does not go with sharded weights: leave it out")
    network.parallelize(mesh["data_parallel"], torch.bfloat16 if module.trainer.precision == "bf16-mixed" else None)


def is_sharded(network: nn.Module) -> bool:
    """Whether a network, or one inside it, is sharded over the ranks."""
    return any(isinstance(part, FSDPModule) for part in network.modules())


@contextmanager
def gathered(network: nn.Module) -> Iterator[None]:
    """Keep what is sharded whole on each rank, so that its forward passes wait for no other rank.

    Where ranks draw or validate, one may have a batch more than another. To be entered and left by all together. Takes
    the memory of the weights, in the precision in which they are gathered. The weights must not be changed inside.
    """
    parts = [part for part in network.modules() if isinstance(part, FSDPModule)]
    with torch.inference_mode(False), torch.no_grad():  # tensors made in inference mode could not be trained with
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)


def local(value: Tensor) -> Tensor:
    """This rank's rows of a sharded tensor; any other as it is. Uses the same memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """All rows of a sharded tensor, which all ranks ask for together; any other as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def exchange(first: Tensor, second: Tensor) -> None:
    """Exchange the values of two tensors of one kind; without a copy, where neither is sharded."""
    if isinstance(first, DTensor):  # its memory is known to those who gather it
        kept = first.detach().clone()
        first.copy_(second)
        second.copy_(kept)
    else:
        first.data, second.data = second.data, first.data


def sharded_like(value: Tensor, like: Tensor) -> Tensor:
    """A tensor on the device of another, and sharded if that is. Ranks do not wait for each other.

    Args:
        value: The whole of it, the same on all ranks, or already sharded.
        like: Of the same shape.
    """
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        mesh = like.device_mesh
        rows, size = rows_of([value], mesh.get_local_rank(), mesh.size())
        return from_rows(rows.to(like.device), size, like)
    return value.to(like.device)


def from_rows(rows: Tensor, size: torch.Size, like: DTensor) -> DTensor:
    """A tensor sharded over the ranks of another, from the rows of this rank and the size of the whole."""
    stride = torch.empty(size, device="meta").stride()
    return DTensor.from_local(rows, like.device_mesh, [Shard(0)], run_check=False, shape=size, stride=stride)
