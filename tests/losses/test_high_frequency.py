import numpy as np
import pytest
import pywt
import torch

from tenshot.losses import high_frequency, high_frequency_mse


@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 6), (5, 7)])
def test_it_is_the_sum_of_the_three_haar_bands(height, width):
    x = np.random.default_rng(0).normal(size=(2, 3, height, width))
    even = x[..., : height // 2 * 2, : width // 2 * 2]  # the last odd row or column is dropped
    _, (horizontal, vertical, diagonal) = pywt.dwt2(even, "haar", mode="periodization")
    # the library convolves, which flips the high-pass filter: its bands of one high-pass come with the other sign
    expected = -horizontal - vertical + diagonal
    np.testing.assert_allclose(high_frequency(torch.tensor(x)).numpy(), expected, atol=1e-12)


def test_a_ramp_by_hand():
    x = torch.tensor([[[[0.0, 1.0], [10.0, 111.0]]]])
    assert high_frequency(x).item() == pytest.approx(1.5 * 111 - 0.5 * (0 + 1 + 10))


def test_it_is_blind_to_a_constant_and_triples_the_variance_of_white_noise():
    assert high_frequency(torch.full((1, 3, 8, 8), 0.7)).abs().max() < 1e-6
    noise = torch.randn(1, 1, 1000, 1000, generator=torch.Generator().manual_seed(0))
    assert high_frequency(noise).var().item() == pytest.approx(3, rel=0.02)


def test_it_is_float32_under_autocast_and_from_half_precision():
    x = torch.randn(2, 3, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = high_frequency(x)
    torch.testing.assert_close(under, high_frequency(x), rtol=0, atol=0)
    assert high_frequency(x.bfloat16()).dtype == torch.float32


def test_the_mse_is_a_mean_over_each_image():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 3, 6, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    bands = (high_frequency(a) - high_frequency(b)).numpy()
    expected = [np.mean(image**2) for image in bands]
    np.testing.assert_allclose(high_frequency_mse(a, b).numpy(), expected, rtol=1e-12)
