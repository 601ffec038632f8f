"""A client's part of a secure sum: four answers, of which one holds masked data.

1. keys: two fresh public keys, one for envelopes and one for masks;
2. shares: the secrets that undo its masks, split among all clients of the sum;
3. masked: its integers under its own mask and one with each other client;
4. unmask: its shares of what undoes the masks of the sum, for those who are in
   it its own mask's, for those who are not the pairwise ones, never both.

A client helps to unmask one sum a session, of at least `threshold` messages, so
no server gets a sum with less noise than was promised.

References: Bonawitz et al., CCS 2017 (with a server that follows the protocol).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.common.secure_aggregation.crypto.shamir import create_shares

from drdp.errors import InvalidArgumentError
from drdp.fedsim.flower.masks import Keys, agreed, mask, opened, sealed
from drdp.mechanisms.modular import integers, known_bits, wrapped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SUM", "SecureClient"]

SUM = "drdp-sum"
"""The record of a message that a secure sum is told in."""

_STATE = "drdp-secure-sum"
_LEAST = 2  # messages in a sum


@final
class SecureClient:
    """One client in one secure sum after the other.

    Args:
        client: Its number.
        context: Flower's: where the secrets of a sum wait for the next message.
            It never leaves the node.
    """

    def __init__(self, client: int, context: Context) -> None:
        self._client, self._context = client, context

    def keys(self, content: RecordDict) -> RecordDict:
        """Begin a sum: public keys."""
        told = _told(content)
        envelope, pair = Keys.fresh(), Keys.fresh()
        self._keep(
            {
                "session": _bytes(told, "session"),
                "stage": "keys",
                "envelope": envelope.private,
                "pair": pair.private,
            }
        )
        return _reply({"envelope": envelope.public, "pair": pair.public})

    def shares(self, content: RecordDict) -> RecordDict:
        """Split the secrets among the clients whose keys arrived.

        Raises:
            InvalidArgumentError: If there are too few clients, or keys that are
                not those of different clients, this one's among them.
        """
        told, state = _told(content), self._state(content, "keys")
        clients, threshold = _ints(told, "clients"), _int(told, "threshold")
        envelopes, pairs = _list(told, "envelopes"), _list(told, "pairs")
        if not len(clients) == len(envelopes) == len(pairs) == len(set(clients)):
            raise InvalidArgumentError("the keys of a secure sum must be one a client")
        if not max(_LEAST, len(clients) // 2 + 1) <= threshold <= len(clients):
            raise InvalidArgumentError(
                f"a secure sum of {len(clients)} clients must have a threshold of more"
                f" than half of them, got {threshold}"
            )
        mine = dict(zip(clients, zip(envelopes, pairs, strict=True), strict=True))
        own = Keys(state["envelope"]), Keys(state["pair"])
        if mine.get(self._client) != (own[0].public, own[1].public):
            raise InvalidArgumentError(
                f"the keys of client {self._client} were not passed on as they are"
            )
        if len({*envelopes, *pairs}) != 2 * len(clients):
            raise InvalidArgumentError("two clients of a secure sum have the same key")
        seed = os.urandom(32)
        split = [
            create_shares(one, threshold, len(clients))
            for one in (seed, own[1].private)
        ]
        held: dict[int, tuple[bytes, bytes]] = {}
        sent: dict[int, bytes] = {}
        for client, *parts in zip(clients, *split, strict=True):
            if client == self._client:
                held[client] = (parts[0], parts[1])
                continue
            key = agreed(
                own[0], mine[client][0], state["session"], self._client, client
            )
            sent[client] = sealed(key, _packed(self._client, client, *parts))
        self._keep(
            state
            | {
                "stage": "shares",
                "seed": seed,
                "threshold": threshold,
                "clients": clients,
                "envelopes": envelopes,
                "pairs": pairs,
                "held": [self._client],
                "shares": list(held[self._client]),
            }
        )
        return _reply({"to": list(sent), "envelopes": list(sent.values())})

    def masked(
        self,
        content: RecordDict,
        bounded: Callable[[], NDArray[np.int64]],
    ) -> RecordDict:
        """This client's integers under masks.

        Args:
            content: Of the message.
            bounded: Gives them: bounded, with their share of noise.  Called once
                everything else is in order.

        Raises:
            InvalidArgumentError: If shares of fewer than `threshold` clients came,
                or one was changed on its way.
        """
        told, state = _told(content), self._state(content, "shares")
        bits = known_bits(_int(told, "bits"))
        sources, envelopes = _ints(told, "from"), _list(told, "envelopes")
        places = {client: i for i, client in enumerate(state["clients"])}
        if len(set(sources)) != len(sources) or len(sources) != len(envelopes):
            raise InvalidArgumentError("the envelopes of a secure sum must be one each")
        if not set(sources) <= set(places) - {self._client}:
            raise InvalidArgumentError("an envelope is from nobody in this secure sum")
        if len(sources) + 1 < state["threshold"]:
            raise InvalidArgumentError(
                f"only {len(sources) + 1} of at least {state['threshold']} clients are"
                " left in this secure sum"
            )
        envelope, pair = Keys(state["envelope"]), Keys(state["pair"])
        held, shares = [self._client], list(state["shares"])
        between: dict[int, bytes] = {}
        for source, sent in zip(sources, envelopes, strict=True):
            session = state["session"]
            theirs = state["envelopes"][places[source]], state["pairs"][places[source]]
            key = agreed(envelope, theirs[0], session, self._client, source)
            shares += _unpacked(opened(key, sent), source, self._client)
            held.append(source)
            between[source] = agreed(pair, theirs[1], session, self._client, source)
        vector = wrapped(integers("bounded", bounded(), None), bits)
        vector = vector + mask(state["seed"], vector.size, bits)
        for source, key in between.items():
            sign = 1 if self._client < source else -1
            vector = wrapped(vector + sign * mask(key, vector.size, bits), bits)
        self._keep(state | {"stage": "masked", "held": held, "shares": shares})
        reply = _reply({})
        reply["arrays"] = ArrayRecord({"masked": Array(wrapped(vector, bits))})
        return reply

    def unmask(self, content: RecordDict) -> RecordDict:
        """The shares that undo the masks of a sum.

        Guarantees:
            After this, whatever it comes to, the secrets of the session are gone.

        Raises:
            InvalidArgumentError: If the sum has too few messages, or somebody would
                be both in it and not, which would lay his message bare.
        """
        told, state = _told(content), self._state(content, "masked")
        self._keep({"session": b"", "stage": "done"})
        present, absent = _ints(told, "present"), _ints(told, "absent")
        both = [*present, *absent]
        if len(set(both)) != len(both) or not set(both) <= set(state["held"]):
            raise InvalidArgumentError(
                "everybody in a secure sum is in it or not, once"
            )
        if len(present) < state["threshold"] or self._client not in present:
            raise InvalidArgumentError(
                f"a secure sum of {len(present)} messages has less noise than was"
                f" promised: {state['threshold']} are needed"
            )
        place = {client: 2 * i for i, client in enumerate(state["held"])}
        shares = state["shares"]
        return _reply(
            {
                "present": present,
                "seeds": [shares[place[client]] for client in present],
                "absent": absent,
                "pairs": [shares[place[client] + 1] for client in absent],
            }
        )

    def _keep(self, state: dict[str, Any]) -> None:
        self._context.state[_STATE] = ConfigRecord(state)

    def _state(self, content: RecordDict, stage: str) -> dict[str, Any]:
        state: dict[str, Any] = {}
        if _STATE in self._context.state.config_records:
            state = dict(self._context.state.config_records[_STATE])
        if state.get("session") != _bytes(_told(content), "session"):
            raise InvalidArgumentError("this client is not in this secure sum")
        if state["stage"] != stage:
            raise InvalidArgumentError(
                f"a secure sum was at stage {state['stage']!r}, not {stage!r}"
            )
        return state


def _packed(source: int, target: int, seed: bytes, pair: bytes) -> bytes:
    head = b"".join(n.to_bytes(8, "little") for n in (source, target, len(seed)))
    return head + seed + pair


def _unpacked(text: bytes, source: int, target: int) -> list[bytes]:
    found = [int.from_bytes(text[i : i + 8], "little") for i in (0, 8, 16)]
    if found[:2] != [source, target]:
        raise InvalidArgumentError("an envelope was passed on to somebody else")
    return [text[24 : 24 + found[2]], text[24 + found[2] :]]


def _reply(values: dict[str, Any]) -> RecordDict:
    return RecordDict({SUM: ConfigRecord(values)})


def _told(content: RecordDict) -> ConfigRecord:
    found = content.config_records.get(SUM)
    if found is None:
        raise InvalidArgumentError("the message must say which secure sum it is about")
    return found


def _bytes(told: ConfigRecord, name: str) -> bytes:
    found = told.get(name)
    if not isinstance(found, bytes) or not found:
        raise InvalidArgumentError(f"{name} of a secure sum must be bytes")
    return found


def _int(told: ConfigRecord, name: str) -> int:
    found = told.get(name)
    if not isinstance(found, int) or isinstance(found, bool):
        raise InvalidArgumentError(f"{name} of a secure sum must be a whole number")
    return found


def _list(told: ConfigRecord, name: str) -> list[bytes]:
    found = told.get(name)
    if not isinstance(found, list) or not all(isinstance(one, bytes) for one in found):
        raise InvalidArgumentError(f"{name} of a secure sum must be a list of bytes")
    return [one for one in found if isinstance(one, bytes)]


def _ints(told: ConfigRecord, name: str) -> list[int]:
    found = told.get(name)
    if not isinstance(found, list) or not all(isinstance(one, int) for one in found):
        raise InvalidArgumentError(f"{name} of a secure sum must be a list of numbers")
    return [int(one) for one in found if isinstance(one, int)]
