"""Giving memory that was freed back to the system.

An allocator keeps what is freed in small pieces for its next use.  After a stage
that needed a lot of it, such as fitting a codec, there may be no such use.
"""

from __future__ import annotations

import ctypes
import gc
import sys

__all__ = ["give_back"]


def give_back() -> bool:
    """Give freed memory back where the C library can: glibc's ``malloc_trim``.

    Returns:
        Whether any was given back; elsewhere than on Linux with glibc, never.

    >>> give_back() in (True, False)
    True
    """
    gc.collect()
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    return trim is not None and bool(trim(0))
