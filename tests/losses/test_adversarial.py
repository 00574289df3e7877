import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tenshot.losses import nonsaturating_discriminator_loss, nonsaturating_generator_loss


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7,), (3, 1, 4, 5)])
def test_they_are_the_cross_entropies_of_a_logistic_classifier(shape: tuple[int, ...]):
    real, fake = logits(*shape), logits(*shape, seed=1)
    of_real, of_fake = (1 / (1 + np.exp(-x.numpy())) for x in (real, fake))
    generator, discriminator = -np.log(of_fake).mean(), -np.log(of_real).mean() - np.log(1 - of_fake).mean()
    assert nonsaturating_generator_loss(fake).item() == pytest.approx(generator, rel=1e-12)
    assert nonsaturating_discriminator_loss(real, fake).item() == pytest.approx(discriminator, rel=1e-12)


def test_a_discriminator_that_cannot_tell_costs_log_two_a_side():
    zeros = torch.zeros(4)
    assert nonsaturating_generator_loss(zeros).item() == pytest.approx(math.log(2))
    assert nonsaturating_discriminator_loss(zeros, zeros).item() == pytest.approx(2 * math.log(2))


def test_the_generator_learns_most_where_its_images_fail():
    failed = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = nonsaturating_generator_loss(failed)
    loss.backward()
    assert loss.item() == pytest.approx(100)
    torch.testing.assert_close(failed.grad, torch.tensor([-0.5, 0.0]))


def test_reduced_logits_are_averaged_in_float32():
    rough = logits(64).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = nonsaturating_generator_loss(rough), nonsaturating_discriminator_loss(rough, rough)
    exact = (
        nonsaturating_generator_loss(rough.double()),
        nonsaturating_discriminator_loss(rough.double(), rough.double()),
    )
    for ours, expected in zip(under, exact, strict=True):
        assert ours.dtype == torch.float32
        assert ours.item() == pytest.approx(expected.item(), rel=1e-6)
