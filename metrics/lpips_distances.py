"""Distances of many images from rows that were computed once for each: to targets, and within a set.

LPIPS is ``|u(x) - u(y)|²`` of rows u (:mod:`tenshot.models.features.lpips`). So distances to targets are a matrix
product, and the mean over all pairs of a set needs no pairs at all: it is twice the unbiased variance of the rows.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tenshot.metrics.lpips_rows import RowSource
from tenshot.models.features.embedding import Rows, distances

__all__ = ["Spread", "Targets", "target_distances"]

COLUMNS = 65536
"""Of the rows that are multiplied at a time: longer sums of float32 lose what the distances differ by."""

TARGET_BYTES = 2**30
"""Room for rows of targets: 500 at 64 px, 32 at 256 px (trunk vgg)."""

SLACK = 1e-5
"""Error of a distance by products, in squared lengths of the rows: ten times what is seen."""

CLOSE = 0.01
"""Distances less than this, in squared lengths of the rows, lose digits that count."""


class Targets:
    """Images to which distances are wanted.

    Args:
        rows: (k, D_l) for each tap; changed in place.
    """

    def __init__(self, rows: Rows) -> None:
        self.centre = [tap.mean(dim=0) for tap in rows]
        self.rows = [tap.sub_(centre) for tap, centre in zip(rows, self.centre, strict=True)]
        self.lengths = _squared_lengths(self.rows)

    def distances(self, rows: Rows) -> Tensor:
        """From each row to each target.

        By products of the centred rows, in blocks of columns, summed in float64: |a - b|² = |a|² + |b|² - 2 ab. That
        loses digits between near-copies, and cannot tell equal targets: there the rows themselves are subtracted. So
        copies are at 0, and the first of a row's least distances is the first of equal targets.

        rows: (n, D_l) for each tap  ->  (n, k) float64, on the CPU
        """
        rows = [tap - centre for tap, centre in zip(rows, self.centre, strict=True)]
        products = [
            a @ b.T
            for tap, target in zip(rows, self.rows, strict=True)
            for a, b in zip(tap.split(COLUMNS, dim=1), target.split(COLUMNS, dim=1), strict=True)
        ]
        scale = _squared_lengths(rows)[:, None] + self.lengths
        found = scale - 2 * _total(products)
        least = found <= found.amin(dim=1, keepdim=True) + SLACK * scale
        doubtful = (least & (least.sum(dim=1, keepdim=True) > 1)) | (found < CLOSE * scale)
        for some in doubtful.nonzero().split(max(4, len(found))):
            i, j = some.unbind(dim=1)
            found[i, j] = distances([tap[i] for tap in rows], [tap[j] for tap in self.rows]).cpu().double()
        return found.clamp_(min=0)


def _squared_lengths(rows: Rows) -> Tensor:
    """(n, D_l) for each tap  ->  (n,) float64"""
    return _total([part.square().sum(dim=1) for tap in rows for part in tap.split(COLUMNS, dim=1)])


def _total(parts: list[Tensor]) -> Tensor:
    """The sum of equal float32 tensors, in float64, which some accelerators lack: on the CPU."""
    return torch.stack(parts).cpu().double().sum(dim=0)


def target_distances(images: RowSource, indices: Tensor, targets: RowSource) -> Tensor:
    """LPIPS of some images to all targets, in a stream.

    Where there are more targets than ``TARGET_BYTES`` of rows, the images go through the trunk again for each block
    of them, unless they are held.

    Args:
        indices: (n,) numbers of images.

    Returns:
        (n, k) float64, on the CPU
    """
    found = torch.empty(len(indices), len(targets), dtype=torch.float64)
    for columns, block in _blocks(targets):
        done = 0
        for some in images.batches(indices):
            found[done : done + len(some), columns] = block.distances(images.rows(some))
            done += len(some)
    return found


def _blocks(targets: RowSource) -> Iterator[tuple[slice, Targets]]:
    """All targets, as many at a time as there is room for; and which they are."""
    parts: list[Rows] = []
    start = held = stop = 0
    for some in targets.batches(torch.arange(len(targets))):
        parts.append(targets.rows(some))
        stop += len(some)
        held += sum(tap.nbytes for tap in parts[-1])
        if held >= TARGET_BYTES or stop == len(targets):
            yield slice(start, stop), Targets([torch.cat(taps) for taps in zip(*parts, strict=True)])
            start, held, parts = stop, 0, []


class Spread:
    """The mean LPIPS over all pairs of a set whose rows come in batches; it holds one row.

    mean_{i<j} |u_i - u_j|² = 2 sum_i |u_i - mean|² / (n - 1), updated as Chan, Golub and LeVeque (1979) do.
    """

    def __init__(self) -> None:
        self.count = 0
        self.scatter = 0.0
        self.mean = torch.empty(0)  # all taps in a row

    def add(self, rows: Rows) -> None:
        """Add images: (n, D_l) for each tap."""
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
        """The mean over pairs, NaN for fewer than two images.

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
