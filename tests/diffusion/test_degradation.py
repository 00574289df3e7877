"""What is drawn for an image and what becomes of it: published shares, seeds, bad input."""

from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from tenshot.diffusion.degradation import Degradation, bsr
from tenshot.diffusion.degradation.steps import (
    Blur,
    Compress,
    Noise,
    Resize,
    Shrink,
    Smooth,
    SmoothToBlack,
    Step,
)
from tenshot.errors import InputError

COUNT = 1500


def images(n: int = 3, side: int = 64, seed: int = 0) -> Tensor:
    """Smooth ones: noise of 8 px, enlarged."""
    noise = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(noise, (side, side), mode="bilinear")


@cache
def plans(official: bool = False, size: int = 64, count: int = COUNT) -> list[list[Step]]:
    return [Degradation(official).plan(seed, 256, size) for seed in range(count)]


def share(found: Iterable[bool]) -> float:
    return np.mean([*found]).item()


def of_kind(kind: type[Step], among: list[list[Step]]) -> list[Step]:
    return [step for plan in among for step in plan if type(step) is kind]


def halves_first(plan: list[Step]) -> bool:
    return isinstance(plan[0], Resize) and plan[0].side == 128 and sum(_changes_size(step) for step in plan) == 3


def _changes_size(step: Step) -> bool:
    return isinstance(step, Resize | Shrink)


def test_steps_come_with_their_published_shares():
    for kind, expected in ((Blur, 0.8), (Compress, 0.5), (Smooth, 0.2), (Noise, 1), (Shrink, 0.2)):
        assert len(of_kind(kind, plans())) / COUNT == pytest.approx(expected, abs=0.03)
    assert share(map(halves_first, plans())) == pytest.approx(0.25, abs=0.03)
    first = [plan[0] for plan in plans() if halves_first(plan)]
    hows = Counter(step.how for step in first if isinstance(step, Resize))
    assert {how: hows[how] / len(first) for how in hows} == pytest.approx(
        {"antialiased": 1 / 2, "linear": 1 / 6, "cubic": 1 / 6, "area": 1 / 6}, abs=0.06
    )
    assert not any(map(halves_first, plans(size=32, count=600)))  # at a factor of 4 alone
    others = [step for step in of_kind(Resize, plans(size=32, count=600)) if isinstance(step, Resize)]
    hows = Counter(step.how for step in others)
    assert {how: hows[how] / len(others) for how in hows} == pytest.approx(
        dict.fromkeys(("linear", "cubic", "area"), 1 / 3), abs=0.06
    )


def test_the_order_is_random_but_the_last_size_comes_last():
    places: dict[type[Step], list[int]] = {}
    for plan in plans():
        changes = [i for i, step in enumerate(plan) if _changes_size(step)]
        last = plan[changes[-1]]
        assert isinstance(last, Resize)
        assert last.side == 64
        for kind in (Noise, Compress, Smooth, Blur):
            number = next((i for i, step in enumerate(plan) if type(step) is kind), None)
            if number is not None:
                places.setdefault(kind, []).append(sum(i < number for i in changes[-2:]))
    for kind, befores in places.items():  # before both, between, and after, by turns
        thirds = [befores.count(number) / len(befores) for number in range(3)]
        assert thirds == pytest.approx([1 / 3] * 3, abs=0.08 if kind is Smooth else 0.05)
    positions = [[type(step) for step in plan].index(Noise) for plan in plans()]
    firsts = Counter(type(plan[0]) for plan in plans() if not halves_first(plan))
    assert min(firsts[kind] for kind in (Noise, Blur, Compress, Smooth, Resize)) > 30
    assert max(positions) >= 5


def test_sizes_qualities_strengths_and_kernels_are_drawn_as_published():
    quarter = [plan for plan in plans() if not halves_first(plan)]
    sides = [step.side for plan in quarter for step in plan if isinstance(step, Resize) and step.side != 64]
    scales = 256 / (np.array(sides) + 0.5)  # whole pixels are cut off
    assert kstest(scales, "uniform", (1, 7)).pvalue > 1e-3
    assert min(sides) >= 32
    qualities = Counter(step.quality for step in of_kind(Compress, plans()) if isinstance(step, Compress))
    assert sorted(qualities) == list(range(80, 96))
    assert max(qualities.values()) < 1.6 * COUNT / 2 / 16
    strengths = [step.strength for step in of_kind(Smooth, plans()) if isinstance(step, Smooth)]
    assert kstest(strengths, "uniform", (1.2e-3, 2.8e-3)).pvalue > 1e-3
    kernels = [step.kernel for step in of_kind(Blur, plans()) if isinstance(step, Blur)]
    sizes = Counter(len(kernel) for kernel in kernels)
    assert sorted(sizes) == list(range(5, 15))
    for size, expected in ((5, 0.5 / 10 + 0.5 / 3), (7, 0.5 / 10 + 0.5 / 3), (8, 0.5 / 10), (14, 0.5 / 10)):
        assert sizes[size] / len(kernels) == pytest.approx(expected, abs=0.03)
    round_ones = [kernel for kernel in kernels if np.allclose(kernel, kernel.T, atol=1e-12)]
    assert len(round_ones) / len(kernels) == pytest.approx(0.5, abs=0.03)
    assert all(abs(kernel.sum() - 1) < 1e-9 for kernel in kernels)
    spread = [_variances(kernel) for kernel in kernels if len(kernel) >= 13]  # cut off nowhere
    assert 1.7 < max(wide for narrow, wide in spread if narrow > 0.3) < 2.01  # pixels show; up to (4 + 4) / 4
    assert max(_variances(kernel).max() for kernel in round_ones if len(kernel) == 7) < 0.7**2 + 0.01


def _variances(kernel: np.ndarray) -> np.ndarray:
    """Of a kernel as a distribution: along its two axes."""
    y, x = np.meshgrid(*(np.arange(len(kernel)) - (len(kernel) - 1) / 2,) * 2, indexing="ij")
    mixed = (kernel * x * y).sum()
    return np.linalg.eigvalsh([[(kernel * x * x).sum(), mixed], [mixed, (kernel * y * y).sum()]])


def test_noise_is_coloured_grey_or_correlated():
    kinds: dict[str, list[np.ndarray]] = {"colour": [], "grey": [], "correlated": []}
    for step in of_kind(Noise, plans()):
        assert isinstance(step, Noise)
        covariance = step.root.T @ step.root * 255**2
        off = covariance[0, 1]
        kind = "colour" if off == 0 else "grey" if np.allclose(covariance, off) else "correlated"
        kinds[kind].append(covariance)
    shares = {kind: len(found) / COUNT for kind, found in kinds.items()}
    assert shares == pytest.approx({"colour": 0.4, "grey": 0.4, "correlated": 0.2}, abs=0.03)
    for kind in ("colour", "grey"):
        assert {round(covariance[0, 0], 6) for covariance in kinds[kind]} == {1.0, 4.0}
    traces = [np.trace(covariance) for covariance in kinds["correlated"]]  # of 2² times three numbers of U(0, 1)
    assert np.mean(traces) == pytest.approx(4 * 1.5, rel=0.05)
    assert min(covariance.min() for covariance in kinds["correlated"]) >= -1e-9


def test_the_official_smoothing_is_black_and_everything_else_is_the_same():
    found = plans(official=True, count=600)
    assert len(of_kind(SmoothToBlack, found)) / 600 == pytest.approx(0.2, abs=0.05)
    assert not of_kind(Smooth, found)
    for ours, right in zip(found, plans(), strict=False):
        kinds = [Smooth if type(step) is SmoothToBlack else type(step) for step in ours]
        assert kinds == [type(step) for step in right]
    sources, size = images(1, 32).expand(40, -1, -1, -1), 8
    seeds = torch.arange(40)
    black = Degradation(official=True)(sources, size, seeds)
    right = Degradation()(sources, size, seeds)
    smoothed = torch.tensor([bool(of_kind(SmoothToBlack, [Degradation(True).plan(s, 32, size)])) for s in range(40)])
    assert 2 < smoothed.sum() < 18
    assert black[smoothed].max() < -1 + 2 * 14 / 255  # but for noise
    assert black[~smoothed].mean((1, 2, 3)).min() > -0.8
    torch.testing.assert_close(right.mean((2, 3)), sources.mean((2, 3)), atol=0.2, rtol=0)


def test_an_image_depends_on_its_seed_alone():
    x, seeds, state = images(6), torch.tensor([5, 2**40 + 5, 7, 5, 11, 5]), torch.get_rng_state()
    x[3] = x[0]
    whole = Degradation()(x, 16, seeds)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(whole[0], whole[3])
    assert not torch.equal(whole[0], whole[5])
    alone = [Degradation()(x[i : i + 1], 16, seeds[i : i + 1]) for i in range(6)]
    assert torch.equal(torch.cat(alone), whole)
    assert torch.equal(Degradation()(x.flip(0), 16, seeds.flip(0)), whole.flip(0))
    again = Degradation()(x[:1].expand(3, -1, -1, -1), 16, torch.tensor([5, 2**40 + 5, 6]))
    assert len({image.numpy().tobytes() for image in again}) == 3


def test_many_at_once_are_what_they_are_one_by_one(monkeypatch: pytest.MonkeyPatch):
    """As on a GPU, where images of one size that do the same next do it together."""
    x, seeds, calls = images(8), torch.arange(8), []
    alone = Degradation()(x, 16, seeds)
    take_steps = bsr.take_steps

    def together(levels: Tensor, found: list[list[Step]], at_once: int) -> Tensor:
        calls.append(at_once)
        return take_steps(levels, found, 8)

    monkeypatch.setattr(bsr, "take_steps", together)
    difference = (Degradation()(x, 16, seeds) - alone).abs() * 127.5
    assert calls == [1]
    assert (difference > 0.5).float().mean() < 0.002
    assert difference.max() < 3


def test_results_are_whole_levels_of_images_that_look_like_the_sources():
    x = images(40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Degradation()(x.requires_grad_(), 16, torch.arange(40))
    assert found.shape == (40, 3, 16, 16)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert torch.equal(found[:12], Degradation()(x.detach()[:12], 16, torch.arange(12)))  # autocast or not
    levels = (found + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert found.abs().max() <= 1
    plain = torch.nn.functional.interpolate(x.detach(), (16, 16), mode="area")
    alike = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(found, plain, strict=True)]
    assert min(alike) > 0.5
    assert max(alike) < 0.9999
    assert np.median(alike) > 0.9


@pytest.mark.parametrize(("side", "size"), [(64, 24), (64, 64), (16, 32), (16, 0)])
def test_sizes_that_do_not_suit_are_refused(side: int, size: int):
    with pytest.raises(InputError, match=rf"^a degradation to {size} px of images of {side} x {side}: give squares"):
        Degradation()(torch.zeros(1, 3, side, side), size, torch.zeros(1, dtype=torch.int64))
    with pytest.raises(InputError, match="of images of 32 x 64"):
        Degradation()(torch.zeros(1, 3, 64, 32), 16, torch.zeros(1, dtype=torch.int64))
