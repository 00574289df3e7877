import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tenshot.errors import InputError
from tenshot.losses import mixing_coefficients, mixup_distance_loss
from tenshot.losses.cross_domain import RowReduction
from tenshot.losses.mixup import Mixing, MixupDirection

CONVENTIONS = [
    ("coefficients||similarities", "mean"),
    ("similarities||coefficients", "batchmean"),
    ("coefficients||similarities", "sum"),
]
LAYERS = [1, 0, 1, 2]
SHAPES = [(3, 2, 2), (2, 3, 3), (1, 4, 4)]


def features(seed: int = 0, n: int = 4) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *shape, dtype=torch.float64, generator=source) for shape in SHAPES]


def coefficients(mixes: int = 4, samples: int = 4) -> Tensor:
    drawn = torch.rand(mixes, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return drawn / drawn.sum(dim=1, keepdim=True)


def by_loops(mixed: list[Tensor], plain: list[Tensor], layers: list[int], c: Tensor, way: str, reduction: str) -> float:
    """The definition, pair by pair."""
    terms = []
    for a, layer in enumerate(layers):
        x, others = mixed[layer][a].numpy().ravel(), [z.numpy().ravel() for z in plain[layer]]
        cosines = [x @ z / (np.linalg.norm(x) * np.linalg.norm(z)) for z in others]
        rows = [np.exp(values) / np.exp(values).sum() for values in (c[a].numpy(), cosines)]
        p, q = rows if way == "coefficients||similarities" else rows[::-1]
        terms.append(p * np.log(p / q))
    return {"sum": np.sum, "mean": np.mean, "batchmean": lambda x: np.sum(x) / len(layers)}[reduction](terms)


@pytest.mark.parametrize(("direction", "reduction"), CONVENTIONS)
def test_it_is_what_is_published(direction: MixupDirection, reduction: RowReduction):
    ours = mixup_distance_loss(features(), features(1), coefficients(), LAYERS, direction, reduction)
    expected = by_loops(features(), features(1), LAYERS, coefficients(), direction, reduction)
    assert ours.item() == pytest.approx(expected, rel=1e-10)


def test_one_layer_needs_no_list_and_mixes_need_not_be_as_many_as_samples():
    mixed, plain = features(0, n=3)[1], features(1)[1]
    ours = mixup_distance_loss(mixed, plain, coefficients(3, 4))
    expected = by_loops([mixed], [plain], [0] * 3, coefficients(3, 4), "coefficients||similarities", "mean")
    assert ours.item() == pytest.approx(expected, rel=1e-10)


def test_mixes_as_similar_as_they_hold_have_no_loss_and_no_gradient():
    """Mix a = its coefficients on orthonormal samples and the rest elsewhere: its cosines are the coefficients."""
    c = coefficients()
    plain = torch.eye(4, 5, dtype=torch.float64)
    mixed = torch.cat([c, (1 - c.square().sum(dim=1, keepdim=True)).sqrt()], dim=1).requires_grad_()
    loss = mixup_distance_loss(mixed, plain, c)
    loss.backward()
    assert abs(loss.item()) < 1e-15
    assert mixed.grad is not None
    assert mixed.grad.abs().max() < 1e-15


def test_the_target_is_the_softmax_of_the_coefficients():
    """Samples that all look alike: a mean divergence of 0.021 a row; of the bare coefficients it would be 0.307."""
    torch.manual_seed(0)
    alike = torch.ones(4, 2)
    drawn = [mixup_distance_loss(alike, alike, mixing_coefficients(4), reduction="batchmean") for _ in range(500)]
    assert np.mean(drawn) == pytest.approx(0.021, abs=0.0015)


def test_the_gradient_reaches_mixes_and_samples():
    mixed, plain = ([x.requires_grad_() for x in features(seed)] for seed in (0, 1))
    for direction in ("coefficients||similarities", "similarities||coefficients"):

        def loss(*x: Tensor, way: str = direction) -> Tensor:
            return mixup_distance_loss(x[:3], x[3:], coefficients(), LAYERS, way)  # type: ignore[arg-type]

        assert torch.autograd.gradcheck(loss, (*mixed, *plain), fast_mode=True)
    loss(*mixed, *plain).backward()
    for x in (mixed[1], plain[1]):
        assert x.grad is not None
        assert x.grad.abs().sum() > 0


def test_it_is_float32_under_autocast():
    mixed, plain, c = features()[0].float(), features(1)[0].float(), coefficients().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = mixup_distance_loss(mixed, plain, c)
    assert under.item() == mixup_distance_loss(mixed, plain, c).item()
    of_rough = mixup_distance_loss(mixed.bfloat16(), plain.bfloat16(), c)
    assert of_rough.dtype == torch.float32
    exact = mixup_distance_loss(mixed.bfloat16().double(), plain.bfloat16().double(), c)
    assert math.isclose(of_rough, exact, rel_tol=1e-5)


def test_unknown_conventions_are_refused():
    with pytest.raises(InputError, match="mixup direction 'similarity' is unknown"):
        mixup_distance_loss(features(), features(), coefficients(), LAYERS, "similarity")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="choose one of mean, batchmean, sum"):
        mixup_distance_loss(features(), features(), coefficients(), LAYERS, reduction="none")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["dirichlet", "gaussian", "uniform"])
def test_coefficients_are_shares(kind: Mixing):
    torch.manual_seed(0)
    drawn = mixing_coefficients(6, kind)
    assert drawn.shape == (6, 6)
    assert drawn.dtype == torch.float32
    assert drawn.min() >= 0
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(6))
    torch.manual_seed(0)
    assert torch.equal(mixing_coefficients(6, kind), drawn)
    assert not torch.equal(mixing_coefficients(6, kind), drawn)


def logistic_variance() -> float:
    """Of one of two shares, 1 / (1 + exp(y - x)) with standard normal x and y."""
    z = np.linspace(-12, 12, 20001)
    density = np.exp(-(z**2) / 4)
    return float(((1 / (1 + np.exp(-z)) - 0.5) ** 2 * density).sum() / density.sum())


@pytest.mark.parametrize(
    ("kind", "variance"), [("dirichlet", 1 / 12), ("gaussian", logistic_variance()), ("uniform", 0.75 - math.log(2))]
)
def test_kinds_differ_in_their_spread(kind: Mixing, variance: float):
    torch.manual_seed(0)
    shares = torch.stack([mixing_coefficients(2, kind)[:, 0] for _ in range(3000)])
    assert shares.var().item() == pytest.approx(variance, rel=0.06)


@pytest.mark.parametrize("concentration", [0.1, 1.0, 10.0])
def test_concentration_is_that_of_the_dirichlet_distribution(concentration: float):
    torch.manual_seed(0)
    n = 20
    drawn = torch.stack([mixing_coefficients(n, concentration=concentration) for _ in range(100)])
    assert drawn.var().item() == pytest.approx((n - 1) / n**2 / (n * concentration + 1), rel=0.05)


def test_bad_coefficients_are_refused():
    with pytest.raises(InputError, match=r"mixing kind 'gausian' is unknown \(did you mean 'gaussian'\?\)"):
        mixing_coefficients(4, "gausian")  # type: ignore[arg-type]
    for concentration in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="choose a number above 0"):
            mixing_coefficients(4, concentration=concentration)
