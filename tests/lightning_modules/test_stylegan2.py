"""StyleGAN2's steps, drawing and complaints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.cli import main
from tenshot.datamodules import SyntheticFaces
from tenshot.lightning_modules import Regularization, StyleGAN2
from tenshot.lightning_modules import gan as module_of_gan
from tenshot.lightning_modules.contract import LatentGenerator
from tenshot.losses import path_lengths
from tenshot.models.augmentation import AdaptiveAugment


def faces(**arguments: Any) -> SyntheticFaces:
    return tiny.faces(**({"image_size": 32} | arguments))


class Noiseless(StyleGAN2):
    """Latents by step and order of drawing, fixed noise maps, no style mixing: all that a plain loop can repeat."""

    def configure_model(self) -> None:
        super().configure_model()
        synthesis, self.drawn = self.generator.synthesis, 0
        self.generator.synthesis = lambda styles, noise=None: synthesis(styles, noise="fixed")  # type: ignore

    def latents_of_noise(self, count: int) -> Tensor:
        self.drawn += 1
        return self.generator.mapping(normal(self.drawn, count))


def normal(number: int, count: int) -> Tensor:
    return torch.randn(count, tiny.STYLEGAN2.latent_dim, generator=torch.Generator().manual_seed(number))


def test_two_steps_are_those_of_a_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The order of the four optimiser steps, their weights and intervals, and the average latent."""
    y = torch.randn(2, 3, 32, 32)
    monkeypatch.setattr(module_of_gan, "path_lengths", lambda images, styles: path_lengths(images, styles, y))
    rest = Regularization(r1=8.0, r1_every=2, path_length=3.0, path_length_every=1)
    module = tiny.gan(Noiseless, regularization=rest, style_mixing=0.0)
    plain = tiny.gan()  # of the same seed
    generator, discriminator = plain.generator, plain.discriminator
    tiny.trainer(tmp_path, 2).fit(module, faces(flip=False))

    adam_g = torch.optim.Adam(generator.parameters(), lr=0.002 / 2, betas=(0.0, 0.99 ** (1 / 2)))
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=0.002 * 2 / 3, betas=(0.0, 0.99 ** (2 / 3)))
    number, mean, average = 0, 0.0, torch.zeros(tiny.STYLEGAN2.latent_dim)

    def latents(count: int) -> Tensor:
        nonlocal number
        number += 1
        return generator.mapping(normal(number, count))

    def images_from(w: Tensor) -> Tensor:
        return generator.synthesis(generator.broadcast(w), noise="fixed")

    def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        generator.zero_grad()
        discriminator.zero_grad()
        loss.backward()
        for parameter in optimizer.param_groups[0]["params"]:
            if parameter.grad is None:  # the penalty does not see the last bias, whose second moment decays
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()

    stream = iter(faces(flip=False).train_dataloader())
    for iteration in range(2):
        real = next(stream)["image"].float() / 127.5 - 1
        fake = images_from(latents(4)).detach()
        step(adam_d, F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean())
        if iteration == 0:
            at = real.clone().requires_grad_()
            [gradient] = torch.autograd.grad(discriminator(at).sum(), at, create_graph=True)
            step(adam_d, 8 / 2 * 2 * gradient.square().sum((1, 2, 3)).mean())
        w = latents(4)
        average = average + 0.005 * (w.detach().mean(0) - average)
        step(adam_g, F.softplus(-discriminator(images_from(w))).mean())
        w = latents(2)
        average = average + 0.005 * (w.detach().mean(0) - average)
        styles = generator.broadcast(w)
        images = generator.synthesis(styles, noise="fixed")
        [jacobian] = torch.autograd.grad((images * y).sum() / 32, styles, create_graph=True)
        lengths = jacobian.square().sum(2).mean(1).sqrt()
        moved = mean + 0.01 * (lengths.mean() - mean)
        step(adam_g, 3 * (lengths - moved).square().mean())
        mean = moved.item()

    for ours, theirs in ((module.generator, generator), (module.discriminator, discriminator)):
        for name, value in dict(theirs.named_parameters()).items():
            torch.testing.assert_close(
                dict(ours.named_parameters())[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )
    assert module.path_length_mean.item() == pytest.approx(mean, rel=1e-4)
    torch.testing.assert_close(module.generator.latent_average, average, rtol=1e-4, atol=1e-7)


def test_micro_batches_go_through_the_networks_one_at_a_time_and_their_gradients_are_averaged(tmp_path: Path):
    """The discriminator compares the images of a micro-batch only, so the whole batch at once gives another step."""
    sgd = lambda weights: torch.optim.SGD(weights, lr=0.1)  # noqa: E731
    arguments = {"regularization": Regularization(r1_every=1, path_length_every=1), "style_mixing": 0.0}
    module = tiny.gan(Noiseless, micro_batch=2, optimizer_g=sgd, optimizer_d=sgd, **arguments)
    plain = tiny.gan()  # of the same seed
    judged: list[int] = []
    module.discriminator.register_forward_pre_hook(lambda _, args: judged.append(len(args[0])))
    moved: list[Tensor] = []
    optimise = module.optimise

    def noting(*given: Any, **options: Any) -> Any:
        terms = optimise(*given, **options)
        moved.append(module.discriminator.from_rgb.weight.detach().clone())
        return terms

    module.optimise = noting  # type: ignore[method-assign]
    tiny.trainer(tmp_path, 1).fit(module, faces(flip=False))
    assert judged == [4, 4, 2, 2, 2, 2]  # two real and two drawn; R1's; the generator's

    real = next(iter(faces(flip=False).train_dataloader()))["image"].float() / 127.5 - 1
    for number, part in enumerate(real.split(2)):
        w = plain.generator.mapping(normal(number + 1, 2))
        fake = plain.generator.synthesis(plain.generator.broadcast(w), noise="fixed").detach()
        loss = F.softplus(-plain.discriminator(part)).mean() + F.softplus(plain.discriminator(fake)).mean()
        (loss / 2).backward()
    weight = plain.discriminator.from_rgb.weight
    rate = 0.1 / 2  # as lazy regularisation corrects it
    torch.testing.assert_close(moved[0], (weight - rate * weight.grad).detach(), rtol=1e-4, atol=1e-6)


def test_drawn_images_are_clamped():
    module = tiny.gan()
    for name, weight in module.generator.named_parameters():
        if name.startswith("to_rgb") and name.endswith("bias"):
            weight.data += 1 / len(module.generator.to_rgb)
    seeds = torch.arange(2)
    decoded = module.decode(module.latents(seeds), seeds)
    assert 0.1 < (decoded > 1.2).float().mean() < 0.9
    torch.testing.assert_close(module.sample(seeds), decoded.clamp(-1, 1))


@pytest.mark.parametrize(("name", "left"), [("r1", "train/path_length"), ("path_length", "train/r1")])
def test_a_weight_of_zero_switches_a_regulariser_off_and_corrects_nothing(tmp_path: Path, name: str, left: str):
    module = tiny.gan(regularization=replace(Regularization(), **{name: 0.0}))
    trainer = tiny.trainer(tmp_path, 1)
    trainer.fit(module, faces())
    assert f"train/{name}" not in trainer.callback_metrics
    assert left in trainer.callback_metrics
    player = {"path_length": 0, "r1": 1}[name]
    assert module.optimizers()[player].param_groups[0]["lr"] == 0.002  # type: ignore[index]


def test_style_mixing_happens_as_often_as_asked_for():
    module = tiny.gan(style_mixing=0.75)
    mixed = 0
    for _ in range(400):
        styles = module.styles(2)
        mixed += not torch.equal(styles[:, 0], styles[:, -1])
        cuts = (styles[:, 1:] != styles[:, :-1]).any(-1).any(0).sum()
        assert cuts <= 1
    assert 260 < mixed < 340  # 300, standard deviation 8.7


def test_an_image_depends_on_its_seed_alone_and_decodes_from_its_latents():
    module = tiny.gan()
    whole = module.sample(torch.arange(6))
    torch.testing.assert_close(module.sample(torch.tensor([4])), whole[4:5], rtol=0, atol=0)
    assert isinstance(module, LatentGenerator)
    seeds = torch.arange(4)
    for space in ("z", "w"):
        again = module.decode(module.latents(seeds, space), seeds, space).clamp(-1, 1)  # type: ignore[arg-type]
        torch.testing.assert_close(again, whole[:4])
    assert whole.abs().max() <= 1
    assert (whole[0] - whole[1]).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["run", "port"])
def test_the_average_starts_from_the_averaged_weights_of_the_file(tmp_path: Path, kind: str):
    """And the generator from the raw ones: as CDC's program does with a source's g and g_ema."""
    first = tiny.randomised(tiny.gan())
    tiny.trainer(tmp_path, 2, StepCheckpoint(), ema=EMA(0.9, warmup=False)).fit(first, tiny.faces(image_size=32))
    path = tmp_path / "checkpoints" / "step=00000002.ckpt"
    content = torch.load(path, weights_only=True)
    if kind == "port":
        path = tmp_path / "port.pt"
        main(["convert", str(tmp_path), str(path)])
    module, ema = tiny.gan(init_from=str(path)), EMA(0.75, warmup=False)
    name = "layers.1.weight"
    raw, start = content["state_dict"][f"generator.{name}"], content["ema"]["weights"]["generator"][name]
    assert torch.equal(module.generator.get_parameter(name), raw)
    tiny.trainer(tmp_path / "on", 1, ema=ema).fit(module, tiny.faces(image_size=32))
    moved = module.generator.get_parameter(name).detach()
    assert not torch.equal(moved, raw)
    torch.testing.assert_close(ema.average["generator"][name], 0.75 * start + 0.25 * moved)


def test_in_float64_it_draws_the_same():
    """As ``predict --trainer.precision 64-true`` does."""
    module = tiny.randomised(tiny.gan(truncation=0.7))
    single = module.sample(torch.arange(2))
    double = module.double().sample(torch.arange(2))
    assert double.dtype == torch.float32
    torch.testing.assert_close(double, single, rtol=1e-3, atol=1e-4)


def test_truncation_draws_towards_the_average_latent():
    module = tiny.gan(truncation=0.0)
    module.generator.latent_average.normal_()
    average = module.generator.latent_average.expand(1, -1)
    seeds = torch.tensor([5])
    module.truncation = 1.0
    expected = module.decode(average, seeds)
    module.truncation = 0.0
    torch.testing.assert_close(module.decode(module.latents(seeds), seeds), expected)


def test_a_run_goes_on_from_the_weights_of_another(tmp_path: Path):
    first = tiny.gan()
    tiny.trainer(tmp_path, 2, StepCheckpoint(), ema=EMA(0.5)).fit(first, faces())
    path = str(tmp_path / "checkpoints" / "step=00000002.ckpt")
    content = torch.load(path, weights_only=True)

    raw, averaged = (tiny.gan(init_from=path, init_weights=weights) for weights in ("raw", "ema"))
    tiny.assert_same(raw.generator.state_dict(), first.generator.state_dict())
    tiny.assert_same(averaged.generator.state_dict(), content["ema"]["weights"]["generator"])
    for module in (raw, averaged):
        tiny.assert_same(module.discriminator.state_dict(), first.discriminator.state_dict())
        assert module.config == tiny.STYLEGAN2
    assert not torch.equal(raw.generator.const, averaged.generator.const)


# Complaints


def test_augmentation_that_adapts_moves_every_fourth_step(tmp_path: Path):
    augmentation = AdaptiveAugment(target=-1.0, images_to_full=160)  # the mean sign is above: it rises
    tiny.trainer(tmp_path, 6).fit(tiny.gan(augmentation=augmentation), faces())
    # at step 0 by the 4 images seen, at step 4 by the next 16; step 5's still wait
    assert augmentation.probability.item() == pytest.approx((4 + 16) / 160)
    assert augmentation.signs[1].item() == 4
