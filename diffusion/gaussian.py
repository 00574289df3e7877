"""The Gaussian diffusion process: its tables, q, p, and the terms of its variational bound.

Symbols follow DDPM (arXiv 2006.11239) with time counted from 0: alpha_t = 1 - beta_t, alpha-bar_t is their product up
to t, x_t = sqrt(alpha-bar_t) x_0 + sqrt(1 - alpha-bar_t) eps. Before t = 0 alpha-bar is 1, after the last step it is 0.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tenshot.diffusion.config import DiffusionConfig
from tenshot.diffusion.schedules import cosine_betas, linear_betas, space_timesteps
from tenshot.diffusion.timesteps import TimeTables, position_of, signal_between
from tenshot.errors import InputError
from tenshot.losses.arithmetic import full_precision
from tenshot.losses.variational import Moments, ReverseStep, bits_of_step, bits_per_dimension, normal_kl

__all__ = ["GaussianDiffusion"]


class GaussianDiffusion:
    """A diffusion process, whole or respaced. Holds no network and no state; pickles as its definition.

    In all methods x0, x_t, eps and noise are (N, C, H, W), t is (N,) int64 and counts the steps of *this* process, and
    ``output`` is what the network returned for ``model_timesteps(t)``: (N, C, H, W), or (N, 2C, H, W) where the
    variance is learned. Arithmetic is float32 whatever the network ran in, and float64 where the images are.

    Args:
        config: The process that the network is trained on.
        timestep_map: Which of its steps this process keeps, ascending; default all. ``respace`` makes it from a spec.
            Fractional ones for a network that is told the noise level.

    Raises:
        InputError: Fewer than two steps are kept.
    """

    def __init__(self, config: DiffusionConfig, timestep_map: Sequence[float] | None = None) -> None:
        self.config = config
        betas = linear_betas(config.num_steps) if config.schedule == "linear" else cosine_betas(config.num_steps)
        self.timestep_map = tuple(range(config.num_steps) if timestep_map is None else timestep_map)
        if self.num_steps < 2:
            raise InputError(f"a diffusion process of {self.num_steps} step can't be sampled; keep at least 2")

        kept, steps = np.cumprod(1 - betas), np.asarray(self.timestep_map)
        kept = kept[steps] if steps.dtype.kind == "i" else signal_between(np.sqrt(kept), steps) ** 2
        betas = 1 - kept / np.append(1.0, kept[:-1])
        alphas_cumprod = np.cumprod(1 - betas)  # ``kept`` again, with the rounding that published numbers have
        previous, rest = np.append(1.0, alphas_cumprod[:-1]), 1 - alphas_cumprod
        posterior_variance = betas * (1 - previous) / rest
        # The posterior variance of the first step is 0: its logarithm, and beta_0 beside it, borrow the second's.
        clipped_variance = np.append(posterior_variance[1], posterior_variance[1:])
        large_variance = np.append(posterior_variance[1], betas[1:])

        self.betas = betas
        self.alphas_cumprod = alphas_cumprod
        self.alphas_cumprod_prev = previous
        self.alphas_cumprod_next = np.append(alphas_cumprod[1:], 0.0)
        self.sqrt_alphas_cumprod = np.sqrt(alphas_cumprod)
        self.sqrt_one_minus_alphas_cumprod = np.sqrt(rest)
        self.log_one_minus_alphas_cumprod = np.log(rest)
        self.sqrt_recip_alphas_cumprod = np.sqrt(1 / alphas_cumprod)
        self.sqrt_recipm1_alphas_cumprod = np.sqrt(1 / alphas_cumprod - 1)
        self.posterior_variance = posterior_variance
        self.posterior_log_variance_clipped = np.log(clipped_variance)
        self.posterior_mean_coef1 = betas * np.sqrt(previous) / rest
        self.posterior_mean_coef2 = (1 - previous) * np.sqrt(1 - betas) / rest

        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        for array in arrays.values():
            array.flags.writeable = False  # the copies on the devices would not follow a change
        self._tables = TimeTables(
            arrays
            | {
                "one_minus_alphas_cumprod": rest,
                "recip_coef1": 1 / self.posterior_mean_coef1,
                "coef2_over_coef1": self.posterior_mean_coef2 / self.posterior_mean_coef1,
                "log_betas": np.log(betas),
                "large_variance": large_variance,
                "large_log_variance": np.log(large_variance),
            }
        )
        self._model_timesteps: dict[torch.device, Tensor] = {}

    def __reduce__(self) -> tuple[type["GaussianDiffusion"], tuple[DiffusionConfig, tuple[float, ...]]]:
        return type(self), (self.config, self.timestep_map)

    # What kind of process, and what its network is given and returns

    @property
    def num_steps(self) -> int:
        """Steps of this process, after respacing."""
        return len(self.timestep_map)

    @property
    def learns_variance(self) -> bool:
        """Whether the network's output has a second half of channels, for the variance."""
        return self.config.variance in ("learned_range", "learned")

    def respace(self, spec: str) -> "GaussianDiffusion":
        """The shorter process that keeps only some steps of this one (``space_timesteps`` explains the spec).

        alpha-bar is the same at the steps kept, beta and all else follow from it. For a network that is told the noise
        level a count spreads that many steps evenly, between those of this process too, and may be larger.

        Raises:
            InputError: The spec can't be read or does not fit this process.
        """
        if self.config.time == "noise_level" and spec.isdecimal():
            positions = np.linspace(0, self.num_steps - 1, int(spec))
            kept = np.interp(positions, np.arange(self.num_steps), self.timestep_map)
            return GaussianDiffusion(self.config, kept.tolist())
        return GaussianDiffusion(self.config, [self.timestep_map[i] for i in space_timesteps(self.num_steps, spec)])

    def at_signals(self, signals: np.ndarray) -> "GaussianDiffusion":
        """The process whose steps have these factors of the signal, (n,) falling, for a network that is told them."""
        alpha_bars = GaussianDiffusion(self.config).sqrt_alphas_cumprod
        return GaussianDiffusion(self.config, position_of(alpha_bars, signals).tolist())

    def model_timesteps(self, t: Tensor) -> Tensor:
        """The time that the network is given at step t: the index in the process it was trained on.

        t: (N,) int64  ->  (N,) int64, or float32 in [0, 1000) with ``rescale_timesteps``, or float32 in (0, 1000], the
        factor of the signal, where it is told the noise level (t may then be fractional)
        """
        if self.config.time == "noise_level":
            return 1000 * self._at("sqrt_alphas_cumprod", t, torch.empty(0, device=t.device))
        original = self.kept_steps(t)
        return original.float() * (1000 / self.config.num_steps) if self.config.rescale_timesteps else original

    def kept_steps(self, t: Tensor) -> Tensor:
        """Which steps of the whole process those of this one are: int64 (N,) -> (N,), as in ``timestep_map``."""
        if t.device not in self._model_timesteps:
            self._model_timesteps[t.device] = torch.tensor(self.timestep_map, device=t.device)
        return self._model_timesteps[t.device][t]

    def split(self, output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's output in full precision, as its prediction and, where it is learned, its variance half.

        Raises:
            InputError: The number of channels does not suit the variance type.
        """
        channels = x_t.shape[1]
        expected = 2 * channels if self.learns_variance else channels
        if output.shape[1] != expected:
            raise InputError(
                f"the network returns {output.shape[1]} channels, but variance {self.config.variance!r} with images of "
                f"{channels} needs {expected}: change the network's out_channels or the diffusion's variance"
            )
        output = full_precision(output)
        return (output[:, :channels], output[:, channels:]) if self.learns_variance else (output, None)

    def eps(self, output: Tensor) -> Tensor:
        """The noise that the network predicts, in full precision: (N, C, H, W).

        Raises:
            InputError: The network predicts something else; ``x0`` serves for every kind.
        """
        if self.config.prediction != "epsilon":
            raise InputError(f"prediction {self.config.prediction!r} gives no noise; take prediction 'epsilon'")
        return full_precision(output.chunk(2, dim=1)[0] if self.learns_variance else output)

    def x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean image that the network sees in x_t, unclipped, whatever it predicts: (N, C, H, W)."""
        return self._x0(self.split(output, x_t)[0], full_precision(x_t), t)

    def _x0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        if self.config.prediction == "x0":
            return prediction
        if self.config.prediction == "epsilon":
            return self.predict_x0(x_t, t, prediction)
        if self.config.prediction == "velocity":
            (signal, noise), std = self.signal_and_noise(t, x_t), self.config.data_std
            size = self._size(signal, noise)
            return signal * (std / size) ** 2 * x_t - noise * std / size * prediction
        return self._at("recip_coef1", t, x_t) * prediction - self._at("coef2_over_coef1", t, x_t) * x_t

    def target(self, x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the prediction half of the output should be: (N, C, H, W)."""
        match self.config.prediction:
            case "epsilon":
                return full_precision(noise)
            case "x0":
                return full_precision(x0)
            case "velocity":
                x0 = full_precision(x0)
                (signal, sigma), std = self.signal_and_noise(t, x0), self.config.data_std
                size = self._size(signal, sigma)
                return signal * std / size * full_precision(noise) - sigma / (std * size) * x0
            case "previous":
                return self.posterior(x0, x_t, t).mean

    def _size(self, signal: Tensor, noise: Tensor) -> Tensor | float:
        """Standard deviation of pixels of x_t; of images whose own is 1 exactly that, whatever rounding makes of it."""
        std = self.config.data_std
        return 1.0 if std == 1 else ((signal * std).square() + noise.square()).sqrt()

    # q: the process that destroys the image

    def training_time(self, t: Tensor) -> Tensor:
        """Where a network that is told the noise level is trained: from each step (N,) uniformly to the one before.

        The factor of the signal is then uniform between its two values (CDM, section 6). Of other networks t itself.
        """
        return t - torch.rand(len(t), device=t.device) if self.config.time == "noise_level" else t

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t ~ q(x_t | x_0) from standard normal noise: (N, C, H, W) (DDPM, eq. 4)."""
        x0 = full_precision(x0)
        return self._at("sqrt_alphas_cumprod", t, x0) * x0 + self._at("sqrt_one_minus_alphas_cumprod", t, x0) * noise

    def snr(self, t: Tensor) -> Tensor:
        """Ratio of signal to noise in x_t, alpha-bar / (1 - alpha-bar): (N,) float32 (VDM, arXiv 2107.00630, eq. 2)."""
        like = torch.empty(0, device=t.device)
        return self._at("alphas_cumprod", t, like) / self._at("one_minus_alphas_cumprod", t, like)

    def q_mean_variance(self, x0: Tensor, t: Tensor) -> Moments:
        """Moments of q(x_t | x_0)."""
        x0 = full_precision(x0)
        return Moments(
            self._at("sqrt_alphas_cumprod", t, x0) * x0,
            self._at("one_minus_alphas_cumprod", t, x0).expand_as(x0),
            self._at("log_one_minus_alphas_cumprod", t, x0).expand_as(x0),
        )

    def posterior(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Moments:
        """Moments of q(x_{t-1} | x_t, x_0) (DDPM, eqs. 6 and 7). The variance at t = 0 is 0, its log is clipped."""
        x0, x_t = full_precision(x0), full_precision(x_t)
        return Moments(
            self._at("posterior_mean_coef1", t, x0) * x0 + self._at("posterior_mean_coef2", t, x_t) * x_t,
            self._at("posterior_variance", t, x_t).expand_as(x_t),
            self._at("posterior_log_variance_clipped", t, x_t).expand_as(x_t),
        )

    def predict_x0(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The clean image that x_t and its noise imply: (N, C, H, W)."""
        x_t = full_precision(x_t)
        return (
            self._at("sqrt_recip_alphas_cumprod", t, x_t) * x_t - self._at("sqrt_recipm1_alphas_cumprod", t, x_t) * eps
        )

    def predict_eps(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """The noise that x_t and its clean image imply: (N, C, H, W)."""
        x_t = full_precision(x_t)
        recip, recipm1 = (self._at(f"sqrt_{name}_alphas_cumprod", t, x_t) for name in ("recip", "recipm1"))
        return (recip * x_t - x0) / recipm1

    # p: the process that the network makes

    def p_mean_variance(self, output: Tensor, x_t: Tensor, t: Tensor, clip_denoised: bool = True) -> ReverseStep:
        """Moments of p(x_{t-1} | x_t), and the clean image behind them.

        With ``clip_denoised`` the clean image is clamped to [-1, 1] before the mean is formed from it (a network that
        predicts ``previous`` gives the mean itself, and only the reported image is clamped).
        """
        x_t = full_precision(x_t)
        prediction, value = self.split(output, x_t)
        x0 = self._x0(prediction, x_t, t)
        if clip_denoised:
            x0 = x0.clamp(-1, 1)
        mean = prediction if self.config.prediction == "previous" else self.posterior(x0, x_t, t).mean
        variance, log_variance = self._reverse_variance(value, x_t, t)
        return ReverseStep(mean, variance, log_variance, x0)

    def _reverse_variance(self, value: Tensor | None, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        if value is None:
            small = self.config.variance == "fixed_small"
            variance = self._at("posterior_variance" if small else "large_variance", t, x_t)
            log_variance = self._at("posterior_log_variance_clipped" if small else "large_log_variance", t, x_t)
            return variance.expand_as(x_t), log_variance.expand_as(x_t)
        if self.config.variance == "learned":
            return value.exp(), value
        # IDDPM, eq. 15. The network's value is in [-1, 1] where it is sure of being between the two, but not squashed.
        fraction = (value + 1) / 2
        large, small_log = self._at("log_betas", t, x_t), self._at("posterior_log_variance_clipped", t, x_t)
        log_variance = fraction * large + (1 - fraction) * small_log
        return log_variance.exp(), log_variance

    # The variational bound

    def vlb_terms(self, output: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, clip_denoised: bool = False) -> Tensor:
        """Each sample's term of the bound at its t, in bits per dimension: (N,) (IDDPM, eqs. 4 to 7)."""
        step = self.p_mean_variance(output, x_t, t, clip_denoised)
        return bits_of_step(self.posterior(x0, x_t, t), step, full_precision(x0), t)

    def prior_bpd(self, x0: Tensor) -> Tensor:
        """What is left of x0 at the last step, in bits per dimension: KL(q(x_T | x_0) || N(0, 1)), (N,)."""
        last = torch.full((len(x0),), self.num_steps - 1, device=x0.device)
        mean, _, log_variance = self.q_mean_variance(x0, last)
        return bits_per_dimension(normal_kl(mean, log_variance, 0.0, 0.0))

    def signal_and_noise(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of the clean image and of the noise in x_t, each (N, 1, ...) in the dtype of ``like``."""
        return self._at("sqrt_alphas_cumprod", t, like), self._at("sqrt_one_minus_alphas_cumprod", t, like)

    def _at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        return (self._tables.between if t.is_floating_point() else self._tables.at)(name, t, like)
