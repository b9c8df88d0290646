"""Options of glibc's malloc."""

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The options' numbers in malloc.h."""


def mallopt(option: int, value: int) -> bool:
    """Set the option, and return whether it was taken; another C library has none."""
    with suppress(AttributeError, OSError):
        return bool(ctypes.CDLL(None).mallopt(option, value))
    return False
