"""One source, two gears: plain Python for one answer, compiled for many.

Modules of kernels are written in the subset that both Python and numba run:
`math`, floats, integers, indexed buffers from `zeros`, loops.  Imported
normally they are plain Python, which answers a single question before numba
would even be imported.  `compiled` loads the same source once more with every
`@kernel` function compiled and cached on disk.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

__all__ = ["Buffer", "compiled", "gear", "kernel", "zeros"]

Buffer = Any
"""A list of floats in one gear, an array of them in the other."""

_F = TypeVar("_F", bound=Callable[..., Any])

_gear: Callable[[Any], Any] | None = None


def kernel(function: _F) -> _F:
    """Mark a function that both gears can run."""
    if _gear is None:
        function.is_kernel = True  # type: ignore[attr-defined]
        return function
    return _gear(function)  # type: ignore[no-any-return]


def zeros(size: int) -> Any:
    """A buffer of zeros: a list here, an array when compiled."""
    return [0.0] * size


_ENOUGH = 3e6
_work = [0.0]


def gear(name: str, work: float) -> ModuleType:
    """The kernel module `name`, plain or compiled, whichever is done sooner.

    `work` is the number of loop passes that the call will make.  Plain Python
    runs until about a second's worth has been asked for in all; from then on,
    and wherever numba is imported already, the compiled gear is worth its
    start-up time.
    """
    _work[0] += work
    if _work[0] > _ENOUGH or "numba" in sys.modules:
        return compiled(name)
    return importlib.import_module(name)


@cache
def compiled(name: str) -> ModuleType:
    """The kernel module `name` with its functions compiled by numba.

    The machine code is cached next to the source, or in the user's cache
    directory where the installation is read-only, or nowhere where neither can
    be written.
    """
    import numba
    import numpy as np

    def array_zeros(size: Any) -> Any:
        return np.zeros(size)

    def jit(function: Any) -> Any:
        try:
            return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
        except RuntimeError:  # no place to keep the cache
            return numba.njit(nogil=True, error_model="numpy")(function)

    with _loading:
        return _load(name, jit, numba.njit(array_zeros))


_loading = threading.RLock()


def _load(name: str, jit: Callable[[Any], Any], buffer: Any) -> ModuleType:
    """Execute a kernel module's source with `kernel` and `zeros` swapped.

    The kernel modules that it imports are compiled first and stand in for
    their plain selves while it loads.
    """
    global _gear, zeros
    plain = importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(f"{name}__compiled", plain.__file__)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no source for the kernel module {name}")
    needed = {
        value.__module__
        for value in vars(plain).values()
        if getattr(value, "__module__", name) != name
        and getattr(value, "is_kernel", False)
    }
    inner = {other: compiled(other) for other in needed}
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    own = {other: sys.modules[other] for other in needed}
    keep = zeros
    _gear, zeros = jit, buffer
    sys.modules.update(inner)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules.update(own)
        _gear, zeros = None, keep
    return module
