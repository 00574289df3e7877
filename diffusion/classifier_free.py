"""Classifier-free guidance: away from what the network predicts without the condition (arXiv 2207.12598).

Its strength is written in two ways: ``scale`` here and in GLIDE, where 1 is no guidance, and w = scale - 1 in papers
such as the original one and PITI, where 0 is none.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tenshot.diffusion.denoiser import Condition, Denoiser
from tenshot.diffusion.gaussian import GaussianDiffusion
from tenshot.losses.arithmetic import full_precision

__all__ = ["ClassifierFree", "Combination", "classifier_free_guidance", "normalized_classifier_free_guidance"]

Combination = Callable[[Tensor, Tensor, float], Tensor]
"""(noise predicted with the condition, noise predicted without it, scale) -> guided noise, each (N, C, H, W)."""


def classifier_free_guidance(conditional: Tensor, null: Tensor, scale: float) -> Tensor:
    """null + scale * (conditional - null) (arXiv 2207.12598, eq. 6; GLIDE, arXiv 2112.10741, section 2.3).

    Args:
        conditional: (N, C, H, W), predicted with the condition.
        null: (N, C, H, W), predicted without it.
        scale: 1 is no guidance and gives ``conditional`` itself; the w of papers is scale - 1.

    Returns:
        (N, C, H, W)
    """
    return conditional if scale == 1 else null + scale * (conditional - null)


def normalized_classifier_free_guidance(
    conditional: Tensor,
    null: Tensor,
    scale: float,
    *,
    per_channel: bool = False,
    analytic: bool = False,
    phi: float = 1.0,
) -> Tensor:
    """The same, brought back to the mean and the standard deviation of ``conditional`` (PITI, 2205.12952, eqs. 7, 8).

    Without that the shift adds up over the steps, and images become over-saturated and smooth. Of noise: of another
    prediction the statistics mean something else.

    Args:
        conditional: (N, C, H, W), the noise predicted with the condition.
        null: (N, C, H, W), predicted without it.
        scale: 1 is no guidance and gives ``conditional`` itself; the paper's w is scale - 1.
        per_channel: Statistics of each channel, not of the whole of each image.
        analytic: Divide by sqrt((1 + w)^2 std_conditional^2 + w^2 std_null^2), the standard deviation if the two
            predictions were independent, not by the one that there is. They share nearly all their noise, so that far
            too little of it is left.
        phi: Part of the normalised result; the rest is the plain one.

    Returns:
        (N, C, H, W), at least float32
    """
    conditional, null = full_precision(conditional), full_precision(null)
    if scale == 1:
        return conditional
    guided, dims = classifier_free_guidance(conditional, null, scale), (2, 3) if per_channel else (1, 2, 3)
    std, mean = torch.std_mean(conditional, dims, correction=0, keepdim=True)
    guided_std, guided_mean = torch.std_mean(guided, dims, correction=0, keepdim=True)
    if analytic:
        null_std = null.std(dims, correction=0, keepdim=True)
        guided_std = ((scale * std).square() + ((scale - 1) * null_std).square()).sqrt()
    ratio = torch.where(guided_std > 0, std / guided_std, 0)  # a fresh network predicts 0 everywhere
    return torch.lerp(guided, ratio * (guided - guided_mean) + mean, phi)


class ClassifierFree(Denoiser):
    """A denoiser that asks its network twice, with and without the condition, in one call of 2N rows.

    Guided is the prediction alone; a learned variance is that with the condition. ``combine`` is of noise. Plain
    guidance is the same in every kind of prediction, since each is an affine function of the noise, and is done in that
    of the network; for any other ``combine`` predictions are turned into noise and back.

    Args:
        denoiser: What is guided, not by a gradient yet: ``Guided`` goes around this one.
        null: What the network is told in place of the entries of the condition that have these names, a row an image.
        scale: Strength; with 1 the network is asked once, with the condition.
        combine: How the two predictions become one.
        interval: Guide only images with the noise of so many steps of the process that the network was trained on, the
            least and the most, counted from 1 (as s of a cascade); elsewhere the network is asked once. None: all
            (limited intervals: arXiv 2404.07724).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        null: Mapping[str, Tensor],
        scale: float,
        combine: Combination = classifier_free_guidance,
        interval: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(denoiser.process, denoiser.network)
        self.denoiser, self.null, self.scale, self.combine, self.interval = denoiser, null, scale, combine, interval

    def on(self, process: GaussianDiffusion) -> "ClassifierFree":
        """The same with another process."""
        return ClassifierFree(self.denoiser.on(process), self.null, self.scale, self.combine, self.interval)

    def at_step(self, step: int) -> Denoiser:
        """Itself where that step is guided, else what it guides, which asks the network once."""
        if self.interval is None:
            return self
        least, most = self.interval
        if least <= self.process.timestep_map[step] + 1 <= most:
            return ClassifierFree(self.denoiser, self.null, self.scale, self.combine)
        return self.denoiser

    def output(self, x_t: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """The guided output of the network, all that is drawn from: (N, C or 2C, H, W).

        Raises:
            KeyError: The condition lacks an entry that ``null`` replaces.
        """
        if self.scale == 1:
            return self.denoiser.output(x_t, t, condition)
        told = condition or {}
        missing = self.null.keys() - told.keys()
        if missing:
            raise KeyError(f"the condition has no {', '.join(sorted(missing))}, but its null condition has")
        both = {name: torch.cat([rows, self.null.get(name, rows)]) for name, rows in told.items()}
        output = self.denoiser.output(torch.cat([x_t, x_t]), torch.cat([t, t]), both)
        with_condition, without = output.chunk(2)
        prediction, variance = self.process.split(with_condition, x_t)
        result = self._combined(with_condition, without, x_t, t)
        if self.interval is not None:
            step = self.process.kept_steps(t).view(-1, 1, 1, 1) + 1
            result = torch.where((self.interval[0] <= step) & (step <= self.interval[1]), result, prediction)
        return result if variance is None else torch.cat([result, variance], dim=1)

    def _combined(self, with_condition: Tensor, without: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Two outputs of the network -> one prediction."""
        process, outputs = self.process, (with_condition, without)
        if self.combine is classifier_free_guidance or process.config.prediction == "epsilon":
            conditional, null = (process.split(output, x_t)[0] for output in outputs)
            return self.combine(conditional, null, self.scale)
        conditional, null = (process.predict_eps(x_t, t, process.x0(output, x_t, t)) for output in outputs)
        noise = self.combine(conditional, null, self.scale)
        return process.target(process.predict_x0(x_t, t, noise), x_t, t, noise)
