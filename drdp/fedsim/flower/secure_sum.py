"""The server's part of a secure sum: it sees masked messages, and their sum.

Up to `masked` nothing can be read by anybody.  The sum is known after `unmasked`,
for which at least `threshold` clients have to give their shares; so the round is
paid for in between.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from flwr.common.secure_aggregation.crypto.shamir import combine_shares

from drdp import _check
from drdp.errors import InvalidArgumentError, TrainingError
from drdp.fedsim.flower.masks import Keys, agreed, mask
from drdp.fedsim.flower.secure_node import SUM
from drdp.mechanisms.modular import known_bits, secure_sum, wrapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drdp.fedsim.flower.exchange import Exchange

__all__ = ["SecureSum"]

Contents = Callable[[int], RecordDict]


@final
class SecureSum:
    """One sum of integer vectors modulo 2^bits.

    Args:
        exchange: The nodes.
        clients: Who is asked.
        threshold: How many messages the sum must have; more than half of those
            asked.
        bits: Of a message.
        length: How many integers a message has.

    Guarantees:
        As far as the clients run `SecureClient` and fewer than `threshold` of them
        work together with the server, it learns nothing but the sum, and of a sum
        of fewer messages nothing at all.
    """

    def __init__(
        self,
        exchange: Exchange,
        clients: Sequence[int],
        *,
        threshold: int,
        bits: int,
        length: int,
    ) -> None:
        self._exchange, self._clients = exchange, list(clients)
        if not len(self._clients) // 2 < threshold <= len(self._clients):
            raise InvalidArgumentError(
                f"threshold must be more than half of {len(self._clients)} clients and"
                f" at most all of them, got {threshold}"
            )
        self._threshold = _check.count(least=2, threshold=threshold)
        self._bits = known_bits(bits)
        self._length = _check.count(least=1, length=length)
        self._session = os.urandom(16)
        self._pairs: dict[int, bytes] = {}
        self._sharers: list[int] = []
        self._messages: dict[int, NDArray[np.int64]] = {}

    def masked(self, contents: Contents) -> bytes:
        """Collect the masked messages.

        Args:
            contents: What each client is told to compute its integers from.

        Returns:
            A digest of them.

        Raises:
            TrainingError: If fewer than `threshold` clients are left; nothing was
                released.
        """
        asking: dict[int, dict[str, Any]] = {client: {} for client in self._clients}
        keys = self._asked("keys", asking, {"envelope": None, "pair": None})
        self._enough(keys, "sent their keys")
        everybody = sorted(keys)
        self._pairs = {client: keys[client]["pair"] for client in everybody}
        told = {
            "clients": everybody,
            "envelopes": [keys[client]["envelope"] for client in everybody],
            "pairs": [self._pairs[client] for client in everybody],
            "threshold": self._threshold,
        }
        count = len(everybody) - 1
        shares = self._asked(
            "shares", dict.fromkeys(everybody, told), {"to": count, "envelopes": count}
        )
        self._enough(shares, "shared their secrets")
        self._sharers = sorted(shares)
        post: dict[int, dict[int, bytes]] = {client: {} for client in self._sharers}
        for source, found in shares.items():
            for target, envelope in zip(found["to"], found["envelopes"], strict=True):
                if target in post:
                    post[target][source] = envelope
        asked = {}
        for client, letters in post.items():
            asked[client] = contents(client)
            asked[client][SUM] = self._record(
                {
                    "from": list(letters),
                    "envelopes": list(letters.values()),
                    "bits": self._bits,
                }
            )
        for client, content in self._exchange.ask(asked, "train.masked").items():
            record = content.array_records.get("arrays")
            if record is None or "masked" not in record:
                continue
            vector = record["masked"].numpy()
            if vector.shape == (self._length,) and vector.dtype == np.int64:
                self._messages[client] = vector
        self._enough(self._messages, "sent their messages")
        digest = hashlib.sha256(self._session)
        for client in sorted(self._messages):
            digest.update(self._messages[client].tobytes())
        return digest.digest()

    @property
    def present(self) -> list[int]:
        """Whose messages are in the sum."""
        return sorted(self._messages)

    def unmasked(self) -> NDArray[np.int64]:
        """The sum modulo 2^bits.  The round must have been paid for.

        Raises:
            TrainingError: If too few clients gave their shares; nothing was released.
        """
        present = sorted(self._messages)
        absent = [client for client in self._sharers if client not in self._messages]
        told = {"present": present, "absent": absent}
        found = self._asked(
            "unmask",
            dict.fromkeys(present, told),
            {"seeds": len(present), "pairs": len(absent)},
        )
        self._enough(found, "helped to unmask the sum")
        some = list(found.values())
        total = secure_sum(self._messages.values(), self._bits)
        for i in range(len(present)):
            seed = self._combined([one["seeds"][i] for one in some])
            total = wrapped(total - mask(seed, self._length, self._bits), self._bits)
        for i, client in enumerate(absent):
            keys = Keys(self._combined([one["pairs"][i] for one in some]))
            if keys.public != self._pairs[client]:
                raise TrainingError(
                    f"the masks with client {client}, who dropped out, cannot be undone"
                )
            for other in present:
                key = agreed(keys, self._pairs[other], self._session, client, other)
                sign = 1 if client < other else -1  # as if it had sent zeros
                between = sign * mask(key, self._length, self._bits)
                total = wrapped(total + between, self._bits)
        return total

    def _asked(
        self, stage: str, told: dict[int, dict[str, Any]], form: dict[str, int | None]
    ) -> dict[int, dict[str, Any]]:
        """The answers that have what they should: bytes, or lists of a length."""
        contents = {
            client: RecordDict({SUM: self._record(values)})
            for client, values in told.items()
        }
        replies = self._exchange.ask(contents, f"train.{stage}")
        found = {
            client: dict(content.config_records[SUM])
            for client, content in replies.items()
            if SUM in content.config_records
        }
        return {
            client: answer
            for client, answer in found.items()
            if all(_formed(answer.get(name), size) for name, size in form.items())
        }

    def _record(self, values: dict[str, Any]) -> ConfigRecord:
        return ConfigRecord({"session": self._session, **values})

    def _combined(self, shares: list[bytes]) -> bytes:
        return combine_shares(shares[: self._threshold])

    def _enough(self, found: dict[int, Any], what: str) -> None:
        if len(found) < self._threshold:
            raise TrainingError(
                f"only {len(found)} of {len(self._clients)} clients {what}, and"
                f" {self._threshold} are needed: nothing was released"
            )


def _formed(value: object, size: int | None) -> bool:
    if size is None:
        return isinstance(value, bytes)
    return isinstance(value, list) and len(value) == size
