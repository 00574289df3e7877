"""Two gloo processes: an iteration of both players and both regularisers is that of the joint batch.

Run by ``run_ranks``, this file is the script of one rank.
"""

import os
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import Callback
from ranks import run_ranks
from torch import Tensor, nn

from tenshot.callbacks import StepCheckpoint
from tenshot.datamodules import SyntheticFaces
from tenshot.distributed.seeding import SeededNoise
from tenshot.lightning_modules import MixDL, Regularization, StyleGAN2
from tenshot.lightning_modules import gan as module_of_gan
from tenshot.losses import path_lengths
from tenshot.models.augmentation import AdaptiveAugment

pytestmark = pytest.mark.slow
STEPS = 2
REST = Regularization(r1=8.0, r1_every=2, path_length=3.0, path_length_every=1)


class ByImage(StyleGAN2):
    """Draws by image, so that sharing images out changes nothing; groups of the discriminator stay together."""

    def configure_model(self) -> None:
        if "generator" in self._modules:
            return
        super().configure_model()
        synthesis, self.drawn = self.generator.synthesis, 0
        self.generator.synthesis = lambda styles, noise=None: synthesis(styles, noise="fixed")  # type: ignore

    def normal(self, count: int, *shape: int) -> Tensor:
        self.drawn += 1
        first = self.trainer.global_rank * count
        numbers = torch.arange(first, first + count) + 1000 * self.drawn
        return SeededNoise(numbers, self.device).normal(*shape)

    def latents_of_noise(self, count: int) -> Tensor:
        return self.generator.mapping(self.normal(count, tiny.STYLEGAN2.latent_dim))

    def discriminate(self, *images: Tensor) -> Sequence[Tensor]:
        return super().discriminate(*map(in_groups, images))

    def path_length_terms(self, count: int) -> dict[str, Tensor]:
        module_of_gan.path_lengths = lambda images, styles: path_lengths(  # type: ignore[assignment]
            images, styles, self.normal(len(images), 3, 32, 32)
        )
        try:
            return super().path_length_terms(count)
        finally:
            module_of_gan.path_lengths = path_lengths


def in_groups(images: Tensor) -> Tensor:
    """The eight images of one process in the order in which groups are those of two with four each."""
    return images.unflatten(0, (2, 4)).transpose(0, 1).flatten(0, 1) if len(images) == 8 else images


class Follow(Callback):
    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})


def train(folder: Path, batch_size: int, **arguments: Any) -> list[dict[str, Tensor]]:
    sgd = lambda params: torch.optim.SGD(params, lr=0.02)  # noqa: E731 - Adam would magnify roundings of tiny gradients
    module = tiny.gan(ByImage, regularization=REST, style_mixing=0.5, optimizer_g=sgd, optimizer_d=sgd)
    follow = Follow()
    data = SyntheticFaces(image_size=32, batch_size=batch_size, num_images=24, num_val=0)
    tiny.trainer(folder, STEPS, follow, **arguments).fit(module, data)
    return follow.states


def train_mixdl(folder: Path) -> None:
    augmentation = AdaptiveAugment(target=-1.0, images_to_full=200)
    module = tiny.gan(MixDL, augmentation=augmentation)
    data = SyntheticFaces(image_size=32, batch_size=4, shots=10, num_val=0)
    tiny.trainer(folder, 4, StepCheckpoint(), devices=2, strategy="ddp").fit(module, data)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    torch.save(state | {"seed": torch.initial_seed()}, folder / f"mixdl{os.environ['RANK']}.pt")


class SecondRankUses(StyleGAN2):
    """A weight of the discriminator that the second rank alone uses, at step 1 alone: gradient 4."""

    def configure_model(self) -> None:
        super().configure_model()
        self.head = nn.Linear(1, 1, bias=False)

    def players(self) -> Any:
        players = super().players()
        return {**players, "discriminator": [*players["discriminator"], self.head]}

    def discriminator_terms(self, real: Tensor) -> dict[str, Tensor]:
        used = self.trainer.global_step == 1 and self.trainer.global_rank == 1
        return super().discriminator_terms(real) | ({"head": 4 * self.head.weight.sum()} if used else {})


def train_head(folder: Path) -> None:
    module = tiny.gan(SecondRankUses, regularization=Regularization(r1=0.0, path_length=0.0))
    data = SyntheticFaces(image_size=32, batch_size=4, num_images=24, num_val=0)
    tiny.trainer(folder / "head", 3, devices=2, strategy="ddp").fit(module, data)
    state = module.optimizers()[1].optimizer.state[module.head.weight]  # type: ignore[index,union-attr]
    torch.save({**state, "head": module.head.weight.detach()}, folder / f"head{os.environ['RANK']}.pt")


class Freezes(Callback):
    """Freezes layers of the discriminator, as FreezeD does, and of the generator: some at once, some after a step."""

    AT = (("discriminator.from_rgb.", "generator.mapper.0."), ("discriminator.blocks.0.", "generator.mapper.1."))

    def __init__(self) -> None:
        self.frozen: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        if trainer.global_step < len(self.AT):
            for name, weight in pl_module.named_parameters():
                if name.startswith(self.AT[trainer.global_step]):
                    self.frozen[name] = weight.requires_grad_(False).detach().clone()


def train_frozen(folder: Path) -> None:
    adam = {"optimizer_g": tiny.adam(1e-3), "optimizer_d": tiny.adam(1e-3)}  # which goes on after a gradient of zero
    module = tiny.gan(MixDL, regularization=Regularization(r1_every=1, path_length_every=1), **adam)
    before, freezes = deepcopy(module.state_dict()), Freezes()
    data = SyntheticFaces(image_size=32, batch_size=4, num_images=24, num_val=0)
    tiny.trainer(folder / "frozen", 3, freezes, devices=2, strategy="ddp").fit(module, data)
    moving = [name for name, weight in module.named_parameters() if weight.requires_grad]
    found = {"before": before, "frozen": freezes.frozen, "after": module.state_dict(), "moving": moving}
    torch.save(found, folder / f"frozen{os.environ['RANK']}.pt")


def one_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    train_head(folder)
    train_frozen(folder)
    torch.save(train(folder, 4, devices=2, strategy="ddp"), folder / f"stylegan2{os.environ['RANK']}.pt")
    train_mixdl(folder)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes left."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(__file__, folder, timeout=200)
    return folder


def test_two_iterations_are_those_of_the_joint_batch(ranks: Path, tmp_path: Path):
    whole = train(tmp_path, 8)
    for rank in range(2):
        shared = torch.load(ranks / f"stylegan2{rank}.pt")
        for step, (ours, theirs) in enumerate(zip(shared, whole, strict=True)):
            for name, value in theirs.items():
                message = lambda m, at=f"step {step}, {name}": f"{at}: {m}"  # noqa: E731
                torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-5, msg=message)
    for name in ("generator.const", "discriminator.from_rgb.weight", "path_length_mean", "generator.latent_average"):
        assert (whole[1][name] - whole[0][name]).abs().max() > 1e-4, name


def test_ranks_draw_different_noise_and_stay_the_same(ranks: Path):
    """MixDL's heads, projection and augmentation too; and the checkpoint is what they ended with."""
    first, second = (torch.load(ranks / f"mixdl{rank}.pt") for rank in range(2))
    assert first.pop("seed") != second.pop("seed")
    tiny.assert_same(first, second)
    content = torch.load(ranks / "checkpoints" / "step=00000004.ckpt", weights_only=True)
    tiny.assert_same(content["state_dict"], first)
    assert first["augmentation.probability"].item() == pytest.approx(8 / 200)  # step 0 of both ranks
    assert first["augmentation.signs"][1].item() == 3 * 4  # each rank holds the mean


def test_a_weight_that_one_rank_uses_counts_as_used_on_all(ranks: Path):
    states = [torch.load(ranks / f"head{rank}.pt") for rank in range(2)]
    tiny.assert_same(states[0], states[1])
    assert states[0]["step"] == 2
    assert states[0]["exp_avg_sq"].item() == pytest.approx(0.01 * 2**2 * 0.99)


def test_what_a_method_freezes_stays_frozen_and_unchanged(ranks: Path):
    first, second = (torch.load(ranks / f"frozen{rank}.pt") for rank in range(2))
    frozen = first["frozen"]
    assert len(frozen) > 8
    assert not frozen.keys() & set(first["moving"])
    tiny.assert_same({name: first["after"][name] for name in frozen}, frozen)
    moved = {name for name, value in first["before"].items() if not torch.equal(value, first["after"][name])}
    assert not any(name.startswith(Freezes.AT[0]) for name in moved)
    assert {"discriminator.blocks.0.conv1.weight", "discriminator.output.weight", "generator.const"} <= moved
    tiny.assert_same(first, second)


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))
