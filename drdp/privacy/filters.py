"""Filters: whether one more release may be made, given those made before.

The filters here are for parameters chosen on the way, from what was released:
each adds up one number per release and stops before the sum would exceed what
the budget allows.  Certified privacy-loss distributions do not compose under
such choices; `fixed_budget` has them, for what was fixed beforehand.

>>> from drdp.privacy.events import Gaussian
>>> budget, spent = GaussianFilter(1.0, 1e-5), Tally()
>>> budget.remaining(spent, Gaussian(50.0))
179

References: Rogers, Roth, Ullman and Vadhan, arXiv:1605.08294 (filters);
Feldman and Zrnic, arXiv:2008.11193; Lecuyer, arXiv:2103.01379; Whitehouse,
Ramdas, Rogers and Wu, arXiv:2203.05481; Koskela, Tobaben and Honkela,
arXiv:2209.15596; Smith and Thakurta, arXiv:2210.17520.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Protocol, final

from drdp import _check
from drdp.errors import BudgetExceededError, InvalidArgumentError
from drdp.privacy._special import solve_gaussian_epsilon, solve_gaussian_mu
from drdp.privacy.allowance import Allowance
from drdp.privacy.costs import epsilon_delta, mu_squared, renyi, rho, rho_within
from drdp.privacy.events import Event, atoms
from drdp.privacy.tally import Tally, total_of

__all__ = [
    "ApproxDPFilter",
    "Budget",
    "GaussianFilter",
    "RenyiFilter",
    "ZeroConcentratedFilter",
    "best_order",
]

_SLACK = 1e-12  # relative: what limits lose so that rounding never favours us
_DELTA_SLACK = 1e-11  # the same of delta in the Gaussian profile


class Budget(Protocol):
    """What may be spent, and the one decision about the next release."""

    @property
    def epsilon(self) -> float:
        """The epsilon of the guarantee that holds however the run ends."""
        ...

    @property
    def delta(self) -> float:
        """The delta of that guarantee."""
        ...

    def admit(self, spent: Tally, event: Event) -> None:
        """Return where `event` may be released after what was spent.

        Raises:
            ChargeRefusedError: If it may not.
            UnsupportedEventError: If the budget cannot count such a release.
        """
        ...

    def remaining(self, spent: Tally, event: Event) -> int:
        """How many releases of `event` may still be made, at most 10^9."""
        ...

    def used(self, spent: Tally) -> float:
        """The share of the budget that is spent, from 0 to 1."""
        ...

    def spent_epsilon(self, spent: Tally) -> float:
        """The epsilon, at the budget's delta, that would just have sufficed.

        A guarantee only where the stop was not chosen from what was released;
        the budget's own epsilon always is one.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class ZeroConcentratedFilter:
    """Adaptive parameters, counted in zero-concentrated DP: sum rho <= rho*.

    Args:
        epsilon: Above 0.
        delta: Strictly between 0 and 1.

    Guarantees:
        (epsilon, delta)-DP whatever each release's parameters and the stop were
        chosen from, as long as it was known when they were chosen (Feldman and
        Zrnic; Whitehouse et al.).  rho* comes from `rho_within`.

    >>> from drdp.privacy.events import Gaussian
    >>> ZeroConcentratedFilter(1.0, 1e-5).remaining(Tally(), Gaussian(50.0))
    104
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        _door(self)

    def admit(self, spent: Tally, event: Event) -> None:
        """Return where the sum of rho stays within rho*."""
        _admit(self, event, self._sum.excess(spent, event))

    def remaining(self, spent: Tally, event: Event) -> int:
        """How many releases of `event` still fit."""
        return self._sum.room(spent, event)

    def used(self, spent: Tally) -> float:
        """The share of rho* that is spent."""
        return self._sum.share(spent)

    def spent_epsilon(self, spent: Tally) -> float:
        """rho + 2 sqrt(rho log(1/delta)) of what is spent."""
        return _concentrated(float(self._sum.total(spent)), self.delta)

    @property
    def _sum(self) -> Allowance:
        limit = rho_within(self.epsilon, self.delta) * (1.0 - _SLACK)
        return Allowance("sum of rho", rho, limit)


@final
@dataclass(frozen=True, slots=True)
class GaussianFilter:
    """Adaptive noise of unsampled Gaussian releases: sum mu^2 <= mu*^2.

    Args:
        epsilon: Above 0.
        delta: Strictly between 0 and 1.

    Guarantees:
        (epsilon, delta)-DP, and exact: mu* is the mu of the Gaussian release
        that just meets the budget (Koskela et al.; Smith and Thakurta).  There
        is no such filter for sampled releases, whose central limit is only an
        approximation, so they are refused.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        _door(self)

    def admit(self, spent: Tally, event: Event) -> None:
        """Return where the sum of mu^2 stays within mu*^2."""
        _admit(self, event, self._sum.excess(spent, event))

    def remaining(self, spent: Tally, event: Event) -> int:
        """How many releases of `event` still fit."""
        return self._sum.room(spent, event)

    def used(self, spent: Tally) -> float:
        """The share of mu*^2 that is spent."""
        return self._sum.share(spent)

    def spent_epsilon(self, spent: Tally) -> float:
        """The epsilon of one Gaussian release with the mu that is spent."""
        total = float(self._sum.total(spent))
        if total in (0.0, math.inf):
            return total
        mu = math.sqrt(total) * (1.0 + _SLACK)
        return solve_gaussian_epsilon(self.delta * (1.0 - _DELTA_SLACK), mu)

    @property
    def mu(self) -> float:
        """mu*, the mu of the Gaussian release that just meets the budget.

        >>> round(GaussianFilter(8.0, 1e-5).mu, 7)
        1.6660306
        """
        return solve_gaussian_mu(self.epsilon, self.delta * (1.0 - _DELTA_SLACK))

    @property
    def _sum(self) -> Allowance:
        return Allowance("sum of mu^2", mu_squared, self.mu**2 * (1.0 - _SLACK))


@final
@dataclass(frozen=True, slots=True)
class RenyiFilter:
    """Adaptive parameters, counted as Renyi divergence at orders fixed before.

    Args:
        epsilon: Above 0.
        delta: Strictly between 0 and 1.
        orders: One order above 1, or several; of |A| orders each gets delta/|A|
            and the run goes on while one of them allows it.  `best_order` finds
            the one for the releases that are expected.

    Guarantees:
        (epsilon, delta)-DP whatever each release's parameters and the stop were
        chosen from: sum of eps(a) <= epsilon - log((a-1)/a) + log(delta a)/(a-1)
        at the order a (Feldman and Zrnic, with the conversion of
        Canonne, Kamath and Steinke, arXiv:2004.00010, Proposition 12).  Which of
        several orders lasts longest is known when it is used, so that their
        failures add up to delta.

    >>> from drdp.privacy.events import Gaussian, PoissonSampled
    >>> budget = RenyiFilter(2.0, 1e-5, 8.0)
    >>> budget.remaining(Tally(), PoissonSampled(0.01, Gaussian(1.0)))
    879
    """

    epsilon: float
    delta: float
    orders: tuple[float, ...]

    def __post_init__(self) -> None:
        _door(self)
        given: Any = self.orders
        listed = given if isinstance(given, Iterable) else (given,)
        orders = tuple(_check.positive(order=order) for order in listed)
        if not orders or min(orders) <= 1.0 or len(set(orders)) < len(orders):
            raise InvalidArgumentError(
                f"orders must be different numbers above 1, got {given!r}"
            )
        object.__setattr__(self, "orders", orders)
        if max(one.limit for one in self._sums) <= 0.0:
            raise InvalidArgumentError(
                f"orders={given!r} leave nothing to spend of epsilon={self.epsilon:g}"
                f" at delta={self.delta:g}; larger orders leave more, see best_order"
            )

    def admit(self, spent: Tally, event: Event) -> None:
        """Return where one of the orders still allows the release."""
        reasons = [one.excess(spent, event) for one in self._sums]
        _admit(self, event, None if None in reasons else reasons[0])

    def remaining(self, spent: Tally, event: Event) -> int:
        """How many releases of `event` still fit."""
        return max(one.room(spent, event) for one in self._sums)

    def used(self, spent: Tally) -> float:
        """The share of the order with the most left."""
        return min(one.share(spent) for one in self._sums if one.limit > 0.0)

    def spent_epsilon(self, spent: Tally) -> float:
        """The least epsilon that one of the orders converts its sum to."""
        if not spent.counts:
            return 0.0
        log_delta = math.log(self.delta / len(self.orders))
        least = min(
            float(one.total(spent)) - _offset(order, log_delta)
            for order, one in zip(self.orders, self._sums, strict=True)
        )
        return max(0.0, least) * (1.0 + _SLACK)

    @property
    def _sums(self) -> tuple[Allowance, ...]:
        log_delta = math.log(self.delta / len(self.orders))
        limits = [self.epsilon + _offset(order, log_delta) for order in self.orders]
        return tuple(
            Allowance(
                f"divergence at order {order!r}",
                partial(renyi, order=order),
                limit - abs(limit) * _SLACK,
            )
            for order, limit in zip(self.orders, limits, strict=True)
        )


@final
@dataclass(frozen=True, slots=True)
class ApproxDPFilter:
    """Adaptive (epsilon, delta)-DP releases, counted by advanced composition.

    Args:
        epsilon: Above 0.
        delta: Strictly between 0 and 1; `slack` of it pays for the composition,
            and the rest for the deltas of the releases.
        slack: Up to delta; half of it by default, all of it where every release
            is purely epsilon-DP.

    Guarantees:
        (epsilon, delta)-DP whatever the parameters and the stop were chosen
        from: sqrt(2 log(1/slack) sum e^2) + (sum e^2)/2 <= epsilon and slack +
        sum d <= delta (Whitehouse et al., Theorem 1).

    >>> from drdp.privacy.events import ApproxDP
    >>> budget = ApproxDPFilter(8.0, 1e-6, slack=1e-6)
    >>> round(budget.spent_epsilon(Tally(ApproxDP(0.1) * 100)), 7)
    5.7565218
    """

    epsilon: float
    delta: float
    slack: float | None = None

    def __post_init__(self) -> None:
        _door(self)
        slack = self.delta / 2.0 if self.slack is None else self.slack
        slack = _check.probability(slack=slack)
        if slack > self.delta:
            raise InvalidArgumentError(
                f"slack must be at most delta={self.delta:g}, got {slack:g}"
            )
        object.__setattr__(self, "slack", slack)

    def admit(self, spent: Tally, event: Event) -> None:
        """Return where both sums stay within what the budget allows."""
        reasons = [one.excess(spent, event) for one in self._sums]
        _admit(self, event, reasons[0] or reasons[1])

    def remaining(self, spent: Tally, event: Event) -> int:
        """How many releases of `event` still fit."""
        return min(one.room(spent, event) for one in self._sums)

    def used(self, spent: Tally) -> float:
        """The larger share, of the epsilons and of the deltas."""
        return max(one.share(spent) for one in self._sums)

    def spent_epsilon(self, spent: Tally) -> float:
        """sqrt(2 log(1/slack) sum e^2) + (sum e^2)/2 of what is spent."""
        squares = float(self._sums[0].total(spent))
        return _concentrated(squares / 2.0, self.slack or 0.0)

    @property
    def _sums(self) -> tuple[Allowance, Allowance]:
        slack = self.slack or 0.0
        squares = 2.0 * rho_within(self.epsilon, slack) * (1.0 - _SLACK)
        deltas = Fraction(repr(self.delta)) - Fraction(repr(slack))
        return (
            Allowance("sum of epsilon^2", _square, squares),
            Allowance("sum of delta", _delta, deltas),
        )


def best_order(epsilon: float, delta: float, expected: Event) -> float:
    """The Renyi order at which the most releases of `expected` fit a budget.

    It has to be chosen before the run; this looks at the expected releases
    only, so it may be.

    >>> from drdp.privacy.events import Gaussian
    >>> best_order(1.0, 1e-5, Gaussian(50.0))
    18.0
    """
    epsilon = _check.positive(epsilon=epsilon)
    delta = _check.probability(delta=delta)

    log_delta, counts = math.log(delta), atoms(expected)

    def rounds(order: float) -> float:
        cost = float(total_of(counts, partial(renyi, order=order)))
        limit = epsilon + _offset(order, log_delta)
        return limit / cost if cost > 0.0 else limit

    tried = (*(1.0 + k / 8 for k in range(1, 33)), *map(float, range(6, 257)))
    found = max(tried, key=rounds)
    RenyiFilter(epsilon, delta, (found,))
    return found


def _door(budget: Budget) -> None:
    epsilon = _check.positive(epsilon=budget.epsilon)
    object.__setattr__(budget, "epsilon", epsilon)
    object.__setattr__(budget, "delta", _check.probability(delta=budget.delta))


def _admit(budget: Budget, event: Event, reason: str | None) -> None:
    if reason is not None:
        raise BudgetExceededError(
            f"the budget (epsilon {budget.epsilon:g}, delta {budget.delta:g}) does not"
            f" allow {event!r:.200}: {reason}"
        )


def _offset(order: float, log_delta: float) -> float:
    """Divergence less epsilon, where the two convert into each other."""
    return (log_delta + math.log(order)) / (order - 1.0) - math.log1p(-1.0 / order)


def _concentrated(total: float, delta: float) -> float:
    return (total + 2.0 * math.sqrt(total * -math.log(delta))) * (1.0 + _SLACK)


def _square(atom: Event) -> float:
    return epsilon_delta(atom)[0] ** 2


def _delta(atom: Event) -> Fraction:
    """As written, so that ten deltas of 1e-6 are 1e-5."""
    return Fraction(repr(epsilon_delta(atom)[1]))
