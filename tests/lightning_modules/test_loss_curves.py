"""Eight steps of every method in two gloo processes under plain ``ddp``: the loss curve of one process.

The loss of a step is the mean of both ranks' losses. One process is arranged so that it stands for the two:

* Diffusion methods and the classifier take the joint batch, and draw for each half of it what its rank draws:
  timesteps, noise, dropout. DDPM-PA compares the images of all ranks (``pairs: all``), or those of each rank, as
  published: then one process takes the two halves as two micro-batches (``accumulate_grad_batches: 2``).
* So does PITI's upsampler, of whose draws the discriminator's are too.
* GANs compare images of a rank with each other (the discriminator's minibatch deviation, CDC's distances, MixDL's
  mixing), so one process takes the halves as micro-batches (``micro_batch``). Only the path length penalty is of all
  together: it is around the mean length of all ranks.

Weights are stepped by plain gradient descent: Adam would hide a gradient that is twice too large. Over twenty steps
differences of 1e-7 to 4e-6 were seen, in DDPM-PA with pairs of all ranks 3e-5; with gradients summed instead of
averaged above 0.03 for every method, with each rank's own above 0.001.

Run by ``run_ranks``, this file is the script of one rank.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_piti
import tiny_stages
import tiny_upsampler
import torch
from joint_batches import RANKS, RandomOfRanks, SeedAsRanks, in_joint_batches
from lightning.pytorch import Callback, LightningModule, Trainer
from ranks import run_ranks
from safetensors.torch import save_file
from torch import Tensor

from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.batches import Batch, Source
from tenshot.diffusion import Augmentation, Blur
from tenshot.distributed.seeding import position_seed
from tenshot.lightning_modules import (
    CDC,
    DDPMPA,
    Correspondence,
    MixDL,
    Pairwise,
    PatchAdversary,
    Regularization,
    StyleGAN2,
)
from tenshot.losses import path_lengths
from tenshot.models import StyleGAN2Config
from tenshot.models.augmentation import DiffAugment

STEPS = 8
IMAGES, IMAGES_OF_GANS = 3, 2  # of a rank
TOLERANCE = 1e-4
UNET = tiny.unet_config(image_size=8, channel_mult=(1,), dropout=0.2)
GAN = StyleGAN2Config(image_size=32, channel_base=64, max_channels=8, latent_dim=8, mapping_layers=1)
CORRUPTION = Augmentation(tiny_stages.NOISY.noise, Blur())
REST = Regularization(r1=8.0, r1_every=4, path_length=2.0, path_length_every=4, path_length_shrink=1)

Curve = list[dict[str, float]]
"""Losses by name, step by step."""


@dataclass
class Speckles:
    """Images of noise, with a label and a condition image."""

    image_size: int

    def __len__(self) -> int:
        return 24

    def read(self, indices: Sequence[int]) -> Batch:
        every, masks = (
            torch.randint(256, (24, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
            for side in (self.image_size, 32)
        )
        rows = list(indices)
        return {"image": every[rows], "label": torch.tensor(indices) % 9, "condition_image": masks[rows]}


class Data(ImageDataModule):
    num_classes = 9
    condition_channels = 3

    def __init__(self, batch_size: int, image_size: int) -> None:
        super().__init__(batch_size, image_size, seed=0, flip=True, num_workers=0)

    def sources(self) -> tuple[Source, Source | None]:
        return Speckles(self.image_size), None


class ByRank(StyleGAN2):
    """A GAN that draws anew from (call, rank) at each call for a part of a batch; one process has a part for each rank.

    What all ranks choose alike, all parts choose alike.
    """

    calls = 0

    def optimise(self, player: Any, parts: Sequence[Any], counted: bool = False) -> dict[str, Tensor]:
        self.calls += 1
        self.parts, self.state = len(parts), self.choices.getstate()
        as_ranks = [partial(self.as_rank, self.trainer.global_rank + n, make) for n, make in enumerate(parts)]
        return super().optimise(player, as_ranks, counted)

    def as_rank(self, rank: int, make: Callable[[], Any]) -> Any:
        self.rank = rank
        self.choices.setstate(self.state)
        torch.default_generator.manual_seed(position_seed([self.calls, rank]))
        return make()

    def path_length_terms(self, count: int) -> dict[str, Tensor]:
        """In one process the penalty of all parts together, by its formula, each time."""
        if self.parts == 1:
            return super().path_length_terms(count)
        last = self.rank == RANKS - 1
        lengths = torch.cat([self.as_rank(rank, partial(self.lengths, count)) for rank in range(RANKS)])
        mean = self.path_length_mean + REST.path_length_decay * (lengths.mean() - self.path_length_mean)
        if last:
            self.path_length_mean.copy_(mean.detach())
        return {"path_length": REST.path_length * REST.path_length_every * (lengths - mean).square().mean()}

    def lengths(self, count: int) -> Tensor:
        styles = self.styles(count)
        return path_lengths(self.generator.synthesis(styles), styles)


class OneCDC(ByRank, CDC):
    pass


class OneMixDL(ByRank, MixDL):
    pass


class Losses(Callback):
    def __init__(self) -> None:
        self.curve: Curve = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
        self.curve.append({name: value.item() for name, value in outputs.items()})


def sgd(lr: float) -> Any:
    return lambda params: torch.optim.SGD(params, lr=lr)


def gan(kind: type[Any], lr: float, **arguments: Any) -> StyleGAN2:
    return tiny.gan(
        kind, micro_batch=IMAGES_OF_GANS, regularization=REST, optimizer_g=sgd(lr), optimizer_d=sgd(lr), **arguments
    )  # fmt: skip


def source_gan(folder: Path) -> str:
    path = folder / "source.safetensors"
    state = {name: value.contiguous() for name, value in tiny.gan(stylegan2=GAN).state_dict().items()}
    save_file(state, path, metadata={"stylegan2": json.dumps(asdict(GAN))})
    return str(path)


def adapted(folder: Path, pairs: Any) -> DDPMPA:
    pairwise = Pairwise(image=100, high_frequency=100, high_frequency_mse=1e-3, pairs=pairs)
    source = tiny.weights_file(folder / "source.safetensors", tiny.randomised(tiny.ddpm(unet=UNET), 1))
    module = DDPMPA(
        pairwise, str(source), unet=UNET, optimizer=sgd(0.02),
        collapse_every_n_steps=0, preview_sampler=tiny.QUICK,
    )  # fmt: skip
    module.configure_model()
    return tiny.randomised(module)


METHODS: dict[str, Callable[[Path], LightningModule]] = {
    "DDPM": lambda folder: tiny.randomised(tiny.ddpm(unet=UNET, optimizer=sgd(0.05))),
    "DDPMPA": lambda folder: adapted(folder, "rank"),
    "DDPMPA, pairs of all ranks": lambda folder: adapted(folder, "all"),
    "NoisyClassifier": lambda folder: tiny.randomised(
        tiny.classifier(classifier=replace(UNET, channel_mult=(2,), out_channels=9), optimizer=sgd(0.05))
    ),
    "SuperResolution": lambda folder: tiny.randomised(
        tiny_stages.stage(unet=UNET, low_res_size=4, augmentation=CORRUPTION, optimizer=sgd(0.05))
    ),
    "PITI": lambda folder: tiny_piti.seeing(
        tiny_piti.piti(piti=replace(tiny_piti.TINY, image_size=8, dropout=0.2), condition_drop=0.5, optimizer=sgd(0.02))
    ),
    "PITIUpsampler": lambda folder: tiny.randomised(
        tiny_upsampler.upsampler(
            piti=replace(tiny_upsampler.CONFIG, image_size=8, dropout=0.2),
            low_res_size=4,
            optimizer=sgd(0.02),
            adversary=PatchAdversary(0.1, channels=4, layers=1),
            optimizer_d=sgd(0.001),
            losses_from=2,
        )
    ),
    "StyleGAN2": lambda folder: gan(ByRank, 0.01, stylegan2=replace(GAN, image_size=8), augmentation=DiffAugment()),
    "CDC": lambda folder: gan(OneCDC, 0.002, init_from=source_gan(folder), correspondence=Correspondence(20.0)),
    "MixDL": lambda folder: gan(OneMixDL, 0.01, stylegan2=GAN),
}


def curve_of(method: str, folder: Path, ranks: int) -> Curve:
    """The losses of each step: of this one of several processes, or of one that stands for two."""
    folder.mkdir()
    module, losses, callbacks = METHODS[method](folder), Losses(), []
    is_gan, arguments = hasattr(module, "micro_batch"), {}
    batch_size = IMAGES_OF_GANS if is_gan else IMAGES
    halves = ranks == 1 and method == "DDPMPA"
    if ranks > 1:
        arguments = {"devices": ranks, "strategy": "ddp"}
    elif halves:
        arguments = {"accumulate_grad_batches": RANKS}
        callbacks.append(SeedAsRanks(RandomOfRanks()))
    else:
        batch_size *= RANKS
        if not is_gan:
            callbacks.append(in_joint_batches(module))
    trainer = tiny.trainer(folder, STEPS, *callbacks, losses, **arguments)
    trainer.fit(module, Data(batch_size, module.config.image_size if is_gan else UNET.image_size))
    if halves:  # the trainer has divided them by two
        return [{"loss": a["loss"] + b["loss"]} for a, b in zip(losses.curve[::2], losses.curve[1::2], strict=True)]
    return losses.curve


def mean_of(*curves: Curve) -> Curve:
    return [
        {name: sum(one[name] for one in step) / len(step) for name in step[0]} for step in zip(*curves, strict=True)
    ]


def one_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = os.environ["RANK"]
    curves = {method: curve_of(method, folder / f"{method} {rank}", RANKS) for method in METHODS}
    (folder / f"{rank}.json").write_text(json.dumps(curves))


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Curve]]:
    """The curves of all methods as each of the two processes saw them."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(__file__, folder, timeout=700, count=RANKS)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_curve_of_two_processes_is_that_of_one(method: str, ranks: list[dict[str, Curve]], tmp_path: Path):
    ours, theirs = mean_of(*(curves[method] for curves in ranks)), curve_of(method, tmp_path / "one", 1)
    assert len(ours) == len(theirs) == STEPS
    for step, (shared, whole) in enumerate(zip(ours, theirs, strict=True)):
        assert shared == pytest.approx(whole, rel=TOLERANCE, abs=TOLERANCE), f"step {step}"


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))
