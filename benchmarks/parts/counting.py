"""Bytes and operations of a network's training step, counted on tensors that have shapes and no memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from tenshot.models import Adaptation, UNet, UNetConfig, blocks
from tenshot.models.blocks import Stage


class FusedAttention(torch.autograd.Function):
    """What the fused kernels of GPUs, flash and memory-efficient ones, keep: q, k, v, output, a float32 a row."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, torch.empty(q.shape[:-1], device=q.device))
        return out


class FunctionsOfAGPU:
    """``torch.nn.functional`` with that attention: which kernel a GPU takes cannot be asked without one."""

    scaled_dot_product_attention = staticmethod(FusedAttention.apply)

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)


@contextmanager
def fake(device: str, bf16: bool = False) -> Iterator[None]:
    """Inside, tensors of that device need neither memory nor the device; with bf16, under autocast."""
    functions = blocks.F
    with FakeTensorMode(), torch.device(device):
        torch.set_autocast_dtype(device, torch.bfloat16)
        torch.set_autocast_enabled(device, bf16)  # torch.autocast refuses where there is no such device
        if device == "cuda":
            blocks.F = cast(Any, FunctionsOfAGPU())
        try:
            yield
        finally:
            blocks.F = functions
            torch.set_autocast_enabled(device, False)
            torch.clear_autocast_cache()


def give_shapes(module: nn.Module, device: str) -> None:
    """Replace the weights of a module that was built on the meta device; to be called inside ``fake``."""
    for part in module.modules():
        for name, weight in list(part._parameters.items()):
            if weight is not None:
                empty = torch.empty_strided(weight.shape, weight.stride(), dtype=weight.dtype, device=device)
                part._parameters[name] = nn.Parameter(empty, weight.requires_grad)


@dataclass(frozen=True)
class Kept:
    """Bytes that the forward pass keeps for the backward pass, the weights themselves left out.

    Args:
        total: All of them.
        largest_stage: Those of the residual stage that keeps most.
    """

    total: int
    largest_stage: int


def kept_for_backward(unet: UNet, images: Tensor, t: Tensor) -> Kept:
    """Run the network forwards and add up the storages that autograd holds, each once.

    images: (N, C, H, W), t: (N,)
    """
    weights = {weight.untyped_storage()._cdata for weight in unet.parameters()}
    held: dict[int, Any] = {}  # the storages themselves, so that no address is used twice
    of_stages = []

    def hold(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            held[storage._cdata] = storage
        return tensor

    def total() -> int:
        return sum(storage.nbytes() for storage in held.values())

    for stage in (module for module in unet.modules() if isinstance(module, Stage)):
        stage.register_forward_pre_hook(lambda *_: of_stages.append(-total()))
        stage.register_forward_hook(lambda *_: of_stages.append(of_stages.pop() + total()))
    with saved_tensors_hooks(hold, lambda tensor: tensor):
        loss = unet(images, t).float().square().mean()
    assert loss.requires_grad
    return Kept(total(), max(of_stages))


@cache
def kept_on(device: str, config: UNetConfig, count: int, bf16: bool, adaptation: Adaptation | None = None) -> Kept:
    """The same for a network and images without memory; an adapted one keeps the sums that it computes with."""
    with torch.device("meta"):
        unet = UNet(config)
    if adaptation is not None:
        adaptation.apply(unet)
    with fake(device, bf16):
        give_shapes(unet, device)
        images = torch.empty(count, config.in_channels, config.image_size, config.image_size)
        return kept_for_backward(unet, images, torch.zeros(count, dtype=torch.int64))


def weights_of(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def operations(config: UNetConfig) -> tuple[int, int]:
    """Floating-point operations of an image in the forward and in the backward pass: multiplications and additions of
    convolutions, matrix products and attention.
    """
    with torch.device("meta"):
        unet = UNet(config)
    with fake("cpu"):
        give_shapes(unet, "cpu")
        images, t = torch.empty(1, config.in_channels, config.image_size, config.image_size), torch.zeros(1)
        with FlopCounterMode(display=False) as forward:
            loss = unet(images, t).square().mean()
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


def recomputing(config: UNetConfig) -> UNetConfig:
    """The same network with activation checkpointing."""
    return replace(config, checkpoint_blocks=True)
