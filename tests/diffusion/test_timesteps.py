import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks

from tenshot.diffusion import LossAwareTimesteps, UniformTimesteps
from tenshot.errors import InputError

CPU = torch.device("cpu")


def warmed_up(num_steps: int = 8, history: int = 3, uniform_prob: float = 0.1) -> LossAwareTimesteps:
    sampler = LossAwareTimesteps(num_steps, history, uniform_prob)
    for _ in range(history):
        sampler.update(torch.arange(num_steps), torch.rand(num_steps) * torch.arange(1, num_steps + 1))
    return sampler


def test_uniform_covers_every_step_with_weight_one():
    t, weights = UniformTimesteps(5).sample(5000, CPU)
    assert t.dtype == torch.int64
    assert (torch.bincount(t, minlength=5) - 1000).abs().max() < 150
    assert torch.equal(weights, torch.ones(5000))


@pytest.mark.parametrize("sampler", [UniformTimesteps(1000), warmed_up(1000)])
def test_draws_depend_on_the_generator_alone(sampler):
    draws = [sampler.sample(16, CPU, torch.Generator().manual_seed(seed))[0].tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_probabilities_follow_the_last_losses_of_each_step():
    num_steps, history, uniform_prob = 6, 3, 0.01
    sampler = LossAwareTimesteps(num_steps, history, uniform_prob)
    remembered = [deque(maxlen=history) for _ in range(num_steps)]
    rng = np.random.default_rng(0)
    was_uniform = was_aware = False
    for size in [1, 2, 5, 3, 40, 7, 1, 25, 4]:  # 25 and 40 go round the ring of some step more than once
        t, losses = rng.integers(num_steps, size=size), rng.exponential(size=size)
        sampler.update(torch.tensor(t), torch.tensor(losses))
        for step, loss in zip(t, losses, strict=True):
            remembered[step].append(loss)
        expected = np.full(num_steps, 1 / num_steps)
        if all(len(losses) == history for losses in remembered):
            rms = np.array([np.sqrt(np.mean(np.square(losses))) for losses in remembered])
            expected = (1 - uniform_prob) * rms / rms.sum() + uniform_prob / num_steps
            was_aware = True
        else:
            was_uniform = True
        np.testing.assert_allclose(sampler.probabilities().numpy(), expected, rtol=1e-12)
    assert was_uniform
    assert was_aware


def test_drawn_as_often_as_said_and_weighted_without_bias():
    sampler, n = warmed_up(), 200_000
    p = sampler.probabilities()
    assert p.max() > 3 * p.min()
    t, weights = sampler.sample(n, CPU)
    assert weights.dtype == torch.float32
    frequency = torch.bincount(t, minlength=8) / n
    assert ((frequency - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()
    losses = torch.linspace(-1, 3, 8)  # any function of t: its weighted mean is its plain mean
    assert abs((weights * losses[t]).mean() - losses.mean()) < 0.02
    assert abs(losses[t].mean() - losses.mean()) > 0.1


def test_rare_steps_are_still_drawn():
    sampler = LossAwareTimesteps(4, history=1)
    sampler.update(torch.arange(4), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    t, weights = sampler.sample(100_000, CPU)
    rare = t < 3
    assert 30 < rare.sum() < 130  # 0.1 % of the draws, three quarters of them
    torch.testing.assert_close(weights[rare], torch.full_like(weights[rare], 1000.0))


def test_losses_carry_no_graph_into_the_history():
    sampler = LossAwareTimesteps(2, history=1)
    sampler.update(torch.arange(2), torch.ones(2, requires_grad=True) * 2)
    assert not sampler.probabilities().requires_grad


def test_resumes_from_its_state():
    first, second = warmed_up(), LossAwareTimesteps(8, 3, 0.1)
    state = first.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    second.load_state_dict(state)
    for _ in range(2):
        t, losses = torch.randint(8, (20,)), torch.rand(20)
        first.update(t, losses)
        second.update(t, losses)
    assert torch.equal(first.probabilities(), second.probabilities())
    assert not torch.equal(state["counts"], first.state_dict()["counts"])


def test_a_state_of_another_process_is_refused():
    with pytest.raises(InputError, match=r"8 steps x 3 losses.*1000 x 10"):
        LossAwareTimesteps(1000).load_state_dict(warmed_up().state_dict())


def test_all_ranks_remember_the_losses_of_all(tmp_path: Path):
    run_ranks(__file__, tmp_path, timeout=120)
    alone = LossAwareTimesteps(3, history=2)
    for step in range(6):
        draws = [torch.Generator().manual_seed(10 * step + rank) for rank in range(2)]
        pairs = [(torch.randint(3, (4,), generator=draw), torch.rand(4, generator=draw)) for draw in draws]
        alone.update(*(torch.cat(parts) for parts in zip(*pairs, strict=True)))
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt")
        assert all(torch.equal(state[name], value) for name, value in alone.state_dict().items())
    assert alone.state_dict()["counts"].sum() == 48


def one_rank(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank, sampler = dist.get_rank(), LossAwareTimesteps(3, history=2)
    for step in range(6):
        draw = torch.Generator().manual_seed(10 * step + rank)
        sampler.update(torch.randint(3, (4,), generator=draw), torch.rand(4, generator=draw))
    torch.save(sampler.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":  # run by ``run_ranks``
    one_rank(Path(sys.argv[1]))
