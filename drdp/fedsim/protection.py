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
from typing import TYPE_CHECKING, TypeVar, final

from drdp import _check
from drdp.errors import (
    CalibrationError,
    InvalidArgumentError,
    UnsoundThreatModelError,
)
from drdp.fedsim.cohort import AllocatedCohort, Cohorts, expected_size
from drdp.privacy.calibration import calibrate, calibrate_count, within
from drdp.privacy.curves import Accountant
from drdp.privacy.distributed import distributed_discrete_gaussian
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
from drdp.privacy.rdp import rdp_curve
from drdp.privacy.releases import DiscreteGaussian, Skellam
from drdp.privacy.sampling import RandomlyAllocated
from drdp.privacy.threat import Placement, PoissonCohort, ThreatModel, View

__all__ = [
    "MOST_ROUNDS",
    "MechanismName",
    "Protection",
    "calibrated",
    "rounds_within",
]

if TYPE_CHECKING:
    from drdp.mechanisms.aggregation import Aggregation

Member = TypeVar("Member", bound=StrEnum)

MOST_ROUNDS = 10**6


class MechanismName(StrEnum):
    """The law of the noise.

    - ``GAUSSIAN``: on floating-point numbers.
    - ``DISCRETE_GAUSSIAN``, ``SKELLAM``: on an integer grid, as secure aggregation
      needs it, and exact.  No amplification by sampling is claimed with them.
    """

    GAUSSIAN = "gaussian"
    DISCRETE_GAUSSIAN = "discrete-gaussian"
    SKELLAM = "skellam"


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
        mechanism: The law of the noise.
        granularity: The step of the integer grid / `clip_norm`; for discrete noise.
        code_length: How many numbers a code has; needed for discrete noise.

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
    mechanism: MechanismName = MechanismName.GAUSSIAN
    granularity: float = 2.0**-12
    code_length: int | None = None

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
            ("mechanism", MechanismName),
        ):
            object.__setattr__(self, name, _member(name, kind, getattr(self, name)))
        _check_combination(self)
        self.event(0)

    @property
    def noise_std(self) -> float:
        """The standard deviation of the noise where it is added."""
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
            amplify=None if self.mechanism is MechanismName.GAUSSIAN else False,
        )

    @property
    def counted_shares(self) -> int | None:
        """How many honest shares of noise a sum surely has; None with central noise."""
        if self.placement is Placement.CENTRAL or self.threat is None:
            return None
        return self.threat.shares

    @property
    def aggregation(self) -> Aggregation:
        """The integer grid, in units of the clip norm, and the sensitivity on it."""
        from drdp.mechanisms.aggregation import Aggregation
        from drdp.mechanisms.integer_grid import IntegerGrid

        grid = IntegerGrid(
            clip_norm=1.0, granularity=self.granularity, length=self.code_length or 1
        )
        shares = self.counted_shares
        return Aggregation(
            grid=grid,
            clients=shares or 1,
            survivors=shares,
            adjacency=self.relation,
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
        total = self.noise_multiplier
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
        if self.mechanism is not MechanismName.GAUSSIAN:
            return self._discrete(noise)
        event = effective_event(threat, noise, 1)
        return event.event if isinstance(event, Repeated) else event

    def _discrete(self, noise: float) -> Event:
        """One round, as if whoever is protected took part in it."""
        uncovered = self.placement is Placement.CENTRAL and self.view is View.MESSAGES
        if uncovered:
            return NonPrivate()
        aggregation, shares = self.aggregation, self.counted_shares
        size, far = aggregation.grid.dimension, aggregation.sensitivity
        scale = noise / self.granularity
        if self.mechanism is MechanismName.SKELLAM:
            variance = (shares or 1) * scale * scale * (1.0 - 2.0**-50)
            return Skellam(variance, far, size, aggregation.l1_sensitivity)
        if shares is None:
            return DiscreteGaussian(scale / far * (1.0 - 2.0**-50), far, size)
        if scale * scale < 0.5:
            return NonPrivate()  # shares that narrow do not add up
        return distributed_discrete_gaussian(shares, scale, far, dimension=size)


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
    curve = _accountant(protection)
    if beside != NOTHING and not target(curve(beside)):
        raise CalibrationError(
            "what was released before the first round spends more than the whole"
            f" budget of epsilon {epsilon:g}: give it more noise, or use a public"
            " prior, which costs nothing"
        )

    def run(noise: float) -> Event:
        return replace(protection, noise_multiplier=noise).run_event(rounds) + beside

    found = calibrate(run, curve, target)
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
        _accountant(protection),
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


def _accountant(protection: Protection) -> Accountant:
    """Of vectors of integers, Renyi bounds are what is proven."""
    gaussian = protection.mechanism is MechanismName.GAUSSIAN
    return pld_curve if gaussian else rdp_curve


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
    if protection.mechanism is not MechanismName.GAUSSIAN:
        _check_discrete(protection)
    if isinstance(protection.cohort, AllocatedCohort) and not (central and hidden):
        raise UnsoundThreatModelError(
            "random allocation is accounted for with central noise and an outsider's"
            " view only: with noise at the clients the number of noise shares would"
            " show who takes part; use a cohort of fixed size"
        )
    if protection.examples_per_user is None:
        return
    _check.count(least=1, examples_per_user=protection.examples_per_user)
    if not (central and hidden and isinstance(protection.cohort, PoissonCohort)):
        raise UnsoundThreatModelError(
            "user-level guarantees of example-level sampling are accounted for with"
            " Poisson sampling, central noise and an outsider's view only"
        )


def _check_discrete(protection: Protection) -> None:
    """What discrete noise needs to be told, and what nobody has proven of it."""
    _check.positive(granularity=protection.granularity)
    if protection.code_length is None:
        raise InvalidArgumentError(
            f"code_length must be given with mechanism {protection.mechanism}: what"
            " rounding adds to a code's norm depends on it"
        )
    _check.count(least=1, code_length=protection.code_length)
    if (
        isinstance(protection.cohort, AllocatedCohort)
        or protection.examples_per_user is not None
    ):
        raise UnsoundThreatModelError(
            f"with mechanism {protection.mechanism} neither random allocation nor"
            " example-level sampling is accounted for: no worst case of sampled"
            " vectors of integers is proven; use mechanism gaussian"
        )
