"""What a wrapped strategy would send in a round, found out without any node.

The strategy is shown a grid of stand-ins, so that whatever it does in
`configure_train` happens (FedProx adds its mu, FedAdam keeps the model), and
nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn, final

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from drdp.errors import InvalidArgumentError

__all__ = ["template"]


def template(
    strategy: FedAvg, server_round: int, arrays: ArrayRecord, config: ConfigRecord
) -> Message | None:
    """The one message that a strategy sends to whichever node it draws.

    None where it sends nothing (``fraction_train=0``).

    Raises:
        InvalidArgumentError: If it sends different nodes different things: what
            a node gets would depend on who else is there.
    """
    least = max(1, strategy.min_available_nodes, strategy.min_train_nodes)
    messages = list(
        strategy.configure_train(server_round, arrays, config, _StandIns(least))
    )
    if not messages:
        return None
    first = messages[0]
    for other in messages[1:]:
        if other.content is not first.content and other.content != first.content:
            raise InvalidArgumentError(
                "strategy must send every node the same message, and"
                f" {type(strategy).__name__} does not"
            )
    return first


@final
class _StandIns(Grid):
    """A grid of nodes that nothing can be sent to."""

    def __init__(self, count: int) -> None:
        self._nodes = range(1, count + 1)

    def get_node_ids(self) -> Iterable[int]:
        return self._nodes

    def _refuse(self) -> NoReturn:
        raise InvalidArgumentError(
            "strategy must leave sending to the grid; it tried to in configure_train"
        )

    def set_run(self, run: Any) -> None:
        self._refuse()

    @property
    def run(self) -> Any:
        self._refuse()

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self._refuse()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self._refuse()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        self._refuse()
