"""The subspace that public updates span best."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.compression import storage
from drdp.compression.flat import flat, rows
from drdp.compression.source import Source
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Pca", "fit_pca"]

_CHUNK = 1 << 16  # columns that are worked on in float64 at a time


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pca:
    """Projection onto fixed orthonormal directions; make one with `fit_pca`.

    Args:
        basis: The directions, shape (code_length, update_length), float32,
            orthonormal rows.
        source: Where the updates they were fitted on came from.
        energy: Share of the fitted updates' energy that the first i + 1
            directions keep, shape (code_length,).

    Guarantees:
        ``||encode(x)|| <= ||x||`` to float32 rounding, so clipping on either
        side of `encode` bounds the code.
    """

    basis: NDArray[np.float32]
    source: Source
    energy: NDArray[np.float64]

    @property
    def event(self) -> Event:
        """What the updates it was fitted on released."""
        return self.source.event

    @property
    def update_length(self) -> int:
        """Length of an update."""
        return int(self.basis.shape[1])

    @property
    def code_length(self) -> int:
        """Length of a code."""
        return int(self.basis.shape[0])

    @property
    def expansion(self) -> float:
        """1: a projection lengthens nothing."""
        return 1.0

    @property
    def linear_decode(self) -> bool:
        """True."""
        return True

    @property
    def noise_gain(self) -> float:
        """sqrt(code_length)."""
        return math.sqrt(self.code_length)

    @property
    def message_bits(self) -> int:
        """32 for each number."""
        return 32 * self.code_length

    def encode(self, update: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inner products with the directions, their parts summed in float64."""
        import numpy as np

        vector = flat(self.update_length, update=update).astype(np.float32)
        code = np.zeros(self.code_length)
        for start in range(0, self.update_length, _CHUNK):
            part = slice(start, start + _CHUNK)
            code += self.basis[:, part] @ vector[part]
        return code.astype(np.float32)

    def decode(self, code: NDArray[np.float64]) -> NDArray[np.float32]:
        """The sum of the directions, weighted by the code."""
        import numpy as np

        weights = flat(self.code_length, code=code).astype(np.float32)
        return np.asarray(weights @ self.basis, dtype=np.float32)

    def shortened(self, code_length: int) -> Pca:
        """Its first `code_length` directions: what a smaller fit would give."""
        length = _check.count(least=1, code_length=code_length)
        if length > self.code_length:
            raise InvalidArgumentError(
                f"code_length must be at most {self.code_length}, got {length}"
            )
        return Pca(self.basis[:length], self.source, self.energy[:length])

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write it to a safetensors file; returns the checksum."""
        facts = {
            "source": storage.source_to(self.source),
            "energy": self.energy.tolist(),
        }
        return storage.save(path, "pca", {"basis": self.basis}, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Pca:
        """Read what `save` wrote."""
        import numpy as np

        tensors, facts = storage.load(path, "pca")
        source = storage.source_from(facts["source"])
        return cls(tensors["basis"], source, np.array(facts["energy"]))


def fit_pca(
    samples: Iterable[Any],
    code_length: int,
    *,
    source: Source,
    mean_first: bool = True,
) -> Pca:
    """Fit the subspace of `code_length` dimensions that keeps most of updates.

    Args:
        samples: n flat updates of one length d; read once.
        code_length: k, at most the rank of the samples.
        source: Where the samples came from; states the event.  With anything but
            public data the directions themselves are a release.
        mean_first: Whether the first direction is the samples' mean and the
            others are the principal ones of what is left beside it.  Averages
            over a cohort lie close to the mean of updates, so that one direction
            serves them best; without it, the directions are those of the
            uncentred samples.

    Returns:
        The codec.  The singular vectors come from the n x n Gram matrix, summed
        in float64, in O(n^2 d) time and some ``4 d (n + 2 k)`` bytes, and are
        made orthonormal once more in float64 before they are stored.

    Raises:
        InvalidArgumentError: If the samples span fewer than k dimensions.

    >>> codec = fit_pca([[3.0, 0.0, 0.0], [3.0, 1.0, 0.0]], 2,
    ...                 source=Source("public"))
    >>> codec.decode(codec.encode([1.0, 2.0, 5.0])).round(3).tolist()
    [1.0, 2.0, 0.0]
    """
    import numpy as np

    wanted = _check.count(least=1, code_length=code_length)
    found = rows(samples)
    gram = _gram(found)
    total = float(np.trace(gram))
    mixes = _mixes(gram, wanted, mean_first=mean_first)
    basis = _combined(mixes, found)
    # The Gram matrix squares the condition; a second pass mends what it lost.
    triangle = np.linalg.cholesky(_gram(basis))
    basis = _combined(np.linalg.inv(triangle), basis)
    kept = np.square(_products(basis, found)).sum(axis=1)
    energy = np.minimum(np.cumsum(kept) / total, 1.0)
    return Pca(basis, source, energy)


def _mixes(
    gram: NDArray[np.float64], wanted: int, *, mean_first: bool
) -> NDArray[np.float64]:
    """Weights of the samples, shape (wanted, n), that give orthonormal rows."""
    import numpy as np

    number = len(gram)
    chosen: list[NDArray[np.float64]] = []
    rest = gram
    floor = float(np.trace(gram)) * 1e-12
    if mean_first:
        ones = np.full(number, 1.0 / number)
        length = float(ones @ gram @ ones)
        if length <= floor:
            raise InvalidArgumentError(
                "samples have no mean to take as a direction: set mean_first=False"
            )
        mean = ones / np.sqrt(length)
        chosen.append(mean)
        # Samples without their part along the mean: x_i - <x_i, m> m.
        along = gram @ mean
        rest = gram - np.outer(along, along)
    values, vectors = np.linalg.eigh(rest)
    for value, vector in zip(values[::-1], vectors.T[::-1], strict=True):
        if len(chosen) == wanted or value <= floor:
            break
        mix = vector / np.sqrt(value)
        if mean_first:
            mix = mix - (mix @ along) * mean
        chosen.append(mix)
    if len(chosen) < wanted:
        raise InvalidArgumentError(
            f"code_length must be at most the rank of the samples, {len(chosen)} from"
            f" {number} updates, got {wanted}: give more updates"
        )
    return np.stack(chosen)


def _gram(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    return _products(matrix, matrix)


def _products(
    left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Inner products of rows, in float64 and a stretch of columns at a time."""
    import numpy as np

    total = np.zeros((len(left), len(right)))
    for start in range(0, left.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        total += left[:, part].astype(np.float64) @ right[:, part].T.astype(np.float64)
    return total


def _combined(
    weights: NDArray[np.float64], matrix: NDArray[np.float32]
) -> NDArray[np.float32]:
    """``weights @ matrix``, computed in float64."""
    import numpy as np

    answer = np.empty((len(weights), matrix.shape[1]), dtype=np.float32)
    for start in range(0, matrix.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        answer[:, part] = weights @ matrix[:, part].astype(np.float64)
    return answer
