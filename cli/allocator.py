"""Keep the memory that tensors give back, instead of returning it to the system and faulting it in again."""

import ctypes
import platform

__all__ = ["keep_freed_memory"]

# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Make glibc's malloc reuse large blocks; call it once, before the first large tensor.

    By default malloc maps every block above 32 MiB afresh and trims its heap, and the system clears each page again
    when it is touched: 90 000 page faults a training step of a 25 M parameter U-Net on a CPU. Peak memory stays the
    same, and what has been freed is not given back before the process ends. On CUDA it concerns host tensors alone.

    Returns:
        Whether the setting was made: with glibc on Linux alone, elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
