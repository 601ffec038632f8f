"""The server's part of a round: orders to the nodes of a cohort, their codes added up.

What is bounded, charged and noised how is `drdp.fedsim`'s business, as for a run
in one process.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, final

import numpy as np
from flwr.app import RecordDict

from drdp.errors import TrainingError
from drdp.fedsim.collecting import Ask, Pay
from drdp.fedsim.diagnostics import Diagnostics
from drdp.fedsim.flower.nodes import SENT
from drdp.fedsim.flower.orders import Order
from drdp.fedsim.flower.secure_sum import SecureSum
from drdp.fedsim.total import Total
from drdp.privacy.threat import Placement

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
        clients: How many there are.
        codec: The file of a fitted codec.

    Guarantees:
        With distributed noise this server sees masked messages and their sum, of
        at least as many clients as the noise is counted on.  The round is charged
        before the sum is unmasked; one that fails before that releases nothing,
        costs nothing and is tried once more.
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
        clients: int,
        codec: bytes = b"",
    ) -> None:
        self._exchange, self._settings, self._codec = exchange, settings, codec
        self._protection, self._seeded = protection, seeded
        self._clients = clients

    def __call__(self, ask: Ask, total: Total, pay: Pay) -> NDArray[np.float64]:
        """The released total of a round."""
        if self._protection.placement is Placement.DISTRIBUTED:
            return self._secure(ask, total, pay)
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
            code = _code(replies[client], total.sum)
            if code is not None:
                total.take(client, code, _seen(replies[client]))
        total.complete()
        digest = total.digest
        pay(digest)
        return total.released(digest)

    def order(self, ask: Ask, client: int) -> Order:
        """A client's part of a round."""
        mine = Ask(ask.round, (client,), ask.parameters, ask.seed)
        return Order(
            self._settings,
            self._protection,
            mine,
            client,
            self._seeded,
            self._codec,
            self._clients,
        )

    def _secure(self, ask: Ask, total: Total, pay: Pay) -> NDArray[np.float64]:
        asked = len(ask.cohort)
        wanted = max(self._protection.survivors or asked, asked // 2 + 1)
        secure, digest = self._masked(ask, total, wanted)
        self._protection.check_round(len(secure.present))
        pay(digest)
        total.take_sum(secure.unmasked(), secure.present)
        return total.released(digest)

    def _masked(self, ask: Ask, total: Total, wanted: int) -> tuple[SecureSum, bytes]:
        for again in (True, False):
            secure = SecureSum(
                self._exchange,
                ask.cohort,
                threshold=wanted,
                bits=total.bits,
                length=total.sum.size,
            )
            try:
                digest = secure.masked(lambda client: self.order(ask, client).content())
            except TrainingError:
                if not again:
                    raise
            else:
                break
        return secure, digest


def _code(content: RecordDict, like: NDArray[Any]) -> NDArray[Any] | None:
    """The vector in a reply; None where it holds none."""
    record = content.array_records.get("arrays")
    if record is None or "code" not in record:
        return None
    found = record["code"].numpy()
    return found if (found.shape, found.dtype) == (like.shape, like.dtype) else None


def _seen(content: RecordDict) -> Diagnostics | None:
    record = content.config_records.get(SENT)
    if record is None:
        return None
    try:
        return Diagnostics(**json.loads(str(record["diagnostics"])))
    except (KeyError, TypeError, ValueError):
        return None  # private, and not needed
