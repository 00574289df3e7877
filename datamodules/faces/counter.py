"""Random numbers that are a function of position: no generator, no state, no order of drawing."""

from zlib import crc32

import numpy as np
import torch
from torch import Tensor

__all__ = ["hash_keys", "lattice", "uniform"]

_WORD = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(z: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that scatters their bits."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _chain(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Hash each counter under its key; both uint64, broadcast."""
    return _mix(_mix(keys + np.uint64(_GOLDEN)) ^ (counters * np.uint64(_GOLDEN)))


def _to_unit(words: np.ndarray) -> Tensor:
    """The upper 24 bits of each word as a float32 in [0, 1): every value is exact."""
    return torch.from_numpy((words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24))


def hash_keys(seed: int, indices: Tensor, name: str) -> np.ndarray:
    """One 64-bit word for each image and each name of an attribute.

    indices: int64 (N,)  ->  uint64 (N,), a function of (seed, index, name) alone
    """
    stream = np.array([seed & _WORD], dtype=np.uint64)
    stream = _chain(stream, np.array([crc32(name.encode())], dtype=np.uint64))
    return _chain(stream, indices.numpy().astype(np.uint64))


def uniform(seed: int, indices: Tensor, name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
    """One uniform number in [low, high) for each image: int64 (N,)  ->  float32 (N,)."""
    return low + (high - low) * _to_unit(hash_keys(seed, indices, name))


def lattice(keys: Tensor, rows: int, columns: int, layer: int) -> Tensor:
    """A table of uniform numbers for each image, the nodes of a value noise.

    keys: int64 (N,)  ->  float32 (N, rows, columns) in [0, 1); ``layer`` tells tables of one image apart
    """
    cells = np.arange(rows * columns, dtype=np.uint64) + np.uint64(layer << 32)
    words = _chain(keys.numpy().view(np.uint64)[:, None], cells[None])
    return _to_unit(words).view(len(keys), rows, columns)
