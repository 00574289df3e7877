"""Which timesteps training is about: how much each counts in the regression, and how often it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tenshot.diffusion.gaussian import GaussianDiffusion
from tenshot.diffusion.timesteps import LossAwareTimesteps, TimestepSampler, UniformTimesteps
from tenshot.errors import InputError, check_range
from tenshot.losses.arithmetic import check_choice
from tenshot.losses.weighting import edm_weight, min_snr_weight

__all__ = ["LogNormalNoise", "LogNormalTimesteps", "LossWeighting", "Timesteps", "implied_weight", "timestep_sampler"]

Scheme = Literal["none", "min_snr", "edm"]
Timesteps = Literal["uniform", "loss_aware", "log_normal"]
CLEANEST = 1e12
"""The largest ratio of signal to noise that is counted with; infinity over infinity is no weight."""


def implied_weight(process: GaussianDiffusion, t: Tensor) -> Tensor:
    """What the squared error of the clean image is multiplied by in that of the network's prediction: (N,).

    SNR where it predicts the noise, 1 the clean image, SNR + 1 / data_std^2 the velocity, the square of the clean
    image's factor in the posterior mean (DDPM, eq. 7) the previous image.

    Args:
        process: What the network predicts.
        t: (N,) int64, or float32 between the steps.
    """
    snr = process.snr(t).clamp(max=CLEANEST)
    match process.config.prediction:
        case "epsilon":
            return snr
        case "x0":
            return torch.ones_like(snr)
        case "velocity":
            return snr + process.config.data_std**-2
        case "previous":
            return process.posterior(torch.ones_like(snr), torch.zeros_like(snr), t).mean.square()


@dataclass(frozen=True)
class LossWeighting:
    """How much each timestep counts in the regression of the network's prediction.

    Args:
        scheme: ``none``: the plain squared error of what the network predicts. ``min_snr``: that of the clean image
            times min(SNR, gamma), whatever is predicted (Min-SNR, arXiv 2303.09556). ``edm``: times 1 / sigma^2 +
            1 / data_std^2 (EDM, arXiv 2206.00364), which with timesteps ``log_normal`` is EDM's loss.
        gamma: Of ``min_snr``.
        data_std: Of ``edm``: the standard deviation of pixels of the images.

    Raises:
        InputError: An unknown scheme, or a number that is not above 0.
    """

    scheme: Scheme = "none"
    gamma: float = 5.0
    data_std: float = 0.5

    def __post_init__(self) -> None:
        check_choice("--model.weighting.scheme", self.scheme, Scheme)
        check_range("--model.weighting.gamma", self.gamma, 0, above=True)
        check_range("--model.weighting.data_std", self.data_std, 0, above=True)

    def for_process(self, process: GaussianDiffusion) -> Callable[[Tensor], Tensor] | None:
        """The weight of the prediction's squared error at steps t, (N,) -> (N,); none where all weigh 1.

        Raises:
            InputError: The weight of clean images would have no bound.
        """
        if self.scheme == "none":
            return None
        if self.scheme == "edm" and process.config.prediction == "x0" and process.config.time == "noise_level":
            raise InputError(
                "--model.weighting.scheme edm has no bound where the network estimates clean images and diffusion time "
                "is noise_level: take another prediction, or min_snr"
            )
        return partial(self._of_prediction, process)

    def _of_prediction(self, process: GaussianDiffusion, t: Tensor) -> Tensor:
        snr = process.snr(t).clamp(max=CLEANEST)
        wanted = edm_weight(snr, self.data_std) if self.scheme == "edm" else min_snr_weight(snr, self.gamma)
        return wanted / implied_weight(process, t)


@dataclass(frozen=True)
class LogNormalNoise:
    """ln sigma ~ N(mean, std^2), sigma the noise beside an image that is not scaled (EDM, arXiv 2206.00364, Table 1).

    Args:
        mean: EDM's P_mean.
        std: EDM's P_std.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        check_range("--model.log_normal.mean", self.mean)
        check_range("--model.log_normal.std", self.std, 0, above=True)


class LogNormalTimesteps:
    """The step of the process whose sigma = sqrt(1 / alpha-bar - 1) is nearest, in logarithms, to a log-normal one.

    Every weight is 1: how often a step is drawn is part of the objective, unlike that of ``LossAwareTimesteps``.

    Args:
        process: Whose steps are drawn. For a network that is told the noise level, the step below which sigma lies.
        noise: The distribution of sigma.
    """

    def __init__(self, process: GaussianDiffusion, noise: LogNormalNoise) -> None:
        self.noise = noise
        log_sigma = np.log(process.sqrt_one_minus_alphas_cumprod / process.sqrt_alphas_cumprod)
        between = log_sigma[:-1] if process.config.time == "noise_level" else (log_sigma[1:] + log_sigma[:-1]) / 2
        self._between = torch.from_numpy(between.astype(np.float32))

    def sample(self, n: int, device: torch.device, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Timesteps (n,) int64 and ones (n,); as in ``TimestepSampler``."""
        self._between = self._between.to(device)
        drawn_on = device if generator is None else generator.device
        normal = torch.randn(n, generator=generator, device=drawn_on).to(device, non_blocking=True)
        return torch.bucketize(self.noise.mean + self.noise.std * normal, self._between), torch.ones(n, device=device)

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Nothing to learn."""

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""


def timestep_sampler(choice: Timesteps, process: GaussianDiffusion, noise: LogNormalNoise) -> TimestepSampler:
    """What draws the timesteps of training; ``noise`` is that of ``log_normal``."""
    match choice:
        case "uniform":
            return UniformTimesteps(process.num_steps)
        case "loss_aware":
            return LossAwareTimesteps(process.num_steps)
        case "log_normal":
            return LogNormalTimesteps(process, noise)
