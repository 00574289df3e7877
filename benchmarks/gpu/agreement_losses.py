"""Losses and their gradients on the device, beside the CPU's."""

from functools import partial
from typing import Any, TypeVar

import tiny
import torch
from torch import Tensor

from benchmarks.gpu.compared import Outcome, compare, with_gradients
from benchmarks.gpu.record import Context
from tenshot.diffusion import LossWeighting
from tenshot.distributed.seeding import step_choices
from tenshot.lightning_modules import MixDL
from tenshot.lightning_modules.cdc import features
from tenshot.lightning_modules.gan import GAN
from tenshot.losses import (
    cross_domain_distance_loss,
    high_frequency,
    high_frequency_mse,
    mixing_coefficients,
    mixup_distance_loss,
    pairwise_similarity_loss,
)
from tenshot.models.augmentation import AdaptiveAugment, DiffAugment

LEARNED = {"variance": "learned_range", "schedule": "cosine"}
G = TypeVar("G", bound=GAN)


def run(context: Context) -> None:
    """Rows ``loss …``."""
    diffusion(context)
    relations(context)
    adversarial(context)
    mixed(context)


def random_images(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(4)) * 2 - 1


def diffusion(context: Context) -> None:
    """A training step of DDPM: hybrid loss, and the bound with learned variance."""
    kinds: dict[str, dict[str, Any]] = {
        "loss hybrid": {"diffusion": tiny.process()},
        "loss hybrid, min-SNR": {"diffusion": tiny.process(), "weighting": LossWeighting("min_snr")},
        "loss hybrid, learned variance": {
            "diffusion": tiny.process(**LEARNED),
            "unet": tiny.unet_config(out_channels=6),
        },
        "loss vlb": {
            "diffusion": tiny.process(**LEARNED),
            "unet": tiny.unet_config(out_channels=6),
            "objective": "vlb",
        },
    }

    def step(made: dict[str, Any]) -> Outcome:
        module, x = made["module"], made["x"]
        t = torch.tensor([0, 5, 30, 49], device=x.device)
        terms = module.loss_terms(module.denoiser.predict(x, t, torch.randn_like(x)))
        return with_gradients(torch.stack(list(terms.values())).sum(0).mean(), module.unet)

    for name, arguments in kinds.items():
        compare(
            context,
            name,
            lambda a=arguments: {"module": tiny.randomised(tiny.ddpm(**a)), "x": random_images(4, 16)},
            step,
            bf16=not context.dry,
        )


def relations(context: Context) -> None:
    """The losses between an adapted model and its source, on given features."""

    def build() -> dict[str, Any]:
        random = torch.Generator().manual_seed(9)
        one, two = (torch.randn(4, 3, 16, 16, generator=random) for _ in range(2))
        layers = [[torch.randn(4, 6, n, n, generator=random) for n in (4, 8, 16)] for _ in range(2)]
        return {"one": one, "two": two, "layers": layers, "weights": torch.rand(4, 4, generator=random).softmax(1)}

    def computed(made: dict[str, Any]) -> Outcome:
        one, two = made["one"].requires_grad_(), made["two"]
        ours, theirs = made["layers"]
        ours = [layer.requires_grad_() for layer in ours]
        losses = {
            "pairwise": pairwise_similarity_loss(one, two),
            "pairwise, high frequencies": pairwise_similarity_loss(
                high_frequency(one), high_frequency(two), "source||adapted", "mean"
            ),
            "high_frequency_mse": high_frequency_mse(one, two).sum(),
            "cross_domain": cross_domain_distance_loss(ours, theirs, [0, 1, 2, 1]),
            "mixup": mixup_distance_loss(ours, theirs, made["weights"], [0, 1, 2, 1]),
        }
        with torch.autocast(one.device.type, enabled=False):
            torch.stack(list(losses.values())).sum().backward()
        gradients = torch.cat([leaf.grad.flatten() for leaf in (one, *ours)])
        return {**losses, "gradients": gradients}

    compare(context, "loss relations", build, computed)
    compare(
        context,
        "mixing coefficients",
        lambda: torch.zeros(()),
        lambda made: {
            kind: mixing_coefficients(4, kind, 1.0, made.device) for kind in ("dirichlet", "gaussian", "uniform")
        },
        bf16=False,
    )


def prepared(module: G) -> G:
    """At a training step, without a trainer."""
    module.choices = step_choices(0)
    return module


def adversarial(context: Context) -> None:
    """StyleGAN2's terms: both players plain and augmented, R1, path length."""
    augmentations = {"": None, ", ADA": AdaptiveAugment(probability=0.8), ", DiffAugment": DiffAugment()}

    def player(term: str, made: dict[str, Any]) -> Outcome:
        module = prepared(made["module"])
        given = made["x"] if term in ("discriminator", "r1") else len(made["x"])
        judge = (module.discriminate,) if term == "r1" else ()
        terms = getattr(module, f"{term}_terms")(given, *judge)
        trained = module.discriminator if term in ("discriminator", "r1") else module.generator
        return with_gradients(torch.stack([value.float() for value in terms.values()]).sum(), trained)

    for suffix, augmentation in augmentations.items():
        terms = ("discriminator", "generator", "r1", "path_length") if not suffix else ("discriminator", "r1")
        for term in terms:
            compare(
                context,
                f"loss {term}{suffix}",
                lambda a=augmentation: {
                    "module": tiny.gan(augmentation=a),
                    "x": random_images(4 if context.dry else 8, 32),
                },
                partial(player, term),
                bf16=not context.dry,
            )


def mixed(context: Context) -> None:
    """MixDL's terms at a step that mixes, CDC's distance of two generators, patches."""

    def mixdl(term: str, made: dict[str, Any]) -> Outcome:
        module = prepared(made["module"])
        if term == "generator":
            terms = module.mixed_generator_terms(len(made["x"]))
            return with_gradients(torch.stack([value.float() for value in terms.values()]).sum(), module.generator)
        terms = module.mixed_discriminator_terms(made["x"])
        return with_gradients(torch.stack([value.float() for value in terms.values()]).sum(), module.discriminator)

    for term in ("discriminator", "generator"):
        compare(
            context,
            f"loss MixDL {term}",
            lambda: {"module": tiny.gan(MixDL), "x": random_images(4 if context.dry else 8, 32)},
            partial(mixdl, term),
            bf16=not context.dry,
        )

    def distance(made: dict[str, Any]) -> Outcome:
        z = torch.randn(4, 8, device=made["source"].const.device)
        with torch.no_grad():
            theirs = features(made["source"], z, None)
        adapted = features(made["module"].generator, z, None)
        loss = cross_domain_distance_loss(adapted, theirs, [1, 2, 3, 2])
        return with_gradients(1000 * loss, made["module"].generator)

    def pair() -> dict[str, Any]:
        return {"module": tiny.gan(), "source": tiny.randomised(tiny.gan(), 3).generator.requires_grad_(False)}

    compare(context, "loss CDC distance", pair, distance, bf16=not context.dry)
