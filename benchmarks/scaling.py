"""Weak scaling of ADM's 256 px U-Net under DDP, on paper: ``python -m benchmarks.scaling``.

Counted: the operations of a training step (``counting.py``) and the bytes of a ring all-reduce of the gradients.
Assumed, and stated in the page: how fast GPUs and links are. Nothing is measured. Writes
``benchmarks/results/scaling.md`` and the tables of ``docs/scaling.md``; half a minute.
"""

import math
from dataclasses import dataclass

import torch

from benchmarks.parts.counting import operations, weights_of
from benchmarks.parts.page import adm_256, publish, table
from tenshot.models import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator, UNet

IMAGES = (1, 3, 6, 12)  # that a GPU takes a step
NODE = 8  # GPUs in one
GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
PEAK = 989e12  # operations a second of an H100 in bf16, dense, by its data sheet
UTILISATIONS = (0.2, 0.4)
NVLINK = 450e9  # bytes a second out of a GPU of a DGX H100, by its data sheet
ACHIEVED = 0.8  # share of a link's rate that an all-reduce of large buckets gets


@dataclass(frozen=True)
class Fabric:
    """What connects the nodes: so many InfiniBand cards in each, of so many Gbit/s."""

    cards: int
    gbits: int

    def __str__(self) -> str:
        return f"{self.cards} x {self.gbits} Gbit/s"

    def seconds(self, gradient: float, gpus: int) -> float:
        """Of an all-reduce. As many rings run as there are cards, each with its share of the gradient, so that a node's
        cards together carry what each of its GPUs sends.
        """
        rate = NVLINK if gpus <= NODE else min(NVLINK, self.cards * self.gbits / 8 * 1e9)
        return sent(gradient, gpus) / (rate * ACHIEVED)


FABRICS = [Fabric(cards, gbits) for cards in (8, 1) for gbits in (400, 200)]


def sent(gradient: float, gpus: int) -> float:
    """Bytes that each GPU sends, and as many that it receives, in a ring."""
    return 2 * (gpus - 1) / gpus * gradient


@dataclass(frozen=True)
class Passes:
    """Operations of an image."""

    forward: int
    backward: int

    def seconds(self, operations: int, images: int, utilisation: float) -> float:
        return images * operations / (PEAK * utilisation)

    def efficiency(self, images: int, utilisation: float, reduction: float) -> float:
        """Share of its time that a GPU computes: the all-reduce runs beside the backward pass, and what is left of it
        is waited for.
        """
        forward, backward = (self.seconds(each, images, utilisation) for each in (self.forward, self.backward))
        return (forward + backward) / (forward + max(backward, reduction))

    def least(self, utilisation: float, reduction: float) -> int:
        """Images a GPU from which on the all-reduce is hidden."""
        return math.ceil(reduction / self.seconds(self.backward, 1, utilisation))


def unet_tables() -> list[str]:
    config = adm_256()
    passes = Passes(*operations(config))
    with torch.device("meta"):
        weights = weights_of(UNet(config))
    gradients = {"float32": 4 * weights, "bf16": 2 * weights}
    most, usual = GPUS[-1], UTILISATIONS[-1]

    def row(fabric: Fabric, name: str) -> list[str]:
        reduction = fabric.seconds(gradients[name], most)
        shares = [f"{passes.efficiency(count, usual, reduction):.0%}" for count in IMAGES]
        return [str(fabric), name, *shares, *(str(passes.least(u, reduction)) for u in UTILISATIONS)]

    return [
        f"Counted: {passes.forward / 1e12:.2f} TFLOP forwards and {passes.backward / 1e12:.2f} backwards for each "
        f"image; {weights:,} weights.",
        "",
        *table(
            ["GPUs", "GB sent by each GPU a step"] + [f"ms, nodes with {fabric}" for fabric in FABRICS],
            [
                [str(n), f"{sent(gradients['float32'], n) / 1e9:.2f}"]
                + [f"{1000 * fabric.seconds(gradients['float32'], n):.1f}" for fabric in FABRICS]
                for n in GPUS
            ],
        ),
        "",
        "The backward pass that has to hide it, in ms:",
        "",
        *table(
            ["images on a GPU", *(f"at {u:.0%} of {PEAK / 1e12:.0f} TFLOP/s" for u in UTILISATIONS)],
            [
                [str(count), *(f"{1000 * passes.seconds(passes.backward, count, u):.0f}" for u in UTILISATIONS)]
                for count in IMAGES
            ],
        ),
        "",
        f"On {most} GPUs: efficiency by images on a GPU, at {usual:.0%}; and how many images hide all of it:",
        "",
        *table(
            ["nodes with", "gradients", *map(str, IMAGES), *(f"hidden at {u:.0%} by" for u in UTILISATIONS)],
            [row(fabric, name) for fabric in FABRICS for name in gradients],
        ),
    ]  # fmt: skip


def gan_table() -> list[str]:
    """StyleGAN2's all-reduces, by player; with the regularisers' steps of its defaults."""
    config = StyleGAN2Config(image_size=256)
    with torch.device("meta"):
        players = {
            "generator": (weights_of(StyleGAN2Generator(config)), 1 + 1 / 4),
            "discriminator": (weights_of(StyleGAN2Discriminator(config)), 1 + 1 / 16),
        }
    rows = []
    for player, (weights, steps) in players.items():
        times = [1000 * steps * fabric.seconds(4 * weights, GPUS[-1]) for fabric in FABRICS]
        rows.append([player, f"{weights / 1e6:.1f}", f"{steps:.2f}", *(f"{each:.1f}" for each in times)])
    return [
        f"StyleGAN2 of 256 px, float32 gradients, {GPUS[-1]} GPUs: ms of a training step that are waited for.",
        "",
        *table(["", "million weights", "all-reduces a step", *(f"nodes with {fabric}" for fabric in FABRICS)], rows),
    ]


if __name__ == "__main__":
    publish("scaling", [*unet_tables(), "", *gan_table()])
