"""Mixup-based distance learning: a mix of samples resembles them as much as it holds of them (MixDL)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Dirichlet

from tenshot.errors import InputError
from tenshot.losses.arithmetic import check_choice, layer_cosines, row_divergence
from tenshot.losses.cross_domain import RowReduction

__all__ = ["Mixing", "MixupDirection", "mixing_coefficients", "mixup_distance_loss"]

Mixing = Literal["dirichlet", "gaussian", "uniform"]
MixupDirection = Literal["coefficients||similarities", "similarities||coefficients"]


def mixing_coefficients(
    n: int, kind: Mixing = "dirichlet", concentration: float = 1.0, device: torch.device | str | None = None
) -> Tensor:
    """Draw how much each of n mixes holds of each of n samples.

    Args:
        n: Samples, and mixes.
        kind: ``dirichlet`` (MixDL's choice), ``gaussian``: softmax of standard normal numbers, ``uniform``: numbers
            from U(0, 1) over their sum.
        concentration: Of the Dirichlet distribution, alike for all samples: below 1 one sample dominates, above 1 mixes
            come near the mean.
        device: Where they are drawn.

    Returns:
        (n, n) float32, not negative, rows sum to 1.

    Raises:
        InputError: An unknown kind; a concentration that is not above 0.
    """
    check_choice("mixing kind", kind, Mixing)
    if not concentration > 0:
        raise InputError(f"mixing concentration is {concentration}: choose a number above 0")
    if kind == "dirichlet":
        alike = torch.full((n,), concentration, dtype=torch.float32, device=device)
        return Dirichlet(alike, validate_args=False).sample((n,))  # validation waits for the device
    if kind == "gaussian":
        return torch.randn(n, n, device=device, dtype=torch.float32).softmax(dim=1)
    drawn = torch.rand(n, n, device=device, dtype=torch.float32)
    return drawn / drawn.sum(dim=1, keepdim=True)


def mixup_distance_loss(
    mixed: Tensor | Sequence[Tensor],
    plain: Tensor | Sequence[Tensor],
    coefficients: Tensor,
    layers: Sequence[int] | None = None,
    direction: MixupDirection = "coefficients||similarities",
    reduction: RowReduction = "mean",
) -> Tensor:
    """KL divergence between the mixing coefficients and the similarities of A mixes to N samples (MixDL, L_dist).

    Mix a has the distribution softmax over all i of cos(F_a, F_i), and should have the softmax of its coefficients (not
    the coefficients, which would be far sharper than cosines can be). The published code, the default here, averages
    KL(coefficients || similarities) over the A N pairs, which its weights of 1000 in the generator and 1 in the
    discriminator go with; the paper writes the other direction and an expectation over mixes, N times as much.

    Args:
        mixed: (A, ...) features of the mixes, any shape; with ``layers``, one such tensor a layer.
        plain: (N, ...) features of the samples, likewise. Gradients reach both.
        coefficients: (A, N) rows that sum to 1. Taken as constants.
        layers: A layer indices, one a mix, for features of many layers.
        direction: Which distribution the divergence is taken under.
        reduction: ``mean`` over pairs (the code), ``batchmean`` over mixes (the paper), or their ``sum``.

    Returns:
        A scalar, at least float32, also under autocast.

    Raises:
        InputError: An unknown direction or reduction.
    """
    check_choice("mixup direction", direction, MixupDirection)
    check_choice("mixup reduction", reduction, RowReduction)
    if layers is None and isinstance(mixed, Tensor) and isinstance(plain, Tensor):
        mixed, plain, layers = [mixed], [plain], [0] * len(mixed)
    assert layers is not None, "features of many layers need a layer for each mix"
    similarities = layer_cosines(mixed, plain, layers)  # (A, N)
    target = coefficients.detach().to(similarities)
    first, second = (similarities, target) if direction.startswith("similarities") else (target, similarities)
    return row_divergence(first, second, reduction)
