"""The server's part of a round: orders to the nodes of a cohort, their codes added up.

What is bounded, charged and noised how is `drdp.fedsim`'s business, as for a run
in one process.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, final

import numpy as np
from flwr.app import RecordDict

from drdp.errors import TrainingError
from drdp.fedsim.collecting import Ask, Pay
from drdp.fedsim.flower.nodes import SENT
from drdp.fedsim.flower.orders import Order
from drdp.fedsim.summing import Diagnostics, RoundTotal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drdp.fedsim.flower.exchange import Exchange
    from drdp.fedsim.protection import Protection

__all__ = ["NodeCollector"]


@final
class NodeCollector:
    """Collects rounds from Flower's nodes; see `drdp.fedsim.collecting.Collect`.

    Args:
        exchange: The nodes.
        settings: The run's settings as JSON.
        protection: The run's, noise and clip norm included.
        seeded: The seed of all noise, where it can be replayed.
        codec: The file of a fitted codec.

    Guarantees:
        Where the server adds the noise, a client that does not reply in time
        counts as zero, and noise and divisor stay.

    Raises:
        TrainingError: From a round in which not one of the clients that were asked
            replied: something is wrong with the nodes.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        settings: str,
        protection: Protection,
        seeded: int | None,
        codec: bytes = b"",
    ) -> None:
        self._exchange, self._settings, self._codec = exchange, settings, codec
        self._protection, self._seeded = protection, seeded

    def __call__(self, ask: Ask, total: RoundTotal, pay: Pay) -> NDArray[np.float64]:
        """The released total of a round."""
        replies = self._exchange.ask(
            {client: self.order(ask, client).content() for client in ask.cohort}
        )
        if ask.cohort and not replies:
            raise TrainingError(
                f"none of the {len(ask.cohort)} clients of round {ask.round + 1}"
                " replied in time; see the nodes' logs, or raise run.patience"
            )
        self._protection.check_round(len(replies))
        for client in sorted(replies):  # in the order of a run in one process
            code = _code(replies[client], total.sum.size)
            if code is not None:
                total.take(client, code, _seen(replies[client]))
        total.complete()
        digest = total.digest()
        pay(digest)
        return total.released(digest)

    def order(self, ask: Ask, client: int) -> Order:
        """A client's part of a round."""
        mine = Ask(ask.round, (client,), ask.parameters, ask.seed)
        return Order(
            self._settings, self._protection, mine, client, self._seeded, self._codec
        )


def _code(content: RecordDict, length: int) -> NDArray[np.float64] | None:
    """The vector in a reply; None where it holds none."""
    record = content.array_records.get("arrays")
    if record is None or "code" not in record:
        return None
    found = record["code"].numpy()
    if found.shape != (length,) or found.dtype.kind != "f":
        return None
    return found.astype(np.float64)


def _seen(content: RecordDict) -> Diagnostics | None:
    record = content.config_records.get(SENT)
    if record is None:
        return None
    try:
        return Diagnostics(**json.loads(str(record["diagnostics"])))
    except (KeyError, TypeError, ValueError):
        return None  # private, and not needed
