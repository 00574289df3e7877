"""Consistency of enlarged images against scikit-image and by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from tenshot.errors import InputError
from tenshot.metrics import Consistency


def low_res(seed: int) -> Tensor:
    return torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def test_equals_scikit_image_in_any_batches():
    given, made = low_res(0), low_res(1)
    for size in (1, 2, 5):
        metric = Consistency()
        for pair in zip(given.split(size), made.split(size), strict=True):
            metric.update(torch.zeros(len(pair[0]), 3, 8, 8), low_res=pair)
        report = metric.report()
        expected = peak_signal_noise_ratio(given.numpy(), made.numpy(), data_range=2)
        assert report.values["consistency_psnr"] == pytest.approx(expected, rel=1e-12)
        rmse = np.sqrt(np.square(given.numpy() - made.numpy()).mean())
        assert report.values["consistency_rmse"] == pytest.approx(rmse, rel=1e-12)
        assert report.settings == {"n_generated": 5}


def test_no_difference_is_infinite_and_no_image_undefined():
    metric = Consistency()
    report = metric.report()
    assert all(math.isnan(value) for value in report.values.values())
    assert report.details["why"] == "there is no image"
    metric.update(torch.zeros(5, 3, 8, 8), low_res=(low_res(0), low_res(0)))
    assert metric.report().values == {"consistency_psnr": math.inf, "consistency_rmse": 0.0}


def test_images_of_two_sizes_are_refused():
    with pytest.raises(InputError, match=r"\(5, 3, 4, 4\) cannot be compared with those of \(5, 3, 2, 2\)"):
        Consistency().update(torch.zeros(5, 3, 8, 8), low_res=(low_res(0), low_res(0)[..., :2, :2]))
