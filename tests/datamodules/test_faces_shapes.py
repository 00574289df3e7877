"""Distances against the nearest of many points of the outline; coverage against areas."""

import math

import pytest
import torch
from torch import Tensor

from tenshot.datamodules.faces.shapes import box, ellipse, intersect_smoothly, pixel_grid, stroke


def nearest(x: Tensor, y: Tensor, outline_x: Tensor, outline_y: Tensor) -> Tensor:
    """Unsigned distance of points (K,) to an outline of points (M,)."""
    return ((x[:, None] - outline_x) ** 2 + (y[:, None] - outline_y) ** 2).sqrt().min(1).values


@pytest.fixture
def points() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1500, generator=generator, dtype=torch.float64) * 1.6 - 0.8
    return x, y


def test_ellipse(points: tuple[Tensor, Tensor]):
    x, y = points
    rx, ry = torch.tensor(0.5), torch.tensor(0.3)
    angle = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)
    true = nearest(x, y, rx * angle.cos(), ry * angle.sin())
    distance = ellipse(x, y, rx, ry)
    assert torch.equal(distance < 0, (x / rx) ** 2 + (y / ry) ** 2 < 1)
    near = true < 0.02  # it is right to first order: the error grows with the square
    assert near.sum() > 50
    assert ((distance.abs() - true).abs()[near] < 0.05 * true[near] + 1e-4).all()


def test_box(points: tuple[Tensor, Tensor]):
    x, y = points
    corner = 0.1
    side = torch.linspace(-1, 1, 501, dtype=torch.float64)
    angle = torch.linspace(0, math.pi / 2, 101, dtype=torch.float64)
    outline_x, outline_y = [], []
    for sx in (-1, 1):
        for sy in (-1, 1):
            outline_x += [sx * (0.4 + corner * angle.cos()), 0.4 * side, sx * torch.full_like(side, 0.5)]
            outline_y += [sy * (0.2 + corner * angle.sin()), sy * torch.full_like(side, 0.3), 0.2 * side]
    distance = box(x, y, torch.tensor(0.5), torch.tensor(0.3), torch.tensor(corner))
    true = nearest(x, y, torch.cat(outline_x), torch.cat(outline_y))
    torch.testing.assert_close(distance.abs(), true, rtol=0, atol=1e-3)
    assert distance[(x.abs() < 0.4) & (y.abs() < 0.2)].max() < 0
    assert distance[(x.abs() > 0.5) | (y.abs() > 0.3)].min() > 0


@pytest.mark.parametrize("bow", [-0.15, 0.0, 0.15])
def test_stroke(points: tuple[Tensor, Tensor], bow: float):
    x, y = points
    half = 0.5
    t = torch.linspace(-half, half, 4001, dtype=torch.float64)
    distance = stroke(x, y, torch.tensor(half), torch.tensor(bow), 0.05, taper=0.0)
    true = nearest(x, y, t, bow * (1 - (t / half) ** 2)) - 0.05
    near = (true.abs() < 0.02) & (x.abs() < half)
    assert near.sum() > 30
    assert (distance - true).abs()[near].max() < 0.01
    tapered = stroke(x, y, torch.tensor(half), torch.tensor(bow), 0.05, taper=1.0)
    assert (tapered >= distance).all()  # thinner everywhere
    assert (tapered[x.abs() >= half] >= 0).all()  # and of no width at its ends


def test_a_smooth_intersection_rounds_the_corner_alone(points: tuple[Tensor, Tensor]):
    a, b = points
    both = intersect_smoothly(a, b, 0.2)
    far = (a - b).abs() >= 0.2
    torch.testing.assert_close(both[far], torch.maximum(a, b)[far])
    assert (both[~far] > torch.maximum(a, b)[~far]).all()
    assert (both - torch.maximum(a, b)).max() <= 0.05 + 1e-6


@pytest.mark.parametrize("size", [16, 64, 255])
def test_covered_pixels_add_up_to_the_area(size: int):
    canvas = pixel_grid(size)
    rx, ry = torch.tensor(0.6), torch.tensor(0.45)
    cover = canvas.cover(ellipse(canvas.x - 0.013, canvas.y + 0.021, rx, ry))
    assert cover.shape == (1, size, size)
    area = float(cover.sum()) * canvas.pixel**2
    assert area == pytest.approx(math.pi * 0.6 * 0.45, rel=0.01)
    assert len(cover.unique()) > 10  # antialiased


def test_a_straight_edge_covers_its_exact_share():
    canvas = pixel_grid(8)
    cover = canvas.cover(canvas.x - 0.1)  # what lies left of 0.1: four pixels and 0.4 of the fifth
    torch.testing.assert_close(cover[0, 0], torch.tensor([1, 1, 1, 1, 0.4, 0, 0, 0]))


@pytest.mark.parametrize("size", [16, 17, 96])
def test_the_grid_is_symmetric_and_fills_the_image(size: int):
    canvas = pixel_grid(size)
    assert torch.equal(canvas.x, -canvas.x.flip(-1))
    assert torch.equal(canvas.x.flatten(), canvas.y.flatten())
    torch.testing.assert_close(canvas.x.flatten()[0], torch.tensor(-1 + canvas.pixel / 2))
