import pytest
import torch
from torch import Tensor

from tenshot.diffusion import (
    Denoiser,
    DiffusionConfig,
    GaussianDiffusion,
    Guided,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
)
from tenshot.distributed.seeding import SeededNoise
from tenshot.errors import InputError
from tenshot.lightning_modules import Sampler

PROCESS = GaussianDiffusion(DiffusionConfig(variance="fixed_large"))
SEEDS = torch.tensor([3, 8])


def model(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(3 * x + t.view(-1, 1, 1, 1) / 500)


def noise() -> SeededNoise:
    return SeededNoise(SEEDS, torch.device("cpu"))


def draw(sampler: Sampler) -> Tensor:
    return sampler(Denoiser(PROCESS, model), noise(), (3, 4, 4))


def test_ancestral_sampling():
    source = noise()
    expected = sample_ddpm(Denoiser(PROCESS.respace("10"), model), source.normal(3, 4, 4), randn=source.normal_like)
    assert torch.equal(draw(Sampler("ddpm", "10")), expected)
    assert torch.equal(draw(Sampler("ddpm", 10)), expected)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim(eta: float):
    source = noise()
    expected = sample_ddim(
        Denoiser(PROCESS.respace("ddim10"), model), source.normal(3, 4, 4), eta=eta, randn=source.normal_like
    )
    assert torch.equal(draw(Sampler("ddim", "ddim10", eta)), expected)


def test_dpm_solver():
    expected = sample_dpm_solver(Denoiser(PROCESS, model), noise().normal(3, 4, 4), 10)
    assert torch.equal(draw(Sampler("dpm_solver", "10")), expected)


def test_the_first_noise_alone_is_colder():
    """Which is all that DDIM draws of a seed."""
    first = 0.9 * noise().normal(3, 4, 4)
    expected = sample_ddim(Denoiser(PROCESS.respace("ddim10"), model), first)
    assert torch.equal(draw(Sampler("ddim", "ddim10", temperature=0.9)), expected)
    with pytest.raises(InputError, match=r"sampler\.temperature is -1"):
        Sampler(temperature=-1)


@pytest.mark.parametrize("method", ["ddpm", "ddim", "dpm_solver"])
def test_unclipped_sampling_leaves_the_range(method: str):
    assert draw(Sampler(method, 10)).abs().max() < draw(Sampler(method, 10, clip_denoised=False)).abs().max()  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["ddpm", "ddim", "dpm_solver"])
def test_guidance_and_progress_reach_the_sampler(method: str):
    asked, seen = [], []

    def guidance(x: Tensor, t: Tensor) -> Tensor:
        asked.append(int(t[0]))
        return torch.zeros_like(x)

    def progress(done: int, total: int, x0: Tensor) -> None:
        seen.append((done, total))

    sampler = Sampler(method, "5")  # type: ignore[arg-type]
    sampler(Guided(Denoiser(PROCESS, model), guidance), noise(), (3, 4, 4), progress=progress)
    assert len(asked) == 5
    assert asked == sorted(asked, reverse=True)
    assert seen == [(n, 5) for n in range(1, 6)]


def test_dpm_solver_takes_a_number_of_steps():
    with pytest.raises(InputError, match=r"sampler\.steps 'ddim25': dpm_solver takes a number of steps"):
        Sampler("dpm_solver", "ddim25")
