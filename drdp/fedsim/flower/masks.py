"""Masks of integer vectors that cancel in a sum, from keys that two clients share.

Every entry of a mask is uniform modulo 2^bits and comes from AES-256 under a key
of 256 bits.  Flower's own masks (1.41) come from numpy's RandomState under a seed
of 32 bits, of which four are always the same for a pair: whoever sees the
messages finds the seed by trying all of them.

>>> import numpy as np
>>> alice, bob = Keys.fresh(), Keys.fresh()
>>> one = agreed(alice, bob.public, b"a sum", 1, 2)
>>> other = agreed(bob, alice.public, b"a sum", 2, 1)
>>> (mask(one, 3, bits=16) - mask(other, 3, bits=16)).tolist()
[0, 0, 0]
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from drdp.errors import InvalidArgumentError
from drdp.mechanisms.keyed import KEY_BYTES, KeyedNoise
from drdp.mechanisms.modular import wrapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Keys", "agreed", "mask", "opened", "sealed"]

_NONCE = 12  # bytes, for AES-GCM


@final
@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """A pair of keys for X25519.

    Args:
        private: 32 bytes; whoever has them has all that is agreed with them.
    """

    private: bytes

    @classmethod
    def fresh(cls) -> Keys:
        """A new pair."""
        return cls(X25519PrivateKey.generate().private_bytes_raw())

    @property
    def public(self) -> bytes:
        """32 bytes for everybody."""
        key = X25519PrivateKey.from_private_bytes(self.private)
        return key.public_key().public_bytes_raw()


def agreed(keys: Keys, other: bytes, session: bytes, mine: int, theirs: int) -> bytes:
    """The key that two clients share in a session, and nobody else has.

    Args:
        keys: Mine.
        other: Their public key.
        session: Names the sum; another session has other keys.
        mine: My number.
        theirs: Their number.

    Raises:
        InvalidArgumentError: If `other` is no public key.
    """
    try:
        private = X25519PrivateKey.from_private_bytes(keys.private)
        secret = private.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:
        raise InvalidArgumentError(
            f"the public key of client {theirs} is none: {error}"
        ) from None
    low, high = sorted((mine, theirs))
    about = b"drdp %b %d %d" % (session, low, high)
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=about).derive(secret)


def mask(key: bytes, length: int, bits: int) -> NDArray[np.int64]:
    """`length` numbers, uniform modulo 2^bits to whoever has no key."""
    words = KeyedNoise(key, "mask").words(length)
    return wrapped(words.view(np.int64), bits)


def sealed(key: bytes, text: bytes) -> bytes:
    """A text that only holders of the key can read, or make."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, text, None)


def opened(key: bytes, envelope: bytes) -> bytes:
    """The text in an envelope.

    Raises:
        InvalidArgumentError: If it was sealed with another key, or changed.
    """
    try:
        return AESGCM(key).decrypt(envelope[:_NONCE], envelope[_NONCE:], None)
    except (InvalidTag, ValueError):
        raise InvalidArgumentError(
            "an envelope between two clients was damaged on its way"
        ) from None
