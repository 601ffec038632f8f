"""Where a run's cohorts and noise come from: a secret key, or a seed.

The noise of a release is a keyed function of what it hides.  A round that is
computed again after an interruption gets the same noise if, and only if, it
hides the same sum to the last bit; then it is the same release.  Any other sum
gets independent noise, so that no two of them can be compared.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol, final

from drdp import _check
from drdp.errors import InvalidArgumentError, RunFolderError
from drdp.mechanisms.protocol import NoiseSource

__all__ = ["Randomness", "SecretRandomness", "SeededRandomness"]

_KEY_BYTES = 32


class Randomness(Protocol):
    """Independent sources of noise, each for one purpose."""

    @property
    def secure(self) -> bool:
        """Whether an adversary cannot predict the draws."""
        ...

    def source(self, purpose: str, *context: int | bytes) -> NoiseSource:
        """The source for a purpose, from its beginning every time."""
        ...

    def mark(self, digest: bytes) -> str:
        """A public name for a digest that gives nothing away about it."""
        ...


@final
class SecretRandomness:
    """Randomness under a secret key.

    Args:
        key: 32 bytes from `os.urandom`.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise InvalidArgumentError(
                f"key must be {_KEY_BYTES} bytes, got {len(key)}"
            )
        self._key = key

    @classmethod
    def kept_in(cls, file: Path) -> SecretRandomness:
        """Under the key in a file that its owner alone can read; made if missing.

        Guarantees:
            The file appears with its whole key, which is on the disk before this
            returns, or not at all.

        Raises:
            RunFolderError: If the file holds no key, or cannot be written.
        """
        rough = file.with_name(f".{file.name}.part")
        try:
            if not file.exists():
                rough.unlink(missing_ok=True)
                handle = os.open(rough, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as stream:
                    stream.write(os.urandom(_KEY_BYTES))
                    stream.flush()
                    os.fsync(stream.fileno())
                rough.replace(file)
                folder = os.open(file.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
            key = file.read_bytes()
        except OSError as error:
            raise RunFolderError(
                f"cannot keep the secret key {file}: {error.strerror}"
            ) from None
        if len(key) != _KEY_BYTES:
            raise RunFolderError(
                f"{file} holds no key of {_KEY_BYTES} bytes: it was damaged, and the"
                " run cannot go on; start a new one in another folder"
            )
        return cls(key)

    @property
    def secure(self) -> bool:
        """True, as long as the key is kept from others."""
        return True

    def source(self, purpose: str, *context: int | bytes) -> NoiseSource:
        """The source for a purpose, from its beginning every time."""
        from drdp.mechanisms.keyed import KeyedNoise

        return KeyedNoise(self._key, purpose, *map(_name, context))

    def mark(self, digest: bytes) -> str:
        """A keyed hash: it tells nothing about what the digest is of."""
        from drdp.mechanisms.keyed import KeyedNoise

        return KeyedNoise(self._key).mark("release", digest.hex())


@final
class SeededRandomness:
    """Randomness that anybody can replay: for simulations, without privacy.

    >>> SeededRandomness(7).secure
    False
    """

    __slots__ = ("_seed",)

    def __init__(self, seed: int) -> None:
        self._seed = _check.count(seed=seed)

    @property
    def secure(self) -> bool:
        """False: whoever knows the seed can subtract the noise."""
        return False

    def source(self, purpose: str, *context: int | bytes) -> NoiseSource:
        """The source for a purpose, from its beginning every time."""
        from drdp.mechanisms.noise import SeededNoise

        # Runs that differ in the last bit of a sum shall still be comparable, so
        # the sum itself is left out: without privacy there is nothing to lose.
        numbers = [part for part in context if isinstance(part, int)]
        return SeededNoise(self._seed, purpose, *numbers)

    def mark(self, digest: bytes) -> str:
        """A hash of the digest."""
        text = b"drdp seeded %d " % self._seed + digest
        return hashlib.sha256(text).hexdigest()[:32]


def _name(part: int | bytes) -> int | str:
    return part.hex() if isinstance(part, bytes) else part
