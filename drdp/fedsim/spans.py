"""What the span of a released matrix gives away: tokens of a gradient, training data.

A linear layer's gradient is a sum of outer products with the layer's inputs, so
that each input lies in the span of its rows.  With discrete inputs an attacker
only has to test which candidates do (DAGER).  A fitted linear decoder spans what
it was fitted on in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.protocol import Compressor

__all__ = ["decoder_rows", "distances", "telling"]

_NUMERICAL_RANK = 1e-5  # of the largest singular value, in float32


def distances(
    matrix: NDArray[np.floating],
    candidates: NDArray[np.floating],
    *,
    rank: int | None = None,
) -> NDArray[np.float64]:
    """How far each candidate lies from the span of a matrix's rows, relative to it.

    Args:
        matrix: Shape (rows, n), for instance the gradient of a LoRA matrix.
        candidates: Shape (candidates, n).
        rank: How many of the strongest directions to keep; by default all that
            stand out from rounding.  An attacker on a noised matrix keeps few.

    Returns:
        0 in the span, 1 at right angles to it, 1 also for a candidate that is
        zero and adds nothing; shape (candidates,).

    Raises:
        InvalidArgumentError: If the shapes do not fit.

    References: Petrov et al., DAGER, arXiv:2405.15586.

    >>> import numpy as np
    >>> rows = np.array([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
    >>> distances(rows, np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 2.0]])).round(6).tolist()
    [0.0, 1.0]
    """
    import numpy as np

    if matrix.ndim != 2 or candidates.shape[1:] != matrix.shape[1:]:
        raise InvalidArgumentError(
            f"candidates must have rows as long as those of matrix, got shapes"
            f" {candidates.shape} and {matrix.shape}"
        )
    _, sizes, axes = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    kept = int(np.count_nonzero(sizes > _NUMERICAL_RANK * max(sizes[0], 1e-300)))
    axes = axes[: kept if rank is None else min(rank, kept)]
    wide = candidates.astype(np.float64)
    rest = wide - (wide @ axes.T) @ axes
    left, whole = np.linalg.norm(rest, axis=1), np.linalg.norm(wide, axis=1)
    shares = left / np.where(whole > 0.0, whole, 1.0)
    return np.asarray(np.where(whole > 0.0, shares, 1.0), dtype=np.float64)


def telling(far: NDArray[np.float64], there: NDArray[np.bool_]) -> float:
    """How well distances tell what was there: 1 perfectly, 1/2 not at all.

    The probability that something that was there is nearer than something that
    was not (the area under the ROC curve).

    >>> import numpy as np
    >>> telling(np.array([0.0, 0.9, 0.2]), np.array([True, False, True]))
    1.0
    """
    import numpy as np

    near, wide = far[there], far[~there]
    if len(near) == 0 or len(wide) == 0:
        raise InvalidArgumentError("there must be true somewhere and false elsewhere")
    gaps = wide[:, None] - near[None, :]
    return float(np.mean((gaps > 0.0) + 0.5 * (gaps == 0.0)))


def decoder_rows(codec: Compressor) -> NDArray[np.float64]:
    """What a linear decoder can make: one row per number of a code.

    Raises:
        InvalidArgumentError: If the decoder is not known to be linear.
    """
    import numpy as np

    if not getattr(codec, "linear_decode", False):
        raise InvalidArgumentError(
            "codec must have a linear decoder for its span to say what it can make"
        )
    units = np.eye(codec.code_length)
    return np.stack([np.asarray(codec.decode(unit), np.float64) for unit in units])
