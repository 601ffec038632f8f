"""What dp-accounting's events are in drdp's algebra, and the other way round.

The neighbouring relation, which dp-accounting keeps in its accountants, is an
argument here.

>>> import dp_accounting as dp
>>> round_ = dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(1.0))
>>> from_dp_event(dp.SelfComposedDpEvent(round_, 20))
Repeated(event=PoissonSampled(rate=0.05, event=Gaussian(noise_multiplier=1.0)), count=20)
"""  # noqa: E501 - an event's representation is one line

from __future__ import annotations

import math
from typing import Any, Literal, final

import dp_accounting as dp
from dp_accounting import dp_event

from drdp import _check
from drdp.errors import InvalidArgumentError, UnsupportedEventError
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    Composed,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    Repeated,
    adjacency_of,
)
from drdp.privacy.outside import DominatingPair
from drdp.privacy.releases import (
    MixtureOfGaussians,
    RandomisedResponse,
    ZeroConcentrated,
)
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    Scheduled,
    TruncatedPoissonSampled,
)

__all__ = [
    "NoisePer",
    "from_dp_event",
    "neighboring_relation",
    "to_dp_event",
]

NoisePer = Literal["clip-norm", "sensitivity"]

_ADD_REMOVE = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
_ADJACENCY = {
    _ADD_REMOVE: Adjacency.ADD_REMOVE,
    dp.NeighboringRelation.REPLACE_ONE: Adjacency.REPLACE_ONE,
    dp.NeighboringRelation.REPLACE_SPECIAL: Adjacency.ZERO_OUT,
}
_RELATION = {adjacency: relation for relation, adjacency in _ADJACENCY.items()}
_DEEPEST = 200


def from_dp_event(
    event: dp.DpEvent,
    relation: dp.NeighboringRelation = _ADD_REMOVE,
    *,
    noise_per: NoisePer = "clip-norm",
) -> Event:
    """A `DpEvent` in drdp's algebra.

    Args:
        event: What was released.
        relation: Which data sets are neighbours.
        noise_per: What a noise multiplier is relative to when a record is
            replaced.  ``"clip-norm"``: the largest norm C of one record's
            value, as dp-accounting's events document it; the sum then moves by
            up to 2C.  ``"sensitivity"``: that 2C itself, as its RDP accountant
            takes it.  Without replacement the two are the same.

    Raises:
        UnsupportedEventError: If drdp has no event of the same meaning.
        InvalidArgumentError: If a parameter is out of its domain.

    >>> from_dp_event(dp.GaussianDpEvent(1.0), dp.NeighboringRelation.REPLACE_ONE)
    Gaussian(noise_multiplier=0.5)
    """
    if relation not in _ADJACENCY:
        raise InvalidArgumentError(
            f"relation must be a NeighboringRelation, got {relation!r}"
        )
    if noise_per not in ("clip-norm", "sensitivity"):
        raise InvalidArgumentError(
            f"noise_per must be 'clip-norm' or 'sensitivity', got {noise_per!r}"
        )
    factor = 1.0
    if relation is dp.NeighboringRelation.REPLACE_ONE and noise_per == "sensitivity":
        factor = 2.0
    return _Reading(_ADJACENCY[relation], factor).of(event)


def neighboring_relation(event: Event) -> dp.NeighboringRelation:
    """The relation that an event is stated under; add or remove where it has none."""
    found = adjacency_of(event)
    return _ADD_REMOVE if found is None else _RELATION[found]


def to_dp_event(
    event: Event, relation: dp.NeighboringRelation | None = None
) -> dp.DpEvent:
    """An event of drdp as a `DpEvent`, for accountants of its own relation.

    Noise multipliers come out relative to the clip norm, as dp-accounting's
    events document them, so that `from_dp_event` leads back.

    Args:
        event: What was released.
        relation: Which data sets are neighbours; by default what the event
            itself says, and add or remove where it says nothing.

    Raises:
        UnsupportedEventError: If dp-accounting has no event of the same meaning.
        InvalidArgumentError: If the event is stated under another relation.

    >>> to_dp_event(FixedSizeSampled(5, 100, Gaussian(1.0)))
    SampledWithoutReplacementDpEvent(source_dataset_size=100, sample_size=5, event=GaussianDpEvent(noise_multiplier=2.0))
    """  # noqa: E501 - an event's representation is one line
    found = adjacency_of(event)
    if relation is None:
        relation = neighboring_relation(event)
    if relation not in _ADJACENCY or found not in (None, _ADJACENCY[relation]):
        raise InvalidArgumentError(
            f"relation must be that of the event, {found}, got {relation!r}"
        )
    return _Writing(_ADJACENCY[relation]).of(event)


def _refused(event: object, what: str) -> UnsupportedEventError:
    return UnsupportedEventError(f"{type(event).__name__} is refused: {what}")


@final
class _Reading:
    """`DpEvent`s to events under one relation.

    A multiplier z is per clip norm after `factor`; bare releases and samples of
    a fixed size want it per 2C when a record is replaced.
    """

    def __init__(self, adjacency: Adjacency, factor: float) -> None:
        self.adjacency = adjacency
        self.per_norm = factor
        replaced = adjacency is Adjacency.REPLACE_ONE
        self.per_change = factor / 2.0 if replaced else factor

    def of(self, event: object, factor: float | None = None, depth: int = 0) -> Event:
        """An event whose noise multipliers are to be scaled.

        `factor` is None outside of any sample, where every kind is welcome.
        """
        if depth > _DEEPEST:
            raise _refused(event, f"events nest deeper than {_DEEPEST}")
        scale = self.per_change if factor is None else factor
        match event:
            case dp.NoOpDpEvent():
                return NOTHING
            case dp.NonPrivateDpEvent():
                return NonPrivate()
            case dp.GaussianDpEvent(noise_multiplier=z):
                return Gaussian(_scaled(z, scale))
            case dp.LaplaceDpEvent(noise_multiplier=z):
                return Laplace(_scaled(z, scale))
            case dp.SelfComposedDpEvent(event=inner, count=count):
                return Repeated(self.of(inner, factor, depth + 1), count)
            case dp.ComposedDpEvent(events=parts):
                found = [self.of(part, factor, depth + 1) for part in parts]
                return Composed(tuple(found))
            case dp.DpEvent() if factor is None:
                return self._alone(event, depth)
            case dp.DpEvent():
                raise _refused(
                    event, "inside a sample, drdp takes Gaussian and Laplace"
                )
        raise InvalidArgumentError(f"event must be a DpEvent, got {event!r:.80}")

    def _alone(self, event: object, depth: int) -> Event:
        """What only stands outside of samples."""
        match event:
            case dp.PoissonSampledDpEvent(sampling_probability=rate, event=inner):
                found = self.of(inner, self.per_norm, depth + 1)
                return PoissonSampled(rate, found, self.adjacency)
            case dp.SampledWithoutReplacementDpEvent():
                return self._fixed_size(event, depth + 1)
            case dp_event.TruncatedSubsampledGaussianDpEvent():
                return self._truncated(event)
            case dp_event.MixtureOfGaussiansDpEvent():
                return self._mixture(event)
            case dp.RandomizedResponseDpEvent(noise_parameter=p, num_buckets=k):
                return self._answer(event, p, k)
            case dp.ZCDpEvent(rho=rho, xi=xi):
                if xi != 0.0:
                    raise _refused(event, f"drdp has rho-zCDP with xi = 0, got xi={xi}")
                return ZeroConcentrated(rho)
        raise _refused(event, _ADVICE.get(type(event).__name__, _UNKNOWN))

    def _fixed_size(self, event: Any, depth: int) -> Event:
        size, population = event.sample_size, event.source_dataset_size
        if self.adjacency is Adjacency.ADD_REMOVE:
            raise _refused(
                event,
                "a sample of fixed size has a meaning only if a record is replaced;"
                " use REPLACE_ONE or REPLACE_SPECIAL",
            )
        if self.adjacency is Adjacency.ZERO_OUT:
            found = self.of(event.event, self.per_norm, depth)
            return FixedSizeZeroOut(size, population, found)
        found = self.of(event.event, self.per_change, depth)
        return FixedSizeSampled(size, population, found)

    def _truncated(self, event: Any) -> Event:
        if event.dataset_size == 0 or event.truncated_batch_size == 0:
            return NOTHING
        return TruncatedPoissonSampled(
            event.sampling_probability,
            event.dataset_size,
            event.truncated_batch_size,
            Gaussian(_scaled(event.noise_multiplier, self.per_norm)),
            self.adjacency,
        )

    def _mixture(self, event: Any) -> Event:
        if self.adjacency is Adjacency.REPLACE_ONE:
            raise _refused(
                event,
                "its law is that of a record added, removed or zeroed; use"
                " ADD_OR_REMOVE_ONE or REPLACE_SPECIAL",
            )
        steps, shares = tuple(event.sensitivities), tuple(event.sampling_probs)
        if all(step == 0.0 for step in steps):
            return NOTHING
        if event.standard_deviation == 0.0:
            return NonPrivate()
        return MixtureOfGaussians(
            steps, shares, event.standard_deviation, self.adjacency
        )

    def _answer(self, event: object, p: float, k: int) -> Event:
        if self.adjacency is Adjacency.ADD_REMOVE:
            raise _refused(
                event,
                "that there is an answer is not hidden; use REPLACE_ONE or"
                " REPLACE_SPECIAL",
            )
        p = _check.rate(noise_parameter=p)
        k = _check.count(least=1, num_buckets=k)
        if k == 1 or p == 1.0:
            return NOTHING
        if p == 0.0:
            return NonPrivate()
        if self.adjacency is Adjacency.REPLACE_ONE:
            return RandomisedResponse(math.log1p(k * (1.0 - p) / p), k)
        # The special answer is uniform; every other category tells as little.
        other = (k - 1) * p / k
        true, uniform = 1.0 - other, 1.0 / k
        return DominatingPair(
            (true, other), (uniform, 1.0 - uniform), Adjacency.ZERO_OUT
        )


@final
class _Writing:
    """Events to `DpEvent`s under one relation."""

    def __init__(self, adjacency: Adjacency) -> None:
        self.adjacency = adjacency
        self.doubled = 2.0 if adjacency is Adjacency.REPLACE_ONE else 1.0

    def of(self, event: Event) -> dp.DpEvent:
        """An event outside of any sample."""
        match event:
            case Repeated(event=inner, count=count):
                return self._repeated(self.of(inner), count)
            case Composed(events=parts) if parts:
                return dp.ComposedDpEvent([self.of(part) for part in parts])
            case PoissonSampled(rate=rate, event=inner):
                return dp.PoissonSampledDpEvent(rate, self._release(inner, 1.0))
            case FixedSizeSampled(sample_size=size, population=all_, event=inner):
                found = self._release(inner, 2.0)
                return dp.SampledWithoutReplacementDpEvent(all_, size, found)
            case FixedSizeZeroOut(sample_size=size, population=all_, event=inner):
                found = self._release(inner, 1.0)
                return dp.SampledWithoutReplacementDpEvent(all_, size, found)
            case Scheduled(participations=count, event=inner):
                return self._repeated(self._release(inner, 1.0), count)
            case TruncatedPoissonSampled(event=Gaussian(noise_multiplier=z)):
                return dp_event.TruncatedSubsampledGaussianDpEvent(
                    event.population, event.rate, event.max_batch, z
                )
            case MixtureOfGaussians():
                return dp_event.MixtureOfGaussiansDpEvent(
                    event.noise_multiplier, event.sensitivities, event.probabilities
                )
            case ZeroConcentrated(rho=rho):
                return dp.ZCDpEvent(rho)
            case RandomisedResponse(epsilon=epsilon, categories=k):
                if self.adjacency is not Adjacency.REPLACE_ONE:
                    raise _refused(
                        event, "dp-accounting has it where a record is replaced only"
                    )
                return dp.RandomizedResponseDpEvent(k / (math.expm1(epsilon) + k), k)
        return self._release(event, self.doubled)

    def _release(self, event: Event, factor: float) -> dp.DpEvent:
        match event:
            case NonPrivate():
                return dp.NonPrivateDpEvent()
            case Gaussian(noise_multiplier=z):
                return dp.GaussianDpEvent(_scaled(z, factor))
            case Laplace(noise_multiplier=z):
                return dp.LaplaceDpEvent(_scaled(z, factor))
            case Composed(events=()):
                return dp.NoOpDpEvent()
            case Composed(events=parts):
                return dp.ComposedDpEvent(
                    [self._release(part, factor) for part in parts]
                )
            case Repeated(event=inner, count=count):
                return self._repeated(self._release(inner, factor), count)
        raise _refused(event, "dp-accounting 0.6 has no event of the same meaning here")

    def _repeated(self, event: dp.DpEvent, count: int) -> dp.DpEvent:
        return dp.SelfComposedDpEvent(event, count) if count else dp.NoOpDpEvent()


def _scaled(z: Any, factor: float) -> float:
    return _check.at_least_zero(noise_multiplier=z) * factor


_UNKNOWN = "drdp has no event of the same meaning here"
_ADVICE = {
    "UnsupportedDpEvent": "it stands for an operation without a description",
    "DiscreteLaplaceDpEvent": (
        "drdp has no discrete Laplace noise; it is epsilon-DP for epsilon ="
        " noise_parameter * sensitivity, which ApproxDP states"
    ),
    "SampledWithReplacementDpEvent": (
        "drdp has no sampling with replacement; account for the release without"
        " sampling, or draw without replacement"
    ),
    "SingleEpochTreeAggregationDpEvent": (
        "drdp has no tree aggregation; state the nodes that a record is in as"
        " Gaussian events"
    ),
    "RepeatAndSelectDpEvent": "drdp has no private selection",
}
