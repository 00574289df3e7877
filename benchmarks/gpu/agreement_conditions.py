"""What draws from texts and condition images on the device, beside the CPU's: GLIDE, PITI and its upsampler."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import glide_files
import tiny
import tiny_piti
import tiny_upsampler
import torch
from torch import Tensor

from benchmarks.gpu.compared import ALLOWED, Outcome, compare, with_gradients
from benchmarks.gpu.record import Context
from tenshot.lightning_modules import ClassifierFreeGuidance, Sampler

NETWORKS: dict[str, dict[str, Any]] = {
    "PITI": {},
    "PITI, condition input": {"condition_input": True},
    "PITI, upsampler": {"low_res_channels": 3},
}


def run(context: Context) -> None:
    """Rows of networks, chains and steps."""
    networks(context)
    chains(context)
    upsampler_step(context)


def networks(context: Context) -> None:
    """Forward passes, and the condition encoder alone."""

    def build(network: Any) -> dict[str, Any]:
        return {"net": network, "given": glide_files.given(network)}

    def output(made: dict[str, Any]) -> Outcome:
        return {"output": made["net"](**made["given"])}

    compare(context, "GlideUNet", lambda: build(glide_files.glide()), output, bf16=not context.dry)
    for name, changes in NETWORKS.items():
        compare(context, name, lambda c=changes: build(glide_files.piti(**c)), output, bf16=not context.dry)

    def encoded(made: dict[str, Any]) -> Outcome:
        tokens, pooled = made["net"](made["masks"])
        return {"tokens": tokens, "pooled": pooled}

    compare(
        context,
        "ConditionEncoder",
        lambda: {"net": glide_files.condition_encoder(), "masks": tiny_piti.masks()},
        encoded,
        bf16=not context.dry,
    )


def chains(context: Context) -> None:
    """Whole chains of PITI, guided within an interval, and of its upsampler: every step's error adds up."""
    guided = ClassifierFreeGuidance(2.0, normalize="image", interval=(300, 900))
    sampler = Sampler("ddpm", "3" if context.dry else "8")
    config = replace(tiny_piti.CONFIG, condition_input=True)
    options = {"piti": config, "condition_drop": 0.2, "classifier_free": guided, "sampler": sampler}

    def drawn(made: dict[str, Any]) -> Outcome:
        return {"images": made["module"].sample(made["seeds"], made["condition"])}

    for name, module, condition in (
        ("PITI guided", lambda: tiny_piti.piti(**options), {"condition_image": tiny_piti.masks()}),
        ("PITIUpsampler", lambda: tiny_upsampler.upsampler(sampler=sampler), tiny_upsampler.condition()),
    ):

        def build(module: Any = module, condition: Any = condition) -> dict[str, Any]:
            return {"module": tiny.randomised(module()), "seeds": torch.arange(4), "condition": condition}

        compare(context, f"samplers, {name}", build, drawn, bf16=not context.dry, allowed=10 * ALLOWED)


def upsampler_step(context: Context) -> None:
    """All terms of PITI's upsampler and of its discriminator, with the gradients of both."""

    def build() -> dict[str, Any]:
        module = tiny.randomised(tiny_upsampler.upsampler(degradation=None))
        images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(4)) * 2 - 1
        batch = {"image": images, "condition": {"condition_image": tiny_piti.masks()}}
        features = tiny_upsampler.PERCEPTUAL.read(16)
        return {"module": module, "batch": batch, "features": features}

    def terms(made: dict[str, Any]) -> dict[str, Tensor]:
        module, x = made["module"], made["batch"]["image"]
        module.features, module._trainer = (made["features"],), SimpleNamespace(global_step=0)
        t = torch.tensor([0, 200, 500, 900], device=x.device)
        step = module.denoiser.predict(x, t, torch.randn_like(x), module.condition_of(made["batch"]))
        judged = module.discriminator_terms(x, module.estimate(step).detach())
        of_judge = with_gradients(torch.stack(list(judged.values())).sum(), module.discriminator)
        loss = torch.stack(list(module.loss_terms(step).values())).sum(0).mean()
        of_network = with_gradients(loss, module.unet)
        return {f"discriminator {k}": v for k, v in of_judge.items()} | {
            f"network {k}": v for k, v in of_network.items()
        }

    compare(context, "loss of PITIUpsampler", build, terms, bf16=False)
