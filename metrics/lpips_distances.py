"""Distances of many pictures from rows that were computed once for each: to targets, and within a set.

LPIPS is ``|u(x) - u(y)|²`` of rows u (:mod:`tenshot.models.features.lpips`). So distances to targets are a matrix
product, and the mean over all pairs of a set needs no pairs at all: it is twice the unbiased variance of the rows.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tenshot.metrics.lpips_rows import HELD_BYTES, EmbeddedPictures
from tenshot.models.features.lpips import Rows, distances

__all__ = ["Spread", "Targets", "target_distances"]

COLUMNS = 65536
"""Of the rows that are multiplied at a time: longer sums of float32 lose what the distances differ by."""

SLACK = 1e-5
"""Error of a distance by products, in squared lengths of the rows: ten times what is seen."""


class Targets:
    """Pictures to which distances are wanted.

    Args:
        rows: (k, D_l) for each tap; changed in place.
    """

    def __init__(self, rows: Rows) -> None:
        self.centre = [tap.mean(dim=0) for tap in rows]
        self.rows = [tap.sub_(centre) for tap, centre in zip(rows, self.centre, strict=True)]

    def distances(self, rows: Rows) -> Tensor:
        """From each row to each target; exact, not only close, where it is the least of its row or column.

        The products are of centred rows, in blocks of columns, summed in float64: |a - b|² = |a|² + |b|² - 2 ab loses
        few digits where rows lie round 0. Among near-copies it does: so whatever may be nearest is subtracted.

        rows: (n, D_l) for each tap  ->  (n, k) float64, on the CPU
        """
        rows = [tap - centre for tap, centre in zip(rows, self.centre, strict=True)]
        products, lengths, own = [], [], []
        for tap, target in zip(rows, self.rows, strict=True):
            for a, b in zip(tap.split(COLUMNS, dim=1), target.split(COLUMNS, dim=1), strict=True):
                products.append(a @ b.T)
                own.append(a.square().sum(dim=1))
                lengths.append(b.square().sum(dim=1))
        product, a, b = (torch.stack(parts).cpu().double().sum(dim=0) for parts in (products, own, lengths))
        scale = a[:, None] + b
        found = scale - 2 * product
        slack = SLACK * scale
        nearest = (found <= found.amin(1, keepdim=True) + slack) | (found <= found.amin(0, keepdim=True) + slack)
        for some in nearest.nonzero().split(max(4, len(found))):
            i, j = some.unbind(dim=1)
            found[i, j] = distances([tap[i] for tap in rows], [tap[j] for tap in self.rows]).cpu().double()
        return found.clamp_(min=0)


def target_distances(pictures: EmbeddedPictures, indices: Tensor, targets: EmbeddedPictures) -> Tensor:
    """LPIPS of some pictures to all targets, both embedded in a stream.

    Targets whose rows do not fit into ``HELD_BYTES`` are taken in blocks, and the pictures go through the trunk for
    each block.

    Args:
        indices: (n,) numbers of pictures.

    Returns:
        (n, k) float64; exact where a distance is the least of its picture or of its target.
    """
    every = torch.arange(len(targets.pixels))
    first = targets.rows(every[:1])
    block = max(1, HELD_BYTES // sum(tap.nbytes for tap in first))
    found = torch.empty(len(indices), len(every), dtype=torch.float64)
    for js in every.split(block):
        parts = [targets.rows(some) for some in targets.batches(js)]
        wanted = Targets([torch.cat(taps) for taps in zip(*parts, strict=True)])
        done = 0
        for some in pictures.batches(indices):
            found[done : done + len(some), js] = wanted.distances(pictures.rows(some))
            done += len(some)
    return found


class Spread:
    """The mean LPIPS over all pairs of a set whose rows come in batches; it holds one row.

    mean_{i<j} |u_i - u_j|² = 2 sum_i |u_i - mean|² / (n - 1), updated as Chan, Golub and LeVeque (1979) do.
    """

    def __init__(self) -> None:
        self.count = 0
        self.scatter = 0.0
        self.mean = torch.empty(0)  # all taps in a row

    def add(self, rows: Rows) -> None:
        """Add pictures: (n, D_l) for each tap."""
        count = len(rows[0])
        centres = [tap.mean(dim=0) for tap in rows]
        parts = [(tap - centre).square_().sum() for tap, centre in zip(rows, centres, strict=True)]
        centre = torch.cat(centres)
        if self.count:
            shift = centre.sub_(self.mean)
            parts.append(shift.square().sum() * (self.count * count / (self.count + count)))
            self.mean.add_(shift, alpha=count / (self.count + count))
        else:
            self.mean = centre
        self.count += count
        self.scatter += math.fsum(torch.stack(parts).tolist())

    def mean_distance(self, total: Callable[[Tensor], Tensor] = lambda mine: mine) -> float:
        """The mean over pairs, NaN for fewer than two pictures.

        Args:
            total: The sum of a tensor over ranks, if each holds a part of the set; an empty one counts as zero.
        """
        count = int(total(torch.tensor(self.count)))
        if count < 2:
            return math.nan
        mean = total(self.mean * (self.count / count))
        between = self.count * float((self.mean - mean).square().sum()) if self.count else 0.0
        scatter = total(torch.tensor(self.scatter + between, dtype=torch.float64))
        return 2 * float(scatter) / (count - 1)
