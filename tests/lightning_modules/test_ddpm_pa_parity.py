"""The losses of DDPM-PA and their gradients against the published code, on the same images, noise and outputs."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from official_code import official
from torch import Tensor

from tenshot.diffusion import Denoised, DiffusionConfig
from tenshot.lightning_modules import DDPMPA, Pairwise

ANCHORS = [5, 0, 3]
WEIGHTS = {"pair_weight": 4.0, "hf_pair_weight": 2.5, "hf_mse_weight": 0.05}


class Fixed(torch.nn.Module):
    """A network that answers with a table, by the images it is shown."""

    def __init__(self, x_t: Tensor, output: Tensor) -> None:
        super().__init__()
        self.x_t, self.output = x_t, output

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        rows = [next(i for i, known in enumerate(self.x_t) if torch.equal(known, image)) for image in x]
        return self.output[rows]


@pytest.fixture
def theirs() -> SimpleNamespace:
    names = ("gaussian_diffusion", "nn")
    found = {name: official("DOMAINSTUDIO", f"Unconditional/guided_diffusion.{name}") for name in names}
    return SimpleNamespace(**found)


def process_of(theirs: SimpleNamespace, config: DiffusionConfig) -> Any:
    code = theirs.gaussian_diffusion
    process = code.GaussianDiffusion(
        betas=code.get_named_beta_schedule(config.schedule, config.num_steps),
        model_mean_type=code.ModelMeanType.EPSILON,
        model_var_type=code.ModelVarType.LEARNED_RANGE,
        loss_type=code.LossType.MSE,
    )
    vars(process).update(WEIGHTS)  # its constructor drops them
    return process


@pytest.mark.parametrize("late", [False, True])
def test_losses_and_gradients(theirs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, late: bool):
    config = DiffusionConfig()
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.rand(8, 3, 16, 16, generator=generator) * 2 - 1, torch.randn(8, 3, 16, 16, generator=generator)
    answers = [torch.randn(8, 6, 16, 16, generator=generator) for _ in range(2)]
    t = torch.randint(900 if late else 0, 1000 if late else 900, (8,), generator=generator)

    weights = Pairwise(
        image=4.0, high_frequency=2.5, high_frequency_mse=0.05, direction="source||adapted", reduction="mean", anchors=3
    )
    module = DDPMPA(unet=tiny.unet_config(), source="not read", pairwise=weights, diffusion=config)
    module.configure_model()
    monkeypatch.setattr(
        torch, "randperm", lambda n, **_: torch.tensor(ANCHORS + [i for i in range(n) if i not in ANCHORS])
    )
    monkeypatch.setattr(np.random, "choice", lambda n, size, replace: np.array(ANCHORS))

    x_t = module.diffusion.q_sample(x0, t, noise)
    module.source.network = Fixed(x_t, answers[1])  # type: ignore[assignment]
    ours_output = answers[0].clone().requires_grad_()
    ours = module.loss_terms(Denoised(x0, x_t, t, noise, None, ours_output))

    their_output = answers[0].clone().requires_grad_()
    published = process_of(theirs, config).training_fewshot_losses(
        lambda *_: their_output, lambda *_: answers[1], x0, t, noise=noise
    )
    names = {
        "mse": "mse", "vb": "vb", "high_frequency_mse": "mse2",
        "pair_image": "similarity", "pair_high_frequency": "similarity2",
    }  # fmt: skip
    assert ours.keys() == names.keys()
    for name, theirs_name in names.items():
        value, expected = ours[name], published[theirs_name]
        # at t = 999 the estimates are differences of numbers a hundred times as large
        torch.testing.assert_close(value, expected, rtol=1e-5 if late else 1e-6, atol=1e-6)
        gradients = [
            torch.autograd.grad(loss.sum(), output, retain_graph=True)[0]
            for loss, output in ((value, ours_output), (expected, their_output))
        ]
        rounding = 1e-9 if name == "vb" else 0  # differences of nearly equal densities
        assert (gradients[0] - gradients[1]).abs().max() <= 2e-6 * gradients[1].abs().max() + rounding, name
    total = sum(value.expand(8) for value in ours.values())
    torch.testing.assert_close(total, published["loss"], rtol=1e-5, atol=1e-6)
