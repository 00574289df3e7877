"""What defines a diffusion process, as it stands in configurations and checkpoints."""

from dataclasses import dataclass
from typing import Literal, get_args

from tenshot.errors import InputError, check_range, did_you_mean

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
        data_std: With ``velocity``, the standard deviation of pixels of the images: the velocity is then that part of
            them which cannot be told from x_t by a factor alone, of size 1 at all t (EDM, arXiv 2206.00364, Table 1,
            sigma_data, 0.5 there). 1 is the velocity of arXiv 2202.00512.
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
    data_std: float = 1.0

    def __post_init__(self) -> None:
        names = {"schedule": Schedule, "variance": Variance, "prediction": Prediction, "time": Time}
        for field, known in names.items():
            value, choices = getattr(self, field), get_args(known)
            if value not in choices:
                hint = did_you_mean(str(value), choices)
                raise InputError(f"diffusion {field} {value!r} is unknown{hint}; choose one of {', '.join(choices)}")
        check_range("diffusion.data_std", self.data_std, 0, above=True)
        if self.data_std != 1 and self.prediction != "velocity":
            raise InputError(
                f"diffusion data_std {self.data_std} is of prediction velocity, this is {self.prediction}: leave it 1"
            )
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
