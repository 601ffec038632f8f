"""Events of further mechanisms: discrete noise, random answers, mixtures.

They obey the algebra of `drdp.privacy.events`.  Each says what its parameters
are relative to, and which accountants have a formula for it: `pld_curve` where
a dominating pair is known, `rdp_curve` everywhere.

>>> from drdp.privacy.pld import epsilon_interval
>>> low, high, _ = epsilon_interval(RandomisedResponse(1.0) * 10, 1e-5)
>>> low < high, round(high, 4)
(True, 9.9998)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import Adjacency, Event

__all__ = [
    "DiscreteGaussian",
    "MixtureOfGaussians",
    "RandomisedResponse",
    "Skellam",
    "ZeroConcentrated",
    "advice",
    "has_only_renyi",
    "numbers",
    "relation_of",
]

_SUM_TO = 1e-12  # how far from 1 the sum of written probabilities may be
_ROUNDING = 4e-16  # of one such probability


def _set(event: Event, /, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(event, name, value)


@final
@dataclass(frozen=True, slots=True)
class DiscreteGaussian(Event):
    """Integers released with discrete Gaussian noise, independent in each.

    Args:
        noise_multiplier: The scale s of the noise N_Z(0, s^2) divided by the
            sensitivity; above 0.
        sensitivity: The L2 sensitivity of what is released, in units of the
            integer grid.
        dimension: How many integers are released.  It decides what is claimed:
            the exact privacy loss for a single one, whose sensitivity is then
            whole; for a vector, whose worst case under composition is not
            known, the bound of (sensitivity / s)^2 / 2-zCDP.

    References: Canonne, Kamath and Steinke, arXiv:2004.00010.
    """

    noise_multiplier: float
    sensitivity: float = 1.0
    dimension: int = 1

    def __post_init__(self) -> None:
        noise = _check.positive(noise_multiplier=self.noise_multiplier)
        dimension = _check.count(least=1, dimension=self.dimension)
        sensitivity = _grid_sensitivity(self.sensitivity, dimension)
        _set(self, noise_multiplier=noise, dimension=dimension, sensitivity=sensitivity)

    @property
    def scale(self) -> float:
        """The scale s of the noise, nearly its standard deviation."""
        return self.noise_multiplier * self.sensitivity

    @property
    def doubled(self) -> DiscreteGaussian:
        """The same noise where the data can move twice as far."""
        z, far = self.noise_multiplier / 2.0, 2.0 * self.sensitivity
        return DiscreteGaussian(z, far, self.dimension)


@final
@dataclass(frozen=True, slots=True)
class Skellam(Event):
    """Integers released with Skellam noise, the difference of two Poissons.

    Sums of Skellam shares are Skellam, so `variance` is that of the whole sum
    however many clients made it.

    Args:
        variance: The variance of the noise in each coordinate.
        sensitivity: The L2 sensitivity of what is released, in units of the
            integer grid.
        dimension: How many integers are released; as for `DiscreteGaussian`, a
            single one has an exact privacy loss, a vector a Renyi bound.
        l1_sensitivity: The L1 sensitivity; by default the most that integer
            vectors allow, min(sqrt(dimension) D, D^2) for L2 sensitivity D.

    References: Agarwal, Kairouz and Liu, arXiv:2110.04995.
    """

    variance: float
    sensitivity: float = 1.0
    dimension: int = 1
    l1_sensitivity: float | None = None

    def __post_init__(self) -> None:
        variance = _check.positive(variance=self.variance)
        dimension = _check.count(least=1, dimension=self.dimension)
        far = _grid_sensitivity(self.sensitivity, dimension)
        most = min(math.sqrt(dimension) * far, far * far)
        taken = most
        if self.l1_sensitivity is not None:
            taken = _check.positive(l1_sensitivity=self.l1_sensitivity)
            if taken < far:
                raise InvalidArgumentError(
                    f"l1_sensitivity must be at least sensitivity={far}, got {taken}:"
                    " no vector's L1 norm is below its L2 norm"
                )
        _set(self, variance=variance, sensitivity=far, dimension=dimension)
        _set(self, l1_sensitivity=min(taken, most))

    @property
    def doubled(self) -> Skellam:
        """The same noise where the data can move twice as far."""
        far, l1 = 2.0 * self.sensitivity, 2.0 * (self.l1_sensitivity or 0.0)
        return Skellam(self.variance, far, self.dimension, l1)


@final
@dataclass(frozen=True, slots=True)
class ZeroConcentrated(Event):
    """Any mechanism known only to be rho-zCDP: order * rho at every Renyi order.

    No dominating pair is known that is tight for all such mechanisms, so
    `rdp_curve` answers for it and `pld_curve` does not.

    References: Bun and Steinke, arXiv:1605.02065.
    """

    rho: float

    def __post_init__(self) -> None:
        _set(self, rho=_check.at_least_zero(rho=self.rho))

    @property
    def doubled(self) -> ZeroConcentrated:
        """Of two mechanisms' distance: twice as far is four times rho."""
        return ZeroConcentrated(4.0 * self.rho)


@final
@dataclass(frozen=True, slots=True)
class RandomisedResponse(Event):
    """One of k categories, true with probability e^epsilon / (e^epsilon + k - 1).

    Every other category is equally likely.  The cost is that of changing the
    answer, whatever the relation; that there is an answer at all is not hidden.

    Args:
        epsilon: Its pure epsilon, above 0.
        categories: k, at least 2; with k = 2 it is the worst epsilon-DP mechanism.

    References: Kairouz, Oh and Viswanath, arXiv:1407.1338.
    """

    epsilon: float
    categories: int = 2

    def __post_init__(self) -> None:
        epsilon = _check.positive(epsilon=self.epsilon)
        categories = _check.count(least=2, categories=self.categories)
        _set(self, epsilon=epsilon, categories=categories)


@final
@dataclass(frozen=True, slots=True)
class MixtureOfGaussians(Event):
    """A sum with Gaussian noise that one unit moves by a random amount.

    Without the unit the release is N(0, z^2), with it a mixture of N(c, z^2)
    over the sensitivities c; both directions are accounted for.  Vectors moved
    by at most c reduce to it (Choquette-Choo et al., arXiv:2310.15526).

    Args:
        sensitivities: How far the unit can move the sum, each at least 0.
        probabilities: How likely each of them is.
        noise_multiplier: The noise's standard deviation in the unit that the
            sensitivities are in, such as a clip norm.
        adjacency: Add/remove or zero-out; replacing one unit by another has
            another law.

    What the probabilities lack of 1 beyond rounding is added at the largest
    sensitivity, which never lowers the cost.

    References: Charles et al., arXiv:2407.07737.
    """

    sensitivities: tuple[float, ...]
    probabilities: tuple[float, ...]
    noise_multiplier: float
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        noise = _check.positive(noise_multiplier=self.noise_multiplier)
        steps = numbers("sensitivities", self.sensitivities, _check.at_least_zero)
        shares = numbers("probabilities", self.probabilities, _check.rate)
        if len(steps) != len(shares):
            raise InvalidArgumentError(
                f"probabilities must be as many as sensitivities ({len(steps)}),"
                f" got {len(shares)}"
            )
        found: dict[float, list[float]] = {}
        for step, share in zip(steps, shares, strict=True):
            if share > 0.0:
                found.setdefault(step, []).append(share)
        weights = {step: math.fsum(found[step]) for step in sorted(found)}
        if not weights or max(weights) == 0.0:
            raise InvalidArgumentError(
                "sensitivities must have one above 0 with a positive probability,"
                f" got {self.sensitivities!r:.80}; what moves nothing is NOTHING"
            )
        rest = 1.0 - math.fsum(weights.values())
        where = max(weights, key=lambda step: weights[step])
        if abs(rest) > _ROUNDING * len(shares):  # then to the safe side
            where = max(weights) if rest > 0.0 else min(weights)
        if abs(rest) > _SUM_TO or weights[where] + rest <= 0.0:
            raise InvalidArgumentError(
                f"probabilities must sum to 1, got {1.0 - rest!r}"
            )
        weights[where] += rest
        _set(self, noise_multiplier=noise, adjacency=relation_of(self.adjacency))
        _set(self, sensitivities=tuple(weights), probabilities=tuple(weights.values()))


def advice(event: Event) -> str:
    """What to do about a release that an accountant refuses."""
    inner = getattr(event, "event", event)
    if not has_only_renyi(inner):
        return "use pld_curve"
    if inner is event:
        return "use rdp_curve: only a Renyi bound of it is known, so not pld_curve"
    return (
        "neither has pld_curve: only a Renyi bound is known without sampling;"
        " leave the sampling out, which never costs less, or use Gaussian noise"
    )


def has_only_renyi(event: Event) -> bool:
    """Whether nothing but a Renyi bound is known of a release."""
    match event:
        case ZeroConcentrated():
            return True
        case DiscreteGaussian(dimension=dimension) | Skellam(dimension=dimension):
            return dimension > 1
    return False


def _grid_sensitivity(value: float, dimension: int) -> float:
    far = _check.positive(sensitivity=value)
    if dimension == 1 and far != math.floor(far):
        raise InvalidArgumentError(
            "sensitivity must be whole for a single integer (dimension 1),"
            f" got {value!r}"
        )
    if far < 1.0:
        raise InvalidArgumentError(
            f"sensitivity must be at least 1, the grid's own step, got {value!r}"
        )
    return far


def numbers(name: str, values: Any, check: Callable[..., float]) -> tuple[float, ...]:
    """A sequence of numbers as a tuple, each of them checked."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidArgumentError(f"{name} must be a sequence, got {values!r:.80}")
    found = tuple(check(**{name: value}) for value in values)
    if not found:
        raise InvalidArgumentError(f"{name} must not be empty")
    return found


def relation_of(value: object, *, replace: bool = False) -> Adjacency:
    """An adjacency, replace-one only where that has a meaning."""
    known = [a for a in Adjacency if replace or a is not Adjacency.REPLACE_ONE]
    if value not in known:
        names = ", ".join(known)
        raise InvalidArgumentError(f"adjacency must be one of {names}, got {value!r}")
    return Adjacency(value)  # type: ignore[arg-type]
