"""What a run promises: how contributions are drawn, clipped and noised, as events.

>>> from drdp.privacy.threat import PoissonCohort
>>> plan = Protection(PoissonCohort(0.05), clip_norm=1.0, noise_multiplier=1.0)
>>> plan.event(0).event, str(plan.event(0).adjacency)
(Gaussian(noise_multiplier=1.0), 'zero-out')
>>> found = calibrated(plan, epsilon=2.0, delta=1e-5, rounds=20)
>>> round(found.noise_multiplier, 4)
0.9968
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar, final

from drdp import _check
from drdp.errors import (
    CalibrationError,
    InvalidArgumentError,
    UnsoundThreatModelError,
)
from drdp.fedsim.cohort import AllocatedCohort, Cohorts, expected_size
from drdp.fedsim.steering import Steering
from drdp.privacy.calibration import calibrate, calibrate_count, within
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    Event,
    Gaussian,
    NonPrivate,
    PoissonSampled,
    Repeated,
)
from drdp.privacy.example_level import example_level
from drdp.privacy.exposure import effective_event
from drdp.privacy.pld import pld_curve
from drdp.privacy.sampling import RandomlyAllocated
from drdp.privacy.threat import Placement, PoissonCohort, ThreatModel, View

__all__ = ["MOST_ROUNDS", "Protection", "calibrated", "rounds_within"]

Member = TypeVar("Member", bound=StrEnum)

MOST_ROUNDS = 10**6


@final
@dataclass(frozen=True, slots=True)
class Protection:
    """How a run protects its clients.

    Args:
        cohort: How the clients of a round are drawn.
        clip_norm: The largest L2 norm of one client's whole code (one joint
            clip); infinite, for no clipping, only without noise.
        noise_multiplier: The standard deviation of the noise where it is added,
            divided by `clip_norm`: once to the sum with central noise, at each
            client otherwise.  0 is no noise, and no guarantee.
        placement: Where the noise is added.
        view: What the adversary sees.
        adjacency: Which data sets are neighbours; None for the usual one:
            zero-out where Poisson or allocated cohorts meet central noise (the
            number of clients is public), else replace-one.
        survivors: How many messages each released sum is guaranteed to hold.
        colluding: How many of these may tell the adversary their noise.
        examples_per_user: Where what is drawn and clipped is a single example,
            the most that one user may have: the guarantee is then the user's.
        public: Whether all data that is trained on is public: then nothing is
            released about anybody, and noise and clip norm are as they are.
        steering: How the clip norm follows the norms of codes; `clip_norm` is
            then that of the first round, and `noise_multiplier` covers the codes
            and the count that moves it.  None keeps the clip norm as it is.

    Raises:
        UnsoundThreatModelError: If no guarantee follows from the combination.
    """

    cohort: Cohorts
    clip_norm: float
    noise_multiplier: float
    placement: Placement = Placement.CENTRAL
    view: View = View.OUTSIDER
    adjacency: Adjacency | None = None
    survivors: int | None = None
    colluding: int = 0
    examples_per_user: int | None = None
    public: bool = False
    steering: Steering | None = None

    def __post_init__(self) -> None:
        if self.clip_norm != math.inf or self.noise_multiplier > 0.0:
            _check.positive(clip_norm=self.clip_norm)
        _check.at_least_zero(noise_multiplier=self.noise_multiplier)
        if self.adjacency is None:
            independent = isinstance(self.cohort, PoissonCohort | AllocatedCohort)
            plain = independent and self.placement is Placement.CENTRAL
            hidden = self.view in (View.OUTSIDER, View.COLLUDING)
            found = Adjacency.ZERO_OUT if plain and hidden else Adjacency.REPLACE_ONE
            object.__setattr__(self, "adjacency", found)
        for name, kind in (
            ("adjacency", Adjacency),
            ("placement", Placement),
            ("view", View),
        ):
            object.__setattr__(self, name, _member(name, kind, getattr(self, name)))
        _check_combination(self)
        self.event(0)

    def codes_noise(self, size: float) -> float:
        """The noise multiplier of the codes alone.

        Args:
            size: The public expected size of a cohort.

        Raises:
            InvalidArgumentError: If the count that steers the clip norm cannot be
                paid for.
        """
        if self.steering is None:
            return self.noise_multiplier
        return self.steering.codes_noise(self.noise_multiplier, size)

    @property
    def noise_std(self) -> float:
        """The noise's standard deviation where it is added, for a fixed clip norm."""
        return self.noise_multiplier * self.clip_norm if self.noisy else 0.0

    @property
    def noisy(self) -> bool:
        """Whether there is any noise."""
        return self.noise_multiplier > 0.0

    @property
    def relation(self) -> Adjacency:
        """Which data sets are neighbours."""
        return self.adjacency or Adjacency.ZERO_OUT

    @property
    def threat(self) -> ThreatModel | None:
        """The threat model, where the cohort is one of `drdp.privacy.threat`."""
        if isinstance(self.cohort, AllocatedCohort):
            return None
        return ThreatModel(
            self.view,
            self.placement,
            self.cohort,
            self.relation,
            survivors=self.survivors,
            colluding=self.colluding,
        )

    def event(self, round_: int) -> Event:
        """What a round releases, to be charged before it is released.

        An allocated pass is one event: it is charged with its first round.
        """
        return self._event(round_, self.noise_multiplier)

    def run_event(self, rounds: int) -> Event:
        """What the rounds from the first one on release together."""
        rounds = _check.count(rounds=rounds)
        if rounds == 0 or self.public:
            return NOTHING
        if isinstance(self.cohort, AllocatedCohort):
            return self.event(0) * math.ceil(rounds / self.cohort.rounds)
        return self.event(0) * rounds

    def check_round(self, arrived: int) -> None:
        """Refuse a round in which too few clients' messages arrived."""
        if self.threat is not None:
            self.threat.check_round(arrived)

    def noise_of_mean(self, num_clients: int) -> float:
        """The noise of each coordinate of the mean, in units of the clip norm."""
        size = expected_size(self.cohort, num_clients)
        total = self.codes_noise(size)
        if self.placement is not Placement.CENTRAL:
            total *= math.sqrt(size)
        return total / size

    def _event(self, round_: int, noise: float) -> Event:
        if self.public:
            return NOTHING
        if noise == 0.0:
            return NonPrivate()
        if isinstance(self.cohort, AllocatedCohort):
            if round_ % self.cohort.rounds:
                return NOTHING
            inner = Gaussian(noise)
            if self.cohort.rounds == 1:
                return PoissonSampled(1.0, inner, self.relation)
            return RandomlyAllocated(self.cohort.rounds, inner, 1, self.relation)
        if self.examples_per_user is not None and isinstance(
            self.cohort, PoissonCohort
        ):
            return example_level(
                self.examples_per_user,
                self.cohort.rate,
                noise,
                adjacency=self.relation,
            )
        threat = self.threat
        if threat is None:
            raise UnsoundThreatModelError("no event is known for this cohort")
        event = effective_event(threat, noise, 1)
        return event.event if isinstance(event, Repeated) else event


def calibrated(
    protection: Protection,
    *,
    epsilon: float,
    delta: float,
    rounds: int,
    beside: Event = NOTHING,
) -> Protection:
    """The same protection with the least noise that keeps to a budget.

    Args:
        protection: Its noise multiplier is only a start.
        epsilon: The budget, above 0.
        delta: Strictly between 0 and 1.
        rounds: How many rounds release something, at least 1.
        beside: What else is released about the same clients, for instance the
            statistics of a prior; it is paid from the same budget.

    Guarantees:
        ``run_event(rounds) + beside`` was tested to meet the target.

    Raises:
        CalibrationError: If `beside` alone exceeds the budget.
    """
    target = within(_check.positive(epsilon=epsilon), delta)
    rounds = _check.count(least=1, rounds=rounds)
    if beside != NOTHING and not target(pld_curve(beside)):
        raise CalibrationError(
            "what was released before the first round spends more than the whole"
            f" budget of epsilon {epsilon:g}: give it more noise, or use a public"
            " prior, which costs nothing"
        )

    def run(noise: float) -> Event:
        return replace(protection, noise_multiplier=noise).run_event(rounds) + beside

    found = calibrate(run, pld_curve, target)
    return replace(protection, noise_multiplier=found)


def rounds_within(
    protection: Protection, *, epsilon: float, delta: float, beside: Event = NOTHING
) -> int:
    """How many rounds a budget buys at the noise that there is.

    Raises:
        CalibrationError: If not even one round fits.
    """
    target = within(_check.positive(epsilon=epsilon), delta)
    found = calibrate_count(
        lambda rounds: protection.run_event(rounds) + beside,
        pld_curve,
        target,
        most=MOST_ROUNDS,
    )
    if found == 0:
        raise CalibrationError(
            f"not even one round with noise multiplier {protection.noise_multiplier:g}"
            f" fits into epsilon {epsilon:g} at delta {delta:g}: raise the noise or"
            " the budget"
        )
    return found


def _member(name: str, kind: type[Member], value: object) -> Member:
    """A member of an enumeration, also by its value: what follows compares members."""
    try:
        return kind(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(kind)
        raise InvalidArgumentError(
            f"{name} must be one of {known}, got {value!r}"
        ) from None


def _check_combination(protection: Protection) -> None:
    """What the threat model does not know about."""
    central = protection.placement is Placement.CENTRAL
    hidden = protection.view is View.OUTSIDER
    if isinstance(protection.cohort, AllocatedCohort) and not (central and hidden):
        raise UnsoundThreatModelError(
            "random allocation is accounted for with central noise and an outsider's"
            " view only: with noise at the clients the number of noise shares would"
            " show who takes part; use a cohort of fixed size"
        )
    if protection.steering is not None and not central:
        raise UnsoundThreatModelError(
            "privacy.clip_norm adaptive needs placement central, got"
            f" {protection.placement}: the count of clipped codes is noised once, by"
            " whoever adds up, and clients' own noise does not cover it; use a fixed"
            " clip norm"
        )
    if protection.steering is not None and protection.clip_norm == math.inf:
        raise InvalidArgumentError(
            "privacy.clip_norm adaptive needs a finite norm to begin with, got inf"
        )
    if protection.examples_per_user is None:
        return
    _check.count(least=1, examples_per_user=protection.examples_per_user)
    if not (central and hidden and isinstance(protection.cohort, PoissonCohort)):
        raise UnsoundThreatModelError(
            "user-level guarantees of example-level sampling are accounted for with"
            " Poisson sampling, central noise and an outsider's view only"
        )
