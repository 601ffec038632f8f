"""What a run tells its nodes in a round: settings, protection, codec, parameters.

Everything in an order is public, as far as the models of a run are.

>>> import numpy as np
>>> from drdp.fedsim.collecting import Ask
>>> from drdp.fedsim.protection import Protection
>>> from drdp.privacy.threat import PoissonCohort
>>> protection = Protection(PoissonCohort(0.1), clip_norm=0.5, noise_multiplier=1.0)
>>> start = np.zeros(3, np.float32)
>>> order = Order("{}", protection, Ask(4, (7,), start, 11), client=7, seeded=None)
>>> again = Order.read(order.content())
>>> again.protection == protection, again.ask.round, again.client
(True, 4, 7)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from drdp.errors import InvalidArgumentError
from drdp.fedsim.cohort import AllocatedCohort, Cohorts
from drdp.fedsim.collecting import Ask
from drdp.fedsim.protection import Protection
from drdp.privacy.threat import EveryClient, FixedCohort, PoissonCohort

__all__ = ["ORDER", "Order"]

ORDER = "drdp-order"
"""The record of a message that an order is told in."""

_COHORTS: dict[str, type[Any]] = {
    "allocation": AllocatedCohort,
    "every": EveryClient,
    "fixed": FixedCohort,
    "poisson": PoissonCohort,
}


@final
@dataclass(frozen=True, slots=True)
class Order:
    """One client's part of a round.

    Args:
        settings: The run's settings as JSON; the node makes its trainer of them.
        protection: How what the client sends is bounded and hidden.
        ask: The round.
        client: Whose update is wanted.
        seeded: The seed of all noise, in a run that can be replayed; None where
            the node's noise is its own secret.
        codec: The file of a fitted codec; empty where the settings say it all.
        most: How many clients there are.
    """

    settings: str
    protection: Protection
    ask: Ask
    client: int
    seeded: int | None
    codec: bytes = b""
    most: int = 1

    def content(self) -> RecordDict:
        """The order as the content of a message."""
        record = ConfigRecord(
            {
                "settings": self.settings,
                "protection": _written(self.protection),
                "round": self.ask.round,
                "local-seed": str(self.ask.seed),
                "client": self.client,
                "clients": self.most,
                "codec": self.codec,
                "seeded": "" if self.seeded is None else str(self.seeded),
            }
        )
        arrays = ArrayRecord({"parameters": Array(self.ask.parameters)})
        return RecordDict({ORDER: record, "arrays": arrays})

    @classmethod
    def read(cls, content: RecordDict) -> Order:
        """The order in a message.

        Raises:
            InvalidArgumentError: If there is none, or it is damaged.
        """
        found = content.config_records.get(ORDER)
        if found is None:
            raise InvalidArgumentError(
                "the message must hold an order of drdp; run drdp's ServerApp"
            )
        try:
            parameters = content.array_records["arrays"]["parameters"].numpy()
            client, seeded = int(str(found["client"])), str(found["seeded"])
            ask = Ask(
                int(str(found["round"])),
                (client,),
                parameters.astype(np.float32),
                int(str(found["local-seed"])),
            )
            codec = found["codec"]
            return cls(
                str(found["settings"]),
                _protection(str(found["protection"])),
                ask,
                client,
                int(seeded) if seeded else None,
                codec if isinstance(codec, bytes) else b"",
                int(str(found["clients"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"the order is damaged: {error!r:.120}; run the same version of drdp"
                " at the server and at the nodes"
            ) from None


def _written(protection: Protection) -> str:
    found = {
        item.name: getattr(protection, item.name)
        for item in fields(protection)
        if item.name != "cohort"
    }
    return json.dumps(found | {"cohort": _cohort(protection.cohort)})


def _cohort(cohort: Cohorts) -> list[Any]:
    (name,) = (name for name, kind in _COHORTS.items() if isinstance(cohort, kind))
    return [name, [getattr(cohort, item.name) for item in fields(cohort)]]


def _protection(text: str) -> Protection:
    found = json.loads(text)
    name, values = found.pop("cohort")
    return Protection(_COHORTS[name](*values), **found)
