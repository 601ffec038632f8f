"""How much of real updates a codec keeps, next to two honest baselines.

The mean squared error alone says nothing: updates share a mean that may hold
most of their energy, so that a decoder which always answers with this mean looks
good, and updates are small, so that one which answers zero has a small error.
Here the mean and what differs between updates (the innovation) are judged apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.compression.flat import rows
from drdp.compression.protocol import Compressor
from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Fidelity", "fidelity"]

_NOTHING = 1e-6  # relative length below which a difference is rounding


@final
@dataclass(frozen=True, slots=True)
class Fidelity:
    """What a codec keeps of a set of updates; see `fidelity`.

    Args:
        updates: How many updates it was judged on.
        update_length: Length of an update.
        code_length: Length of a code.
        mean_kept: Share of the energy of the updates' mean that is kept, after the
            best rescaling; NaN where the updates have no mean to speak of.
        explained: Explained variance of the innovation; at most 1, 0 for a
            constant decoder and below 0 where decoding does harm.
        kept: The same after the best common rescaling of what is decoded, which a
            server's step size can make up for.
        cosine: Mean cosine between innovation and its reconstruction.
        raw: Explained energy of whole updates, means included.
        mean_raw: `raw` of the baseline that predicts the mean of the others.
        noise_explained: `explained` of the same codec on Gaussian noise of the
            same norms.
        noise_kept: `kept` on that noise.
        noise_cosine: `cosine` on that noise.
    """

    updates: int
    update_length: int
    code_length: int
    mean_kept: float
    explained: float
    kept: float
    cosine: float
    raw: float
    mean_raw: float
    noise_explained: float
    noise_kept: float
    noise_cosine: float

    @property
    def beats_baselines(self) -> bool:
        """Whether it keeps more of the innovation than a constant and than of noise."""
        return self.kept > max(0.0, self.noise_kept) and self.cosine > max(
            0.0, self.noise_cosine
        )

    def text(self) -> str:
        """The figures and their baselines, line by line."""
        lines = (
            ("mean kept, rescaled", self.mean_kept, 1.0, "-"),
            ("innovation explained", self.explained, 0.0, self.noise_explained),
            ("innovation kept, rescaled", self.kept, 0.0, self.noise_kept),
            ("innovation cosine", self.cosine, 0.0, self.noise_cosine),
            ("all energy explained", self.raw, self.mean_raw, "-"),
        )
        head = f"{'':<27}{'codec':>9}{'the mean':>10}{'on noise':>10}"
        body = (
            f"{name:<27}{_cell(own):>9}{_cell(mean):>10}{_cell(noise):>10}"
            for name, own, mean, noise in lines
        )
        return "\n".join((head, *body))


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4f}"


def fidelity(codec: Compressor, updates: Iterable[Any], *, seed: int = 0) -> Fidelity:
    """Judge a codec on updates that it was not fitted on.

    Args:
        codec: Any compressor.
        updates: At least four updates that are not all equal.  Private ones make
            the figures private as well.
        seed: Of the baseline's noise.

    Returns:
        The figures.  The mean's are estimated across two halves of the updates,
        so that the sampling error of one mean does not count as kept.

    >>> from drdp.compression.identity import Identity
    >>> found = fidelity(Identity(2), [[1, 2], [1, 1], [2, 2], [1, 3]])
    >>> found.explained, found.cosine, found.mean_kept
    (1.0, 1.0, 1.0)
    """
    import numpy as np

    given = rows(updates, codec.update_length)
    number = len(given)
    if number < 4:
        raise InvalidArgumentError(f"updates must be at least 4, got {number}")
    decoded = _through(codec, given)
    innovation, reconstructed = _centred(given), _centred(decoded)
    energy = _energy(innovation)
    total = _energy(given)
    if energy <= _NOTHING**2 * total:
        raise InvalidArgumentError("updates must differ, got equal ones")
    rng = np.random.Generator(np.random.PCG64(_check.count(seed=seed)))
    noise = rng.standard_normal(given.shape, dtype=np.float32)
    lengths = np.linalg.norm(given, axis=1) / np.linalg.norm(noise, axis=1)
    noise *= lengths[:, np.newaxis].astype(np.float32)
    on_noise = _centred(_through(codec, noise))
    centred_noise = _centred(noise)
    # Leaving one out: u_i minus the mean of the others is n/(n-1) e_i.
    left_out = (number / (number - 1)) ** 2 * energy
    return Fidelity(
        updates=number,
        update_length=codec.update_length,
        code_length=codec.code_length,
        mean_kept=_mean_kept(given, decoded),
        explained=1.0 - _energy(innovation - reconstructed) / energy,
        kept=_kept(innovation, reconstructed),
        cosine=_cosine(innovation, reconstructed),
        raw=1.0 - _energy(given - decoded) / total,
        mean_raw=1.0 - left_out / total,
        noise_explained=1.0
        - _energy(centred_noise - on_noise) / _energy(centred_noise),
        noise_kept=_kept(centred_noise, on_noise),
        noise_cosine=_cosine(centred_noise, on_noise),
    )


def _through(codec: Compressor, updates: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    answer = np.empty_like(updates)
    for place, update in enumerate(updates):
        code = codec.encode(update)
        answer[place] = codec.decode(code.astype(np.float64))
    return answer


def _centred(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    mean = matrix.mean(axis=0, dtype=np.float64)
    return np.asarray(matrix - mean.astype(np.float32), dtype=np.float32)


def _energy(matrix: NDArray[np.float32]) -> float:
    return _inner(matrix, matrix)


def _inner(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """The inner product of all numbers, summed in float64 row by row."""
    import numpy as np

    pairs = zip(left, right, strict=True)
    return math.fsum(float(np.dot(a.astype(np.float64), b)) for a, b in pairs)


def _constant(given: NDArray[np.float32], found: NDArray[np.float32]) -> bool:
    """Whether what was decoded differs between updates by rounding only."""
    return _energy(found) <= _NOTHING**2 * _energy(given)


def _kept(given: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    if _constant(given, found):
        return 0.0
    along = _inner(given, found)
    return math.copysign(along**2 / (_energy(given) * _energy(found)), along)


def _cosine(given: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    import numpy as np

    if _constant(given, found):
        return 0.0
    lengths = np.linalg.norm(given.astype(np.float64), axis=1)
    lengths *= np.linalg.norm(found.astype(np.float64), axis=1)
    along = np.array(
        [np.dot(a.astype(np.float64), b) for a, b in zip(given, found, strict=True)]
    )
    cosines = np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0)
    return float(cosines.mean())


def _mean_kept(given: NDArray[np.float32], decoded: NDArray[np.float32]) -> float:
    """``<m, r>^2 / (||m||^2 ||r||^2)``, every product taken across the halves."""
    import numpy as np

    first, second, r_first, r_second = (
        half.mean(axis=0, dtype=np.float64)
        for half in (given[::2], given[1::2], decoded[::2], decoded[1::2])
    )
    shared, found = float(np.dot(first, second)), float(np.dot(r_first, r_second))
    # The cosine of two independent noises of d numbers is 1/sqrt(d) or so.
    chance = min(3.0 / math.sqrt(len(first)), 0.5)
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    if shared <= chance * lengths:
        return math.nan
    along = float(np.dot(first, r_second)), float(np.dot(second, r_first))
    if found <= 0.0 or min(along) <= 0.0:
        return 0.0
    return min(along[0] * along[1] / (shared * found), 1.0)
