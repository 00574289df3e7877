import pytest
import torch
from torch import Tensor

from tenshot.diffusion import Denoiser, DiffusionConfig, GaussianDiffusion, sample_ddim, sample_dpm_solver
from tenshot.errors import InputError

SCHEDULES = pytest.mark.parametrize("schedule", ["linear", "cosine"])


def solve(process, network, noise, steps, **options) -> Tensor:
    return sample_dpm_solver(Denoiser(process, network), noise, steps, clip_denoised=False, **options)


@SCHEDULES
def test_second_order_and_far_better_than_ddim_in_as_many_steps(gaussian_data, schedule):
    config = DiffusionConfig(schedule=schedule, variance="fixed_large")
    data, process = gaussian_data(config), GaussianDiffusion(config)
    noise = torch.randn(500, 1, 1, 1, dtype=torch.float64)
    exact = data.exact_ode(noise)

    def error(x: Tensor) -> float:
        return (x - exact).abs().mean().item()

    ours = {steps: error(solve(process, data, noise, steps)) for steps in (20, 40, 80)}
    assert ours[20] > 3 * ours[40] > 9 * ours[80]
    assert ours[20] < 6e-3
    assert ours[20] < 0.2 * error(sample_ddim(Denoiser(process.respace("20"), data), noise, clip_denoised=False))


@SCHEDULES
@pytest.mark.parametrize("steps", [15, 20])
def test_recovers_mean_and_spread_of_the_data_at_every_scale(gaussian_data, schedule, steps):
    config = DiffusionConfig(schedule=schedule, variance="fixed_large")
    noise = torch.randn(10_000, 1, 1, 1, dtype=torch.float64)
    for std in (1.0, 0.3, 0.05):
        x = solve(GaussianDiffusion(config), gaussian_data(config, std=std), noise, steps)
        assert abs(x.mean() - 0.3) < 0.05 * std + 0.002
        assert abs(x.std() / std - 1) < 0.05


@SCHEDULES
def test_twenty_steps_keep_the_fine_detail_around_each_mode(schedule, reference_alpha_bar):
    config = DiffusionConfig(schedule=schedule, variance="fixed_large")
    alpha_bar, std = torch.tensor(reference_alpha_bar(config)), 0.05
    modes = torch.rand(8, 16, dtype=torch.float64) * 2 - 1

    def network(x: Tensor, t: Tensor) -> Tensor:
        a, x = alpha_bar[t].view(-1, 1), x.flatten(1)
        marginal = a * std**2 + 1 - a
        distance = (x[:, None] - a.sqrt()[:, None] * modes).square().sum(-1)
        mode = (-distance / (2 * marginal)).softmax(dim=1) @ modes
        x0 = mode + a.sqrt() * std**2 / marginal * (x - a.sqrt() * mode)
        return ((x - a.sqrt() * x0) / (1 - a).sqrt()).view(-1, 16, 1, 1)

    x = solve(GaussianDiffusion(config), network, torch.randn(400, 16, 1, 1, dtype=torch.float64), 20)
    distances = torch.cdist(x.flatten(1), modes).min(dim=1)
    assert len(distances.indices.unique()) == 8
    spread = (distances.values.square().mean() / 16).sqrt()
    assert 0.9 * std < spread < 1.1 * std


@SCHEDULES
@pytest.mark.parametrize("steps", [1, 2, 15, 20, 50, 400, 1000])
def test_steps_are_distinct_times_of_the_process_from_its_last_to_its_first(schedule, steps):
    process = GaussianDiffusion(DiffusionConfig(schedule=schedule, variance="fixed_large"))
    times: list[int] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        assert t.dtype == torch.int64
        times.append(int(t[0]))
        return 0.9 * x

    told: list[tuple[int, int, Tensor]] = []
    noise = torch.randn(1, 1, 2, 2)
    x = sample_dpm_solver(Denoiser(process, network), noise, steps, progress=lambda *args: told.append(args))
    assert len(times) == steps
    assert times == sorted(set(times), reverse=True)
    assert times[0] == 999
    assert times[-1] == (0 if steps > 1 else 999)
    assert [args[:2] for args in told] == [(i + 1, steps) for i in range(steps)]
    assert torch.equal(told[-1][2], x)


@SCHEDULES
def test_clipping_bounds_the_samples(schedule):
    process = GaussianDiffusion(DiffusionConfig(schedule=schedule, variance="fixed_large"))
    x = sample_dpm_solver(Denoiser(process, lambda x, t: -x), torch.randn(2, 3, 4, 4), 15)
    assert x.abs().max() <= 1


def test_a_bfloat16_network_of_learned_variance_is_walked_in_float32_without_a_graph():
    process = GaussianDiffusion(DiffusionConfig(variance="learned_range"))
    weight, seen = torch.ones(1, requires_grad=True), []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x.dtype)
        return torch.cat([weight * x, x], dim=1).bfloat16()

    x = sample_dpm_solver(Denoiser(process, network), torch.randn(2, 3, 4, 4).bfloat16(), 5)
    assert (x.dtype, x.shape, x.requires_grad) == (torch.float32, (2, 3, 4, 4), False)
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("steps", [0, 1001])
def test_an_impossible_number_of_steps_is_refused(steps):
    process = GaussianDiffusion(DiffusionConfig(variance="fixed_large"))
    with pytest.raises(InputError, match=f"steps {steps}: .*1 to 1000"):
        sample_dpm_solver(Denoiser(process, lambda x, t: x), torch.randn(1, 1, 2, 2), steps)
