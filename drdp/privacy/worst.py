"""The worse of both directions, and the noise at which it meets a target.

"Add" is only summed where Chernoff's bound does not already show it to be
below "remove".
"""

from __future__ import annotations

import math

from drdp.privacy.contour import answer
from drdp.privacy.kernel import Buffer, kernel, zeros
from drdp.privacy.nodes import Terms, cumulants
from drdp.privacy.saddle import chernoff, flag, order_limit

__all__ = [
    "add_is_below",
    "answer",
    "chernoff",
    "cumulants",
    "ends",
    "first_guess",
    "like_gaussian",
    "likely",
    "many",
    "noise_for",
    "order_limit",
    "worst",
]


_COARSE_AIM = 1e-3
_BELOW = 6  # a status of the contour


@kernel
def like_gaussian(terms: Terms) -> float:
    """mu^2 of the Gaussian with the same divergence of order 2."""
    kinds, rates, sigmas, counts, _ = terms
    square = 0.0
    for i in range(len(kinds)):
        ratio = 1.0 / (sigmas[i] * sigmas[i])
        if kinds[i] == 0.0 and ratio < 600.0:
            ratio = math.log1p(rates[i] * rates[i] * math.expm1(ratio))
        elif kinds[i] == 0.0:
            ratio = ratio + 2.0 * math.log(rates[i])
        square += counts[i] * max(ratio, 0.0)
    return max(square, 1e-12)


@kernel
def first_guess(terms: Terms, ask_epsilon: bool, given: float, remove: bool) -> float:
    """A starting |order - 1| or |order| for a saddle-point search."""
    square = like_gaussian(terms)
    epsilon = given
    if ask_epsilon:
        epsilon = math.sqrt(-2.0 * square * given) + 0.5 * square
    order = 0.5 + epsilon / square
    return min(max(order - 1.0 if remove else order, 0.05), 1e5)


@kernel
def likely(terms: Terms, epsilon: float) -> float:
    """What log delta at an epsilon will hardly be below: a Gaussian's, less 6."""
    square = like_gaussian(terms)
    far = (epsilon - 0.5 * square) / math.sqrt(square)
    return -0.5 * max(far, 0.0) ** 2 - 6.0


@kernel
def add_is_below(
    terms: Terms, epsilon: float, log_delta: float, start: float, cap: float
) -> tuple[bool, float, float]:
    """Whether delta of "add" at epsilon is surely at most e^log_delta.

    Its support may end before, Chernoff's bound may be below already, or a
    coarse sum may be; `start` is a guess of |order|.  Returns also the order's
    size that was found, and the work.
    """
    kinds, rates, _, counts, _ = terms
    reach = 0.0
    bounded = True
    for i in range(len(kinds)):
        if kinds[i] == 0.0:
            reach -= counts[i] * math.log1p(-rates[i])
        else:
            bounded = False
    if bounded and epsilon >= reach:
        return True, start, 0.0
    no = flag(0.0)
    _, coarse, error, _, order, work, status = answer(
        terms,
        no,
        no,
        epsilon,
        start,
        _COARSE_AIM,
        cap,
        log_delta,
        log_delta,
    )
    if status == 0:
        return coarse + math.log1p(error) <= log_delta, order, work
    return status == _BELOW, start, work


@kernel
def ends(
    ask_epsilon: bool, epsilon: float, log_delta: float, error: float, slope: float
) -> tuple[float, float]:
    """The interval of epsilon, or of log delta, that an answer stands for."""
    if not ask_epsilon:
        low = log_delta + math.log1p(-error) if error < 1.0 else -math.inf
        return low, log_delta + math.log1p(error)
    # A tenth more, and more for large errors, covers the bend of log delta.
    shift = (1.1 + 10.0 * error) * math.log1p(error) / -slope + 4e-16 * epsilon
    return max(0.0, epsilon - shift), max(0.0, epsilon + shift)


@kernel
def worst(
    terms: Terms, ask_epsilon: bool, given: float, aim: float, cap: float, hint: float
) -> tuple[float, float, float, float, int]:
    """Bounds on epsilon at log delta `given`, or on log delta at epsilon `given`.

    `hint` is what log delta will hardly be below.
    Returns (lower, upper, slope of log delta, work, status); 0 is an answer.
    """
    remove = flag(1.0)
    add = flag(0.0)
    start = first_guess(terms, ask_epsilon, given, remove)
    epsilon, log_delta, error, slope, start, work, status = answer(
        terms, remove, ask_epsilon, given, start, aim, cap, hint, -math.inf
    )
    if status != 0:
        return 0.0, 0.0, 0.0, work, status
    low, high = ends(ask_epsilon, epsilon, log_delta, error, slope)
    symmetric = True
    for kind in terms[0]:
        if kind == 0.0:
            symmetric = False
    if symmetric:
        return low, high, slope, work, 0
    at, bar = (low, given) if ask_epsilon else (given, low)
    below, start, more = add_is_below(terms, at, bar, start, cap)
    work += more
    if below:
        return low, high, slope, work, 0
    epsilon, log_delta, error, slope_add, _, more, status = answer(
        terms, add, ask_epsilon, given, start, aim, cap, hint, -math.inf
    )
    work += more
    if status != 0:
        return 0.0, 0.0, 0.0, work, status
    other_low, other_high = ends(ask_epsilon, epsilon, log_delta, error, slope_add)
    return max(low, other_low), max(high, other_high), slope, work, 0


@kernel
def one_atom(rate: float, sigma: float, steps: float) -> Terms:
    """The composition of equal sampled Gaussians."""
    kinds = zeros(1)
    rates = zeros(1)
    sigmas = zeros(1)
    counts = zeros(1)
    cuts = zeros(1)
    rates[0] = rate
    sigmas[0] = sigma
    counts[0] = steps
    cuts[0] = math.inf
    return kinds, rates, sigmas, counts, cuts


@kernel
def noise_for(
    terms: Terms,
    epsilon: float,
    log_delta: float,
    guess: float,
    rtol: float,
    cap: float,
) -> tuple[float, int, int]:
    """The noise multiplier of the first atom at which all meet a target.

    Secant steps on log delta against log sigma, then a last step to the safe
    side whose certified log delta is tested to be at most `log_delta`, within
    a relative `rtol` of the boundary.  The first noise multiplier in `terms`
    is overwritten.

    Returns (noise multiplier, evaluations, status); 0 is an answer.
    """
    x = math.log(guess)
    slope = min(-2.0, 1.6 * log_delta)
    before_x = 0.0
    before = 0.0
    known = False
    last = False
    aim = 1e-2
    no = flag(0.0)
    for tried in range(1, 40):
        terms[2][0] = math.exp(x)
        _, high, _, _, status = worst(terms, no, epsilon, aim, cap, log_delta)
        if status != 0:
            return 0.0, tried, status
        gap = high - log_delta
        if known and math.fabs(x - before_x) > 1e-12:
            found = (gap - before) / (x - before_x)
            if found < -1e-4:
                slope = found
        move = -gap / slope
        if last and gap <= 0.0 and -gap < -slope * 0.9 * rtol:
            return math.exp(x), tried, 0
        before_x = x
        before = gap
        known = math.fabs(move) < 3.0
        if last:
            # close in from the safe side
            move += 0.3 * rtol
        x += min(max(move, -1.5), 1.5)
        if math.fabs(move) < 3e-3:
            last = True
            known = known and math.fabs(move) > 1e-7
            # where others cost most, delta must be known better
            aim = 0.02 * rtol * min(1.0, -slope)
        elif math.fabs(move) < 0.1:
            aim = 1e-4
    return 0.0, 40, 4


@kernel
def many(
    question: int,
    rates: Buffer,
    steps: Buffer,
    sigmas: Buffer,
    given: Buffer,
    log_deltas: Buffer,
    aim: float,
    cap: float,
    low: Buffer,
    high: Buffer,
    statuses: Buffer,
) -> None:
    """Many compositions of equal sampled Gaussians, one after the other.

    question 0: epsilon at `log_deltas`; 1: log delta at epsilon `given`; 2:
    the noise multiplier for both, `sigmas` being first guesses.  Answers go to
    `low` and `high`, statuses to `statuses`.
    """
    for i in range(len(rates)):
        if question == 2:
            sigma, _, status = noise_for(
                one_atom(rates[i], sigmas[i], steps[i]),
                given[i],
                log_deltas[i],
                sigmas[i],
                aim,
                cap,
            )
            low[i] = sigma
            high[i] = sigma
        else:
            terms = one_atom(rates[i], sigmas[i], steps[i])
            if question == 0:
                asked = hint = log_deltas[i]
            else:
                asked = given[i]
                hint = likely(terms, asked)
            low[i], high[i], _, _, status = worst(
                terms, question == 0, asked, aim, cap, hint
            )
        statuses[i] = status
