"""Data whose best possible network is known in closed form."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from official_code import official
from torch import Tensor

from tenshot.diffusion import DiffusionConfig

REPOSITORIES = {"GUIDED_DIFFUSION": "guided_diffusion", "IMPROVED_DIFFUSION": "improved_diffusion"}


def alpha_bar(config: DiffusionConfig) -> np.ndarray:
    """From the published formulas, one step at a time."""
    steps, product, result = config.num_steps, 1.0, []
    for i in range(steps):
        if config.schedule == "linear":
            first, last = 1e-4 * 1000 / steps, 0.02 * 1000 / steps
            beta = first + (last - first) * i / (steps - 1)
        else:
            cosine = [np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 for u in (i / steps, (i + 1) / steps)]
            beta = min(1 - cosine[1] / cosine[0], 0.999)
        product *= 1 - beta
        result.append(product)
    return np.array(result)


@dataclass
class GaussianData:
    """Pixels drawn independently from N(mean, std^2)."""

    config: DiffusionConfig
    mean: float = 0.3
    std: float = 0.4

    def __post_init__(self) -> None:
        self.alpha_bar = torch.tensor(alpha_bar(self.config))
        self.called_with: list[Tensor] = []

    def posterior(self, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of x_0 given x_t = x, where alpha-bar is a."""
        marginal = a * self.std**2 + 1 - a
        return self.mean + a.sqrt() * self.std**2 / marginal * (x - a.sqrt() * self.mean), self.std**2 * (
            1 - a
        ) / marginal

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The perfect noise prediction at step t of the whole process."""
        self.called_with.append(t)
        a = self.alpha_bar.to(x)[t].view(-1, 1, 1, 1)
        return (x - a.sqrt() * self.posterior(x, a)[0]) / (1 - a).sqrt()

    def with_variance(self, timestep_map: tuple[int, ...]) -> Callable[[Tensor, Tensor], Tensor]:
        """The same, and the log-variance of the true reverse step of a process that keeps only those steps."""

        def network(x: Tensor, t: Tensor) -> Tensor:
            step = timestep_map.index(int(t[0]))
            a = self.alpha_bar[timestep_map[step]]
            b = self.alpha_bar[timestep_map[step - 1]] if step else torch.tensor(1.0, dtype=torch.float64)
            beta = 1 - a / b
            # Law of total variance over x_0: that of the posterior, and what its mean takes from x_0.
            variance = beta * (1 - b) / (1 - a) + (b.sqrt() * beta / (1 - a)) ** 2 * self.posterior(x, a)[1]
            return torch.cat([self(x, t), torch.full_like(x, float(variance.log()))], dim=1)

        return network

    def exact_ode(self, noise: Tensor) -> Tensor:
        """Where deterministic sampling takes noise in the limit of small steps: a straight map of the marginals."""
        a = self.alpha_bar[-1]
        return self.mean + self.std * (noise - a.sqrt() * self.mean) / (a * self.std**2 + 1 - a).sqrt()


@pytest.fixture
def gaussian_data() -> type[GaussianData]:
    return GaussianData


@pytest.fixture
def reference_alpha_bar() -> Callable[[DiffusionConfig], np.ndarray]:
    return alpha_bar


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=REPOSITORIES)
def theirs(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Modules of the official code."""
    package = REPOSITORIES[request.param]
    modules = ("gaussian_diffusion", "respace", "resample")
    return SimpleNamespace(**{name: official(request.param, f"{package}.{name}") for name in modules})
