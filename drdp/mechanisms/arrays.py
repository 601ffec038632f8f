"""What a contribution looks like: numpy arrays or torch tensors, alone or nested.

A contribution is one array, or a list, tuple or dict of them, nested at will.
`opened` shows it as plain numpy arrays of float32 or float64, in an order that
does not depend on how its dicts were filled; `Opened.closed` gives results the
shape, the kind and the device that went in.  Torch is never imported: a tensor
can only exist where somebody else has imported it.

The arithmetic of the mechanisms is done by numpy, in the memory of tensors that
lie there and on a copy of those that do not.  Half-precision arrays are shown
as, and come back as, float32.

>>> import numpy as np
>>> shown = opened({"b": [np.ones(2, np.float16)], "a": np.zeros((2, 1))})
>>> [array.dtype.name for array in shown.arrays], shown.names
(['float64', 'float32'], ("['a']", "['b'][0]"))
>>> shown.closed([array + 1 for array in shown.arrays])["b"]
[array([2., 2.], dtype=float32)]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Opened", "chunks", "opened"]

_CHUNK = 1 << 13  # numbers at a time: they stay in cache, and BLAS in one thread
_HALVES = ("bfloat16", "float16")


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """A contribution as a list of numpy arrays.

    Args:
        structure: What was opened.
        names: Where each array was found, such as ``['lora_A'][0]``.
        arrays: The arrays, as float32 or float64 (or integers, where these are
            wanted).  They may be the caller's own memory: never write to them.
        blocks: For each array, the number of the top-level entry it is in.
        block_count: How many top-level entries there are.
    """

    structure: Any
    names: tuple[str, ...]
    arrays: list[NDArray[Any]]
    blocks: tuple[int, ...]
    block_count: int

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes: what contributions to one sum must share."""
        return tuple(
            (name, array.shape)
            for name, array in zip(self.names, self.arrays, strict=True)
        )

    def closed(self, results: Sequence[NDArray[Any]]) -> Any:
        """Results for each array, in the structure and on the devices given.

        Dicts come back as dicts in the order of the given one.  Float64 stays in
        main memory where the device cannot hold it.
        """
        found = dict(zip(self.names, results, strict=True))
        return _rebuilt(self.structure, "", found)


def opened(value: Any, name: str = "contribution", *, integers: bool = False) -> Opened:
    """Show a contribution as numpy arrays.

    Args:
        value: An array or tensor, or a list, tuple or dict of them, nested.
        name: What error messages call it.
        integers: Whether integers are wanted, and floating-point numbers not.

    Guarantees:
        Equal structures give their arrays in the same order: lists and tuples in
        theirs, dicts by sorted keys.  Gradients are not tracked.

    Raises:
        InvalidArgumentError: If something in it is not an array, or an array of
            the wrong kind of numbers; the message says which.
    """
    found = list(_leaves(value, "", 0, name))
    return Opened(
        structure=value,
        names=tuple(path for path, _, _ in found),
        arrays=[_shown(leaf, f"{name}{path}", integers) for path, leaf, _ in found],
        blocks=tuple(block for _, _, block in found),
        block_count=len(value) if isinstance(value, Mapping | list | tuple) else 1,
    )


def chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The numbers of an array in pieces that fit the processor's cache.

    They are views of an array that is contiguous, which can be written through.
    """
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        yield flat[start : start + _CHUNK]


def _entries(value: Any, name: str) -> list[tuple[Any, Any]] | None:
    """Keys and values of a structure, in canonical order; None for a leaf."""
    if isinstance(value, Mapping):
        kinds = {type(key) for key in value}
        if not (kinds <= {str} or kinds <= {int}):
            raise InvalidArgumentError(
                f"{name} must have keys that are all strings or all whole numbers, to"
                f" be in the same order for everyone; got {list(value)!r:.80}"
            )
        return sorted(value.items(), key=lambda item: item[0])
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    return None


def _leaves(
    value: Any, path: str, block: int, name: str
) -> Iterator[tuple[str, Any, int]]:
    entries = _entries(value, name + path)
    if entries is None:
        yield path, value, block
        return
    for number, (key, entry) in enumerate(entries):
        yield from _leaves(entry, f"{path}[{key!r}]", block if path else number, name)


def _rebuilt(value: Any, path: str, found: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _rebuilt(entry, f"{path}[{key!r}]", found)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        entries = [
            _rebuilt(entry, f"{path}[{key!r}]", found)
            for key, entry in enumerate(value)
        ]
        if isinstance(value, list):
            return entries
        make = getattr(type(value), "_make", tuple)  # a named tuple keeps its names
        return make(entries)
    return _returned(value, found[path])


def _torch_of(value: Any) -> Any:
    """The torch module where `value` is a tensor, else None."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(value, torch.Tensor) else None


def _shown(value: Any, name: str, integers: bool) -> NDArray[Any]:
    torch = _torch_of(value)
    if torch is not None:
        _check_kind(str(value.dtype).removeprefix("torch."), name, integers)
        return _tensor_shown(torch, value, name)
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidArgumentError(
            f"{name} must be a plain array, got a masked one; fill it first"
        )
    if not isinstance(value, np.ndarray | np.generic):
        raise InvalidArgumentError(
            f"{name} must be a numpy array or torch tensor, or a list, tuple or dict"
            f" of them; got {type(value).__name__}"
        )
    array = np.asarray(value)
    _check_kind(array.dtype.name, name, integers)
    if integers:
        return array
    wanted = np.float32 if array.dtype.itemsize <= 4 else np.float64
    with np.errstate(over="ignore"):  # of a longdouble: an infinity, dealt with later
        return array.astype(wanted, copy=False)


def _tensor_shown(torch: Any, value: Any, name: str) -> NDArray[Any]:
    if value.layout is not torch.strided or value.is_meta:
        raise InvalidArgumentError(
            f"{name} must be a dense tensor with data, got layout {value.layout}"
            f" on {value.device}; use to_dense()"
        )
    tensor = value.detach()
    if tensor.is_floating_point() and tensor.dtype is not torch.float64:
        tensor = tensor.to(torch.float32)
    found: NDArray[Any] = tensor.resolve_neg().cpu().numpy()
    return found


def _check_kind(dtype: str, name: str, integers: bool) -> None:
    kind = dtype.rstrip("0123456789")
    if integers:
        if kind not in {"int", "uint"}:
            raise InvalidArgumentError(
                f"{name} must hold integers, got {dtype}; use a mechanism for"
                " floating-point numbers"
            )
    elif kind in {"int", "uint", "bool"}:
        raise InvalidArgumentError(
            f"{name} must hold floating-point numbers, got {dtype}, which would cut the"
            " noise off; use a discrete mechanism, or convert it to float32"
        )
    elif kind not in {"float", "longdouble"} and dtype not in _HALVES:
        raise InvalidArgumentError(
            f"{name} must hold real floating-point numbers of at least 16 bits,"
            f" got {dtype}; convert it to float32"
        )


def _returned(like: Any, result: NDArray[Any]) -> Any:
    torch = _torch_of(like)
    if torch is None:
        return np.asarray(result)
    tensor = torch.from_numpy(np.ascontiguousarray(result).reshape(result.shape))
    if like.device.type == "mps" and tensor.dtype is torch.float64:
        return tensor
    return tensor.to(like.device)
