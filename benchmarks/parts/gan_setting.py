"""What both sides of the StyleGAN2 comparison compute, and how many operations that takes."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.parts.settings import Setting
from tenshot.models import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator

CYCLE = 16
"""Iterations in a step of the comparison: each regulariser occurs in it as often as in the long run, R1 once."""

PATH_LENGTHS = 4
"""How often the path length penalty occurs in a cycle, on half a batch."""


def config(setting: Setting) -> StyleGAN2Config:
    """The published architecture."""
    return StyleGAN2Config(image_size=setting.image_size, channel_base=16384 * setting.channel_multiplier)


def work(setting: Setting) -> str:
    """A cycle, in words."""
    return (
        f"{CYCLE} iterations of StyleGAN2, {setting.image_size} px, channel multiplier {setting.channel_multiplier}, "
        f"batch {setting.batch}"
    )


def cycle_flops(setting: Setting) -> float:
    """Operations of a cycle, in forward passes of an image; a backward pass to inputs and weights is two of them.

    The discriminator's step takes one of G and six of D (real and drawn images), the generator's three of G and two
    of D. A gradient to inputs and its differentiation are five more than a forward pass.
    """
    # in eval mode convolutions are direct ones
    generator = StyleGAN2Generator(config(setting)).requires_grad_(False).eval()
    discriminator = StyleGAN2Discriminator(config(setting)).requires_grad_(False).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as drawing:
        image = generator(torch.zeros(1, generator.config.latent_dim))
    with torch.no_grad(), FlopCounterMode(display=False) as judging:
        discriminator(image)
    g, d = (setting.batch * counter.get_total_flops() for counter in (drawing, judging))
    return CYCLE * (4 * g + 8 * d) + PATH_LENGTHS * 6 * g / 2 + 6 * d
