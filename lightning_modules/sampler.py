"""Which sampler a diffusion method draws with, as part of its configuration."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from tenshot.diffusion import Condition, Denoiser, GaussianDiffusion, sample_ddim, sample_ddpm, sample_dpm_solver
from tenshot.diffusion.samplers import Progress
from tenshot.distributed.seeding import SeededNoise
from tenshot.errors import InputError, check_range

__all__ = ["Sampler"]

MOST_STEPS = 250  # where none are asked for


@dataclass(frozen=True)
class Sampler:
    """How images are drawn from a diffusion model.

    Args:
        method: ``ddpm``: ancestral, what the papers report; ``ddim``: few deterministic steps; ``dpm_solver``:
            DPM-Solver++ (2M), fewest steps, for previews.
        steps: Which timesteps: a count, evenly from the first to the last ("250"), a stride from the first on as ADM's
            DDIM numbers are of ("ddim25": 0, 40, ... 960), or counts by section ("90,60,60,20,20"); for dpm_solver a
            count. None: 250, or all of a shorter process.
        eta: Noise of DDIM; 0 is deterministic.
        clip_denoised: Clamp the estimate of the clean image to [-1, 1] at each step.
        temperature: Factor of the noise x_T that drawing begins with; 0.997 of GLIDE's upsampler, against grain.
    """

    method: Literal["ddpm", "ddim", "dpm_solver"] = "ddpm"
    steps: int | str | None = None
    eta: float = 0.0
    clip_denoised: bool = True
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_range("sampler.eta", self.eta, 0)
        check_range("sampler.temperature", self.temperature, 0)
        if self.method == "dpm_solver" and self.steps is not None and not str(self.steps).isdigit():
            raise InputError(f"sampler.steps {self.steps!r}: dpm_solver takes a number of steps, such as 20")

    def for_process(self, diffusion: GaussianDiffusion) -> "Sampler":
        """The sampler with its steps in a process.

        Raises:
            InputError: It asks for steps that the process does not have.
        """
        if self.steps is None:
            return replace(self, steps=str(min(MOST_STEPS, diffusion.num_steps)))
        if diffusion.config.time == "noise_level" and str(self.steps).isdigit():
            check_range("sampler.steps", int(self.steps), 2)
        elif self.method == "dpm_solver":
            check_range("sampler.steps", int(self.steps), 1, diffusion.num_steps)
        else:
            diffusion.respace(str(self.steps))
        return self

    def __call__(
        self,
        denoiser: Denoiser,
        noise: SeededNoise,
        shape: tuple[int, int, int],
        condition: Condition = None,
        progress: Progress | None = None,
        start: Tensor | None = None,
        s: int = 0,
    ) -> Tensor:
        """Draw one image for each generator of ``noise``.

        Args:
            denoiser: With the whole process, guided or not.
            noise: Source of x_T and of the noise of every step.
            shape: (C, H, W) of an image.
            condition: What the network is told.
            progress: Called after each step with (done, total, estimate of the clean images).
            start: (N, C, H, W), clean images to noise to the last step of the process and begin from; none: x_T is
                noise alone.
            s: Stop where as much noise is left as the first s steps of the whole process make (CDM, arXiv 2106.15282,
                section 4.1); a step that the sampler does not visit is visited too. Not with dpm_solver.

        Returns:
            (N, C, H, W), about [-1, 1]; x_t with t = s - 1 where s > 0.
        """
        x = self.temperature * noise.normal(*shape)
        if start is not None:
            last = torch.full((len(x),), denoiser.process.num_steps - 1, device=x.device)
            x = denoiser.process.q_sample(start, last, x)
        steps = self.for_process(denoiser.process).steps
        assert steps is not None
        if self.method == "dpm_solver":
            assert s == 0
            return sample_dpm_solver(
                denoiser, x, int(steps), condition, clip_denoised=self.clip_denoised, progress=progress
            )
        spaced, left_out = denoiser.respace(str(steps)), 0
        if s > 0:
            visited = sorted({*spaced.process.timestep_map, s - 1})
            spaced = denoiser.on(GaussianDiffusion(spaced.process.config, visited))
            left_out = visited.index(s - 1) + 1
        if self.method == "ddim":
            return sample_ddim(
                spaced, x, condition, eta=self.eta, randn=noise.normal_like, clip_denoised=self.clip_denoised,
                progress=progress, left_out=left_out,
            )  # fmt: skip
        return sample_ddpm(
            spaced, x, condition, randn=noise.normal_like, clip_denoised=self.clip_denoised, progress=progress,
            left_out=left_out,
        )  # fmt: skip
