"""Sources of noise: one that nobody can predict, one that can be replayed.

Both turn 64 random bits into one number by inverting the distribution
function, so that every number costs the same work and none is thrown away: one
bit is the sign, 63 bits say how rare the number is.  Normal numbers reach out
to 9.08 and Laplace numbers to 44.4, beyond which lies a probability of 2^-64;
close to 0 they are as fine as doubles near 1, about 1e-16.

What a `SecureNoise` protects against is someone who predicts the noise and
subtracts it.  It does not protect against someone who studies the last bits of
a released double: see docs/mechanisms.md.

References: Wichura, Algorithm AS 241, 1988, for the inversion idea;
Mironov, CCS 2012, and Holohan and Braghin, arXiv:2107.10138, for what the last
bits of noise give away.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, final

import numpy as np

from drdp import _check
from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["Provenance", "SecureNoise", "SeededNoise", "provenance"]

_Words = Callable[[int], "NDArray[np.uint64]"]
_Shape = Callable[["NDArray[np.uint64]"], "NDArray[np.float64]"]

_CHUNK = 1 << 14  # words at a time: they stay in the processor's cache
_ZEROS = bytes(1 << 16)  # what is encrypted; also the largest single call
_REKEY = 1 << 30  # bytes that one key gives: 2^26 blocks of AES
_MAGNITUDE = np.uint64((1 << 63) - 1)
_forks = [0]


def _forked() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class _Keystream(threading.local):
    """Each thread's own cipher, and which process it belongs to."""

    cipher: Any = None
    owner: tuple[int, int] = (-1, -1)
    left: int = 0


@final
class SecureNoise:
    """Noise fit for release: the keystream of AES-256 in counter mode.

    Each thread has its own key, from the operating system's generator, and a
    new one after every GiB; a process made by `fork` takes new keys before it
    draws.  A key is never kept outside the cipher, shown, or copied: pickling
    and copying are refused.

    Guarantees:
        Whoever cannot tell AES-256 from a random function, and does not see the
        memory of this process, cannot tell these draws from uniform words.  A
        snapshot of the whole machine that is run twice repeats its draws until
        the next key: do not snapshot one that makes releases.

    >>> rng = SecureNoise()
    >>> rng.secure, rng.normal(3).shape
    (True, (3,))
    """

    __slots__ = ("__weakref__", "_known", "_state")

    def __init__(self) -> None:
        self._state = _Keystream()
        self._known = False

    @classmethod
    def _with_key(cls, key: bytes) -> SecureNoise:
        """For tests: the same generator under a known key, hence not secure."""
        rng = cls()
        rng._known = True
        rng._take(key)
        return rng

    @property
    def secure(self) -> bool:
        """True: an adversary cannot predict the draws."""
        return not self._known

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` words of 64 uniform random bits."""
        words = np.empty(_check.count(count=count), dtype=np.uint64)
        target = words.view(np.uint8)
        for start in range(0, target.size, len(_ZEROS)):
            part = target[start : start + len(_ZEROS)]
            self._cipher(part.size).update_into(_ZEROS[: part.size], part)
        return words

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` uniform numbers, above 0 and at most 1."""
        return _filled(count, self.words, _uniform)

    def normal(self, count: int) -> NDArray[np.float64]:
        """`count` standard normal numbers."""
        return _filled(count, self.words, _normal)

    def laplace(self, count: int) -> NDArray[np.float64]:
        """`count` Laplace numbers of scale 1."""
        return _filled(count, self.words, _laplace)

    def spawn(self, *path: int | str) -> SecureNoise:
        """This source itself: its draws never repeat, whatever they are for."""
        _checked(path)
        return self

    def _cipher(self, size: int) -> Any:
        """The cipher of this thread of this process, with `size` bytes to give."""
        state = self._state
        if state.owner != (os.getpid(), _forks[0]) or state.left < size:
            self._take(os.urandom(32))
        state.left -= size
        return state.cipher

    def _take(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        state = self._state
        state.cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
        state.owner, state.left = (os.getpid(), _forks[0]), _REKEY

    def __repr__(self) -> str:
        return "SecureNoise()"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a SecureNoise cannot be pickled or copied: two copies would draw the same"
            " noise, and whoever holds one could subtract it; make a new SecureNoise()"
        )


@final
class SeededNoise:
    """Noise that can be replayed, for simulations and tests only.

    The same seed and path give the same draws on every machine whose
    logarithms agree to the last bit.  Whoever knows the seed can subtract the
    noise, so what it touches is not private, and `secure` says so.

    Args:
        seed: A whole number of at least 0.
        path: What the draws are for, as in ``SeededNoise(7, "round", 3)``;
            sources of different seeds or paths are independent.

    >>> rng, again = SeededNoise(7).spawn("round", 3), SeededNoise(7, "round", 3)
    >>> bool((rng.normal(2) == again.normal(2)).all()), rng.secure
    (True, False)
    """

    __slots__ = ("_bits", "path", "seed")

    def __init__(self, seed: int, *path: int | str) -> None:
        self.seed = _check.count(seed=seed)
        self.path = _checked(path)
        name = repr((self.seed, *self.path)).encode()
        entropy = int.from_bytes(hashlib.sha256(name).digest())
        self._bits = np.random.PCG64DXSM(entropy)

    @property
    def secure(self) -> bool:
        """False: whoever knows the seed knows every draw."""
        return False

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` words of 64 uniform random bits."""
        found: NDArray[np.uint64] = self._bits.random_raw(_check.count(count=count))
        return found

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` uniform numbers, above 0 and at most 1."""
        return _filled(count, self.words, _uniform)

    def normal(self, count: int) -> NDArray[np.float64]:
        """`count` standard normal numbers."""
        return _filled(count, self.words, _normal)

    def laplace(self, count: int) -> NDArray[np.float64]:
        """`count` Laplace numbers of scale 1."""
        return _filled(count, self.words, _laplace)

    def spawn(self, *path: int | str) -> SeededNoise:
        """The source for one purpose, always from its beginning.

        It depends on the seed and the whole path, never on what was drawn
        before; asking twice for one purpose replays its noise.
        """
        if not path:
            raise InvalidArgumentError("path must name a purpose, such as 'round', 3")
        return SeededNoise(self.seed, *self.path, *path)

    def __repr__(self) -> str:
        return f"SeededNoise({', '.join(map(repr, (self.seed, *self.path)))})"


@final
@dataclass(frozen=True, slots=True)
class Provenance:
    """Whether a result's noise was secret; put its text beside the result.

    Args:
        secure: Whether every source that touched the result was secure.
        sources: The sources, as they print.
    """

    secure: bool
    sources: tuple[str, ...]

    def __str__(self) -> str:
        names = ", ".join(self.sources)
        if self.secure:
            return f"noise from {names}: cannot be predicted"
        if not names:
            return "NOT PRIVATE: no source of noise touched it"
        return (
            f"NOT PRIVATE: noise from {names} can be replayed;"
            " the guarantee is what the same run would have with SecureNoise()"
        )


def provenance(*sources: NoiseSource) -> Provenance:
    """The label of a result that these sources touched.

    Without any source, nothing hides the data, and the label says so.

    >>> print(provenance(SecureNoise()))
    noise from SecureNoise(): cannot be predicted
    >>> print(provenance(SecureNoise(), SeededNoise(7)))
    NOT PRIVATE: noise from SecureNoise(), SeededNoise(7) can be replayed; ...
    """
    return Provenance(
        secure=bool(sources) and all(source.secure for source in sources),
        sources=tuple(dict.fromkeys(map(repr, sources))),
    )


def _checked(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    for part in path:
        if isinstance(part, bool) or not isinstance(part, int | str):
            raise InvalidArgumentError(
                f"path must consist of whole numbers and strings, got {part!r}"
            )
    return path


def _filled(count: int, words: _Words, shape: _Shape) -> NDArray[np.float64]:
    """`count` numbers, made a chunk at a time."""
    found = np.empty(_check.count(count=count))
    for part in _chunks(found):
        part[:] = shape(words(part.size))
    return found


def _chunks(array: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, array.size, _CHUNK):
        yield array[start : start + _CHUNK]


def _rarity(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """k + 1/2 for the 63 bits k below the sign, as doubles."""
    found = (words & _MAGNITUDE).view(np.int64).astype(np.float64)
    found += 0.5
    return found


def _signed(size: NDArray[np.float64], words: NDArray[np.uint64]) -> Any:
    return np.copysign(size, words.view(np.int64), out=size)


def _uniform(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    found = words.astype(np.float64)
    found += 0.5
    found *= 2.0**-64
    return found


def _normal(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The quantile of the lower half, at the middle of 2^63 equal steps, signed."""
    from scipy.special import ndtri

    found = _rarity(words)
    found *= 2.0**-64
    return _signed(ndtri(found, out=found), words)  # type: ignore[no-any-return]


def _laplace(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    found = _rarity(words)
    found *= 2.0**-63
    np.log(found, out=found)
    return _signed(found, words)  # type: ignore[no-any-return]
