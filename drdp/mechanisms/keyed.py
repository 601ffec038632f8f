"""Noise that can be replayed by whoever holds a secret key, and by nobody else.

For runs that must survive an interruption: an interrupted release can be made
again, bit for bit, as long as the key exists.  Erase the key when the run is
done; until then whoever reads it can subtract the noise.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any, NoReturn, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.noise import _checked, _filled, _laplace, _normal, _uniform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KEY_BYTES", "KeyedNoise"]

KEY_BYTES = 32
_ZEROS = bytes(1 << 16)


@final
class KeyedNoise:
    """The keystream of AES-256 in counter mode under a key derived for a purpose.

    Args:
        key: 32 bytes that nobody else knows, from `os.urandom`.
        path: What the draws are for; different paths give independent draws.

    Guarantees:
        Whoever does not know the key cannot tell the draws of any number of
        paths from uniform words, as far as HMAC-SHA-256 and AES-256 are what
        they are taken for.  The same key and path give the same draws again:
        derive the path from what the noise is added to, so that two different
        values never share their noise.

    >>> rng, again = KeyedNoise(bytes(32), "round", 3), KeyedNoise(bytes(32))
    >>> bool((rng.words(2) == again.spawn("round", 3).words(2)).all())
    True
    """

    __slots__ = ("_cipher", "_key", "_path")

    def __init__(self, key: bytes, *path: int | str) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidArgumentError(
                f"key must be {KEY_BYTES} bytes from os.urandom, got {len(key)}"
            )
        self._key, self._path = key, _checked(path)
        self._cipher: Any = None

    @property
    def secure(self) -> bool:
        """True, as long as nobody else has the key."""
        return True

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` words of 64 uniform random bits."""
        import numpy as np

        found = np.empty(_check.count(count=count), dtype=np.uint64)
        target = found.view(np.uint8)
        cipher = self._stream()
        for start in range(0, target.size, len(_ZEROS)):
            part = target[start : start + len(_ZEROS)]
            cipher.update_into(_ZEROS[: part.size], part)
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

    def spawn(self, *path: int | str) -> KeyedNoise:
        """The source for one purpose, always from its beginning."""
        return KeyedNoise(self._key, *self._path, *path)

    def mark(self, *path: int | str) -> str:
        """A name for a purpose that says nothing about it without the key."""
        return _derived(self._key, "mark", (*self._path, *path)).hex()[:32]

    def _stream(self) -> Any:
        if self._cipher is None:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

            key = algorithms.AES256(_derived(self._key, "noise", self._path))
            self._cipher = Cipher(key, modes.CTR(bytes(16))).encryptor()
        return self._cipher

    def __repr__(self) -> str:
        return f"KeyedNoise(<secret>{''.join(f', {part!r}' for part in self._path)})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a KeyedNoise cannot be pickled: its key must not spread")


def _derived(key: bytes, use: str, path: tuple[int | str, ...]) -> bytes:
    return hmac.new(key, repr((use, *path)).encode(), hashlib.sha256).digest()
