"""One flat vector of finite numbers, checked at the door."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["flat", "rows"]


def flat(length: int | None = None, **named: Any) -> NDArray[np.float64]:
    """A float64 vector of `length` finite numbers.

    Args:
        length: Of the vector; any length where None.
        **named: The vector, under the name that the message uses.

    Returns:
        A float64 array of shape (length,), the argument itself where it is one.

    Raises:
        InvalidArgumentError: If it is anything else, NaN and infinity included.

    >>> flat(2, update=[1, 2.5]).tolist()
    [1.0, 2.5]
    """
    import numpy as np

    return _checked(length, **named).astype(np.float64, copy=False)


def _checked(length: int | None = None, **named: Any) -> NDArray[Any]:
    """The same in its own type."""
    import numpy as np

    ((name, value),) = named.items()
    array: NDArray[Any] = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.ndim != 1:
        raise InvalidArgumentError(
            f"{name} must be a flat vector of numbers, got"
            f" {array.dtype} of shape {array.shape}"
        )
    if length is not None and len(array) != length:
        raise InvalidArgumentError(
            f"{name} must have length {length}, got {len(array)}: it does not"
            " belong to this codec"
        )
    if not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise InvalidArgumentError(
            f"{name} must be finite, got {bad} NaN or infinite of {len(array)}"
            " numbers: its training diverged, lower the learning rate"
        )
    return array


def rows(samples: Iterable[Any], length: int | None = None) -> NDArray[np.float32]:
    """Flat vectors as the rows of one float32 matrix.

    Args:
        samples: At least one vector; all of one length.
        length: That length, where it is known.

    Returns:
        Shape (number of samples, length), a copy.
    """
    import numpy as np

    found: list[NDArray[np.float32]] = []
    for sample in samples:
        vector = _checked(length, sample=sample)
        length = len(vector)
        found.append(vector.astype(np.float32))
    if not found:
        raise InvalidArgumentError("samples must hold at least one update, got none")
    matrix = np.empty((len(found), len(found[0])), dtype=np.float32)
    for place in reversed(range(len(found))):
        matrix[place] = found.pop()  # so that there are never two copies of all
    return matrix
