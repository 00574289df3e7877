import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tenshot.errors import InputError
from tenshot.losses import pairwise_similarity_loss
from tenshot.losses.ddpm_pa import Direction, Reduction

CONVENTIONS = [("adapted||source", "sum"), ("source||adapted", "mean"), ("adapted||source", "mean")]


def random_images(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_loops(adapted: Tensor, source: Tensor, direction: str, reduction: str) -> float:
    """The definition, pair by pair."""
    n, terms = len(adapted), []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        p, q = (
            np.array([math.exp(np.vdot(z[i], z[j]) / (np.linalg.norm(z[i]) * np.linalg.norm(z[j]))) for j in others])
            for z in (adapted.numpy(), source.numpy())
        )
        p, q = p / p.sum(), q / q.sum()
        if direction == "source||adapted":
            p, q = q, p
        terms.extend(p * np.log(p / q))
    return float(np.sum(terms) if reduction == "sum" else np.mean(terms))


@pytest.mark.parametrize(("direction", "reduction"), CONVENTIONS)
@pytest.mark.parametrize("n", [3, 4, 7])
def test_it_is_what_the_paper_writes(n: int, direction: Direction, reduction: Reduction):
    ours = pairwise_similarity_loss(random_images(n), random_images(n, 1), direction, reduction)
    assert ours.item() == pytest.approx(
        by_loops(random_images(n), random_images(n, 1), direction, reduction), rel=1e-10
    )


@pytest.mark.parametrize(("direction", "reduction"), CONVENTIONS)
def test_models_that_agree_have_no_loss_and_no_gradient(direction: Direction, reduction: Reduction):
    adapted = random_images(5).requires_grad_()
    loss = pairwise_similarity_loss(adapted, adapted.detach().clone(), direction, reduction)
    loss.backward()
    assert abs(loss.item()) < 1e-15
    assert adapted.grad is not None
    assert adapted.grad.abs().max() < 1e-15


def test_the_source_gets_no_gradient():
    adapted, source = random_images(4).requires_grad_(), random_images(4, 1).requires_grad_()
    pairwise_similarity_loss(adapted, source).backward()
    assert source.grad is None
    assert adapted.grad is not None
    assert (adapted.grad.flatten(1).norm(dim=1) > 0).all()


def test_the_gradient_is_that_of_finite_differences():
    adapted, source = random_images(3).requires_grad_(), random_images(3, 1)
    assert torch.autograd.gradcheck(lambda x: pairwise_similarity_loss(x, source), adapted)
    assert torch.autograd.gradcheck(lambda x: pairwise_similarity_loss(x, source, "source||adapted", "mean"), adapted)


def test_the_size_of_an_image_does_not_matter():
    scales = torch.tensor([1, 0.01, 30, 4], dtype=torch.float64).view(4, 1, 1, 1)
    plain = pairwise_similarity_loss(random_images(4), random_images(4, 1))
    scaled = pairwise_similarity_loss(random_images(4) * scales, random_images(4, 1) * scales.flip(0))
    assert scaled.item() == pytest.approx(plain.item(), rel=1e-12)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_images_have_no_loss(n: int):
    adapted = random_images(n).requires_grad_()
    loss = pairwise_similarity_loss(adapted, random_images(n, 1))
    loss.backward()
    assert loss.item() == 0
    assert adapted.grad is not None
    assert adapted.grad.abs().max() == 0


def test_black_images_are_no_trouble():
    adapted = torch.zeros(3, 3, 4, 4, requires_grad=True)
    loss = pairwise_similarity_loss(adapted, random_images(3)[..., :4].float())
    assert loss.isfinite()


def test_it_is_float32_under_autocast():
    adapted, source = random_images(4).float(), random_images(4, 1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = pairwise_similarity_loss(adapted, source)
    assert under.item() == pairwise_similarity_loss(adapted, source).item()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "adapted|source"}, "direction 'adapted|source' is unknown (did you mean 'adapted||source'?)"),
        ({"reduction": "batchmean"}, "choose one of sum, mean"),
    ],
)
def test_unknown_conventions_are_refused(arguments: dict[str, str], message: str):
    with pytest.raises(InputError) as error:
        pairwise_similarity_loss(random_images(3), random_images(3), **arguments)  # type: ignore[arg-type]
    assert message in str(error.value)
