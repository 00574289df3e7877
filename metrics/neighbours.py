"""Nearest rows, in tiles; where products in float64 cannot tell, as with copies of an image, differences decide."""

import torch
from torch import Tensor

__all__ = ["count_inside", "inside", "nearest", "radii"]

TILE = 4096  # rows and columns of a matrix of distances that are in memory at a time
ROUNDING = 1e-9  # error of a squared distance by products in float64, relative to the squared lengths; generously
PAIRS = 2**14  # whose differences are in memory at a time


def squared_distances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(m, d), (n, d)  ->  (m, n) squared distances by products, and what they may be off by."""
    lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return torch.addmm(lengths, x, y.T, alpha=-2), ROUNDING * lengths


def nearest(x: Tensor, y: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k rows of y that are nearest to each row of x; where y is x, of the others.

    Args:
        x: (m, d) float64, near the origin, where products round less.
        y: (n, d) float64, with k rows, or k + 1 where it is x.
        k: How many.

    Returns:
        (m, k) squared distances, by differences, and (m, k) indices into y; the nearest first, as products tell
    """
    distances_of, indices_of = [], []
    for start in range(0, len(x), TILE):
        own = x[start : start + TILE]
        best, which = own.new_empty(len(own), 0), torch.empty(len(own), 0, dtype=torch.int64, device=x.device)
        for first in range(0, len(y), TILE):
            distances, _ = squared_distances(own, y[first : first + TILE])
            if y is x:
                distances.diagonal(start - first).fill_(torch.inf)
            columns = torch.arange(first, first + distances.shape[1], device=x.device).expand_as(distances)
            best, which = torch.cat([best, distances], 1), torch.cat([which, columns], 1)
            best, order = best.topk(min(k, best.shape[1]), largest=False)
            which = which.gather(1, order)
        distances_of.append(torch.stack([(own - y[column]).square().sum(dim=1) for column in which.T], dim=1))
        indices_of.append(which)
    return torch.cat(distances_of), torch.cat(indices_of)


def radii(x: Tensor, k: int) -> Tensor:
    """(n, d)  ->  (n,) squared distance of each row to its k-th nearest other row."""
    return nearest(x, x, k)[0].amax(dim=1)


def inside(x: Tensor, y: Tensor, reach: Tensor) -> Tensor:
    """Which rows lie within the radius of any row of the other set, or as far.

    x: (m, d), y: (n, d), reach: (n,) squared  ->  (m,) bool
    """
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for start in range(0, len(x), TILE):
        own = x[start : start + TILE]
        within = found[start : start + TILE]
        for first in range(0, len(y), TILE):
            distances, error = squared_distances(own, y[first : first + TILE])
            beyond = distances - reach[first : first + TILE]
            within |= (beyond < -error).any(dim=1)
            unsure = (beyond.abs() <= error) & ~within[:, None]
            for pairs in unsure.nonzero().split(PAIRS):
                row, column = pairs[:, 0], pairs[:, 1] + first
                near = (own[row] - y[column]).square().sum(dim=1) <= reach[column]
                within[row[near]] = True
    return found


def count_inside(x: Tensor, y: Tensor, reach: Tensor) -> Tensor:
    """Of how many rows of the other set each row lies within the radius, nearer than it.

    x: (m, d), y: (n, d), reach: (n,) squared  ->  (m,) int64
    """
    counts = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for start in range(0, len(x), TILE):
        own = x[start : start + TILE]
        for first in range(0, len(y), TILE):
            distances, error = squared_distances(own, y[first : first + TILE])
            beyond = distances - reach[first : first + TILE]
            counts[start : start + TILE] += (beyond < -error).sum(dim=1)
            for pairs in (beyond.abs() <= error).nonzero().split(PAIRS):
                row, column = pairs[:, 0], pairs[:, 1] + first
                near = (own[row] - y[column]).square().sum(dim=1) < reach[column]
                counts[start : start + TILE].index_add_(0, row, near.long())
    return counts
