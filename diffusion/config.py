"""What defines a diffusion process, as it stands in configurations and checkpoints."""

from dataclasses import dataclass
from typing import Literal, get_args

from tenshot.errors import InputError, did_you_mean

__all__ = ["DiffusionConfig"]

Schedule = Literal["linear", "cosine"]
Variance = Literal["learned_range", "learned", "fixed_small", "fixed_large"]
Prediction = Literal["epsilon", "x0", "previous", "velocity"]
Time = Literal["timestep", "noise_level"]


@dataclass(frozen=True)
class DiffusionConfig:
    """What defines a process, and what its network predicts.

    Args:
        num_steps: Length of the process that the network is trained on.
        schedule: How the noise grows: ``linear`` (DDPM, ADM above 64 px) or ``cosine`` (Improved DDPM).
        variance: Of a reverse step. ``learned_range``: the network interpolates log-variances between the two fixed
            choices, ``learned``: it gives the log-variance; both need a network with twice the image's channels,
            the prediction first. ``fixed_small``: the posterior variance, ``fixed_large``: beta.
        prediction: What the network estimates: ``epsilon`` (the noise), ``x0`` (the clean image), ``previous``
            (the mean of x_{t-1}) or ``velocity`` (sqrt(alpha-bar) eps - sqrt(1 - alpha-bar) x_0, arXiv 2202.00512: of
            one size at all t, which small budgets need).
        rescale_timesteps: Give the network t * 1000 / num_steps instead of t, as improved-diffusion's models expect.
        time: What the network is told: the ``timestep`` t, or the ``noise_level``, 1000 sqrt(alpha-bar), which is then
            drawn between the steps too (WaveGrad, arXiv 2009.00713; CDM, 2106.15282), so that a sampler may take any
            number of any steps. With a fixed variance only.

    Raises:
        InputError: A value that no process can have.
    """

    num_steps: int = 1000
    schedule: Schedule = "linear"
    variance: Variance = "learned_range"
    prediction: Prediction = "epsilon"
    rescale_timesteps: bool = False
    time: Time = "timestep"

    def __post_init__(self) -> None:
        names = {"schedule": Schedule, "variance": Variance, "prediction": Prediction, "time": Time}
        for field, known in names.items():
            value, choices = getattr(self, field), get_args(known)
            if value not in choices:
                hint = did_you_mean(str(value), choices)
                raise InputError(f"diffusion {field} {value!r} is unknown{hint}; choose one of {', '.join(choices)}")
        if self.time == "noise_level":
            for field, bad in (
                ("variance", self.variance.startswith("learned")),
                ("prediction", self.prediction == "previous"),
                ("rescale_timesteps", self.rescale_timesteps),
            ):
                if bad:
                    raise InputError(
                        f"diffusion {field} {getattr(self, field)} is of timesteps, but time is noise_level: take a "
                        "fixed variance, another prediction than previous, and no rescale_timesteps"
                    )
        if self.schedule == "linear" and self.num_steps <= 20:
            raise InputError(
                f"diffusion num_steps {self.num_steps} is too few for the linear schedule, whose last beta reaches 1 "
                "at 20 steps; take at least 21, or schedule cosine"
            )
        if self.num_steps < 2:
            raise InputError(f"diffusion num_steps {self.num_steps} is too few; take at least 2")
