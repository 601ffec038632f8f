"""Messages to nodes and their replies, with a time limit, until somebody says stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import final

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from drdp import _check
from drdp.errors import TrainingError
from drdp.fedsim.flower.nodes import PLACE, REFUSED

__all__ = ["Exchange", "StoppedError"]

_POLL = 0.02  # seconds, doubled up to the longest
_LONGEST = 0.5
_LOOK = 3.0  # seconds between looks at who is connected


class StoppedError(Exception):
    """The run was told to stop while it waited for nodes."""


@final
class Exchange:
    """Clients by their numbers, wherever their nodes are.

    Args:
        grid: Flower's grid.
        patience: How many seconds to wait for replies, and for enough nodes.
        stopped: Whether to give up waiting.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        patience: float,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._grid, self._stopped = grid, stopped
        self._patience = _check.positive(patience=patience)
        self._asked: set[int] = set()
        self._node_of: dict[int, int] = {}

    def ready(self, least: int) -> None:
        """Wait until at least so many clients are connected.

        Raises:
            TrainingError: If they are not in time.
        """
        end = time.monotonic() + self._patience
        while (found := len(self.clients())) < least:
            if time.monotonic() >= end:
                raise TrainingError(
                    f"{least} clients are needed and {found} are connected after"
                    f" {self._patience:g} s; start more nodes, each with a partition-id"
                    " of its own, or raise run.patience"
                )
            self._pause(_LONGEST)

    def clients(self) -> Mapping[int, int]:
        """The connected clients and their nodes; new nodes are asked who they are.

        Of two nodes that say they are the same client the first one counts.
        """
        nodes = set(self._grid.get_node_ids())
        self._asked &= nodes
        for client, node in list(self._node_of.items()):
            if node not in nodes:
                del self._node_of[client]
        new = sorted(nodes - self._asked)
        if new:
            asking = [Message(RecordDict(), node, "query") for node in new]
            for reply in self._replies(asking):
                node = reply.metadata.src_node_id
                self._asked.add(node)
                if not reply.has_error() and PLACE in reply.content.config_records:
                    place = reply.content.config_records[PLACE]["client"]
                    if isinstance(place, int):
                        self._node_of.setdefault(place, node)
        return self._node_of

    def ask(
        self, contents: Mapping[int, RecordDict], message_type: str = "train"
    ) -> dict[int, RecordDict]:
        """What clients reply; of those who do not in time there is nothing.

        Args:
            contents: By client; whoever is not connected is left out.
            message_type: Flower's.

        Raises:
            TrainingError: If a node says that it cannot take part as it is set
                up, which is not about its data.
        """
        nodes = self.clients()
        sent = {
            nodes[client]: (client, content)
            for client, content in contents.items()
            if client in nodes
        }
        messages = [
            Message(content, node, message_type) for node, (_, content) in sent.items()
        ]
        found: dict[int, RecordDict] = {}
        for reply in self._replies(messages):
            client, _ = sent.get(reply.metadata.src_node_id, (None, None))
            if client is None:
                continue
            if not reply.has_error():
                found.setdefault(client, reply.content)
            elif (reply.error.reason or "").startswith(REFUSED):
                reason = (reply.error.reason or "").removeprefix(REFUSED)
                raise TrainingError(f"client {client} cannot take part: {reason}")
        return found

    def _replies(self, messages: list[Message]) -> Iterable[Message]:
        """The replies as they come; nodes that are gone are not waited for."""
        silent = {message.metadata.dst_node_id for message in messages}
        waiting = set(self._grid.push_messages(messages))
        del messages
        now = time.monotonic()
        end, look, pause = now + self._patience, now + _LOOK, _POLL
        while waiting:
            for reply in self._grid.pull_messages(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                silent.discard(reply.metadata.src_node_id)
                pause = _POLL
                yield reply
            if not waiting or (now := time.monotonic()) >= end:
                return
            if now >= look:
                look = now + _LOOK
                if not silent & set(self._grid.get_node_ids()):
                    return
            self._pause(pause)
            pause = min(2.0 * pause, _LONGEST)

    def _pause(self, seconds: float) -> None:
        if self._stopped():
            raise StoppedError
        time.sleep(seconds)
