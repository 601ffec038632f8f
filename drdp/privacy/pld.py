"""The certified accountant: an interval that contains the true epsilon.

Three paths, tried in this order, answer the same question; the answer says
which one was taken.  Closed forms serve single releases and unsampled
Gaussians.  The contour sum (`exact`) serves sampled Gaussians and mixtures of
releases to about ten digits.  The grid (`grid`) serves everything that has a
law of privacy loss, from above and from below.  Whatever a path leaves out
falls on the safe side of the interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy._special import gaussian_log_delta
from drdp.privacy.curves import Interval, PrivacyCurve, in_both
from drdp.privacy.events import (
    NOTHING,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    Sampled,
    atoms,
)
from drdp.privacy.outside import DensityPair
from drdp.privacy.releases import MixtureOfGaussians
from drdp.privacy.sampling import RandomlyAllocated, Shuffled
from drdp.privacy.standins import above, below, exchanged

__all__ = ["delta_interval", "epsilon_interval", "pld_curve"]

Atoms = tuple[tuple[Event, int], ...]
Question = Literal["epsilon", "delta"]
Wanted = Literal["upper", "lower", "both"]

_LEAST_NOISE, _MOST_NOISE = 0.01, 1e6  # of sampled releases, else a coarse bound
_ROUNDING = 1e-11  # relative, for closed forms
_PLACE = 2e-15  # of epsilon, for closed forms
_TABLES = (RandomlyAllocated, Shuffled)
_TABULATED = 5e-5  # what one law given as a table can be out by, in epsilon
_VISIBLE = 1e-3  # a chance of failure above this part of delta is worth avoiding
_GOOD = 1e-4  # a contour answer this narrow is not improved on by the grid


def pld_curve(
    event: Event,
    *,
    bound: Literal["upper", "lower"] = "upper",
    tolerance: float = 1e-6,
) -> PrivacyCurve:
    """The certified privacy curve of any supported composition.

    Args:
        event: What was released.
        bound: ``"upper"`` for a guarantee, ``"lower"`` for what no proof can
            improve on.
        tolerance: The width of the interval to aim for, in epsilon, relative
            where epsilon is above 1.

    Returns:
        A curve whose every value is a bound on that side.

    Guarantees:
        The upper curve is never below the truth under the event's adjacency
        and sampling; the lower one never above.

    Raises:
        UnsupportedEventError: For an event with no known dominating pair.

    >>> from drdp.privacy.events import PoissonSampled
    >>> run = PoissonSampled(0.05, Gaussian(0.748028)) * 20
    >>> round(pld_curve(run).epsilon(1 / 149), 4)
    1.3438
    """
    if bound not in ("upper", "lower"):
        raise InvalidArgumentError(f"bound must be 'upper' or 'lower', got {bound!r}")
    tolerance = _check.positive(tolerance=tolerance)
    _prepare(event)

    def side(question: Question, given: float) -> float:
        found = _solve(_prepare(event), question, given, tolerance, bound)
        return found.upper if bound == "upper" else found.lower

    return PrivacyCurve(
        lambda epsilon: side("delta", epsilon),
        bound,
        lambda delta: side("epsilon", delta),
    )


def epsilon_interval(
    event: Event, delta: float, *, tolerance: float = 1e-6
) -> Interval:
    """An interval that contains the true epsilon at `delta`.

    Args:
        event: What was released.
        delta: Strictly between 0 and 1.
        tolerance: The width to aim for; the answer says what was reached.

    Returns:
        (lower, upper, method).

    >>> low, high, method = epsilon_interval(Gaussian(1.0) * 4, 1e-5)
    >>> low < high, round(high, 6), method
    (True, 9.997256, 'closed form')
    """
    delta = _check.probability(delta=delta)
    tolerance = _check.positive(tolerance=tolerance)
    return _solve(_prepare(event), "epsilon", delta, tolerance, "both")


def delta_interval(
    event: Event, epsilon: float, *, tolerance: float = 1e-6
) -> Interval:
    """An interval that contains the true delta at `epsilon`.

    Args:
        event: What was released.
        epsilon: At least 0.
        tolerance: The width to aim for, as a width in epsilon.

    Returns:
        (lower, upper, method).
    """
    epsilon = _check.at_least_zero(epsilon=epsilon)
    tolerance = _check.positive(tolerance=tolerance)
    return _solve(_prepare(event), "delta", epsilon, tolerance, "both")


@lru_cache(maxsize=256)
def _prepare(event: Event) -> Atoms:
    """The atoms of an event, each checked to have a law."""
    parts = tuple(atoms(event).items())
    below(parts)
    for atom, _ in above(parts):
        match atom:
            case NonPrivate() | Gaussian() | Laplace() | ApproxDP():
                pass
            case PoissonSampled(event=Gaussian()) | FixedSizeSampled(event=Gaussian()):
                pass
            case Sampled():  # what `above` leaves has a table
                pass
            case _:
                from drdp.privacy.losses import directions, law_of

                for direction in directions(atom, lower=False):
                    law_of(atom, direction)
    return parts


@lru_cache(maxsize=1024)
def _solve(
    parts: Atoms, question: Question, given: float, tolerance: float, side: Wanted
) -> Interval:
    """Answer one question about one composition, from one side or from both."""
    uppers, lowers = above(parts), below(parts)
    if uppers == lowers:
        return _beside(uppers, question, given, tolerance, side)
    lower, upper = Interval(0.0, 0.0, "none"), Interval(0.0, math.inf, "none")
    if side != "upper" and lowers:
        lower = _beside(lowers, question, given, tolerance, "lower")
    if side != "lower":
        upper = _beside(uppers, question, given, tolerance, "upper")
        delta = given if question == "epsilon" else upper.upper
        lost = any(isinstance(atom, NonPrivate) for atom, _ in uppers)
        if lost or _chance(uppers)[0] > _VISIBLE * delta:
            spare = _beside(exchanged(parts), question, given, tolerance, "upper")
            upper = min(upper, spare, key=lambda found: found.upper)
    return _both(lower, upper)


def _both(lower: Interval, upper: Interval) -> Interval:
    methods = [found.method for found in (lower, upper) if found.method != "none"]
    return Interval(
        min(lower.lower, upper.upper), upper.upper, " and ".join(dict.fromkeys(methods))
    )


def _beside(
    parts: Atoms, question: Question, given: float, tolerance: float, side: Wanted
) -> Interval:
    """Mere chances of revealing everything are set aside; delta adds up."""
    fails, kept = _chance(parts)
    if fails == 0.0:
        return _direct(parts, question, given, tolerance, side)
    rest = tuple(
        (atom, n)
        for atom, n in parts
        if not isinstance(atom, ApproxDP) or atom.epsilon > 0.0
    )
    if question == "delta":
        low, high, method = _direct(rest, question, given, tolerance, side)
        low = (fails + kept * low) * (1.0 - _ROUNDING)
        return Interval(
            low, min(1.0, (fails + kept * high) * (1.0 + _ROUNDING)), method
        )
    left = (given - fails * (1.0 + _ROUNDING)) / kept * (1.0 - _ROUNDING)
    most = (given - fails * (1.0 - _ROUNDING)) / kept * (1.0 + _ROUNDING)
    low, high = math.inf, math.inf
    method = "chance of failure"
    if side != "upper" and most > 0.0:
        low, _, method = _direct(rest, question, most, tolerance, "lower")
    if side != "lower" and left > 0.0:
        _, high, method = _direct(rest, question, left, tolerance, "upper")
    return Interval(min(low, high), high, method)


def _chance(parts: Atoms) -> tuple[float, float]:
    """The chance that everything is revealed and nothing else, and its rest."""
    log = math.fsum(
        n * math.log1p(-atom.delta)
        for atom, n in parts
        if isinstance(atom, ApproxDP) and atom.epsilon == 0.0
    )
    return -math.expm1(log), math.exp(log)


def _direct(
    parts: Atoms, question: Question, given: float, tolerance: float, side: Wanted
) -> Interval:
    """Answer one question about plain releases, by the best path there is."""
    if not parts:
        return Interval(0.0, 0.0, "nothing released")
    if any(isinstance(atom, NonPrivate) for atom, _ in parts):
        worst = math.inf if question == "epsilon" else 1.0
        return Interval(worst, worst, "nothing protected")
    if any(isinstance(a, Gaussian) and a.noise_multiplier < 1e-150 for a, _ in parts):
        least = 1e290 if question == "epsilon" else 1.0 - 1e-15
        worst = math.inf if question == "epsilon" else 1.0
        return Interval(least if given < 1e290 else 0.0, worst, "hardly any noise")
    profiles = _closed_forms(parts)
    if profiles is not None:
        return _closed(profiles, question, given)
    if not all(_is_sensible(atom) for atom, _ in parts):
        return _unsampled(parts, question, given, tolerance, side)
    from drdp.privacy.exact import exact_interval, is_narrow

    exact = exact_interval(parts, question, given, tolerance)
    if exact is not None and is_narrow(exact, question, max(tolerance, _GOOD)):
        return exact
    from drdp.privacy.grid import grid_interval

    tables = sum(n for atom, n in parts if isinstance(atom, _TABLES))
    if tables:
        if len(parts) == 1 and tables == 1:
            from drdp.privacy.tabulated import table_interval

            found = table_interval(parts[0][0], question, given, side)
            if found is not None:
                return found
        tolerance = max(tolerance, _TABULATED * min(tables, 20))
    if any(isinstance(atom, FixedSizeSampled) for atom, _ in parts):
        return _fixed_size(parts, question, given, tolerance, side)
    grid = grid_interval(parts, question, given, tolerance, side)
    if any(isinstance(atom, DensityPair) for atom, _ in parts):
        return grid._replace(lower=0.0)  # its integrals are not certified so far
    if exact is None:
        return grid
    both = in_both(exact, grid) or grid
    return both._replace(method=f"{exact.method} and {grid.method}")


def _is_sensible(atom: Event) -> bool:
    """Whether a sampled atom's noise is in the range of the numerics."""
    match atom:
        case PoissonSampled() | FixedSizeSampled():
            noise = getattr(atom.event, "noise_multiplier", 1.0)
            return bool(_LEAST_NOISE <= noise <= _MOST_NOISE)
        case MixtureOfGaussians(sensitivities=(*_, most), noise_multiplier=z):
            return bool(_LEAST_NOISE <= z / most <= _MOST_NOISE)
    return True


def _unsampled(
    parts: Atoms, question: Question, given: float, tolerance: float, side: Wanted
) -> Interval:
    """An upper bound that forgoes chance, for absurdly small or large noise.

    Sampling never costs more than no sampling; replacing one unit moves a
    Poisson-sampled release by up to twice its clip norm.
    """
    total: Event = NOTHING
    for atom, times in parts:
        match atom:
            case PoissonSampled(event=inner, adjacency=adjacency):
                total += PoissonSampled(1.0, inner, adjacency) * times
            case FixedSizeSampled(event=inner):
                total += inner * times
            case MixtureOfGaussians(sensitivities=(*_, most), noise_multiplier=z):
                total += Gaussian(z / most) * times
            case _:
                total += atom * times
    found = _solve(tuple(atoms(total).items()), question, given, tolerance, side)
    return Interval(0.0, found.upper, f"{found.method}, without sampling")


def _fixed_size(
    parts: Atoms, question: Question, given: float, tolerance: float, side: Wanted
) -> Interval:
    """Sampling without replacement: a bound from each side, not one truth.

    The lower end is what data sets reach whose other members all pull the
    other way: each direction of Poisson sampling at the same rate.
    """
    from drdp.privacy.grid import grid_interval

    lower, upper = Interval(0.0, 0.0, "none"), Interval(0.0, math.inf, "none")
    if side != "upper":
        reached = tuple(
            (PoissonSampled(atom.rate, atom.event), times)
            if isinstance(atom, FixedSizeSampled)
            else (atom, times)
            for atom, times in parts
        )
        lower = _solve(reached, question, given, tolerance, "lower")
    if side != "lower":
        upper = grid_interval(parts, question, given, tolerance, "upper")
    return _both(lower, upper)


def _closed_forms(parts: Atoms) -> list[Callable[[float], float]] | None:
    """log delta(epsilon) of each direction, where closed forms exist."""
    if all(isinstance(atom, Gaussian) for atom, _ in parts):
        mu = math.sqrt(
            math.fsum(
                times * (1.0 / atom.noise_multiplier) * (1.0 / atom.noise_multiplier)
                for atom, times in parts
                if isinstance(atom, Gaussian)
            )
        )
        return [lambda epsilon: gaussian_log_delta(epsilon, mu)]
    ((atom, times), *rest) = parts
    if rest or times > 1:
        return None
    from drdp.privacy.losses import directions, log_profile

    found = [log_profile(atom, way) for way in directions(atom, lower=False)]
    kept = [profile for profile in found if profile is not None]
    return kept if len(kept) == len(found) else None


def _closed(
    profiles: list[Callable[[float], float]], question: str, given: float
) -> Interval:
    def worst(epsilon: float) -> float:
        return max(profile(epsilon) for profile in profiles)

    if question == "delta":
        # the profile may be steep where a loss ends: its place is rounded too
        blur = _PLACE * (1.0 + given)
        upper = math.exp(worst(max(0.0, given - blur))) * (1.0 + _ROUNDING)
        lower = math.exp(worst(given + blur)) * (1.0 - _ROUNDING)
        return Interval(lower, min(1.0, upper), "closed form")
    wanted = math.log(given)
    upper = _root(worst, wanted - _ROUNDING, safe=True)
    upper += _PLACE * (1.0 + upper) if upper > 0.0 else 0.0
    lower = _root(worst, wanted + _ROUNDING, safe=False)
    lower = max(0.0, lower - _PLACE * (1.0 + lower))
    return Interval(min(lower, upper), upper, "closed form")


def _root(profile: Callable[[float], float], wanted: float, *, safe: bool) -> float:
    if profile(0.0) <= wanted:
        return 0.0
    low, high = 0.0, 1.0
    while profile(high) > wanted:
        low, high = high, 2.0 * high
        if high > 1e300:
            return math.inf
    while high - low > 1e-14 * high:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if profile(middle) <= wanted:
            high = middle
        else:
            low = middle
    return high if safe else low
