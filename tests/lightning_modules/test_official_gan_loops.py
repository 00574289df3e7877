"""CDC and MixDL against the loops of their authors' programs, written out here, in float64.

The programs clear gradients by setting them to zero: a weight has none until its first use, and a gradient of zero in
every later step that does not use it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.optim import Adam

from tenshot.callbacks import StepCheckpoint, StepSeed
from tenshot.distributed.seeding import step_choices
from tenshot.lightning_modules import CDC, Correspondence, MixDL, Mixup, Regularization
from tenshot.lightning_modules.gan import GAN

pytestmark = pytest.mark.slow

REST = Regularization(r1=10.0, r1_every=4, path_length=2.0, path_length_every=2)
STEPS = 7


class Batches(Callback):
    """What was trained on."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch["image"].clone())


def adam(networks: list[nn.Module], every: int) -> Adam:
    """One optimiser of the programs, with the ratio of lazy regularisation."""
    ratio = every / (every + 1)
    weights = [weight for network in networks for weight in network.parameters()]
    return Adam(weights, lr=0.002 * ratio, betas=(0**ratio, 0.99**ratio))


def descend(loss: Tensor, optimizers: list[Adam]) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=False)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def require(networks: list[nn.Module], grad: bool) -> None:
    for network in networks:
        network.requires_grad_(grad)


def cosines(mixed: list[Tensor], plain: list[Tensor], layers: list[int]) -> Tensor:
    rows = [F.cosine_similarity(mixed[k][a].flatten()[None], plain[k].flatten(1)) for a, k in enumerate(layers)]
    return torch.stack(rows)


def official(module: Any, batches: list[Tensor]) -> None:
    """Train as the programs do: what is drawn comes from the module, the losses and steps do not."""
    generator, trunk, ends = module.generator, module.discriminator, [module.heads]
    judges = [trunk, *([module.projection] if isinstance(module, MixDL) else [])]
    of_generator, of_judges, of_heads = adam([generator], 2), adam(judges, 4), adam([module.heads], 4)
    average = torch.zeros((), dtype=torch.float64)
    for step, real in enumerate(batches):
        StepSeed(3)._reseed(0, 0, 0, step)
        module.choices = step_choices(step)
        mixes, draw, judge = of_step(module, step)
        require([generator], False)
        require([*judges, *ends], True)
        if mixes:
            loss = mixing_judges(module, real)
        else:
            fake = draw(4)
            real_logits, fake_logits = judge(real, fake)
            loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        descend(loss, [of_judges, of_heads])
        if step % 4 == 0:
            real = real.clone().requires_grad_()
            [logits] = judge(real)
            (gradient,) = torch.autograd.grad(logits.view(4, -1).mean(1).sum(), real, create_graph=True)
            penalty = gradient.pow(2).reshape(len(real), -1).sum(1).mean()
            descend(10.0 / 2 * penalty * 4 + 0 * logits.flatten()[0], [of_judges, of_heads])
        require([generator], True)
        require([*judges, *ends], False)
        mixing = module._coefficients(4).double() if mixes else None
        [logits] = judge(draw(4) if mixing is None else module._images(mixing @ module.latents_of_noise(4)))
        loss = F.softplus(-logits).mean()
        if isinstance(module, CDC):
            loss = loss + correspondence(module)
        elif mixing is not None:
            loss = loss + mixing_generator(module, mixing)
        descend(loss, [of_generator])
        if step % 2 == 0:
            styles = module.styles(2)
            images = generator.synthesis(styles)
            noise = torch.randn_like(images) / (32 * 32) ** 0.5
            (gradient,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
            lengths = gradient.pow(2).sum(2).mean(1).sqrt()
            average = average + 0.01 * (lengths.mean() - average)
            descend(2.0 * 2 * (lengths - average).pow(2).mean() + 0 * images[0, 0, 0, 0], [of_generator])
            average = average.detach()


def of_step(module: Any, step: int) -> tuple[bool, Any, Any]:
    """Whether a step mixes latents, what draws images and what judges them at it, as the programs have it."""
    anything = lambda count: module.generator.synthesis(module.styles(count))  # noqa: E731
    if isinstance(module, CDC):
        return (False, module.around_anchors, module.discriminate) if step % 3 == 0 else (
            False, anything, module.discriminate_patches
        )  # fmt: skip
    mixes = step % 3 == 2
    return mixes, anything, module.discriminate_patches if mixes else module.discriminate


def correspondence(module: Any) -> Tensor:
    z = torch.randn(4, tiny.STYLEGAN2.latent_dim)
    with torch.no_grad():
        theirs = features(module.source.network, z)
    ours = features(module.generator, z)
    layers = module.choices.choices(range(1, module.generator.config.num_layers), k=4)
    others = ~torch.eye(4, dtype=torch.bool)
    p, q = (cosines(maps, maps, layers)[others].view(4, 3).softmax(1) for maps in (theirs, ours))
    return 1000 * F.kl_div(q.log(), p, reduction="sum") / 12


def features(generator: Any, z: Tensor) -> list[Tensor]:
    maps: list[Tensor] = generator.synthesis(generator.broadcast(generator.mapping(z)), features=True)[1]
    return maps


def mixing_judges(module: Any, real: Tensor) -> Tensor:
    w, mixing = module.latents_of_noise(4), module._coefficients(4).double()
    plain, mixed = module._images(w), module._images(mixing @ w)
    real_logits, mixed_logits = module.discriminate_patches(real, mixed)
    placed = module.projection(module.discriminator.penultimate(torch.cat([plain, mixed])))
    similar = cosines([placed[4:]], [placed[:4]], [0] * 4).softmax(1)
    distance = F.kl_div(similar.log(), mixing.softmax(1), reduction="sum") / 16
    return F.softplus(-real_logits).mean() + F.softplus(mixed_logits).mean() + distance


def mixing_generator(module: Any, mixing: Tensor) -> Tensor:
    w = module.latents_of_noise(4)
    layers = module.choices.choices(range(1, module.generator.config.num_layers - 1), k=4)
    plain, mixed = module._features(w), module._features(mixing @ w)
    similar = cosines(mixed, plain, layers).softmax(1)
    return 1000 * F.kl_div(similar.log(), mixing.softmax(1), reduction="sum") / 16


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("source")
    tiny.trainer(folder, 1, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    return str(folder / "checkpoints" / "step=00000001.ckpt")


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def method(name: str, source: str) -> GAN:
    """With late first uses: whole images are judged at steps 0, 3 and 6, each of four heads now and then."""
    if name == "CDC":
        options = Correspondence(taps=4, image_every=3)
        return tiny.gan(CDC, init_from=source, correspondence=options, regularization=REST)
    return tiny.gan(MixDL, mixup=Mixup(every=3), regularization=REST)


@pytest.mark.parametrize("name", ["CDC", "MixDL"])
def test_steps_are_those_of_the_program(tmp_path: Path, source: str, name: str):
    module, batches = method(name, source), Batches()
    tiny.trainer(tmp_path, STEPS, batches, precision="64-true").fit(module, tiny.faces(image_size=32))
    theirs = method(name, source).double()
    if isinstance(module, CDC):
        theirs.source = module.source
    official(theirs, batches.seen)
    expected = dict(theirs.named_parameters())
    for key, value in module.named_parameters():
        torch.testing.assert_close(value, expected[key], rtol=1e-7, atol=1e-9, msg=lambda m, at=key: f"{at}: {m}")
