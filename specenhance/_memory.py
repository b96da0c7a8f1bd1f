"""Memory that is freed and needed again at once: kept by the process instead of given back."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freed_memory_kept"]

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# glibc raises both thresholds by itself, to at most these.
LARGEST_MMAP, LARGEST_TRIM = 32 * 2**20, 64 * 2**20
NEVER = 2**31 - 1
HUGE = 2**30


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let the process keep the memory that it frees while the block runs. At its end it is given back.

    Each training step on a CPU frees all that its backward pass needed. glibc gives it back to the system, and the next step
    gets it anew, page by page. What is kept may take a tenth more memory at its peak. With another C library, nothing happens.

    >>> with freed_memory_kept():
    ...     buffer = bytearray(1000)
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    if not libc.mallopt(M_MMAP_THRESHOLD, HUGE):  # an older glibc allows less
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM)
        libc.malloc_trim(0)
