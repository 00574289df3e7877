"""Cross-domain distance consistency: samples stay as alike to each other as the source made them (CDC)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tenshot.losses.arithmetic import check_choice, layer_cosines, off_diagonal, row_divergence
from tenshot.losses.ddpm_pa import Direction

__all__ = ["RowReduction", "cross_domain_distance_loss"]

RowReduction = Literal["mean", "batchmean", "sum"]


def cross_domain_distance_loss(
    adapted: Sequence[Tensor],
    source: Sequence[Tensor],
    layers: Sequence[int],
    direction: Direction = "source||adapted",
    reduction: RowReduction = "mean",
) -> Tensor:
    """KL divergence between the similarities of N samples in the source's and in the adapted features (CDC, L_dist).

    Sample i has the distribution softmax over j != i of cos(F_i, F_j), F all activations of the layer drawn for i. The
    published code, the default here, averages KL(source || adapted) over the N (N - 1) pairs, which its weight of 1000
    goes with; the paper writes KL(adapted || source) and an expectation over samples, N - 1 times as much.

    Args:
        adapted: Of each layer (N, ...), of the generator that is trained. With N < 3 there is nothing to compare: the
            loss is 0.
        source: The same of the frozen generator. Taken as a constant.
        layers: N layer indices, one a sample; the code draws them with replacement from 1 on (0 is the 4 x 4 layer).
        direction: Which distribution the divergence is taken under.
        reduction: ``mean`` over pairs (the code), ``batchmean`` over samples (the paper), or their ``sum``.

    Returns:
        A scalar, at least float32, also under autocast.

    Raises:
        InputError: An unknown direction or reduction.
    """
    check_choice("cross-domain direction", direction, Direction)
    check_choice("cross-domain reduction", reduction, RowReduction)
    of_adapted = layer_cosines(adapted, adapted, layers)
    if len(of_adapted) < 2:
        return of_adapted.sum() * 0.0
    with torch.no_grad():
        of_source = layer_cosines(source, source, layers)
    of_adapted, of_source = off_diagonal(of_adapted), off_diagonal(of_source)
    first, second = (of_adapted, of_source) if direction == "adapted||source" else (of_source, of_adapted)
    return row_divergence(first, second, reduction)
