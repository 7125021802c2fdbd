"""The C library's heap in a training: what torch frees is kept for the next step."""

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Has glibc keep what is freed: it maps each large tensor anew otherwise, and the kernel clears its pages again."""
    with contextlib.suppress(AttributeError, OSError):  # of another C library, which has no such call
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
