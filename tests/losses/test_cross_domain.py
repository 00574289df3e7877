import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tenshot.errors import InputError
from tenshot.losses import cross_domain_distance_loss, pairwise_similarity_loss
from tenshot.losses.cross_domain import RowReduction
from tenshot.losses.ddpm_pa import Direction

CONVENTIONS = [("source||adapted", "mean"), ("adapted||source", "batchmean"), ("source||adapted", "sum")]
LAYERS = [2, 0, 2, 1]
SHAPES = [(3, 2, 2), (2, 3, 3), (1, 4, 4)]


def features(n: int = 4, seed: int = 0) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *shape, dtype=torch.float64, generator=source) for shape in SHAPES]


def by_loops(adapted: list[Tensor], source: list[Tensor], layers: list[int], direction: str, reduction: str) -> float:
    """The definition, pair by pair."""
    n, terms = len(layers), []
    for i, layer in enumerate(layers):
        others = [j for j in range(n) if j != i]
        rows = []
        for model in (adapted, source):
            z = model[layer].numpy().reshape(n, -1)
            cosines = [z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j])) for j in others]
            rows.append(np.exp(cosines) / np.exp(cosines).sum())
        p, q = rows if direction == "adapted||source" else rows[::-1]
        terms.append(p * np.log(p / q))
    return {"sum": np.sum, "mean": np.mean, "batchmean": lambda x: np.sum(x) / n}[reduction](terms)


@pytest.mark.parametrize(("direction", "reduction"), CONVENTIONS)
def test_it_is_what_is_published(direction: Direction, reduction: RowReduction):
    ours = cross_domain_distance_loss(features(), features(seed=1), LAYERS, direction, reduction)
    expected = by_loops(features(), features(seed=1), LAYERS, direction, reduction)
    assert ours.item() == pytest.approx(expected, rel=1e-10)


def test_the_code_s_mean_is_the_default_and_a_third_of_the_mean_over_samples():
    default = cross_domain_distance_loss(features(), features(seed=1), LAYERS).item()
    assert default == pytest.approx(by_loops(features(), features(seed=1), LAYERS, "source||adapted", "mean"))
    over_samples = cross_domain_distance_loss(features(), features(seed=1), LAYERS, reduction="batchmean").item()
    assert over_samples == pytest.approx(3 * default, rel=1e-12)


@pytest.mark.parametrize("direction", ["source||adapted", "adapted||source"])
def test_on_one_layer_it_is_the_pairwise_loss(direction: Direction):
    adapted, source = features(), features(seed=1)
    ours = cross_domain_distance_loss(adapted, source, [1] * 4, direction)
    assert ours.item() == pytest.approx(pairwise_similarity_loss(adapted[1], source[1], direction, "mean").item())


def test_a_sample_is_compared_at_its_own_layer_only():
    adapted, source = features(), features(seed=1)
    one = cross_domain_distance_loss(adapted, source, [2, 2, 2, 2])
    adapted[0], adapted[1] = torch.full_like(adapted[0], torch.nan), torch.full_like(adapted[1], torch.nan)
    assert cross_domain_distance_loss(adapted, source, [2, 2, 2, 2]).item() == one.item()
    assert cross_domain_distance_loss(adapted, source, [2, 2, 2, 1]).isnan()


def test_models_that_agree_have_no_loss_and_no_gradient():
    adapted = [x.requires_grad_() for x in features()]
    loss = cross_domain_distance_loss(adapted, features(), LAYERS)
    loss.backward()
    assert abs(loss.item()) < 1e-15
    for x in adapted:
        assert x.grad is not None
        assert x.grad.abs().max() < 1e-15


def test_the_gradient_reaches_both_sides_of_a_cosine_and_never_the_source():
    source = [x.requires_grad_() for x in features(seed=1)]
    adapted = [x.requires_grad_() for x in features()]
    assert torch.autograd.gradcheck(lambda *x: cross_domain_distance_loss(x, source, LAYERS), adapted, fast_mode=True)
    cross_domain_distance_loss(adapted, source, LAYERS).backward()
    assert all(x.grad is None for x in source)
    assert adapted[0].grad is not None  # drawn for one sample: the others are what that one is compared with
    assert (adapted[0].grad.flatten(1).norm(dim=1) > 0).all()


def test_the_strength_of_activations_does_not_matter():
    scales = torch.tensor([1, 0.01, 30, 4], dtype=torch.float64).view(4, 1, 1, 1)
    plain = cross_domain_distance_loss(features(), features(seed=1), LAYERS)
    scaled = cross_domain_distance_loss([x * scales for x in features()], features(seed=1), LAYERS)
    assert scaled.item() == pytest.approx(plain.item(), rel=1e-10)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_samples_have_no_loss(n: int):
    adapted = [x.requires_grad_() for x in features(n)]
    loss = cross_domain_distance_loss(adapted, features(n, seed=1), LAYERS[:n])
    loss.backward()
    assert loss.item() == 0
    assert adapted[2].grad is not None
    assert adapted[2].grad.abs().max() == 0


def test_it_is_float32_under_autocast_and_of_reduced_features():
    adapted, source = ([x.float() for x in features(seed=seed)] for seed in (0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = cross_domain_distance_loss(adapted, source, LAYERS)
    assert under.item() == cross_domain_distance_loss(adapted, source, LAYERS).item()
    rough = [x.bfloat16() for x in adapted]
    of_rough = cross_domain_distance_loss(rough, source, LAYERS)
    assert of_rough.dtype == torch.float32
    assert math.isclose(of_rough, cross_domain_distance_loss([x.double() for x in rough], source, LAYERS), rel_tol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "source|adapted"}, "cross-domain direction 'source|adapted' is unknown (did you mean"),
        ({"reduction": "none"}, "cross-domain reduction 'none' is unknown; choose one of mean, batchmean, sum"),
    ],
)
def test_unknown_conventions_are_refused(arguments: dict[str, str], message: str):
    with pytest.raises(InputError) as error:
        cross_domain_distance_loss(features(), features(), LAYERS, **arguments)  # type: ignore[arg-type]
    assert message in str(error.value)
