import numpy as np
import torch

from tenshot.losses import perceptual_loss


def features(seed: int) -> torch.Tensor:
    return torch.randn(3, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_mean_squared_difference_of_each_image():
    x, y = features(0), features(1)
    expected = [np.mean((a - b) ** 2) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    np.testing.assert_allclose(perceptual_loss(x, y), expected, rtol=1e-13)
    assert not perceptual_loss(x, x).any()


def test_gradients_reach_the_estimates_alone():
    x, y = features(0).requires_grad_(), features(1).requires_grad_()
    perceptual_loss(x, y).sum().backward()
    torch.testing.assert_close(x.grad, 2 * (x - y).detach() / 40)
    assert y.grad is None


def test_reduced_features_are_compared_in_float32():
    x, y = features(0).bfloat16(), features(1).bfloat16()
    loss = perceptual_loss(x, y)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), perceptual_loss(x.double(), y.double()), rtol=1e-6, atol=0)
