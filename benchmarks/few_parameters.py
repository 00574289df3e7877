"""What an adaptation of few parameters takes, computed without a GPU: ``python -m benchmarks.few_parameters``.

Of ADM's U-Net and StyleGAN2, both of 256 px, the numbers that are trained are counted from shapes; what the U-Net
keeps for the backward pass is counted as ``memory.py`` does. Writes ``benchmarks/results/few_parameters.md`` and the
tables of ``docs/few_parameters.md``; two minutes.
"""

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.memory import GIB, TEMPORARIES, Setting, activations, gib, images_that_fit
from benchmarks.parts.counting import weights_of
from benchmarks.parts.page import adm_256, publish, table
from tenshot.models import Adaptation, StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator, UNet

RANKS = (4, 8, 16, 32, 64)
CARDS = (8, 16, 24, 80)  # 10^9 bytes, as they are sold
WAYS: dict[str, Adaptation | None] = {
    "all weights": None,
    "norms and biases": Adaptation("norms"),
    **{f"rank {rank}": Adaptation(rank=rank) for rank in RANKS},
    "rank 16, attention alone": Adaptation(rank=16, layers=("attention",)),
}
SHOWN = ("all weights", "norms and biases", "rank 4", "rank 16", "rank 64")
MIB = 2**20


def trained(build: Callable[[], nn.Module], adaptation: Adaptation | None) -> int:
    """How many numbers are trained."""
    with torch.device("meta"):
        network = build()
    if adaptation is not None:
        adaptation.apply(network)
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def sizes(build: Callable[[], nn.Module]) -> list[str]:
    with torch.device("meta"):
        every = weights_of(build())
    rows = []
    for name, adaptation in WAYS.items():
        count = trained(build, adaptation)
        if not count:
            continue
        rows.append([
            name, f"{count:,}", f"{count / every:.1%}", f"{12 * count / MIB:,.0f}", f"{4 * count / MIB:,.0f}",
            f"{4 * count / 1e6:,.1f}",
        ])  # fmt: skip
    header = ["", "numbers trained", "of all", "gradients, Adam's moments: MiB", "EMA: MiB", "file: MB"]
    return table(header, rows)


def peaks() -> list[str]:
    config = adm_256()
    with torch.device("meta"):
        every = weights_of(UNet(config))
    rows = []
    for recompute in (False, True):
        setting = Setting(bf16=True, recompute=recompute)
        for name in SHOWN:
            adaptation = WAYS[name]
            count = trained(lambda: UNet(config), adaptation)
            state, kept = 4 * every + 16 * count, activations(config, setting, adaptation)
            most = [str(images_that_fit(kept, state, card) or "none") for card in CARDS]
            one = state + (1 + TEMPORARIES) * kept.of(1)
            kept_words = [f"{kept.fixed / GIB:.1f}", f"{kept.an_image / GIB:.2f}"]
            rows.append([f"{name}, {setting}", gib(state), *kept_words, gib(one), *most])
    header = ["", "state", "kept whatever the batch", "kept for each image", "peak, one image"]
    return table([*header, *(f"images, {card} GB" for card in CARDS)], rows)


if __name__ == "__main__":
    style = StyleGAN2Config(256)
    lines = ["Computed, not measured. ADM's U-Net of 256 px:", "", *sizes(lambda: UNet(adm_256())), ""]
    lines += ["The generator of StyleGAN2, config F, of 256 px:", "", *sizes(lambda: StyleGAN2Generator(style)), ""]
    lines += ["Its discriminator:", "", *sizes(lambda: StyleGAN2Discriminator(style)), ""]
    lines += ["A step of ADM's U-Net of 256 px on a GPU, GiB, and the most images at a time by card:", "", *peaks()]
    publish("few_parameters", lines)
