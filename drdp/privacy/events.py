"""What was released: an immutable algebra of privacy events.

An event says which randomised releases a run makes, and nothing about what
they cost; accountants turn it into a privacy curve.  Events compose with
``+``, repeat with ``*``, compare and hash by value.  `atoms` is the normal
form: composition is resolved there, once, so no accountant ever walks a tree.

>>> round_ = PoissonSampled(0.05, Gaussian(1.0))
>>> run = round_ * 20 + Gaussian(5.0)
>>> for atom, times in atoms(run).items():
...     print(times, atom)
20 PoissonSampled(rate=0.05, event=Gaussian(noise_multiplier=1.0))
1 Gaussian(noise_multiplier=5.0)
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.adjacency import Adjacency, known_adjacency

__all__ = [
    "NOTHING",
    "Adjacency",
    "ApproxDP",
    "Composed",
    "Event",
    "FixedSizeSampled",
    "Gaussian",
    "Laplace",
    "NonPrivate",
    "PoissonSampled",
    "Repeated",
    "Sampled",
    "adjacency_of",
    "atoms",
]


class Event:
    """Anything that was released.  Abstract: use the concrete events below."""

    __slots__ = ()

    def __add__(self, other: object) -> Event:
        if not isinstance(other, Event):
            return NotImplemented
        return Composed(_parts(self) + _parts(other))

    def __mul__(self, times: int) -> Event:
        return Repeated(self, times)

    __rmul__ = __mul__


def _parts(event: Event) -> tuple[Event, ...]:
    return event.events if isinstance(event, Composed) else (event,)


def _set(event: Event, /, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(event, name, value)


@final
@dataclass(frozen=True, slots=True)
class Gaussian(Event):
    """A sum released with Gaussian noise.

    Args:
        noise_multiplier: Noise standard deviation divided by the L2 sensitivity
            of what is released; 0 means no noise and costs everything.

    Inside `PoissonSampled` the divisor is the largest norm of one contribution
    (the clip norm C); inside `FixedSizeSampled` it is the replace-one
    sensitivity (2C).
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        noise = _check.at_least_zero(noise_multiplier=self.noise_multiplier)
        _set(self, noise_multiplier=noise)


@final
@dataclass(frozen=True, slots=True)
class Laplace(Event):
    """A value released with Laplace noise.

    Args:
        noise_multiplier: Scale of the noise divided by the L1 sensitivity; one
            release is (1/noise_multiplier)-DP.
    """

    noise_multiplier: float

    def __post_init__(self) -> None:
        noise = _check.at_least_zero(noise_multiplier=self.noise_multiplier)
        _set(self, noise_multiplier=noise)


@final
@dataclass(frozen=True, slots=True)
class ApproxDP(Event):
    """Any mechanism known only to be (epsilon, delta)-DP."""

    epsilon: float
    delta: float = 0.0

    def __post_init__(self) -> None:
        epsilon = _check.at_least_zero(epsilon=self.epsilon)
        _set(self, epsilon=epsilon, delta=_check.rate(delta=self.delta))


@final
@dataclass(frozen=True, slots=True)
class NonPrivate(Event):
    """A release without any protection: epsilon is infinite."""


@final
@dataclass(frozen=True, slots=True)
class PoissonSampled(Event):
    """An event run on a sample that each unit joins independently.

    Args:
        rate: Probability with which a unit is in the sample.
        event: What is released about the sample.
        adjacency: The neighbouring relation that the guarantee is under.
    """

    rate: float
    event: Event
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        _set(self, rate=_check.rate(rate=self.rate), event=_event(self.event))
        _set(self, adjacency=known_adjacency(self.adjacency))

    def __repr__(self) -> str:
        """Short where the relation is the default one."""
        tail = (
            ""
            if self.adjacency is Adjacency.ADD_REMOVE
            else f", adjacency={str(self.adjacency)!r}"
        )
        return f"PoissonSampled(rate={self.rate!r}, event={self.event!r}{tail})"


@final
@dataclass(frozen=True, slots=True)
class FixedSizeSampled(Event):
    """An event run on a uniform sample of fixed size, without replacement.

    The relation is replace-one: a fixed-size sample has no meaning when the
    population itself grows or shrinks.
    """

    sample_size: int
    population: int
    event: Event

    def __post_init__(self) -> None:
        population = _check.count(least=1, population=self.population)
        sample_size = _check.count(sample_size=self.sample_size)
        if sample_size > population:
            raise InvalidArgumentError(
                f"sample_size must be at most population={population},"
                f" got {sample_size}"
            )
        _set(self, population=population, sample_size=sample_size)
        _set(self, event=_event(self.event))

    @property
    def rate(self) -> float:
        """The share of the population that is sampled."""
        return _not_free(self.sample_size / self.population, self.sample_size)

    @property
    def adjacency(self) -> Adjacency:
        """Always replace-one."""
        return Adjacency.REPLACE_ONE


class Sampled(Event):
    """A release about a part of the data.  Abstract: see `sampling`."""

    __slots__ = ()

    if TYPE_CHECKING:  # what every subclass has, as a field or a property

        @property
        def event(self) -> Event: ...  # noqa: D102
        @property
        def adjacency(self) -> Adjacency: ...  # noqa: D102

    def resolved(self, inner: Event) -> Event:
        """The same in normal form, where what is released in a round is `inner`."""
        raise NotImplementedError


@final
@dataclass(frozen=True, slots=True)
class Repeated(Event):
    """An event that happens `count` times, each with fresh randomness."""

    event: Event
    count: int

    def __post_init__(self) -> None:
        _set(self, event=_event(self.event), count=_check.count(count=self.count))


@final
@dataclass(frozen=True, slots=True)
class Composed(Event):
    """Several events about the same data, one after the other."""

    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.events, tuple | list):
            raise InvalidArgumentError(
                f"events must be a sequence of events, got {self.events!r}"
            )
        _set(self, events=tuple(_event(part) for part in self.events))


def _not_free(product: float, factor: float) -> float:
    """A rate that rounding must not turn into 0 where it is not."""
    return max(product, sys.float_info.min) if factor > 0.0 else 0.0


NOTHING = Composed()
"""The event that releases nothing and costs nothing."""


def _event(value: object) -> Event:
    if not isinstance(value, Event):
        raise InvalidArgumentError(f"event must be an Event, got {value!r}")
    return value


def atoms(event: Event) -> Counter[Event]:
    """The normal form of an event: how often each irreducible release happens.

    Equal releases merge, so 100,000 equal rounds are one atom.  Sampling at
    rate 1 disappears, sampling at rate 0 releases nothing, nested Poisson
    sampling multiplies its rates, and Gaussians about one sample are one
    Gaussian.

    Raises:
        InvalidArgumentError: If parts of the event assume different
            neighbouring relations; their costs cannot be added.

    >>> atoms(Gaussian(2.0) * 3 + Gaussian(2.0))
    Counter({Gaussian(noise_multiplier=2.0): 4})
    >>> atoms(PoissonSampled(0.1, Gaussian(3.0) + Gaussian(4.0)))
    Counter({PoissonSampled(rate=0.1, event=Gaussian(noise_multiplier=2.4)): 1})
    """
    adjacency_of(event)
    total: Counter[Event] = Counter()
    _collect(event, 1, total)
    return total


def adjacency_of(event: Event) -> Adjacency | None:
    """The neighbouring relation that an event is stated under.

    None where no part of the event depends on one (an unsampled release states
    its noise relative to its own sensitivity, whatever the relation).
    """
    found = set(_adjacencies(_event(event)))
    if len(found) > 1:
        names = " and ".join(sorted(found))
        raise InvalidArgumentError(
            f"event mixes the neighbouring relations {names};"
            " state every part under the same one"
        )
    return found.pop() if found else None


def _adjacencies(event: Event) -> list[Adjacency]:
    match event:
        case PoissonSampled() | FixedSizeSampled() | Sampled():
            return [event.adjacency, *_adjacencies(event.event)]
        case Repeated(event=inner):
            return _adjacencies(inner)
        case Composed(events=parts):
            return [found for part in parts for found in _adjacencies(part)]
    own = getattr(event, "adjacency", None)
    return [own] if own else []


def _collect(event: Event, times: int, total: Counter[Event]) -> None:
    if times == 0:
        return
    match event:
        case Repeated(event=inner, count=count):
            _collect(inner, times * count, total)
        case Composed(events=parts):
            for part in parts:
                _collect(part, times, total)
        case PoissonSampled() | FixedSizeSampled():
            for atom, count in _sampled(event).items():
                total[atom] += times * count
        case Sampled():
            found = event.resolved(_one_release(atoms(event.event)))
            if isinstance(found, Sampled):
                total[found] += times
            else:
                _collect(found, times, total)
        case Gaussian(0.0) | Laplace(0.0) | ApproxDP(delta=1.0):
            total[NonPrivate()] += times
        case ApproxDP(epsilon=0.0, delta=0.0):
            return
        case _:
            total[event] += times


def _sampled(event: PoissonSampled | FixedSizeSampled) -> Counter[Event]:
    if isinstance(event, PoissonSampled):
        event = _merged(event)
    inner = _one_release(atoms(event.event))
    if event.rate == 0.0 or inner == NOTHING:
        return Counter()
    if event.rate == 1.0:
        doubled = (
            isinstance(event, PoissonSampled)
            and event.adjacency is Adjacency.REPLACE_ONE
        )
        return atoms(_doubled(inner) if doubled else inner)
    if isinstance(inner, NonPrivate):
        return Counter({inner: 1})
    if isinstance(event, PoissonSampled):
        return Counter({PoissonSampled(event.rate, inner, event.adjacency): 1})
    divisor = math.gcd(event.sample_size, event.population)
    size, population = event.sample_size // divisor, event.population // divisor
    return Counter({FixedSizeSampled(size, population, inner): 1})


def _merged(event: PoissonSampled) -> PoissonSampled:
    """Poisson sampling of a Poisson sample is Poisson sampling."""
    while True:
        inner = event.event
        if isinstance(inner, Composed) and len(inner.events) == 1:
            inner = inner.events[0]
        elif isinstance(inner, Repeated) and inner.count == 1:
            inner = inner.event
        elif isinstance(inner, PoissonSampled):
            rate = _not_free(event.rate * inner.rate, min(event.rate, inner.rate))
            event = PoissonSampled(rate, inner.event, event.adjacency)
            continue
        else:
            return event
        event = PoissonSampled(event.rate, inner, event.adjacency)


def _doubled(inner: Event) -> Event:
    """An unsampled release when one unit's data is replaced.

    A Poisson-sampled release states its noise per clip norm C, while two data
    sets that differ in one unit's data are up to 2C apart.
    """
    match inner:
        case Gaussian(noise_multiplier=z) | Laplace(noise_multiplier=z):
            return type(inner)(z / 2)
        case Repeated(event=part, count=count):
            return Repeated(_doubled(part), count)
        case Composed(events=parts):
            return Composed(tuple(_doubled(part) for part in parts))
    doubled: Event = getattr(inner, "doubled", inner)
    return doubled


def _one_release(parts: Counter[Event]) -> Event:
    """Several releases about one sample as a single event, where that is exact."""
    if NonPrivate() in parts:
        return NonPrivate()
    gaussians = {a: n for a, n in parts.items() if isinstance(a, Gaussian)}
    rest = [a * n if n > 1 else a for a, n in parts.items() if a not in gaussians]
    rest.sort(key=repr)
    if gaussians:
        # 1/z^2 adds; scaled by the least z, so that nothing overflows
        least = min(a.noise_multiplier for a in gaussians)
        share = math.fsum(
            n * (least / a.noise_multiplier) ** 2 for a, n in gaussians.items()
        )
        z = least / math.sqrt(share) if share != 1.0 else least
        if z == 0.0:
            return NonPrivate()
        rest.insert(0, Gaussian(z))
    return rest[0] if len(rest) == 1 else Composed(tuple(rest))
