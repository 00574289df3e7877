"""Conditions on their way to the network, in training and in drawing, guided or not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tenshot.diffusion import (
    Denoiser,
    DiffusionConfig,
    GaussianDiffusion,
    Guided,
    bits_per_dim,
    ddim_encode,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
)

PROCESS = GaussianDiffusion(DiffusionConfig(variance="fixed_large", prediction="x0"))
LABEL = torch.tensor([0.25, -0.5])


def says_its_label(x: Tensor, t: Tensor, *, label: Tensor, low_res: Tensor) -> Tensor:
    """A network that is sure of a plain image: its condition."""
    return (label + low_res).view(-1, 1, 1, 1).expand_as(x)


WAYS: dict[str, Callable[..., Tensor]] = {
    "ddpm": lambda denoiser, x, told: sample_ddpm(denoiser.respace("5"), x, told),
    "ddim": lambda denoiser, x, told: sample_ddim(denoiser.respace("5"), x, told),
    "dpm_solver": lambda denoiser, x, told: sample_dpm_solver(denoiser, x, 5, told),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("guided", [False, True])
def test_images_are_those_of_the_condition(way: str, guided: bool):
    denoiser = Denoiser(PROCESS, says_its_label)
    if guided:  # by nothing
        denoiser = Guided(denoiser, lambda x, t: torch.zeros_like(x))
    told = {"label": LABEL, "low_res": torch.tensor([0.125, 0.0])}
    drawn = WAYS[way](denoiser, torch.randn(2, 3, 4, 4), told)
    torch.testing.assert_close(drawn, torch.tensor([0.375, -0.5]).view(2, 1, 1, 1).expand_as(drawn), rtol=0, atol=0.02)


def test_encoding_and_the_bound_are_told_the_condition():
    """An image that the network is told costs next to nothing, any other a lot; told images have no noise of theirs."""
    denoiser = Denoiser(PROCESS, says_its_label).respace("5")
    x0 = LABEL.view(2, 1, 1, 1).expand(2, 3, 4, 4)
    right, wrong = ({"label": label, "low_res": torch.zeros(2)} for label in (LABEL, -LABEL))
    assert (bits_per_dim(denoiser, x0, right).x0_mse < 1e-8).all()
    torch.testing.assert_close(bits_per_dim(denoiser, x0, wrong).x0_mse[:, 0], 4 * LABEL**2)
    assert ddim_encode(denoiser, x0, right).abs().max() < ddim_encode(denoiser, x0, wrong).abs().min()


def test_the_loss_is_the_objective_of_what_the_network_made_of_noised_images():
    t, noise = torch.tensor([10, 900]), torch.randn(2, 3, 4, 4)
    x0 = torch.rand(2, 3, 4, 4) * 2 - 1
    told = {"label": LABEL, "low_res": torch.zeros(2)}
    denoiser = Denoiser(
        PROCESS,
        says_its_label,
        lambda process, output, x0, x_t, t, noise: {"error": (output - x0).square().flatten(1).mean(1)},
    )
    terms = denoiser.loss(x0, t, noise, told)
    torch.testing.assert_close(terms, {"error": (LABEL.view(2, 1, 1, 1) - x0).square().flatten(1).mean(1)})

    alpha_bar = torch.from_numpy(PROCESS.alphas_cumprod)[t].float().view(2, 1, 1, 1)
    step = denoiser.predict(x0, t, noise, told)
    torch.testing.assert_close(step.x_t, alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise)
    assert step.condition is told
