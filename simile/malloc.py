"""Options of glibc's malloc, and what it holds back."""

import ctypes
import gc
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The options' numbers in malloc.h."""


def mallopt(option: int, value: int) -> bool:
    """Set the option, and return whether it was taken; another C library has none."""
    with suppress(AttributeError, OSError):
        return bool(ctypes.CDLL(None).mallopt(option, value))
    return False


def release_memory() -> None:
    """Collect reference cycles, and give what is free back to the system; not with another C library.

    What a thread has freed stays in its own arena otherwise, where no other thread can use it.
    """
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
