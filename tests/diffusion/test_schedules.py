import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenshot.diffusion import cosine_betas, linear_betas, space_timesteps
from tenshot.errors import InputError


def test_linear_schedule_has_the_published_values():
    betas = linear_betas(1000)
    alpha_bar = np.cumprod(1 - betas)
    assert betas.dtype == np.float64
    np.testing.assert_allclose([betas[0], betas[-1]], [1e-4, 0.02], rtol=1e-12)
    np.testing.assert_allclose(alpha_bar[[0, 499, 999]], [0.9999, 0.0785872, 4.03583e-5], rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(1 / alpha_bar[999] - 1), 157.41, rtol=1e-4)


def test_linear_schedule_of_another_length_ends_in_the_same_noise():
    betas = linear_betas(4000)
    np.testing.assert_allclose([betas[0], betas[-1]], [2.5e-5, 0.005], rtol=1e-12)
    np.testing.assert_allclose(np.prod(1 - betas), np.prod(1 - linear_betas(1000)), rtol=0.1)


def test_cosine_schedule_has_the_published_values_and_multiplies_the_clipped_betas():
    betas = cosine_betas(1000)
    alpha_bar = np.cumprod(1 - betas)
    assert betas.dtype == np.float64
    assert betas.max() == betas[-1] == 0.999
    np.testing.assert_allclose(betas[0], 4.12842e-5, rtol=1e-5)
    np.testing.assert_allclose(
        alpha_bar[[0, 499, 998, 999]], [0.99995872, 0.49384359, 2.42877e-6, 2.42877e-9], rtol=1e-5
    )
    np.testing.assert_allclose(np.sqrt(1 / alpha_bar[999] - 1), 20291, rtol=1e-4)


@pytest.mark.parametrize(
    ("spec", "start", "end", "count"),
    [
        ("ddim25", [0, 40, 80], [920, 960], 25),
        ("ddim50", [0, 20, 40], [960, 980], 50),
        ("ddim250", [0, 4, 8], [992, 996], 250),
        ("250", [0, 4, 8, 12, 16, 20], [987, 991, 995, 999], 250),
        ("100", [0, 10, 20], [969, 979, 989, 999], 100),
        ("", [0, 1, 2], [998, 999], 1000),
        ("1000", [0, 1, 2], [998, 999], 1000),
        ("1", [0], [0], 1),
        ("0,2", [500], [999], 2),
    ],
)
def test_respacing_keeps_the_published_steps(spec: str, start: list[int], end: list[int], count: int):
    steps = space_timesteps(1000, spec)
    assert (steps[: len(start)], steps[-len(end) :], len(steps)) == (start, end, count)


def test_sections_begin_at_small_t_and_round_half_to_even():
    assert space_timesteps(1000, "10,10,10") == [
        *(0, 37, 74, 111, 148, 185, 222, 259, 296, 333),
        *(334, 371, 408, 445, 482, 518, 555, 592, 629, 666),
        *(667, 704, 741, 778, 815, 851, 888, 925, 962, 999),
    ]
    assert space_timesteps(6, "3") == [0, 2, 5]  # 2.5 goes to 2


def test_fast27_is_the_schedule_of_glides_upsampler():
    assert space_timesteps(1000, "fast27") == [
        *(0, 22, 44, 66, 88, 111, 133, 155, 177, 199, 200, 222, 244, 266, 288, 311, 333, 355, 377, 399),
        *(400, 500, 599, 600, 799, 800, 997),
    ]


@given(sections=st.lists(st.integers(1, 12), min_size=1, max_size=5), extra=st.integers(0, 200))
def test_sections_hold_as_many_distinct_steps_as_asked(sections: list[int], extra: int):
    total = max(sections) * len(sections) + extra
    steps = space_timesteps(total, ",".join(map(str, sections)))
    assert steps == sorted(set(steps))
    assert len(steps) == sum(sections)
    edges = np.cumsum([0] + [total // len(sections) + (i < total % len(sections)) for i in range(len(sections))])
    assert np.histogram(steps, edges - 0.5)[0].tolist() == sections


@pytest.mark.parametrize(
    ("num_steps", "spec", "words"),
    [
        (1000, "ddim45", "'ddim45'.*45 of 1000.*'ddim44' or 'ddim46'"),
        (1000, "ddim1000x", "'1000x' is not a number"),
        (1000, "ten", "'ten' is not a number.*'250'"),
        (1000, "10,-3", "'-3' is not a number"),
        (1000, "2.5", "not a number"),
        (100, "60,10", "60 steps of a section that has 50"),
        (40, "fast27", "10 steps of a section that has 8"),
        (1000, "0", "keeps no step"),
    ],
)
def test_a_respacing_that_can_not_be_is_refused_in_one_line(num_steps: int, spec: str, words: str):
    with pytest.raises(InputError, match=words) as error:
        space_timesteps(num_steps, spec)
    assert "\n" not in str(error.value)
