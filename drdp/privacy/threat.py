"""Who is trusted with what: the adversary's view, the noise's place, the cohort.

A `ThreatModel` that exists is sound: combinations from which no guarantee
follows are refused when it is made, with the reason.  What it leaves of the
noise is in `exposure`.

>>> ThreatModel(View.OUTSIDER, Placement.DISTRIBUTED, PoissonCohort(0.05))
Traceback (most recent call last):
drdp.errors.UnsoundThreatModelError: noise at the clients and Poisson cohorts ...
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, final

from drdp import _check
from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.privacy.blocks import ONE_CLIP, Clipping
from drdp.privacy.events import Adjacency

__all__ = [
    "Cohort",
    "EveryClient",
    "FixedCohort",
    "Placement",
    "PoissonCohort",
    "ThreatModel",
    "View",
]

Member = TypeVar("Member", bound=StrEnum)


class View(StrEnum):
    """What the adversary sees in each round, least trusting first.

    - ``MESSAGES``: a server that sees each client's message and draws the cohort.
    - ``SUM``: a server that draws the cohort and sees the noised sum alone, by
      secure aggregation or because a trusted party adds up.
    - ``COLLUDING``: clients who see each noised sum and know their own messages
      and noise, but not who else takes part.
    - ``OUTSIDER``: someone who sees the released models and nothing else.
    """

    MESSAGES = "messages"
    SUM = "sum"
    COLLUDING = "colluding"
    OUTSIDER = "outsider"


class Placement(StrEnum):
    """Where the noise is added.

    - ``CENTRAL``: once to the sum of a round, by a party trusted to do so.
    - ``DISTRIBUTED``: a share at each client; the shares of the guaranteed
      survivors protect the sum together, so only the sum may be seen.
    - ``LOCAL``: at each client, and nobody else's noise is relied on.  A sum
      without the client may then carry no noise at all, which would show that it
      was not there, so sampling is never counted as help.
    """

    CENTRAL = "central"
    DISTRIBUTED = "distributed"
    LOCAL = "local"


@final
@dataclass(frozen=True, slots=True)
class PoissonCohort:
    """Each client joins a round independently, with probability `rate`."""

    rate: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", _check.rate(rate=self.rate))


@final
@dataclass(frozen=True, slots=True)
class FixedCohort:
    """`clients_per_round` of `population` clients, uniformly, without replacement.

    Clients that can never be reached are not part of the population: they hide
    nobody.
    """

    clients_per_round: int
    population: int

    def __post_init__(self) -> None:
        size = _check.count(least=1, clients_per_round=self.clients_per_round)
        if _check.count(least=1, population=self.population) < size:
            raise InvalidArgumentError(
                f"population must be at least clients_per_round={size},"
                f" got {self.population}"
            )


@final
@dataclass(frozen=True, slots=True)
class EveryClient:
    """All `clients` take part in every round."""

    clients: int

    def __post_init__(self) -> None:
        _check.count(least=1, clients=self.clients)


Cohort = PoissonCohort | FixedCohort | EveryClient


@final
@dataclass(frozen=True, slots=True)
class ThreatModel:
    """What is assumed about the adversary, the clients and the aggregation.

    Args:
        view: What the adversary sees.
        placement: Where the noise is added.
        cohort: Who takes part in a round.
        adjacency: Which data sets are neighbours.  Under zero-out with noise at
            the clients, a client without data still sends its noise.
        clipping: How a contribution is bounded.
        survivors: The number of clients whose messages are guaranteed to be in
            each sum that is released, colluding ones included; None for the
            whole cohort.
        colluding: How many of these may tell the adversary their noise.
        max_participations: A hard limit on how often a client takes part.  It
            makes rounds depend on each other, so that with it no amplification
            by sampling is claimed.
        amplify: True to insist on amplification by sampling, False to forgo
            it, None to use it where it is sound without further assumptions.
            Where clients may drop out (survivors below the cohort) that is
            nowhere: insisting then assumes that dropping out has nothing to do
            with who the client is, so that those who arrive are a uniform
            sample as well.

    Raises:
        UnsoundThreatModelError: If no guarantee follows from the combination;
            the message says why and what to use instead.
        InvalidArgumentError: If an argument is outside its domain.
    """

    view: View
    placement: Placement
    cohort: Cohort
    adjacency: Adjacency = Adjacency.REPLACE_ONE
    clipping: Clipping = ONE_CLIP
    survivors: int | None = None
    colluding: int = 0
    max_participations: int | None = None
    amplify: bool | None = None

    def __post_init__(self) -> None:
        for name, kind in (
            ("view", View),
            ("placement", Placement),
            ("adjacency", Adjacency),
        ):
            object.__setattr__(self, name, _member(name, kind, getattr(self, name)))
        if not isinstance(self.cohort, Cohort):
            raise InvalidArgumentError(
                "cohort must be a PoissonCohort, FixedCohort or EveryClient,"
                f" got {self.cohort!r}"
            )
        if not isinstance(self.clipping, Clipping):
            raise InvalidArgumentError(
                f"clipping must be a Clipping, got {self.clipping!r}"
            )
        if self.max_participations is not None:
            _check.count(least=1, max_participations=self.max_participations)
        _check_relation(self)
        _check_amplification(self)
        _check_shares(self)

    @property
    def sees_participation(self) -> bool:
        """Whether the adversary knows who takes part in a round."""
        return self.view in (View.MESSAGES, View.SUM)

    @property
    def amplified(self) -> bool:
        """Whether sampling makes the guarantee stronger."""
        return (
            self.amplify is not False
            and not self.sees_participation
            and self.max_participations is None
            and self.placement is not Placement.LOCAL
            and not _is_everybody(self.cohort)
            and (self.amplify is True or not self._some_drop_out)
        )

    @property
    def _some_drop_out(self) -> bool:
        size = _size(self.cohort)
        return None not in (self.survivors, size) and self.survivors != size

    @property
    def sensitivity(self) -> float:
        """How far one neighbour moves the sum, in units of the noise ratios."""
        return self.distance * self.clipping.norm

    @property
    def distance(self) -> float:
        """How far neighbouring contributions are apart, in units of their norm.

        1 where one of them is absent or zero, 2 where both may be anything: then
        the worst case is a contribution and its opposite.
        """
        return 2.0 if self.adjacency is Adjacency.REPLACE_ONE else 1.0

    @property
    def shares(self) -> int:
        """How many clients' noise covers the sum, or the message, that is seen."""
        if self.placement is not Placement.DISTRIBUTED or self.view is View.MESSAGES:
            return 1
        return (self.survivors or _size(self.cohort) or 1) - self.colluding

    def check_round(self, arrived: int) -> None:
        """Refuse a round in which too few clients' messages arrived.

        Raises:
            UnsoundThreatModelError: If fewer arrived than were guaranteed: the
                round must not be released.
        """
        wanted = self.survivors or _size(self.cohort) or 1
        if self.placement is Placement.DISTRIBUTED and arrived < wanted:
            raise UnsoundThreatModelError(
                f"only {arrived} of the {wanted} guaranteed survivors arrived, so"
                " the sum has too little noise: abort the round; noise that the"
                f" server adds (variance of {wanted - arrived} shares) would protect"
                " against outsiders, not against the server"
            )


def _size(cohort: Cohort) -> int | None:
    match cohort:
        case FixedCohort(clients_per_round=size) | EveryClient(clients=size):
            return size
    return None


def _is_everybody(cohort: Cohort) -> bool:
    match cohort:
        case EveryClient():
            return True
        case FixedCohort(clients_per_round=size, population=population):
            return size == population
    return False


def _member(name: str, kind: type[Member], value: object) -> Member:
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(kind)
        raise InvalidArgumentError(
            f"{name} must be one of {known}, got {value!r}"
        ) from None


def _check_relation(threat: ThreatModel) -> None:
    """Add-remove needs a presence that nothing but the sum depends on."""
    if threat.adjacency is not Adjacency.ADD_REMOVE:
        return
    instead = "use zero-out, where a client without data still takes part"
    if isinstance(threat.cohort, FixedCohort):
        raise UnsoundThreatModelError(
            "a cohort of fixed size is not defined when a client more or less"
            f" exists (add-remove); {instead}, or replace-one"
        )
    if threat.sees_participation:
        raise UnsoundThreatModelError(
            f"whoever sees who takes part ({threat.view}) sees whether a client"
            f" exists at all, so nothing is protected under add-remove; {instead}"
        )
    if threat.placement is not Placement.CENTRAL:
        raise UnsoundThreatModelError(
            "with noise at the clients, a client more or less (add-remove) changes"
            " the number of noise shares, and the variance of the sum gives that"
            f" away; {instead} and sends its noise"
        )


def _check_amplification(threat: ThreatModel) -> None:
    """Sampling hides only from those who do not see it, in any way."""
    if threat.amplify and threat.sees_participation:
        raise UnsoundThreatModelError(
            "no amplification by sampling holds against the server that draws the"
            f" cohort (view {threat.view}): it knows who takes part; leave out"
            " amplify, and the worst-case participations are composed"
        )
    if threat.amplify and threat.placement is Placement.LOCAL:
        raise UnsoundThreatModelError(
            "no amplification by sampling holds with placement local: nobody else's"
            " noise is relied on, so a sum without the client may carry none, which"
            " shows that it was not there; use placement distributed"
        )
    if threat.amplify and threat.max_participations is not None:
        raise UnsoundThreatModelError(
            "a cap on participations makes a client's rounds depend on each other,"
            " so amplification by sampling is not proved; give one of amplify and"
            " max_participations"
        )
    if threat.amplify and _is_everybody(threat.cohort):
        raise InvalidArgumentError(
            "amplify must not be True where every client takes part in every round"
        )
    if (
        threat.amplified
        and isinstance(threat.cohort, PoissonCohort)
        and threat.placement is Placement.DISTRIBUTED
    ):
        raise UnsoundThreatModelError(
            "noise at the clients and Poisson cohorts do not go together: the number"
            " of noise shares is random, and the variance of the sum tells whether a"
            " client took part, so sampling hides nothing; use a cohort of fixed"
            " size, or central noise"
        )


def _check_shares(threat: ThreatModel) -> None:
    """How many shares of noise there surely are."""
    colluding = _check.count(colluding=threat.colluding)
    if threat.view is View.COLLUDING and colluding == 0:
        raise InvalidArgumentError("colluding must be at least 1 with view colluding")
    if threat.view in (View.OUTSIDER, View.MESSAGES) and colluding > 0:
        raise InvalidArgumentError(
            f"colluding must be 0 with view {threat.view}, got {colluding}; use view"
            " colluding for clients who see the models, sum for a server with clients"
        )
    if threat.survivors is not None:
        _check.count(least=1, survivors=threat.survivors)
        if threat.placement is not Placement.DISTRIBUTED:
            raise InvalidArgumentError(
                f"survivors={threat.survivors} has no meaning with placement"
                f" {threat.placement}, which relies on no other client's noise"
            )
    if threat.placement is not Placement.DISTRIBUTED or threat.view is View.MESSAGES:
        return
    size = _size(threat.cohort)
    if threat.survivors is None and size is None:
        raise UnsoundThreatModelError(
            "a Poisson cohort guarantees no number of noise shares: state survivors,"
            " and abort a round in which fewer arrive"
        )
    if size is not None and (threat.survivors or 0) > size:
        raise InvalidArgumentError(
            f"survivors must be at most the {size} clients of a round,"
            f" got {threat.survivors}"
        )
    if colluding >= (threat.survivors or size or 1):
        raise UnsoundThreatModelError(
            f"with {colluding} colluding clients among {threat.survivors or size}"
            " guaranteed survivors no honest noise is guaranteed; let each client"
            " add all the noise it needs (placement local)"
        )
