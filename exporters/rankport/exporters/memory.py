"""Gives freed memory back to the system, where the C library would keep it for later."""

import ctypes
import gc


def release() -> None:
    """Collects cycles, then returns free heap pages: glibc keeps those of freed weights, which add up to a model."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass  # another C library: nothing to do
