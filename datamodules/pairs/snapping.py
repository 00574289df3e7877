"""Masks of drawing programs, whose edges are blended, brought back to the colours of classes."""

import numpy as np

from tenshot.datamodules.reading import ImageError

__all__ = ["snapped"]

LEAST_EXACT = 0.5
"""Of the pixels; an image with fewer in the colours of classes is no mask in them."""
_NEIGHBOURS = [(down, right) for down in (0, 1, 2) for right in (0, 1, 2) if (down, right) != (1, 1)]


def snapped(pixels: np.ndarray, colours: np.ndarray, title: str) -> tuple[np.ndarray, int]:
    """The class of each pixel, where those on the edge between two areas may be of a colour in between.

    The nearest colour alone would not do: half way between two classes may lie the colour of a third. A pixel of no
    class gets one of those beside it, of these the one whose colour is nearest, and so on until all have one.

    Args:
        pixels: uint8 (H, W, 3).
        colours: Of the classes, uint8 (K, 3).
        title: How errors name the mask.

    Returns:
        int64 (H, W), 0 … K - 1, and how many pixels had none of the colours.

    Raises:
        ImageError: Fewer than half of the pixels have one.
    """
    classes = np.full(pixels.shape[:2], -1)
    for number, colour in enumerate(colours):
        classes[(pixels == colour).all(-1)] = number
    blended = int((classes < 0).sum())
    if blended > (1 - LEAST_EXACT) * classes.size:
        raise ImageError(
            f"{title} is no mask in the colours of the palette, which {1 - blended / classes.size:.0%} of its pixels "
            "have: draw it with these",
            "mask",
        )
    table, seen = colours.astype(np.int64), pixels.astype(np.int64)
    while (rows_columns := np.nonzero(classes < 0))[0].size:
        rows, columns = rows_columns
        around = np.pad(classes, 1, constant_values=-1)
        beside = np.stack([around[rows + down, columns + right] for down, right in _NEIGHBOURS], axis=1)  # (M, 8)
        away = ((table[beside] - seen[rows, columns][:, None]) ** 2).sum(-1)
        best = np.where(beside < 0, np.iinfo(np.int64).max, away).argmin(1)
        classes[rows, columns] = beside[np.arange(len(rows)), best]
    return classes, blended
