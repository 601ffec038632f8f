"""What released values say about whether somebody was there.

The attacker knows the code, the codec, what a suspect would send, and his own
share of the noise if he colludes; he lacks the rest of the noise and, against an
outsider, who was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from drdp.errors import InvalidArgumentError
from drdp.fedsim.cohort import AllocatedCohort, expected_size
from drdp.fedsim.sight import Sight
from drdp.fedsim.simulate import Simulation, codec_of
from drdp.fedsim.trainer import Trainer
from drdp.privacy.threat import EveryClient, FixedCohort, Placement, PoissonCohort, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.compression.protocol import Compressor

__all__ = ["Seen", "Suspect", "names_of", "outputs", "usual_view"]

Seen = Literal["messages", "sum", "models", "last"]
"""What the scores are computed from.

Each message, the noised sums, the models after every round, or the last model alone.
"""

_MOST_PAIRS = 8  # rounds up to which every pair of rounds is looked at
_LEAST_NOISE = 1e-3  # in units of a contribution: what no noise is taken for


class Suspect(Protocol):
    """Those whose presence in a run is at stake: canaries, or a client with data."""

    @property
    def simulation(self) -> Simulation:
        """What they are sent through."""
        ...

    @property
    def rounds(self) -> int:
        """Of a run."""
        ...

    @property
    def seed(self) -> int:
        """The public seed of local training."""
        ...

    @property
    def canaries(self) -> int:
        """How many suspects there are; they sit before all others."""
        ...

    @property
    def seats(self) -> int:
        """How many seats each has: more than one if it is a user with examples."""
        ...

    @property
    def opposes(self) -> bool:
        """Whether one that is out sends something else, instead of nothing."""
        ...

    def contribution(
        self,
        canary: int,
        round_: int,
        *,
        inside: bool,
        before: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """What one seat adds to a sum, given the parameters `before` the round."""
        ...

    def among(self, rest: Trainer, inside: Sequence[bool]) -> Trainer:
        """The suspects, in or out, with the others behind them."""
        ...

    @property
    def hint_names(self) -> tuple[str, ...]:
        """Of the numbers of `hints`."""
        ...

    def hints(self, last: NDArray[np.float64]) -> tuple[float, ...]:
        """What else the last model tells about them, larger for one that is in."""
        ...


def usual_view(view: View) -> Seen:
    """What the guarantee of a view covers: messages, or else the sums."""
    return "messages" if view is View.MESSAGES else "sum"


def names_of(suspect: Suspect, seen: Seen) -> tuple[str, ...]:
    """Names of the numbers of `outputs`, as far as they have some."""
    rounds = range(1, suspect.rounds + 1)
    hints = suspect.hint_names if seen in ("models", "last") else ()
    if seen == "last":
        parts = [f"last model along round {k}" for k in rounds]
        return ("last model along all rounds", *hints, *parts)
    parts = []
    if len(rounds) <= _MOST_PAIRS:
        parts = [f"round {i} along the suspect of {k}" for i in rounds for k in rounds]
    return ("likelihood ratio", *hints, *parts)


def outputs(
    suspect: Suspect, sights: Sequence[Sight], seen: Seen, num_clients: int
) -> NDArray[np.float64]:
    """Numbers about each suspect from one run, shape (suspects, numbers).

    Those with a name should be larger for one that is in.

    Args:
        suspect: What the suspects would send.
        sights: One per round, from the first.
        seen: What is looked at.
        num_clients: The public number of clients, suspects included.

    Returns:
        First the log-likelihood ratio of in against out, as it would be if the
        noise were as stated and all others sent nothing; then, of short runs, the
        inner product of each round's release with the suspect's contribution in
        each round, from which a rule can be learnt that expects something else.
        Of the last model: its change along all contributions, along each, and
        what the suspect adds.

    Raises:
        InvalidArgumentError: If messages are wanted that the view does not show.
    """
    import numpy as np

    if seen == "messages" and suspect.simulation.protection.view is not View.MESSAGES:
        raise InvalidArgumentError(
            "seen='messages' needs a run whose view is messages: no other adversary"
            " is shown them"
        )
    adds = (_contributions(suspect, sights, seen, k) for k in range(suspect.canaries))
    hints: tuple[float, ...] = ()
    if seen in ("models", "last"):
        hints = suspect.hints(sights[-1].after)
    if seen == "last":
        return np.array(
            [_of_last(suspect, sights, one, num_clients, hints) for one in adds]
        )
    # The server may draw the cohort itself: then it knows who took part.
    rate = 1.0 if seen == "messages" else _rate(suspect, num_clients)
    spread = _spread(suspect, sights, seen)
    whole = [
        _Released(suspect, sight, seen, num_clients) if seen != "messages" else None
        for sight in sights
    ]
    found = []
    for canary, pairs in enumerate(adds):
        ratios: list[float] = []
        cross: list[float] = []
        for number, sight in enumerate(sights):
            release = whole[number] or _Message(sight, canary * suspect.seats)
            ratios.append(_ratio(suspect, pairs[number], release, spread[number], rate))
            if len(sights) <= _MOST_PAIRS:
                cross += [release.along(one - other) for one, other in pairs]
        found.append([_joined(suspect, ratios), *hints, *cross])
    return np.array(found)


_Pair = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


def _contributions(
    suspect: Suspect, sights: Sequence[Sight], seen: Seen, canary: int
) -> list[_Pair]:
    """In each round, what one suspect adds if it is in, and if it is out.

    Who sees only the last model knows the parameters before the first round, and
    takes them for those before every other.
    """
    found = []
    for number, sight in enumerate(sights):
        before = sights[0].before if seen == "last" else sight.before
        one, other = (
            suspect.contribution(canary, number, inside=inside, before=before)
            for inside in (True, False)
        )
        found.append((one, other))
    return found


def _of_last(
    suspect: Suspect,
    sights: Sequence[Sight],
    pairs: list[_Pair],
    num_clients: int,
    hints: tuple[float, ...],
) -> list[float]:
    """The change of the model over the run, along what each round would have had."""
    change = sights[-1].after - sights[0].before
    step = change * _undone(suspect.simulation, num_clients)
    along = [
        _along_model(codec_of(suspect.simulation.compressor, number), step, one - other)
        for number, (one, other) in enumerate(pairs)
    ]
    return [sum(along), *hints, *along]


class _Message:
    """The message of one suspect; nothing where it was not drawn."""

    def __init__(self, sight: Sight, seat: int) -> None:
        self._message = sight.messages.get(seat)

    @property
    def empty(self) -> bool:
        return self._message is None

    def along(self, towards: NDArray[np.float64]) -> float:
        """Inner product with a direction of code space."""
        return 0.0 if self._message is None else float(self._message @ towards)


class _Released:
    """A round's sum, or what of it can be read off the models."""

    def __init__(
        self, suspect: Suspect, sight: Sight, seen: Seen, num_clients: int
    ) -> None:
        simulation = suspect.simulation
        self.empty = False
        self._step: NDArray[np.float64] | None = None
        self._codec = codec_of(simulation.compressor, sight.round - 1)
        self._total = sight.total
        for message in _told(suspect, sight):
            self._total = self._total - message
        if seen == "models":
            self._step = (sight.after - sight.before) * _undone(simulation, num_clients)

    def along(self, towards: NDArray[np.float64]) -> float:
        """Inner product with a direction of code space, as far as it shows."""
        if self._step is None:
            return float(self._total @ towards)
        return _along_model(self._codec, self._step, towards)


def _undone(simulation: Simulation, num_clients: int) -> float:
    """What turns a server's plain step into the decoded sum, as it is stated."""
    cohort = simulation.protection.cohort
    size = simulation.size or expected_size(cohort, num_clients)
    return size / simulation.server.learning_rate


def _along_model(
    codec: Compressor, step: NDArray[np.float64], towards: NDArray[np.float64]
) -> float:
    import numpy as np

    decoded = np.asarray(codec.decode(towards), dtype=np.float64)
    length = float(decoded @ decoded)
    if length == 0.0:
        return 0.0
    return float(step @ decoded) / length * float(towards @ towards)


def _ratio(
    suspect: Suspect,
    pair: _Pair,
    release: _Message | _Released,
    spread: float,
    rate: float,
) -> float:
    """Log-likelihood ratio of one round, up to what does not depend on the suspect."""
    if release.empty:
        return 0.0

    def against_nothing(adds: NDArray[np.float64]) -> float:
        along, square = release.along(adds) / spread**2, float(adds @ adds) / spread**2
        return _mixed(along, square, suspect.seats, rate)

    one, other = pair
    return against_nothing(one) - (against_nothing(other) if suspect.opposes else 0.0)


def _mixed(along: float, square: float, seats: int, rate: float) -> float:
    """log of the mean of exp(j along - j^2 square / 2), j of `seats` drawn at `rate`.

    >>> round(_mixed(2.0, 1.0, 1, 0.5), 6), round(math.log((1 + math.e**1.5) / 2), 6)
    (1.008266, 1.008266)
    """
    if rate >= 1.0:
        return seats * along - 0.5 * seats**2 * square
    logs = [
        math.log(math.comb(seats, j))
        + j * math.log(rate)
        + (seats - j) * math.log1p(-rate)
        + j * along
        - 0.5 * j * j * square
        for j in range(seats + 1)
    ]
    top = max(logs)
    return top + math.log(sum(math.exp(one - top) for one in logs))


def _joined(suspect: Suspect, ratios: Sequence[float]) -> float:
    """Over all rounds; of an allocated pass exactly one has the canary."""
    cohort = suspect.simulation.protection.cohort
    if not isinstance(cohort, AllocatedCohort):
        return sum(ratios)
    total = 0.0
    for start in range(0, len(ratios), cohort.rounds):
        part = ratios[start : start + cohort.rounds]
        absent = cohort.rounds - len(part)
        top = max([*part, *([0.0] if absent else [])])
        mass = sum(math.exp(one - top) for one in part) + absent * math.exp(-top)
        total += top + math.log(mass / cohort.rounds)
    return total


def _rate(suspect: Suspect, num_clients: int) -> float:
    match suspect.simulation.protection.cohort:
        case PoissonCohort(rate):
            return rate
        case FixedCohort(clients_per_round=size):
            return size / num_clients
        case EveryClient() | AllocatedCohort():
            return 1.0


def _told(suspect: Suspect, sight: Sight) -> list[NDArray[np.float64]]:
    """The messages that colluders know to be part of the sum."""
    colluding = suspect.simulation.protection.view is View.COLLUDING
    return list(sight.messages.values()) if colluding else []


def _spread(suspect: Suspect, sights: Sequence[Sight], seen: Seen) -> list[float]:
    """The stated noise of what is seen in each round."""
    import numpy as np

    protection = suspect.simulation.protection
    first = suspect.contribution(0, 0, inside=True, before=sights[0].before)
    least = max(_LEAST_NOISE * float(np.linalg.norm(first)), 1e-150)
    alone = seen == "messages" or protection.placement is Placement.CENTRAL
    return [
        max(
            least,
            protection.noise_std
            * (1.0 if alone else math.sqrt(sight.cohort - len(_told(suspect, sight)))),
        )
        for sight in sights
    ]
