"""One source, two gears: plain Python for one answer, compiled for many.

Modules of kernels are written in the subset that both Python and numba run:
`math`, floats, integers, indexed buffers from `zeros`, loops.  Imported
normally they are plain Python, which answers a single question before numba
would even be imported.  `compiled` puts the same sources into one file, named
by their hash, in the user's cache directory and compiles every `@kernel`
function in it; machine code can therefore never be older than its source.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

__all__ = ["Buffer", "compiled", "gear", "is_plain", "kernel", "zeros"]

Buffer = Any
"""A list of floats in one gear, an array of them in the other."""

_F = TypeVar("_F", bound=Callable[..., Any])

_SOURCES = (
    *("moments", "nodes", "saddle", "tail", "line", "contour", "worst"),
    *("windows", "growth", "jumps", "jump_line", "parts", "rare"),
)
_COMPILED = "drdp.privacy.compiled_kernels"
_ENOUGH = 4e6
_LONG = 5.0  # seconds of compiling that call for a word
_NOTICE = "drdp: compiling its kernels, which takes some twenty seconds; {}\n"
_KEPT = "the machine code is kept for the next time"
_NOT_KEPT = "set XDG_CACHE_HOME to a directory that can be written to keep it"
_work = [0.0]
_lock = threading.Lock()
_compiled: list[ModuleType] = []


def kernel(function: _F) -> _F:
    """Mark a function that both gears can run."""
    return function


def zeros(size: int) -> Any:
    """A buffer of zeros: a list here, an array when compiled."""
    return [0.0] * size


def gear(name: str, work: float) -> ModuleType:
    """The kernel module `name`, plain or compiled, whichever is done sooner.

    `work` is the number of loop passes that the call will make.  Plain Python
    runs until most of a second's worth has been asked for in all; from then
    on, and wherever numba is imported already, the compiled gear is worth its
    start-up time.
    """
    _work[0] += work
    if _work[0] > _ENOUGH or "numba" in sys.modules:
        return compiled()
    return importlib.import_module(name)


def is_plain(module: ModuleType) -> bool:
    """Whether a gear takes lists (plain Python) rather than arrays."""
    return module.__name__ != _COMPILED


def compiled() -> ModuleType:
    """All kernels in one module, compiled by numba when first called.

    The machine code is cached in ``$XDG_CACHE_HOME/drdp`` (by default
    ``~/.cache/drdp``); where that cannot be written it is not kept.  Whoever
    waits for the compiler is told so on standard error: at once on a terminal,
    elsewhere when it takes long.
    """
    with _lock:
        if not _compiled:
            _compiled.append(_load())
        return _compiled[0]


def _load() -> ModuleType:
    import numba
    import numpy as np

    source = _amalgamated()
    path = _written(source)
    _announce(str(path), _NOT_KEPT if path is None else _KEPT)

    def jit(function: Any) -> Any:
        if path is not None:
            try:
                return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
            except RuntimeError:  # numba finds no place to keep its cache
                pass
        return numba.njit(nogil=True, error_model="numpy")(function)

    def array_zeros(size: Any) -> Any:
        return np.zeros(size)

    module = ModuleType(_COMPILED)
    module.__file__ = str(path)
    module.__dict__.update(
        math=math, kernel=jit, zeros=numba.njit(array_zeros), Buffer=Any
    )
    sys.modules[module.__name__] = module
    exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - our own source
    return module


def _announce(filename: str, advice: str) -> None:
    """Say on standard error, once, that kernels of this file are compiled."""
    from numba.core import event

    class Notice(event.Listener):
        since = 0.0
        said = False

        def on_start(self, event: Any) -> None:
            code = event.data["dispatcher"].py_func.__code__
            if self.said or code.co_filename != filename:
                return
            now = time.monotonic()
            self.since = self.since or now
            if sys.stderr.isatty() or now - self.since >= _LONG:
                self.said = True
                sys.stderr.write(_NOTICE.format(advice))

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Notice())  # type: ignore[no-untyped-call]


def _amalgamated() -> str:
    """The sources of all kernel modules as one, without their imports."""
    folder = Path(__file__).parent
    body: list[ast.stmt] = []
    names: set[str] = set()
    for name in _SOURCES:
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom | ast.Expr):
                continue
            if isinstance(node, ast.FunctionDef):
                if node.name in names:
                    raise NameError(f"two kernels are called {node.name}")
                names.add(node.name)
                # annotations mean nothing to the compiler
                node.returns = None
                for argument in node.args.args:
                    argument.annotation = None
            body.append(node)
    return ast.unparse(ast.Module(body=body, type_ignores=[])) + "\n"


def _written(source: str) -> Path | None:
    """The file that holds the source, or None where none can be kept."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = Path(home) / "drdp" / f"kernels_{digest}.py"
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == source:
            return path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.{os.getpid()}")
        scratch.write_text(source, encoding="utf-8")
        scratch.replace(path)
    except OSError:
        return None
    return path
