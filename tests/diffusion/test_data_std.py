"""The velocity of images of a known size, against EDM's preconditioning (arXiv 2206.00364, Table 1)."""

import pytest
import torch

from tenshot.diffusion import DiffusionConfig, GaussianDiffusion
from tenshot.errors import InputError

STEPS = torch.tensor([0, 10, 40, 70, 99])


def of_size(std: float) -> GaussianDiffusion:
    config = DiffusionConfig(100, "cosine", "fixed_large", "velocity", data_std=std)
    return GaussianDiffusion(config)


def test_the_clean_image_is_that_of_edm():
    process, std = of_size(0.4), 0.4
    torch.manual_seed(0)
    x_t, output = (torch.randn(5, 3, 4, 4, dtype=torch.float64) for _ in range(2))
    kept = torch.tensor(process.alphas_cumprod)[STEPS].view(-1, 1, 1, 1)
    sigma = ((1 - kept) / kept).sqrt()  # of noise beside an image that was not scaled, x_t / sqrt(kept)
    skip, out = std**2 / (sigma**2 + std**2), sigma * std / (sigma**2 + std**2).sqrt()
    torch.testing.assert_close(process.x0(output, x_t, STEPS), skip * x_t / kept.sqrt() - out * output)


@pytest.mark.parametrize("std", [0.25, 1.0, 3.0])
def test_a_network_that_hits_its_target_sees_the_clean_image(std: float):
    process = of_size(std)
    torch.manual_seed(0)
    x0, noise = (torch.randn(5, 3, 4, 4, dtype=torch.float64) for _ in range(2))
    x_t = process.q_sample(x0, STEPS, noise)
    torch.testing.assert_close(process.x0(process.target(x0, x_t, STEPS, noise), x_t, STEPS), x0)


@pytest.mark.parametrize(("std", "told"), [(0.5, 0.5), (0.5, 1.0)])
def test_the_target_has_size_one_and_no_factor_of_x_t_where_the_size_is_true(std: float, told: float):
    process = of_size(told)
    torch.manual_seed(0)
    x0, noise = (scale * torch.randn(5, 1, 300, 300, dtype=torch.float64) for scale in (std, 1.0))
    x_t = process.q_sample(x0, STEPS, noise)
    target = process.target(x0, x_t, STEPS, noise)
    variance, common = (torch.stack([(target * other).mean((1, 2, 3)) for other in (target, x_t)])).unbind()
    assert ((variance - 1).abs().max() < 0.02) == (std == told)
    assert (common.abs().max() < 0.02) == (std == told)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"data_std": 0.0, "prediction": "velocity"}, "data_std is 0"),
        ({"data_std": 0.5}, "data_std 0.5 is of prediction velocity"),
    ],
)
def test_what_it_cannot_be_is_one_line(fields: dict[str, object], words: str):
    with pytest.raises(InputError, match=words):
        DiffusionConfig(**fields)  # type: ignore[arg-type]
