"""GPU memory of a training step of ADM's 256 px U-Net, computed without a GPU: ``python -m benchmarks.memory``.

Weights, gradients, Adam's moments and the EMA are counted from shapes; what the forward pass keeps for the backward
pass is added up by running the network on tensors that have shapes and no memory (``counting.py``). At last one step of
a small network is run on the CPU, and the peak of the process is compared with the same count. Writes
``benchmarks/results/memory.md``, ``memory.json`` and the tables of ``docs/memory.md``; a minute.
"""

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass

import torch

from benchmarks.parts.counting import kept_on, recomputing, weights_of
from benchmarks.parts.page import ROOT, adm_256, publish, table
from benchmarks.parts.program import rss_mib
from tenshot.models import Adaptation, UNet, UNetConfig
from tenshot.models.blocks import Stage

GIB = 2**30
COMPUTED = ROOT / "benchmarks" / "results" / "memory.json"
BATCH = 48
PARTS = (48, 24, 12, 6, 3, 1)  # images of the batch that a GPU takes at a time
SHARDS = (8, 16)
CARDS = (24, 48, 80, 141)  # 10^9 bytes, as they are sold
RESERVE = 0.1  # of a card, for what is neither counted nor measured here
TEMPORARIES = 0.45  # of what is kept: what the check on the CPU measures at most
CHECK = UNetConfig(image_size=32, channels=64, channel_mult=(1, 2, 2), attention_resolutions=(8,))
CHECKED = (16, 32)


@dataclass(frozen=True)
class Setting:
    """How the network is trained.

    Args:
        bf16: ``--trainer.precision bf16-mixed``, else float32.
        recompute: ``--model.unet.checkpoint_blocks true``.
    """

    bf16: bool
    recompute: bool

    def __str__(self) -> str:
        return ("bf16-mixed" if self.bf16 else "float32") + (", checkpoint_blocks" if self.recompute else "")


@dataclass(frozen=True)
class Activations:
    """What is kept for the backward pass, in bytes: the same for any batch, and for each image."""

    fixed: int
    an_image: int

    def of(self, count: int) -> int:
        return self.fixed + count * self.an_image


SETTINGS = [Setting(bf16, recompute) for bf16 in (False, True) for recompute in (False, True)]


def activations(config: UNetConfig, setting: Setting, adaptation: Adaptation | None = None) -> Activations:
    """Counted at one image and at two. With blocks recomputed: their inputs, and the inside of the largest."""
    counts = []
    for count in (1, 2):
        plain = kept_on("cuda", config, count, setting.bf16, adaptation)
        if setting.recompute:
            inputs = kept_on("cuda", recomputing(config), count, setting.bf16, adaptation)
            counts.append(inputs.total + plain.largest_stage)
        else:
            counts.append(plain.total)
    one, two = counts
    return Activations(2 * one - two, two - one)


def numbers_of(config: UNetConfig) -> tuple[int, int]:
    """Weights of the network, and of its largest stage."""
    with torch.device("meta"):
        unet = UNet(config)
    return weights_of(unet), max(weights_of(module) for module in unet.modules() if isinstance(module, Stage))


def rounded_bytes(config: UNetConfig) -> int:
    """Of the weights of a network that runs under autocast and is not trained."""
    with torch.device("meta"):
        unet = UNet(config)
    unet.round_for_autocast(torch.bfloat16)
    return sum(weight.nbytes for weight in unet.parameters())


def gib(count: float) -> str:
    return f"{count / GIB:.1f}"


def computed() -> tuple[int, dict[str, Activations]]:
    """What was found when the page was made: bytes of the state, and for each setting what is kept."""
    found = json.loads(COMPUTED.read_text())
    return found["state"], {name: Activations(**kept) for name, kept in found["kept"].items()}


def most(setting: Setting, card: int) -> int:
    """Most images at a time on a card of so many GB, as the page says; 0 for none."""
    state, kept = computed()
    return images_that_fit(kept[str(setting)], state, card)


def tables(config: UNetConfig) -> list[str]:
    weights, of_stage = (4 * count for count in numbers_of(config))
    kept = {setting: activations(config, setting) for setting in SETTINGS}
    state = 5 * weights
    found = {"state": state, "kept": {str(setting): asdict(of) for setting, of in kept.items()}}
    COMPUTED.write_text(json.dumps(found, indent=1) + "\n")
    lines = [
        f"Computed, not measured: ADM's U-Net of 256 px with {weights // 4:,} weights, GiB on each GPU.",
        "",
        *table(
            ["counted from shapes", "GiB"],
            [
                ["weights, float32", f"{weights / GIB:.2f}"],
                ["gradients, float32", f"{weights / GIB:.2f}"],
                ["Adam's two moments, float32", f"{2 * weights / GIB:.2f}"],
                ["EMA, float32", f"{weights / GIB:.2f}"],
                ["**state**", f"**{state / GIB:.2f}**"],
                ["DDP's buckets, gradients being views of them (`gradient_as_bucket_view`)", "0"],
                ["DDP's buckets otherwise", f"{weights / GIB:.2f}"],
                ["the frozen source of DDPM-PA, float32", f"{weights / GIB:.2f}"],
                ["the frozen source of DDPM-PA, bf16-mixed", f"{rounded_bytes(config) / GIB:.2f}"],
            ],
        ),
        "",
        *table(
            ["kept for the backward pass, counted on shapes", "for each image", "whatever the batch"],
            [[str(setting), f"{a.an_image / GIB:.2f}", f"{a.fixed / GIB:.2f}"] for setting, a in kept.items()],
        ),
        "",
        "The sum of both, by how many images a GPU takes at a time; in bold what fits a GPU of 80 GB (see below):",
        "",
        *table(
            ["one GPU, or each of DDP's", *(f"{part}" for part in PARTS)],
            [
                [str(setting), *(_cell(state, of.of(part)) for part in PARTS)]
                for setting, of in kept.items()
            ],
        ),
        "",
        f"The same under FSDP2, one unit a residual stage, a batch of {BATCH}:",
        "",
        *table(
            ["each GPU of FSDP2's", *(f"{n} GPUs, {BATCH // n} images each" for n in SHARDS)],
            [
                [str(setting)]
                + [_cell(sharded(setting, state, of_stage, n), BATCH // n * of.an_image) for n in SHARDS]
                for setting, of in kept.items()
            ],
        ),
        "",
        "Most images at a time on one GPU or each of DDP's:",
        "",
        *table(
            ["card", *(f"{card} GB" for card in CARDS)],
            [
                [str(setting), *(str(images_that_fit(of, state, card) or "none") for card in CARDS)]
                for setting, of in kept.items()
            ],
        ),
    ]  # fmt: skip
    return lines


def sharded(setting: Setting, state: int, of_stage: int, gpus: int) -> float:
    """Under FSDP2: the state in parts; two stages with all their weights, under bf16-mixed in bfloat16, instead of
    autocast's copies; the float32 gradient of one stage.
    """
    gathered = 2 * (of_stage // 2 if setting.bf16 else of_stage)
    return state / gpus + gathered + of_stage


def _cell(state: float, kept: int) -> str:
    fits = state + (1 + TEMPORARIES) * kept <= (1 - RESERVE) * 80e9
    return f"**{gib(state + kept)}**" if fits else gib(state + kept)


def images_that_fit(of: Activations, state: int, card: int) -> int:
    """The most on a card of so many GB, by what is kept and the bytes of the state; 0 for none."""
    left = (1 - RESERVE) * card * 1e9 - state
    return max(0, int((left / (1 + TEMPORARIES) - of.fixed) // of.an_image))


# The check


def steps(recompute: bool) -> None:
    """Print by how many bytes the peak of this process rises in steps of the small network on the CPU."""
    torch.set_num_threads(1)
    unet = UNet(recomputing(CHECK) if recompute else CHECK)
    for weight in unet.parameters():
        weight.grad = torch.zeros_like(weight)

    def peak_of(count: int) -> int:
        images = torch.randn(count, 3, CHECK.image_size, CHECK.image_size)
        unet(images, torch.zeros(count)).square().mean().backward()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    peak_of(1)  # what the first step of all allocates is not of the images
    before = rss_mib() * 2**20
    print(json.dumps([peak_of(count) - before for count in CHECKED]))


def check() -> list[str]:
    rows = []
    # freed memory goes back at once, or the peak would be of what the process holds on to
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    for recompute in (False, True):
        words = [sys.executable, "-m", "benchmarks.memory", "--steps", str(int(recompute))]
        done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE)
        for count, risen in zip(CHECKED, json.loads(done.stdout), strict=True):
            counted = kept_on("cpu", CHECK, count, bf16=False)
            total = counted.total
            if recompute:
                total = kept_on("cpu", recomputing(CHECK), count, bf16=False).total + counted.largest_stage
            sizes = [f"{size / 2**20:.0f}" for size in (total, risen)]
            rows.append([str(Setting(False, recompute)), str(count), *sizes, f"{risen / total:.2f}"])
    return [
        "Measured, on a CPU: by how much a step of a network of 32 px and 64 channels raises the peak of the process:",
        "",
        *table(["", "images", "counted, MiB", "measured, MiB", "ratio"], rows),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--steps"]:
        steps(sys.argv[2] == "1")
    else:
        publish("memory", [*tables(adm_256()), "", *check()])
