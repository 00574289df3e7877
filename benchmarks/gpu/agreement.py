"""The device computes what the CPU computes: networks, losses with gradients, samplers, augmentation, metrics."""

import math
from functools import partial
from typing import Any

import tiny
import torch
from torch import Tensor

from benchmarks.gpu import adm, agreement_conditions, agreement_losses
from benchmarks.gpu.compared import ALLOWED, SameDraws, compare, difference, ieee
from benchmarks.gpu.record import Context, Values
from tenshot.diffusion import (
    Denoiser,
    GaussianDiffusion,
    Guided,
    bits_per_dim,
    classifier_guidance,
    ddim_encode,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
)
from tenshot.metrics import (
    BitsPerDim,
    FrechetDistance,
    InceptionScore,
    IntraLPIPS,
    KernelDistance,
    NearestLPIPS,
    PairwiseLPIPS,
    PathUniformity,
    PerceptualPathLength,
    PrecisionRecall,
)
from tenshot.models import norm_act_conv
from tenshot.models.augmentation import AdaptiveAugment, DiffAugment
from tenshot.models.norm_act_conv import norm_act

LEARNED = {"variance": "learned_range", "schedule": "cosine"}


def run(context: Context) -> None:
    """All rows of the stage."""
    norms(context)
    networks(context)
    agreement_conditions.run(context)
    agreement_losses.run(context)
    samplers(context)
    augmentation(context)
    metrics(context)


def images(count: int = 4, side: int = 16, seed: int = 5) -> Tensor:
    """(N, 3, H, W) in [-1, 1]"""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def randomised_ddpm(**arguments: Any) -> Any:
    return tiny.randomised(tiny.ddpm(**arguments))


def norms(context: Context) -> None:
    """Group norm, modulation and SiLU by PyTorch's operations and by Triton kernels, also where a mean costs digits."""

    def build(channels: int, side: int, modulated: bool, mean: float) -> dict[str, Any]:
        norm = torch.nn.GroupNorm(32, channels)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
        x = mean + torch.randn(3, channels, side, side + 1)
        return {
            "norm": norm,
            "x": x.contiguous(memory_format=torch.channels_last),
            "modulation": torch.randn(3, 2 * channels) if modulated else None,
            "towards": torch.randn_like(x),
        }

    def computed(made: dict[str, Any]) -> dict[str, Tensor]:
        kind = torch.get_autocast_dtype(made["x"].device.type) if torch.is_autocast_enabled() else torch.float32
        x = made["x"].to(kind).requires_grad_()
        modulation = None if made["modulation"] is None else made["modulation"].requires_grad_()
        inputs = {"x": x, "weight": made["norm"].weight, "bias": made["norm"].bias}
        inputs |= {} if modulation is None else {"modulation": modulation}
        y = norm_act(x, made["norm"], modulation)
        gradients = torch.autograd.grad(y, list(inputs.values()), made["towards"].to(kind))
        return {"output": y, **{f"gradient of {name}": one for name, one in zip(inputs, gradients, strict=True)}}

    for channels, side, modulated, mean in ((64, 1, True, 0.0), (96, 33, False, 0.0), (768, 40, True, 30.0)):
        kind = "modulated, " if modulated else ""
        for kernels in (False, True):
            chosen = norm_act_conv.kernels_for if kernels else lambda x: None
            with adm.replaced(norm_act_conv, "kernels_for", chosen):
                compare(
                    context,
                    f"group norm{' kernels' * kernels}, {kind}{channels} channels, mean {mean:.0f}",
                    partial(build, channels, side, modulated, mean),
                    computed,
                    bf16=not context.dry,
                    allowed=1e-5,
                )


def networks(context: Context) -> None:
    """Forward passes, in channels_last and in plain memory."""
    t = torch.tensor([0, 3, 20, 49])
    for name, changes in (("U-Net", {}), ("U-Net, convolutions resample", {"resample": "conv"})):
        for layout in (torch.contiguous_format, torch.channels_last):

            def build(changes: Any = changes, layout: Any = layout) -> dict[str, Any]:
                module = randomised_ddpm(unet=tiny.unet_config(**changes), diffusion=tiny.process())
                return {"net": module.unet.to(memory_format=layout), "x": images(), "t": t, "layout": layout}

            kind = "channels_last" if layout is torch.channels_last else "plain memory"
            compare(
                context,
                f"{name}, {kind}",
                build,
                lambda made: {"output": made["net"](made["x"].to(memory_format=made["layout"]), made["t"])},
                bf16=not context.dry,
            )
    compare(
        context,
        "U-Net of classes",
        lambda: {
            "net": randomised_ddpm(unet=tiny.unet_config(num_classes=3)).unet,
            "x": images(),
            "t": t,
            "labels": torch.tensor([0, 1, 2, 0]),
        },
        lambda made: {"output": made["net"](made["x"], made["t"], made["labels"])},
        bf16=not context.dry,
    )
    compare(
        context,
        "classifier",
        lambda: {"net": tiny.randomised(tiny.classifier()).classifier, "x": images(), "t": t},
        lambda made: {"logits": made["net"](made["x"], made["t"])},
        bf16=not context.dry,
    )
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    compare(
        context,
        "generator",
        lambda: {"net": tiny.gan().generator, "z": z},
        lambda made: {"images": made["net"](made["z"]), "w": made["net"].mapping(made["z"])},
        bf16=not context.dry,
    )
    compare(
        context,
        "discriminator",
        lambda: {"net": tiny.gan().discriminator, "x": images(4 if context.dry else 8, 32)},
        lambda made: {"logits": made["net"](made["x"])},
        bf16=not context.dry,
    )


def samplers(context: Context) -> None:
    """Whole chains from the same noise; every step's error adds up, and clamps make it jump: ten times as much is let
    through.
    """

    def build(**arguments: Any) -> dict[str, Any]:
        return {
            "module": randomised_ddpm(diffusion=tiny.process(), **arguments),
            "classifier": tiny.randomised(tiny.classifier(diffusion=tiny.process())).classifier,
            "x": torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3)),
        }

    def process(made: dict[str, Any], steps: str) -> GaussianDiffusion:
        whole: GaussianDiffusion = made["module"].diffusion
        return whole.respace(steps)

    @torch.no_grad()
    def drawn(made: dict[str, Any]) -> dict[str, Tensor]:
        network, x = made["module"].unet.eval(), made["x"]
        labels = torch.arange(4, device=x.device)
        pull = classifier_guidance(made["classifier"].eval(), labels, 1.0)
        few = 2 if context.dry else 5
        denoiser = Denoiser(process(made, str(few)), network)
        return {
            "ddpm": sample_ddpm(denoiser, x),
            "ddim": sample_ddim(denoiser, x),
            "ddim, eta 1": sample_ddim(denoiser, x, eta=1.0),
            "dpm_solver": sample_dpm_solver(Denoiser(made["module"].diffusion, network), x, few),
            "guided ddpm": sample_ddpm(Guided(denoiser, pull), x),
            "guided ddim": sample_ddim(Guided(denoiser, pull), x),
            "encoded": ddim_encode(denoiser, x.clamp(-1, 1)),
            "bits": bits_per_dim(denoiser, x.clamp(-1, 1)).total,
        }

    compare(context, "samplers", build, drawn, bf16=not context.dry, allowed=10 * ALLOWED)
    learned = {"unet": tiny.unet_config(out_channels=6)}

    def build_learned() -> dict[str, Any]:
        module = tiny.randomised(tiny.ddpm(diffusion=tiny.process(**LEARNED), **learned))
        return {"module": module, "x": torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))}

    @torch.no_grad()
    def drawn_learned(made: dict[str, Any]) -> dict[str, Tensor]:
        denoiser, x = Denoiser(process(made, "2" if context.dry else "5"), made["module"].unet.eval()), made["x"]
        return {"ddpm": sample_ddpm(denoiser, x), "bits": bits_per_dim(denoiser, x.clamp(-1, 1)).total}

    compare(
        context, "samplers, learned variance", build_learned, drawn_learned, bf16=not context.dry, allowed=10 * ALLOWED
    )


def augmentation(context: Context) -> None:
    """With the same draws; images and their gradients."""

    def augmented(made: dict[str, Any]) -> dict[str, Tensor]:
        x = made["x"].requires_grad_()
        y = made["augment"](x)
        with torch.autocast(x.device.type, enabled=False):
            gradient = torch.autograd.grad(y.square().sum(), x)[0]
        return {"images": y, "gradients": gradient}

    kinds = {"ADA": lambda: AdaptiveAugment(probability=0.8), "DiffAugment": DiffAugment}
    for name, make in kinds.items():
        compare(context, name, lambda make=make: {"augment": make(), "x": images(8, 32)}, augmented)


def metrics(context: Context) -> None:
    """Every metric with random features."""
    kinds: dict[str, Any] = {
        "frechet": FrechetDistance, "kernel": KernelDistance, "inception_score": InceptionScore,
        "precision_recall": PrecisionRecall, "intra_lpips": IntraLPIPS, "nearest_lpips": NearestLPIPS,
        "pairwise_lpips": PairwiseLPIPS, "path_length": PerceptualPathLength, "path_uniformity": PathUniformity,
    }  # fmt: skip
    for name, kind in kinds.items():
        context.run("agreement", f"metric {name}", lambda kind=kind: measured_twice(context, kind))
    context.run("agreement", "metric bits_per_dim", lambda: bits_twice(context))


def measured_twice(context: Context, kind: Any) -> Values:
    """The values of one metric on the CPU and on the device, of the same images."""
    reports, share = [], 2 if context.dry else 1
    for device in (torch.device("cpu"), context.device):
        torch.manual_seed(1)
        metric = kind("random").to(device)
        metric.prepare()
        with ieee(), SameDraws():
            if hasattr(metric, "images_per_path"):
                both = images(6 // share * metric.images_per_path, 32, seed=6)
                for part in both.unflatten(0, (-1, metric.images_per_path)).split(4 // share):
                    metric.update(part.to(device))
            else:
                for part in images(24 // share, 32, seed=7).split(9):
                    metric.update(part.to(device))
                if metric.compares:
                    metric.update(images(12 // share, 32, seed=8).to(device), real=True)
            reports.append(metric.report().values)
    return alike(*reports)


def bits_twice(context: Context) -> Values:
    """The same of the bound."""
    reports = []
    for device in (torch.device("cpu"), context.device):
        module = randomised_ddpm(diffusion=tiny.process()).to(device)
        torch.manual_seed(1)
        metric = BitsPerDim().to(device)
        with ieee(), SameDraws(), torch.no_grad():
            metric.update(
                bits_per_dim(Denoiser(module.diffusion.respace("5"), module.unet.eval()), images().to(device))
            )
        reports.append(metric.report().values)
    return alike(*reports)


OF_METRICS = 1e-3
"""A Frechet distance takes roots of eigenvalues that are nothing but rounding: its value is off by more."""


def alike(theirs: dict[str, float], ours: dict[str, float]) -> Values:
    """Errors of two reports."""
    assert theirs.keys() == ours.keys()
    there = {name: value for name, value in theirs.items() if value is not None and math.isfinite(value)}
    assert there, f"no value is defined: {theirs}"
    errors = {name: difference(torch.tensor(ours[name]), torch.tensor(value)) for name, value in there.items()}
    far = {name: error for name, error in errors.items() if not error <= OF_METRICS}
    assert not far, f"further than {OF_METRICS} from the CPU: {far}"
    return {"float32": errors}
