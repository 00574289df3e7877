"""PITI's own degradation of the same images, with what it draws recorded and taken by our steps."""

import random
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy
import torch
from official_code import official
from PIL import Image
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import convolve
from skimage import data
from torch import Tensor

from tenshot.diffusion.degradation import steps
from tenshot.diffusion.degradation.kernels import Interpolation
from tenshot.diffusion.degradation.smoothing import l0_smooth
from tenshot.diffusion.degradation.steps import (
    Blur,
    Compress,
    Noise,
    Resize,
    Shrink,
    SmoothToBlack,
    Step,
    take_steps,
)

RUNS = 60
INTERPOLATIONS: dict[int, Interpolation] = {1: "linear", 2: "cubic", 3: "area"}


class Recorder:
    """The steps that one call of the official code takes, and its noise."""

    def __init__(self, module: ModuleType, patch: pytest.MonkeyPatch) -> None:
        self.steps: list[Step] = []
        self.noise: dict[int, np.ndarray] = {}
        self.halved = False
        self.cv2, self.imencode, self.resize = module.cv2, module.cv2.imencode, module.cv2.resize
        self.imresize, self.smooth = module.util.imresize_np, module.smooth.l0_smooth
        patch.setattr(module.ndimage, "filters", SimpleNamespace(convolve=self.convolved), raising=False)
        patch.setattr(scipy, "finfo", np.finfo, raising=False)
        patch.setattr(module, "interp2d", self.interpolator)
        patch.setattr(module.cv2, "resize", self.resized)
        patch.setattr(module.cv2, "imencode", self.encoded)
        patch.setattr(module.util, "imresize_np", self.imresized)
        patch.setattr(module.smooth, "l0_smooth", self.smoothed)
        patch.setattr(np.random, "normal", self.normal)
        patch.setattr(np.random, "multivariate_normal", self.multivariate)
        self.standard_normal = np.random.standard_normal

    def interpolator(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> RectBivariateSpline:
        """interp2d, which SciPy no longer has."""
        return RectBivariateSpline(y, x, z, kx=1, ky=1)

    def convolved(self, image: np.ndarray, kernel: np.ndarray, mode: str) -> np.ndarray:
        flat = kernel[..., 0]
        self.steps.append(Shrink(flat, 2 if self.halved else 4) if len(flat) == 25 else Blur(flat))
        return convolve(image, kernel, mode=mode)

    def resized(self, image: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
        self.halved |= not self.steps and size == (64, 64)
        self.steps.append(Resize(size[0], INTERPOLATIONS[interpolation]))
        return self.resize(image, size, interpolation=interpolation)

    def imresized(self, image: np.ndarray, scale: float, antialiasing: bool) -> np.ndarray:
        self.halved = True
        self.steps.append(Resize(64, "antialiased"))
        return self.imresize(image, scale, antialiasing)

    def smoothed(self, image: np.ndarray) -> np.ndarray:
        self.steps.append(SmoothToBlack())
        return self.smooth(image)

    def encoded(self, kind: str, image: np.ndarray, options: list[int]) -> Any:
        self.steps.append(Compress(options[1]))
        return self.imencode(kind, image, options)

    def normal(self, mean: float, std: float, shape: tuple[int, ...]) -> np.ndarray:
        z = self.standard_normal((*shape[:2], 3))
        root = np.eye(3) if shape[2] == 3 else np.outer((1, 0, 0), (1, 1, 1))
        self._noisy(z, std * root)
        return (z @ (std * root))[..., : shape[2]]

    def multivariate(self, mean: list[float], covariance: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        z, root = self.standard_normal((*shape, 3)), np.linalg.cholesky(covariance + 1e-15 * np.eye(3)).T
        self._noisy(z, root)
        return z @ root

    def _noisy(self, z: np.ndarray, root: np.ndarray) -> None:
        self.noise[len(self.noise)] = z
        self.steps.append(Noise(root, len(self.noise) - 1))


def photo(side: int, at: int) -> np.ndarray:
    return np.array(Image.fromarray(data.astronaut()[:256, at : at + 256]).resize((side, side)))


def test_our_steps_make_what_the_official_ones_make():
    pytest.importorskip("cv2")
    module, errors, shares, seen = official("PITI", "pretrained_diffusion/degradation.bsrgan_light"), [], [], set()
    for run in range(RUNS):
        random.seed(run)
        np.random.seed(run)  # noqa: NPY002 (the official code draws there)
        pixels = photo(128, 3 * run)
        with pytest.MonkeyPatch.context() as patch:
            recorded = Recorder(module, patch)
            theirs = module.degradation_bsrgan_variant(pixels, sf=4)["image"].astype(float)

            def noise(seed: int, side: int, device: torch.device, made: Recorder = recorded) -> Tensor:
                return torch.from_numpy(made.noise[seed]).permute(2, 0, 1)

            patch.setattr(steps, "normal", noise)
            ours = take_steps(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, [recorded.steps], 1)
        seen |= {type(step) for step in recorded.steps}
        error = np.abs((ours[0].permute(1, 2, 0) * 255).round().numpy() - theirs)
        if not any(isinstance(step, Compress) for step in recorded.steps):
            assert error.max() <= 1
            assert (error > 0).mean() < 0.02
        errors.append(error.mean())
        shares.append((error > 0).mean())
    assert seen == {Blur, Compress, Noise, Resize, Shrink, SmoothToBlack}
    assert np.mean(shares) < 0.05
    assert max(errors) < 1


@pytest.mark.parametrize("strength", [1.2e-3, 4e-3])
def test_l0_smoothing_given_whole_levels_is_the_official_one_but_for_what_that_cuts_off(
    strength: float, monkeypatch: pytest.MonkeyPatch
):
    theirs = official("PITI", "pretrained_diffusion/degradation.l0smooth")
    monkeypatch.setattr(np.random, "uniform", lambda low, high: strength * 1000)
    pixels = photo(64, 40)
    ours = l0_smooth(torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255, [strength])[0].permute(1, 2, 0)
    error = 255 * ours.numpy() - theirs.l0_smooth(pixels)
    inside = (ours.numpy() > 0) & (ours.numpy() < 1)
    assert inside.mean() > 0.9
    assert np.quantile(np.abs(error[inside] - 0.5), 0.98) < 0.55  # it cuts off the fraction
    assert np.abs(error[inside]).mean() < 1
