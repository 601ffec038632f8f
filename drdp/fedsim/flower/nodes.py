"""What a node does in a round: train its one client, bound, and send the code.

It is the client's part of the very total that a run in one process adds up
(`drdp.fedsim.total`): a total of one client.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, final

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from drdp.errors import DrdpError, InvalidArgumentError
from drdp.fedsim.bounds import bounds_of
from drdp.fedsim.flower.orders import Order
from drdp.fedsim.flower.secure_node import SecureClient
from drdp.fedsim.randomness import Randomness, SecretRandomness, SeededRandomness
from drdp.fedsim.simulate import codec_of
from drdp.fedsim.total import Total
from drdp.privacy.threat import Placement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drdp.compression.protocol import Compressor
    from drdp.fedsim.federation import Federation
    from drdp.fedsim.trainer import Trainer

__all__ = [
    "PLACE",
    "REFUSED",
    "SENT",
    "Parts",
    "Workshop",
    "client_app",
    "settled_parts",
]

PLACE = "drdp-node"
"""The record in which a node says which client it is."""

SENT = "drdp-sent"
"""The record in which a node shows its diagnostics to a trusted server."""

REFUSED = "drdp: "
"""Begins the reason of an error that is about the set-up, not about data."""


@final
@dataclass(frozen=True, slots=True)
class Parts:
    """What a node needs of a run.

    Args:
        trainer: Of all clients, or of this one under its number.
        codec: Before it is drawn anew for a round.
    """

    trainer: Trainer
    codec: Compressor


class Workshop(Protocol):
    """Makes a node's parts from the settings of an order."""

    def __call__(self, settings: str, codec: bytes) -> Parts:
        """The parts.

        Raises:
            DrdpError: If the settings cannot be met here.
        """
        ...


def client_app(workshop: Workshop) -> ClientApp:
    """A client app whose node ``partition-id`` is the client of that number.

    Args:
        workshop: Makes trainer and codec from a run's settings.
    """
    app = ClientApp()

    @app.query()
    def query(msg: Message, context: Context) -> Message:
        place = ConfigRecord({"client": client_of(context)})
        return Message(RecordDict({PLACE: place}), reply_to=msg)

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        return answered(msg, lambda: contribution(msg, context, workshop))

    secure_stages(app, lambda msg, context: message(msg, context, workshop))
    return app


def secure_stages(
    app: ClientApp, integers_of: Callable[[Message, Context], NDArray[np.int64]]
) -> None:
    """Let an app take part in secure sums.

    Args:
        app: The app.
        integers_of: What a client adds: bounded, with its share of noise.
    """

    @app.train("keys")
    def keys(msg: Message, context: Context) -> Message:
        client = SecureClient(client_of(context), context)
        return answered(msg, lambda: client.keys(msg.content))

    @app.train("shares")
    def shares(msg: Message, context: Context) -> Message:
        client = SecureClient(client_of(context), context)
        return answered(msg, lambda: client.shares(msg.content))

    @app.train("masked")
    def masked(msg: Message, context: Context) -> Message:
        client = SecureClient(client_of(context), context)
        return answered(
            msg, lambda: client.masked(msg.content, lambda: integers_of(msg, context))
        )

    @app.train("unmask")
    def unmask(msg: Message, context: Context) -> Message:
        client = SecureClient(client_of(context), context)
        return answered(msg, lambda: client.unmask(msg.content))


def answered(msg: Message, work: Callable[[], RecordDict]) -> Message:
    """The reply with what `work` gives, or with the reason why there is none."""
    try:
        return Message(work(), reply_to=msg)
    except DrdpError as error:
        reason = f"{REFUSED}{error}"
        refusal = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
        return Message(refusal, reply_to=msg)


def contribution(msg: Message, context: Context, workshop: Workshop) -> RecordDict:
    """What one client sends without secure aggregation.

    Guarantees:
        The vector is bounded, and noised where the noise is not the server's.
        Nothing else leaves, unless the server is trusted with the sum itself;
        then it sees the client's diagnostics as well.

    Raises:
        DrdpError: If the order is damaged, is for somebody else or for a sum that
            a server must not see the parts of.
    """
    order = Order.read(msg.content)
    if order.protection.placement is Placement.DISTRIBUTED:
        raise InvalidArgumentError(
            "a share of noise protects a sum, not a message: placement distributed"
            " needs secure aggregation"
        )
    total = bounded(order, context, workshop)
    content = RecordDict({"arrays": ArrayRecord({"code": Array(total.sum)})})
    if order.protection.placement is Placement.CENTRAL:
        seen = json.dumps(asdict(total.diagnostics()))
        content[SENT] = ConfigRecord({"diagnostics": seen})
    return content


def message(msg: Message, context: Context, workshop: Workshop) -> NDArray[np.int64]:
    """What one client adds to a secure sum: integers with their share of noise.

    Raises:
        DrdpError: As `contribution`, or if the noise is not on the integers.
    """
    order = Order.read(msg.content)
    if order.protection.placement is not Placement.DISTRIBUTED:
        raise InvalidArgumentError(
            "a secure sum needs noise from its clients: set privacy.placement to"
            " distributed"
        )
    total = bounded(order, context, workshop).sum
    if total.dtype.kind != "i":
        raise InvalidArgumentError(
            "secure sums are of integers: set privacy.mechanism to skellam or"
            " discrete-gaussian"
        )
    return total.astype(np.int64)


def bounded(order: Order, context: Context, workshop: Workshop) -> Total:
    """The total of one client, with its noise where it is the client's."""
    mine = client_of(context)
    if mine != order.client:
        raise InvalidArgumentError(
            f"the order is for client {order.client}, but this node is client {mine}"
        )
    parts, ask = workshop(order.settings, order.codec), order.ask
    found = Total(
        order.protection,
        codec_of(parts.codec, ask.round),
        ask.round,
        _randomness(order),
        ask.cohort,
        bounds_of(order.protection, clients=order.most),
    )
    for update in parts.trainer.updates(ask.parameters, ask.cohort, ask.seed):
        found.add(update)
    found.complete()
    return found


def client_of(context: Context) -> int:
    """The number of the client that a node is.

    Raises:
        InvalidArgumentError: If the node was started without one.
    """
    found = context.node_config.get("partition-id")
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise InvalidArgumentError(
            "node_config must have partition-id, the number of the client from 0; start"
            " the node with --node-config 'partition-id=0'"
        )
    return found


def settled_parts(settings: str, codec: bytes) -> Parts:
    """The parts that ``drdp train`` would use: model, data and codec.

    What was made once is kept, as long as the process lives.
    """
    return _parts(settings, codec)


@lru_cache(maxsize=1)
def _people(settings: str) -> Federation:
    from drdp.fedsim.config import read
    from drdp.fedsim.federation import federation
    from drdp.fedsim.models import training_packages

    training_packages()
    return federation(read(json.loads(settings)), lambda text: None)


@lru_cache(maxsize=1)
def _parts(settings: str, codec: bytes) -> Parts:
    from drdp.fedsim.codec_file import stored_codec
    from drdp.fedsim.config import read
    from drdp.fedsim.fitting import codec_for

    config, people = read(json.loads(settings)), _people(settings)
    if codec:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "codec.safetensors"
            file.write_bytes(codec)
            return Parts(people.trainer, stored_codec(config, file))
    found = codec_for(config, people, list, lambda text: None, None)
    return Parts(people.trainer, found)


def _randomness(order: Order) -> Randomness:
    if order.seeded is not None:
        return SeededRandomness(order.seeded)
    return SecretRandomness(os.urandom(32))
