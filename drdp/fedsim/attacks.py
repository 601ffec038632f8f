"""What released values say about whether a canary was there.

The attacker knows the code, the codec, every other client's data, and what a
canary would add; he lacks the noise and, against an outsider, who was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from drdp.errors import InvalidArgumentError
from drdp.fedsim.canaries import Planting
from drdp.fedsim.cohort import AllocatedCohort, expected_size
from drdp.fedsim.sight import Sight
from drdp.fedsim.simulate import codec_of
from drdp.privacy.threat import EveryClient, FixedCohort, Placement, PoissonCohort, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Seen", "outputs", "usual_view"]

Seen = Literal["messages", "sum", "models"]
"""What the scores are computed from: each message, the noised sums, the models."""

_MOST_PAIRS = 8  # rounds up to which every pair of rounds is looked at
_LEAST_NOISE = 1e-3  # in units of a contribution: what no noise is taken for


def usual_view(view: View) -> Seen:
    """What the guarantee of a view covers: messages, or else the sums."""
    return "messages" if view is View.MESSAGES else "sum"


def outputs(
    planting: Planting, sights: Sequence[Sight], seen: Seen, num_clients: int
) -> NDArray[np.float64]:
    """Numbers about each canary from one run, shape (canaries, numbers).

    Args:
        planting: What the canaries would send.
        sights: One per round, from the first.
        seen: What is looked at.
        num_clients: The public number of clients, canaries included.

    Returns:
        First the log-likelihood ratio of in against out, as it would be if the
        noise were as stated and all others sent nothing; then, of short runs, the
        inner product of each round's release with the canary's direction in each
        round, from which a rule can be learnt that expects something else.

    Raises:
        InvalidArgumentError: If messages are wanted that the view does not show.
    """
    import numpy as np

    if seen == "messages" and planting.simulation.protection.view is not View.MESSAGES:
        raise InvalidArgumentError(
            "seen='messages' needs a run whose view is messages: no other adversary"
            " is shown them"
        )
    # The server may draw the cohort itself: then it knows who took part.
    rate = 1.0 if seen == "messages" else _rate(planting, num_clients)
    spread = _spread(planting, sights, seen)
    whole = [
        _Released(planting, sight, seen, num_clients) if seen != "messages" else None
        for sight in sights
    ]
    found = []
    for canary in range(planting.canaries):
        ratios: list[float] = []
        cross: list[float] = []
        gaps = [_gap(planting, canary, number) for number in range(len(sights))]
        for number, sight in enumerate(sights):
            release = whole[number] or _Message(sight, canary)
            ratios.append(
                _ratio(planting, canary, number, release, spread[number], rate)
            )
            if len(sights) <= _MOST_PAIRS:
                cross += [release.along(gap) for gap in gaps]
        found.append([_joined(planting, ratios), *cross])
    return np.array(found)


class _Message:
    """The message of one canary; nothing where it was not drawn."""

    def __init__(self, sight: Sight, canary: int) -> None:
        self._message = sight.messages.get(canary)

    @property
    def empty(self) -> bool:
        return self._message is None

    def along(self, towards: NDArray[np.float64]) -> float:
        """Inner product with a direction of code space."""
        return 0.0 if self._message is None else float(self._message @ towards)


class _Released:
    """A round's sum, or what of it can be read off the models."""

    def __init__(
        self, planting: Planting, sight: Sight, seen: Seen, num_clients: int
    ) -> None:
        simulation = planting.simulation
        self.empty = False
        self._step: NDArray[np.float64] | None = None
        self._codec = codec_of(simulation.compressor, sight.round - 1)
        self._total = sight.total
        for message in _told(planting, sight):
            self._total = self._total - message
        if seen == "models":
            cohort = simulation.protection.cohort
            size = simulation.size or expected_size(cohort, num_clients)
            rate = simulation.server.learning_rate
            self._step = (sight.after - sight.before) * (size / rate)

    def along(self, towards: NDArray[np.float64]) -> float:
        """Inner product with a direction of code space, as far as it shows."""
        import numpy as np

        if self._step is None:
            return float(self._total @ towards)
        decoded = np.asarray(self._codec.decode(towards), dtype=np.float64)
        length = float(decoded @ decoded)
        if length == 0.0:
            return 0.0
        return float(self._step @ decoded) / length * float(towards @ towards)


def _gap(planting: Planting, canary: int, round_: int) -> NDArray[np.float64]:
    inside = planting.contribution(canary, round_, inside=True)
    return inside - planting.contribution(canary, round_, inside=False)


def _ratio(
    planting: Planting,
    canary: int,
    round_: int,
    release: _Message | _Released,
    spread: float,
    rate: float,
) -> float:
    """Log-likelihood ratio of one round, up to what does not depend on the canary."""
    if release.empty:
        return 0.0

    def against_nothing(inside: bool) -> float:
        adds = planting.contribution(canary, round_, inside=inside)
        exponent = release.along(adds) - 0.5 * float(adds @ adds)
        return _mixed(exponent / spread**2, rate)

    return against_nothing(True) - (against_nothing(False) if planting.opposes else 0.0)


def _mixed(exponent: float, rate: float) -> float:
    """log(1 - rate + rate e^exponent)."""
    if rate >= 1.0:
        return exponent
    top = max(0.0, exponent)
    return top + math.log(
        (1.0 - rate) * math.exp(-top) + rate * math.exp(exponent - top)
    )


def _joined(planting: Planting, ratios: Sequence[float]) -> float:
    """Over all rounds; of an allocated pass exactly one has the canary."""
    cohort = planting.simulation.protection.cohort
    if not isinstance(cohort, AllocatedCohort):
        return sum(ratios)
    total = 0.0
    for start in range(0, len(ratios), cohort.rounds):
        part = ratios[start : start + cohort.rounds]
        top = max(part)
        absent = cohort.rounds - len(part)
        mass = sum(math.exp(one - top) for one in part) + absent * math.exp(-top)
        total += top + math.log(mass / cohort.rounds)
    return total


def _rate(planting: Planting, num_clients: int) -> float:
    match planting.simulation.protection.cohort:
        case PoissonCohort(rate):
            return rate
        case FixedCohort(clients_per_round=size):
            return size / num_clients
        case EveryClient() | AllocatedCohort():
            return 1.0


def _told(planting: Planting, sight: Sight) -> list[NDArray[np.float64]]:
    """The messages that colluders know to be part of the sum."""
    colluding = planting.simulation.protection.view is View.COLLUDING
    return list(sight.messages.values()) if colluding else []


def _spread(planting: Planting, sights: Sequence[Sight], seen: Seen) -> list[float]:
    """The stated noise of what is seen in each round."""
    import numpy as np

    protection = planting.simulation.protection
    least = _LEAST_NOISE * float(
        np.linalg.norm(planting.contribution(0, 0, inside=True))
    )
    alone = seen == "messages" or protection.placement is Placement.CENTRAL
    return [
        max(
            least,
            protection.noise_std
            * (1.0 if alone else math.sqrt(sight.cohort - len(_told(planting, sight)))),
        )
        for sight in sights
    ]
