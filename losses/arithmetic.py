"""What losses are computed with: their precision, cosines of images, and the divergence of softmax rows."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from tenshot.errors import InputError, did_you_mean

__all__ = ["check_choice", "full_precision", "layer_cosines", "off_diagonal", "row_divergence"]


def full_precision(x: Tensor) -> Tensor:
    """float64 as it is, anything shorter as float32."""
    return x if x.dtype == torch.float64 else x.float()


def check_choice(option: str, value: str, literal: object) -> None:
    """Refuse a value that ``literal``, a ``typing.Literal``, does not list.

    Raises:
        InputError: It does not.
    """
    choices = get_args(literal)
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise InputError(f"{option} {value!r} is unknown{hint}; choose one of {', '.join(choices)}")


def layer_cosines(
    anchors: Tensor | Sequence[Tensor], others: Tensor | Sequence[Tensor], layers: Sequence[int]
) -> Tensor:
    """Cosines of each anchor with all others, at the anchor's own layer.

    Only the layers that were drawn are touched, a row at a time: the last one at 256 px has 8.4 M numbers an image.

    Args:
        anchors: Of each layer (A, ...), any shape; a list of them or a stack.
        others: Of each layer (N, ...), the same shape.
        layers: A indices, one an anchor.

    Returns:
        (A, N), at least float32, also under autocast.
    """
    return torch.stack([_cosines(anchors[layer][a], others[layer]) for a, layer in enumerate(layers)])


def _cosines(anchor: Tensor, others: Tensor) -> Tensor:
    """(...) with (N, ...) -> (N,)"""
    anchor, others = full_precision(anchor).flatten(), full_precision(others).flatten(1)
    with torch.autocast(others.device.type, enabled=False):
        return others @ anchor / (others.norm(dim=1) * anchor.norm()).clamp_min(1e-8)


def off_diagonal(square: Tensor) -> Tensor:
    """All but the diagonal: (N, N) -> (N, N - 1)."""
    n = len(square)
    return square.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def row_divergence(first: Tensor, second: Tensor, reduction: str) -> Tensor:
    """KL(first || second) of the softmax of each row.

    Args:
        first: (A, N) logits.
        second: (A, N) logits.
        reduction: ``sum``, ``batchmean`` over the A rows, or ``mean`` over all A N terms.

    Returns:
        A scalar.
    """
    log_p, log_q = first.log_softmax(dim=1), second.log_softmax(dim=1)
    terms = log_p.exp() * (log_p - log_q)
    if reduction == "mean":
        return terms.mean()
    return terms.sum() if reduction == "sum" else terms.sum() / len(terms)
