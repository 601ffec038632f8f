"""What noise on two factors does to their product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drdp import _check
from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["product_error"]


def product_error(
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    *,
    left_std: float,
    right_std: float,
) -> float:
    """The expected squared error of ``left @ right`` with noise on both.

    A low-rank update is a product, and independent noise N1 on A and N2 on B
    leaves the mean of ``(A + N1)(B + N2)`` at ``A B``, with

        E ||(A + N1)(B + N2) - A B||^2
            = m s_B^2 ||A||^2 + n s_A^2 ||B||^2 + n m r s_A^2 s_B^2

    in the Frobenius norm.  The last term is quadratic in the noise variance and
    takes over where noise is large; with A frozen it is not there.

    Args:
        left: A, shape (n, r).
        right: B, shape (r, m).
        left_std: s_A, the standard deviation of the noise on each number of A.
        right_std: s_B.

    >>> import numpy as np
    >>> product_error(np.ones((1, 1)), np.ones((1, 1)), left_std=1, right_std=1)
    3.0
    """
    import numpy as np

    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise InvalidArgumentError(
            "left and right must be matrices that multiply, got shapes"
            f" {a.shape} and {b.shape}"
        )
    s_a = _check.at_least_zero(left_std=left_std) ** 2
    s_b = _check.at_least_zero(right_std=right_std) ** 2
    n, r = a.shape
    m = b.shape[1]
    of_a, of_b = float(np.square(a).sum()), float(np.square(b).sum())
    return float(m * s_b * of_a + n * s_a * of_b + n * m * r * s_a * s_b)
