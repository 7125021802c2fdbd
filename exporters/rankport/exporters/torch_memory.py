"""Gives freed memory back to the system, where the C library would keep it for later."""

import contextlib
import ctypes
import gc


def release() -> None:
    """Collects cycles, then returns free heap pages: glibc keeps those of freed weights, which add up to a model."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # of another C library, which has no such call
        ctypes.CDLL(None).malloc_trim(0)
