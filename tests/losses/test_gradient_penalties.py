import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tenshot.losses import path_length_penalty, path_lengths, r1_penalty

SIDE, STYLES, WIDTH = 3, 4, 2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def judged(weight: Tensor, images: Tensor) -> Tensor:
    """A discriminator with two layers whose logits also depend on the rest of the batch: (N,)"""
    hidden = (images.flatten(1) @ weight).tanh()
    return hidden.sum(dim=1) + hidden.std(dim=0).sum()


def drawn(weight: Tensor, styles: Tensor) -> Tensor:
    """A generator that bends its styles: (N, S, D) -> (N, 1, SIDE, SIDE)"""
    return (styles.flatten(1) @ weight).sin().view(-1, 1, SIDE, SIDE)


def test_r1_of_a_linear_discriminator_is_its_squared_weight():
    images, weight = normal(5, 3, 4, 4).requires_grad_(), normal(3 * 4 * 4, seed=1)
    penalty = r1_penalty(images.flatten(1) @ weight, images)
    torch.testing.assert_close(penalty, weight.square().sum().expand(5))


def test_r1_is_the_squared_gradient_of_the_batch_by_finite_differences():
    images, weight, step = normal(3, 1, 2, 2), normal(4, 2, seed=1), 1e-6
    expected = np.zeros(3)
    for i in range(3):
        for pixel in range(4):
            shift = torch.zeros(3, 4, dtype=torch.float64)
            shift[i, pixel] = step
            up, down = (judged(weight, images + sign * shift.view_as(images)).sum().item() for sign in (1, -1))
            expected[i] += ((up - down) / (2 * step)) ** 2
    leaf = images.clone().requires_grad_()
    np.testing.assert_allclose(r1_penalty(judged(weight, leaf), leaf).detach(), expected, rtol=1e-8)


def test_r1_of_a_map_is_that_of_its_mean():
    images, kernel = normal(2, 3, 5, 4).requires_grad_(), normal(1, 3, 3, 3, seed=1)
    patches = torch.nn.functional.conv2d(images, kernel, padding=1).sin()
    of_map = r1_penalty(patches, images)
    torch.testing.assert_close(of_map, r1_penalty(patches.mean(dim=(1, 2, 3)), images))
    assert (of_map > 0).all()


def test_r1_can_be_differentiated_again():
    images = normal(3, 1, 2, 2)

    def penalty(weight: Tensor) -> Tensor:
        leaf = images.clone().requires_grad_()
        return r1_penalty(judged(weight, leaf), leaf)

    weight = normal(4, 2, seed=1).requires_grad_()
    assert gradcheck(penalty, weight)
    assert gradgradcheck(penalty, weight)


@pytest.mark.parametrize("given", [True, False])
def test_path_lengths_of_a_linear_generator_are_known(given: bool):
    styles, weight = normal(6, STYLES, WIDTH).requires_grad_(), normal(STYLES * WIDTH, SIDE**2, seed=1)
    images = (styles.flatten(1) @ weight).view(6, 1, SIDE, SIDE)
    torch.manual_seed(3)
    noise = torch.randn(6, 1, SIDE, SIDE, dtype=torch.float64)
    torch.manual_seed(3)
    lengths = path_lengths(images, styles, noise if given else None)
    for n in range(6):
        moved = (weight.numpy() @ (noise[n].numpy().ravel() / SIDE)).reshape(STYLES, WIDTH)
        assert lengths[n].item() == pytest.approx(np.sqrt((moved**2).sum(axis=1).mean()), rel=1e-12)


@pytest.mark.parametrize("side", [2, 8])
def test_the_length_does_not_grow_with_the_image(side: int):
    """Each number of the first style moves every pixel by 0.7: E |J^T y|^2 is 0.7^2 a number, whatever the size."""
    torch.manual_seed(0)
    styles = torch.zeros(4000, STYLES, WIDTH, requires_grad=True)
    images = 0.7 * styles[:, 0].sum(dim=1)[:, None, None, None] * torch.ones(1, side, side)
    squared = path_lengths(images, styles).square().mean().item()
    assert squared == pytest.approx(0.7**2 * WIDTH / STYLES, rel=0.1)


def test_path_lengths_can_be_differentiated_again():
    noise = normal(3, 1, SIDE, SIDE, seed=2)

    def penalty(weight: Tensor, styles: Tensor) -> Tensor:
        lengths = path_lengths(drawn(weight, styles), styles, noise)
        return path_length_penalty(lengths, torch.tensor(0.5, dtype=torch.float64))[0]

    weight, styles = normal(STYLES * WIDTH, SIDE**2, seed=1).requires_grad_(), normal(3, STYLES, WIDTH).requires_grad_()
    assert gradcheck(penalty, (weight, styles))
    assert gradgradcheck(penalty, (weight, styles))


def test_the_running_mean_moves_first_and_its_share_is_differentiated():
    lengths, before, decay = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64, requires_grad=True), 2.5, 0.01
    penalty, after = path_length_penalty(lengths, torch.tensor(before, dtype=torch.float64))
    penalty.backward()
    mean = 0.99 * before + 0.01 * 3.0
    assert after.item() == pytest.approx(mean, rel=1e-14)
    assert not after.requires_grad
    away = lengths.detach().numpy() - mean
    assert penalty.item() == pytest.approx((away**2).mean(), rel=1e-14)
    assert lengths.grad is not None
    np.testing.assert_allclose(lengths.grad, 2 / 3 * (away - decay * away.mean()), rtol=1e-13)


def test_the_mean_converges_to_the_lengths():
    mean = torch.zeros(())
    for _ in range(1000):
        penalty, mean = path_length_penalty(torch.full((2,), 3.0), mean)
    assert mean.item() == pytest.approx(3 * (1 - 0.99**1000), rel=1e-5)
    assert penalty.item() < 1e-6


def test_halves_of_a_batch_with_the_mean_of_all_equal_the_batch():
    whole, parts = normal(6).requires_grad_(), normal(6).requires_grad_()
    running = torch.tensor(0.3, dtype=torch.float64)
    penalty, after = path_length_penalty(whole, running)
    halves = [path_length_penalty(half, running, mean_length=parts.mean()) for half in parts.split(3)]
    shared = sum(half[0] for half in halves) / 2
    torch.testing.assert_close(shared, penalty)
    assert halves[0][1].item() == after.item()
    torch.testing.assert_close(torch.autograd.grad(shared, parts), torch.autograd.grad(penalty, whole))


def test_reduced_precision_is_squared_in_float32():
    images, weight = normal(4, 3, 4, 4).bfloat16().requires_grad_(), normal(48, seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = r1_penalty(images.flatten(1) @ weight, images)
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty, weight.float().square().sum().expand(4))

    styles = normal(4, STYLES, WIDTH).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lengths = path_lengths(styles.sum(dim=(1, 2))[:, None, None, None].float(), styles, torch.ones(4, 1, 1, 1))
    assert lengths.dtype == torch.float32
    torch.testing.assert_close(lengths, torch.full((4,), WIDTH**0.5))
