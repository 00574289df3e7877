"""Weights as people pass them on: under a prefix, or wrapped beside an optimiser; and what other files seem to be."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from torch import Tensor

from tenshot.models.pretrained.filling import list_keys
from tenshot.models.pretrained.unpickling import Inert

__all__ = ["part_of_glide", "seems", "unwrapped"]

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""Of nn.DataParallel and DistributedDataParallel, torch.compile, and attributes that hold the network."""
DEEPEST = 3


def unwrapped(content: Mapping[str, Any], is_network: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any] | None:
    """The network in the content of a file, without prefixes; an average before raw weights; None where there is none.

    is_network: whether a dictionary holds the weights that are looked for, under names without a prefix
    """
    found = [
        (words, stripped) for words, state in _dictionaries(content, "") if is_network(stripped := _stripped(state))
    ]
    average = [state for words, state in found if "ema" in words.lower() or "average" in words.lower()]
    return next(iter(average or [state for _, state in found]), None)


def _dictionaries(content: Mapping[str, Any], words: str, depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The content, and the dictionaries in it."""
    yield words, content
    if depth < DEEPEST:
        for key, value in content.items():
            if isinstance(value, Mapping):
                yield from _dictionaries(value, f"{words} {key}", depth + 1)


def _stripped(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what all its names begin with, of ``PREFIXES``."""
    for prefix in PREFIXES:
        if state and all(isinstance(key, str) and key.startswith(prefix) for key in state):
            return _stripped({key.removeprefix(prefix): value for key, value in state.items()})
    return state


def part_of_glide(state: Mapping[str, Any]) -> Literal["glide", "piti", "encoder"] | None:
    """What of GLIDE and PITI a state dict holds, by its names: a network of either, or the encoder of PITI alone."""
    names = [key for key in state if isinstance(key, str)]
    if any(name.startswith(("decoder.input_blocks.", "encoder.cnn.")) for name in names):
        return "piti"
    if any(name.startswith("cnn.conv") for name in names):
        return "encoder"
    blocks = any(name.startswith("input_blocks.") for name in names)
    text = any(name.startswith(("token_embedding.", "transformer_proj.")) or ".encoder_kv." in name for name in names)
    return "glide" if blocks and text else None


def seems(content: Mapping[str, Any]) -> str:
    """What a file seems to be, in words."""
    state = _stripped(content)
    names = [key for key in state if isinstance(key, str)]
    if {"state", "param_groups"} <= state.keys():
        return "the state of an optimiser, not weights: take the file of the model beside it"
    if "pytorch-lightning_version" in state:
        return "a checkpoint of another program (it has no entry tenshot)"
    part = part_of_glide(state)
    if part is not None:
        return {
            "glide": "a GLIDE, which draws from text",
            "piti": "a PITI, which draws from condition images",
            "encoder": "the condition encoder of PITI's first stage",
        }[part]
    for sign, words in (
        ("down_blocks.", "a network of diffusers"),
        ("model.diffusion_model.", "a latent diffusion model"),
        ("diffusion_model.", "a latent diffusion model"),
        ("input_blocks.", "a diffusion U-Net or a classifier of noisy images"),
        ("synthesis.", "a StyleGAN2 or StyleGAN3"),
        ("to_rgb", "a generator of StyleGAN2"),
        ("final_linear.", "a discriminator of StyleGAN2"),
        ("Mixed_5b.", "an Inception"),
        ("lin0.", "heads of LPIPS"),
    ):
        if any(name.startswith(sign) for name in names):
            return words
    if any(key in ("G", "G_ema", "g", "g_ema", "d", "D") for key in names):
        return "a StyleGAN"
    inert = [key for key in names if isinstance(state[key], Inert)]
    if inert:
        return f"a file whose {inert[0]!r} is a whole object, not a dictionary of weights"
    if not state:
        return "an empty dictionary"
    tensors = sum(isinstance(value, Tensor) for value in state.values())
    return f"a dictionary with {tensors} tensors and {list_keys('unknown', list(map(str, state)))}"
