"""A grid whose nodes live in this process and train one after the other.

For tests, examples and small simulations: no Ray, no superlink, no pickling of
the client app.  Everything else is Flower's own: messages, contexts, mods.

>>> from flwr.app import ArrayRecord, Message, RecordDict
>>> from flwr.clientapp import ClientApp
>>> app = ClientApp()
>>> @app.train()
... def train(msg, context):
...     return Message(RecordDict(), reply_to=msg)
>>> grid = InProcessGrid(app, 3)
>>> messages = [Message(RecordDict(), node, "train") for node in grid.get_node_ids()]
>>> [reply.metadata.src_node_id for reply in grid.send_and_receive(messages)]
[2, 3, 4]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, final
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from drdp import _check
from drdp.errors import InvalidArgumentError

__all__ = ["InProcessGrid"]

_SERVER = 1  # Flower's number of the server's node
_FIRST = 2  # no node of ours is the server


@final
class InProcessGrid(Grid):
    """Flower's `Grid` over client apps that are called directly.

    Args:
        app: The client app, or any function of a message and a context.
        nodes: How many nodes there are; they are numbered from 2, and find their
            place among them as ``partition-id`` in ``context.node_config``.
        lost: Says of a node whether its reply is lost.
    """

    def __init__(
        self,
        app: ClientApp | Callable[[Message, Context], Message],
        nodes: int,
        *,
        lost: Callable[[int], bool] | None = None,
    ) -> None:
        count = _check.count(nodes=nodes)
        _identified()
        self._app, self._lost = app, lost
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={"partition-id": node - _FIRST, "num-partitions": count},
                state=RecordDict(),
                run_config={},
            )
            for node in range(_FIRST, _FIRST + count)
        }
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Any) -> None:
        """Nothing to set: there is no run."""

    @property
    def run(self) -> Any:
        """There is none."""
        raise InvalidArgumentError("run must not be asked of an InProcessGrid")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes, from 2."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let the nodes work; their replies wait to be pulled."""
        sent = []
        for message in messages:
            name = str(uuid4())
            message.metadata.__dict__["_message_id"] = name
            reply = self._reply(message)
            if reply is not None:
                self._replies[name] = reply
            sent.append(name)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to messages; those that were lost are not there."""
        return [self._replies.pop(m) for m in message_ids if m in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and give the replies; nothing is waited for."""
        return self.pull_messages(self.push_messages(messages))

    def _reply(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        if self._lost is not None and self._lost(node):
            return None
        context = self._contexts.get(node)
        if context is None:
            error = Error(ErrorCode.NODE_UNAVAILABLE, f"node {node} is not connected")
            return Message(error, reply_to=message)
        try:
            return self._app(message, context)
        except Exception as raised:  # noqa: BLE001 - as Flower does with client apps
            error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, repr(raised))
            return Message(error, reply_to=message)


def _identified() -> None:
    """Give this process the identity that messages of flwr 1.40 carry."""
    try:
        identity = import_module("flwr.supercore.task_identity").TaskIdentity
    except ImportError:  # an earlier flwr, whose messages get it from the grid
        return
    for name, value in (("run_id", 1), ("node_id", _SERVER), ("task_id", 1)):
        try:
            getattr(identity, name)
        except RuntimeError:
            setattr(identity, name, value)
