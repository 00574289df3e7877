import math

import pytest
import torch
from torch import Tensor

from tenshot.diffusion import Denoiser, DiffusionConfig, GaussianDiffusion, VariationalBound, bits_per_dim
from tenshot.metrics import BitsPerDim


def bound(count: int, steps: int = 5) -> VariationalBound:
    vb, x0_mse, mse = torch.rand(3, count, steps, generator=torch.Generator().manual_seed(count))
    return VariationalBound(vb.sum(dim=1) + 0.25, torch.full((count,), 0.25), vb, x0_mse, mse)


def test_it_is_the_mean_over_images_not_over_batches():
    parts = [bound(4), bound(1), bound(3)]
    metric = BitsPerDim()
    for part in parts:
        metric.update(part)
    every = VariationalBound(*(torch.cat(terms).double() for terms in zip(*parts, strict=True)))
    report = metric.report()
    assert metric.compute() == pytest.approx(every.total.mean())
    assert report.values == {"bits_per_dim": pytest.approx(every.total.mean())}
    assert report.settings == {"n": 8, "steps": 5}
    assert report.details["std"] == pytest.approx(every.total.std())
    assert report.details["prior"] == pytest.approx(0.25)
    for name, series in (("vb", every.vb), ("x0_mse", every.x0_mse), ("mse", every.mse)):
        assert report.details[f"{name}_of_step"] == pytest.approx(series.mean(dim=0).tolist())
    assert sum(report.details["vb_of_step"]) + report.details["prior"] == pytest.approx(report.values["bits_per_dim"])


def test_it_takes_what_the_process_gives():
    process = GaussianDiffusion(DiffusionConfig(num_steps=10, schedule="cosine", variance="fixed_large"))

    def network(x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * x

    found = bits_per_dim(Denoiser(process, network), torch.rand(3, 3, 4, 4) * 2 - 1)
    metric = BitsPerDim()
    metric.update(found)
    assert metric.compute() == pytest.approx(float(found.total.double().mean()))
    assert len(metric.report().details["vb_of_step"]) == 10


def test_no_image_is_undefined_and_one_has_no_spread():
    metric = BitsPerDim()
    assert math.isnan(metric.report().values["bits_per_dim"])
    assert metric.report().details["why"] == "there is no image"
    metric.update(bound(1))
    assert metric.report().details["std"] is None
    metric.reset()
    assert math.isnan(metric.compute())
