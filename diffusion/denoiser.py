"""A network and the diffusion process that it undoes: one object in training and in drawing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from tenshot.diffusion.gaussian import GaussianDiffusion
from tenshot.diffusion.timesteps import TimestepSampler, UniformTimesteps
from tenshot.losses.variational import ReverseStep

__all__ = ["Condition", "Denoised", "Denoiser", "Network", "Objective"]

Condition = Mapping[str, Tensor] | None
"""What images are to be like, such as ``label`` (N,) int64: keyword arguments of the network, each of N rows."""
Network = Callable[..., Tensor]
"""(x_t (N, C, H, W), t (N,), **condition) -> (N, C or 2C, H, W)."""


@dataclass(frozen=True)
class Denoised:
    """A batch at one training step.

    Args:
        x0: (N, C, H, W) clean images.
        x_t: (N, C, H, W) the same noised.
        t: (N,) int64; float32, between the steps, for a network that is told the noise level.
        noise: (N, C, H, W).
        condition: What the network was told, or none.
        output: (N, C or 2C, H, W) what the network made of x_t.
    """

    x0: Tensor
    x_t: Tensor
    t: Tensor
    noise: Tensor
    condition: Condition
    output: Tensor


Objective = Callable[[GaussianDiffusion, Tensor, Tensor, Tensor, Tensor, Tensor], dict[str, Tensor]]
"""(process, output, x0, x_t, t, noise) -> the weighted terms of the loss, each (N,)."""


class Denoiser:
    """A network with its process, the choice of timesteps that it is trained at, and what it is trained for.

    It holds the network and owns it not: parameters, averages and devices are those of the method.

    Args:
        process: Whole or respaced.
        network: In training or evaluation mode, as its user sets it.
        objective: For training.
        timesteps: For training; by default uniform.
    """

    def __init__(
        self,
        process: GaussianDiffusion,
        network: Network,
        objective: Objective | None = None,
        timesteps: TimestepSampler | None = None,
    ) -> None:
        self.process, self.network, self.objective = process, network, objective
        self.timesteps = timesteps or UniformTimesteps(process.num_steps)

    def respace(self, spec: str) -> "Denoiser":
        """The same network with a shorter process, to draw from or to evaluate the bound with.

        Raises:
            InputError: The spec can't be read or does not fit the process.
        """
        return self.on(self.process.respace(spec))

    def on(self, process: GaussianDiffusion) -> "Denoiser":
        """The same network with another process."""
        return Denoiser(process, self.network)

    # Training

    def predict(self, x0: Tensor, t: Tensor, noise: Tensor, condition: Condition = None) -> Denoised:
        """Noise clean images and let the network look at them.

        Args:
            x0: (N, C, H, W) in [-1, 1].
            t: (N,) int64.
            noise: (N, C, H, W), standard normal.
            condition: What the network is told.
        """
        t = self.process.training_time(t)
        x_t = self.process.q_sample(x0, t, noise)
        return Denoised(x0, x_t, t, noise, condition, self.output(x_t, t, condition))

    def terms(self, step: Denoised) -> dict[str, Tensor]:
        """The weighted terms of the loss at that step, each (N,)."""
        assert self.objective is not None
        return self.objective(self.process, step.output, step.x0, step.x_t, step.t, step.noise)

    def loss(self, x0: Tensor, t: Tensor, noise: Tensor, condition: Condition = None) -> dict[str, Tensor]:
        """The weighted terms of the loss on clean images, each (N,); arguments as in ``predict``."""
        return self.terms(self.predict(x0, t, noise, condition))

    # Drawing

    def at_step(self, step: int) -> "Denoiser":
        """What denoises images that are all at one step of the process, which a sampler knows without asking a device.

        Args:
            step: 0 … num_steps - 1.
        """
        return self

    def output(self, x_t: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """What the network makes of noisy images at steps of this process: (N, C or 2C, H, W)."""
        return self.network(x_t, self.process.model_timesteps(t), **(condition or {}))

    def x0(self, x_t: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """The clean images that the network sees in noisy ones, unclamped: (N, C, H, W)."""
        return self.process.x0(self.output(x_t, t, condition), x_t, t)

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition = None, clip_denoised: bool = True) -> ReverseStep:
        """Moments of p(x_{t-1} | x_t, condition), and the clean images behind them (DDPM, eq. 1).

        Args:
            x_t: (N, C, H, W).
            t: (N,) int64, steps of this process.
            condition: What the network is told.
            clip_denoised: Clamp the clean images to [-1, 1] first.
        """
        return self.process.p_mean_variance(self.output(x_t, t, condition), x_t, t, clip_denoised)

    def x0_eps(
        self, x_t: Tensor, t: Tensor, condition: Condition = None, clip_denoised: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The clean images and the noise in x_t, each (N, C, H, W); the noise follows from the clamped images."""
        x0 = self.x0(x_t, t, condition)
        if clip_denoised:
            x0 = x0.clamp(-1, 1)
        return x0, self.process.predict_eps(x_t, t, x0)
