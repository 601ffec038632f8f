"""Public randomness: the same draws from the same seed for everyone.

The draws come from raw words of PCG64, whose stream numpy keeps fixed between
versions, so that a client and a server with different versions agree.  Public
means public: nothing here hides anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["buckets", "signs", "subset", "uniform", "words"]


def words(count: int, *key: int) -> NDArray[np.uint64]:
    """`count` words of 64 bits; different keys give independent streams."""
    import numpy as np

    source = np.random.PCG64(np.random.SeedSequence(key))
    drawn: NDArray[np.uint64] = source.random_raw(count)
    return drawn


def signs(count: int, *key: int) -> NDArray[np.int8]:
    """`count` fair signs, +1 or -1."""
    import numpy as np

    packed = words(-(-count // 64), *key).astype("<u8").view(np.uint8)
    bits = np.unpackbits(packed, count=count)
    return (1 - 2 * bits.astype(np.int8)).astype(np.int8)


def subset(population: int, size: int, *key: int) -> NDArray[np.int64]:
    """A uniform subset of `size` of the first `population` numbers, sorted."""
    import numpy as np

    order = np.argsort(words(population, *key), kind="stable")
    return np.sort(order[:size])


def buckets(count: int, number: int, *key: int) -> NDArray[np.int64]:
    """`count` buckets, each uniform over `number` (bias below number / 2^64)."""
    import numpy as np

    return (words(count, *key) % np.uint64(number)).astype(np.int64)


def uniform(count: int, *key: int) -> NDArray[np.float64]:
    """`count` numbers uniform in [0, 1)."""
    import numpy as np

    whole = (words(count, *key) >> np.uint64(11)).astype(np.float64)
    return whole * np.float64(2.0**-53)
