"""A method's networks shared out over the ranks (FSDP2): each keeps a part of every weight, and gathers what it needs.

A network is gathered block by block, in the forward pass and again in the backward pass, and the gradients are shared
out as they come. So weights, gradients, optimiser states and the average take 1/ranks of the memory each; what each
rank holds of the pictures stays as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from tenshot.errors import InputError
from tenshot.models.blocks import ResBlock
from tenshot.models.pretrained.sharded import rows_of
from tenshot.models.unet import Stage

__all__ = ["gathered", "is_shared_out", "local", "share_out", "shared_out_like"]


def share_out(network: nn.Module, module: LightningModule) -> None:
    """Share a network out over the ranks, if the module is being trained by a strategy that does so.

    With ``--trainer.precision bf16-mixed`` the blocks are gathered in bfloat16: half the traffic, and no second copy of
    their weights is kept for the backward pass, as autocast would. The weights themselves, and the gradients' sums,
    stay float32. In the blocks that is also what the time embedding is projected by; outside of them everything is
    float32.

    Args:
        network: A U-Net, or the encoder of one, with its weights.
        module: Whose it is.

    Raises:
        InputError: The network is to be compiled.
    """
    mesh = module.device_mesh
    if mesh is None or not module.trainer.training:
        return
    if getattr(module, "compile_network", False):
        raise InputError("--model.compile true does not go with weights shared out over GPUs: leave it out")
    network.to(memory_format=torch.contiguous_format)  # rows are cut from plain memory
    ranks = mesh["data_parallel"]
    half = torch.bfloat16 if module.trainer.precision == "bf16-mixed" else None
    blocks = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    parts = [part for part in network.modules() if any(True for _ in part.parameters())]
    for part in parts:
        if isinstance(part, ResBlock):
            fully_shard(part.embed, mesh=ranks, reshard_after_forward=True)
    for part in parts:
        if isinstance(part, Stage):
            fully_shard(part, mesh=ranks, reshard_after_forward=True, mp_policy=blocks)
    fully_shard(network, mesh=ranks, reshard_after_forward=True)


def is_shared_out(network: nn.Module) -> bool:
    """Whether a network, or one inside it, is shared out over the ranks."""
    return any(isinstance(part, FSDPModule) for part in network.modules())


@contextmanager
def gathered(network: nn.Module) -> Iterator[None]:
    """Keep what is shared out whole on each rank, so that its forward passes wait for no other rank.

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
    """This rank's rows of a tensor that is shared out; any other as it is. Shares its memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def shared_out_like(value: Tensor, like: Tensor) -> Tensor:
    """A tensor on the device of another, and shared out if that is. Ranks do not wait for each other.

    Args:
        value: The whole of it, the same on all ranks, or already shared out.
        like: Of the same shape.
    """
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        mesh = like.device_mesh
        rows, size = rows_of([value], mesh.get_local_rank(), mesh.size())
        return from_rows(rows.to(like.device), size, like)
    return value.to(like.device)


def from_rows(rows: Tensor, size: torch.Size, like: DTensor) -> DTensor:
    """A tensor shared out over the ranks of another, from the rows of this rank and the size of the whole."""
    stride = torch.empty(size, device="meta").stride()
    return DTensor.from_local(rows, like.device_mesh, [Shard(0)], run_check=False, shape=size, stride=stride)
