"""The composed privacy loss on a window, from above or from below.

Masses from `buckets` are tilted so that the loss that matters is the bulk;
their Fourier transforms are raised to the counts and multiplied.  What the
window cuts off is bounded by Chernoff's inequality on the very masses used,
and the rounding of the transforms by its worst case, so that `Window.delta`
is a bound and not only an approximation.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from drdp.privacy.buckets import Grid, Masses, gather, spread
from drdp.privacy.law import Law
from drdp.privacy.outline import Outline

__all__ = [
    "LARGEST_TILT",
    "Side",
    "Tilt",
    "Window",
    "compose",
    "tilt_for_delta",
    "tilt_for_epsilon",
]

Array = NDArray[np.float64]
Side = Literal["upper", "lower"]
Parts = tuple[tuple[Law, int], ...]

_UNIT = 2.0**-53
_MASS_ERROR = 4e-14  # relative, of one mass: quadrature, exp and log
_LOSS_ERROR = 2e-15  # of one loss, relative to 1 + |loss|
_TAIL = 34.0  # the window leaves out e^-34 of the tilted mass
LARGEST_TILT = 2e4
_LEAST_DELTA = 1e-300  # an upper bound does not underflow to 0


@final
class Tilt(NamedTuple):
    """Where to look: the saddle point, and the tilted law's shape there."""

    order: float
    epsilon: float
    log_delta: float
    width: float
    mean_size: float
    reach: tuple[float, float]


@final
class Window(NamedTuple):
    """delta(epsilon) of a composition near one epsilon, with its errors.

    In units of exp(`log_scale`) and with s = epsilon - `centre`:
    delta = above - exp(s) * below, plus or minus the errors.
    """

    side: Side
    order: float
    centre: float
    log_scale: float
    s: Array
    above: Array
    below: Array
    error: Array
    infinite: float
    factor: float
    shift: float

    def delta(self, epsilon: float) -> float:
        """The bound at one epsilon, weaker where the window does not reach."""
        sign = 1.0 if self.side == "upper" else -1.0
        s = epsilon - self.centre - sign * self.shift
        at = int(np.searchsorted(self.s, s, side="right")) - 1
        if at < 0 or at >= self.s.size - 1:
            return self._chernoff(s)
        value = self.above[at] - math.exp(min(s, 700.0)) * self.below[at]
        return self._total(float(value), float(self.error[at]))

    def _chernoff(self, s: float) -> float:
        """What holds without the window: Chernoff's bound at this tilt."""
        if self.side == "lower":
            return self.infinite
        order = self.order
        log_hinge = (order - 1.0) * math.log((order - 1.0) / order) - math.log(order)
        height = self.log_scale + log_hinge - (order - 1.0) * s
        total = math.exp(min(height, 0.0)) * self.factor + self.infinite
        return min(1.0, max(total, _LEAST_DELTA))

    def _chernoff_epsilon(self, delta: float) -> float:
        """epsilon by Chernoff's bound, which is the Renyi bound at this tilt."""
        if self.side == "lower":
            return 0.0
        order = self.order
        log_hinge = (order - 1.0) * math.log((order - 1.0) / order) - math.log(order)
        height = self.log_scale + log_hinge + math.log(self.factor)
        return (
            self.centre
            + self.shift
            + (height - math.log(delta - self.infinite)) / (order - 1.0)
        )

    def _total(self, value: float, error: float) -> float:
        scale = math.exp(min(self.log_scale, 700.0))
        if self.side == "upper":
            total = scale * (value * self.factor + error) + self.infinite
            return min(1.0, max(total, _LEAST_DELTA))
        return max(0.0, scale * (value / self.factor - error) + self.infinite)

    def epsilon(self, delta: float) -> float:
        """The bound's epsilon at delta, weaker where the window does not reach."""
        upper = self.side == "upper"
        if upper and delta <= self.infinite:
            return math.inf
        if abs(self.log_scale) > 600.0:
            return self._chernoff_epsilon(delta)
        left = (delta - self.infinite) * math.exp(-self.log_scale)
        wanted = (left - self.error) / self.factor
        if not upper:
            wanted = (left + self.error) * self.factor
        with np.errstate(over="ignore"):
            value = self.above - np.exp(np.minimum(self.s, 700.0)) * self.below
        meets = value <= wanted if upper else value < wanted
        # The crossing, in the cell after the last point on the safe side of it.
        if upper:
            at = int(np.argmax(meets)) - 1 if meets[:-1].any() else -1
        else:
            at = int(np.flatnonzero(~meets)[-1]) if not meets.all() else -1
        if at < 0 or at >= meets.size - 2:
            return self._chernoff_epsilon(delta)
        top, below = self.above[at] - wanted[at], self.below[at]
        s = self.s[at + 1] if upper else self.s[at]  # all there is after underflow
        if top > 0.0 and below > 1e-290:
            s = min(max(math.log(top / below), self.s[at]), self.s[at + 1])
        return self.centre + float(s) + (self.shift if upper else -self.shift)


def _shape(outlines: list[tuple[Outline, int]], order: float) -> tuple[float, ...]:
    """T K, T K', T K'' and the mean of |L|, at one order."""
    moment = slope = bend = size = 0.0
    for outline, times in outlines:
        log_moment, weight = outline.tilted(order)
        mean = float(weight @ outline.loss)
        moment += times * log_moment
        slope += times * mean
        bend += times * float(weight @ (outline.loss - mean) ** 2)
        size += times * float(weight @ np.abs(outline.loss))
    return moment, slope, bend, size


def _tilt_at(outlines: list[tuple[Outline, int]], order: float) -> Tilt:
    moment, slope, bend, size = _shape(outlines, order)
    epsilon = slope - 1.0 / order - 1.0 / (order - 1.0)
    return _tilt(outlines, order, epsilon, moment, bend, size)


def _tilt(
    outlines: list[tuple[Outline, int]],
    order: float,
    epsilon: float,
    moment: float,
    bend: float,
    size: float,
) -> Tilt:
    square = bend + order**-2 + (order - 1.0) ** -2
    log_delta = (
        moment
        - (order - 1.0) * epsilon
        - math.log(order * (order - 1.0))
        - 0.5 * math.log(2.0 * math.pi * square)
    )
    return Tilt(order, epsilon, log_delta, math.sqrt(square), size, (0.0, 0.0))


def _search(done: Any, most: float) -> float:
    """The order, at most 1 + `most`, at which a falling criterion crosses zero."""
    low, high = math.log(1e-6), math.log(most)
    for _ in range(44):
        middle = 0.5 * (low + high)
        if done(1.0 + math.exp(middle)):
            high = middle
        else:
            low = middle
    return 1.0 + math.exp(0.5 * (low + high))


def tilt_for_epsilon(
    parts: Parts, epsilon: float, most: float = LARGEST_TILT
) -> tuple[Tilt, Any]:
    """The saddle point for delta at a given epsilon."""
    outlines = [(Outline(law), times) for law, times in parts]
    total = math.log(sum(times for _, times in parts))

    def beyond(order: float) -> bool:
        slope = _shape(outlines, order)[1]
        return slope - 1.0 / order - 1.0 / (order - 1.0) > epsilon

    for _ in range(3):
        order = _search(beyond, most)
        moment, _, bend, size = _shape(outlines, order)
        tilt = _tilt(outlines, order, epsilon, moment, bend, size)
        limit = min(tilt.log_delta, 0.0) - 37.0 - total
        outlines = [(part.without_beyond(limit), times) for part, times in outlines]
    return _with_reach(outlines, tilt), outlines


def tilt_for_delta(
    parts: Parts, delta: float, most: float = LARGEST_TILT
) -> tuple[Tilt, Any]:
    """The saddle point for epsilon at a given delta."""
    total = math.log(sum(times for _, times in parts))
    wanted = math.log(delta)
    limit = wanted - 37.0 - total
    outlines = [(Outline(law).without_beyond(limit), times) for law, times in parts]

    def beyond(order: float) -> bool:
        return _tilt_at(outlines, order).log_delta < wanted

    tilt = _tilt_at(outlines, _search(beyond, most))
    if tilt.epsilon < 0.0:
        return tilt_for_epsilon(parts, 0.0, most)
    return _with_reach(outlines, tilt), outlines


def _with_reach(outlines: list[tuple[Outline, int]], tilt: Tilt) -> Tilt:
    """Add how far the window must reach to either side (Chernoff)."""
    here = _shape(outlines, tilt.order)[0]
    best = [math.inf, math.inf]
    for side, sign in ((0, -1.0), (1, 1.0)):
        for d in (12.0, 8.5, 6.0, 4.0, 2.5, 1.5, 0.8, 0.4, 0.15, 0.05):
            rate = d / tilt.width
            there = _shape(outlines, tilt.order + sign * rate)[0]
            reach = (_TAIL + there - here) / rate - sign * tilt.epsilon
            best[side] = min(best[side], reach)
    # epsilon itself stays inside, also where all the mass is on one side
    pad = 0.02 * (abs(best[0]) + abs(best[1])) + 4.0 / tilt.order
    return tilt._replace(reach=(max(best[0], pad), max(best[1], pad)))


def compose(
    parts: Parts, outlines: Any, tilt: Tilt, step: float, size: int, side: Side
) -> Window:
    """The composition of all parts on a window around the tilt's epsilon.

    Args:
        parts: Each law and how often it happens.
        outlines: The outlines that the tilt was found with.
        tilt: From `tilt_for_epsilon` or `tilt_for_delta`.
        step: The grid step, in units of loss.
        size: The number of points of the transform.
        side: Which way every error goes.
    """
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
    most = np.zeros(size // 2 + 1)  # log of the product with all errors added
    rounding, unit = _transform_error(size), (3.0 + len(parts)) * _UNIT
    survive, log_moment, origin, index, steps = 0.0, 0.0, 0.0, 0, 0
    pieces: list[tuple[Masses, int]] = []
    for (law, times), (outline, _) in zip(parts, outlines, strict=True):
        masses = _masses(law, outline, tilt, step, times, side)
        log_moment += times * outline.tilted(tilt.order)[0]
        survive += times * math.log1p(-min(masses.infinite, 1.0 - 1e-16))
        origin += times * masses.origin
        index += times * masses.first
        steps += times
        total = float(masses.mass.sum())
        log_moment += times * math.log(max(total, 1e-300))
        padded = masses.mass / max(total, 1e-300)
        pieces.append((masses._replace(mass=padded), times))
        if padded.size > size:
            padded = np.pad(padded, (0, -padded.size % size)).reshape(-1, size).sum(0)
        transform = np.fft.rfft(padded, size)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            log = np.log(np.where(transform == 0.0, 1e-300, transform))
            spectrum += times * log
            lift = np.log(np.abs(transform) + rounding)
            most += times * (lift + unit * (np.abs(log) + np.abs(lift)))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        spectrum = np.exp(spectrum)
        height = np.abs(spectrum)
        blur = np.maximum(np.exp(most) - height, 0.0) + rounding * height
    bin_error = 2.0 * float(blur.sum()) / size
    failed = not (np.isfinite(spectrum).all() and math.isfinite(bin_error))
    if failed:
        spectrum[:], bin_error = 0.0, 0.0
    composed = np.fft.irfft(spectrum, size)

    # Unroll the circle so that the window starts left of epsilon.
    left, right = tilt.reach
    width = size * step
    spare = max(0.0, width - left - right)
    start = tilt.epsilon - left - 0.5 * spare
    first = math.floor((start - origin) / step)
    composed = np.roll(composed, -((first - index) % size))
    # Where the transform failed all mass is "outside": Chernoff's bound is left.
    outside = 1.0 if failed else _outside(pieces, tilt, origin + first * step, width)

    order = tilt.order
    s = (origin - tilt.epsilon) + step * (first + np.arange(size, dtype=np.float64))
    keep = s > -200.0 / order
    if side == "lower":  # where exp(s) * below can be told, and no further
        keep &= s < 600.0
    s, composed = s[keep], composed[keep]
    if side == "upper":
        composed = np.maximum(composed, 0.0)
    with np.errstate(under="ignore"):
        above_terms = composed * np.exp(-(order - 1.0) * s)
        below_terms = composed * np.exp(-order * s)
    above = np.append(np.cumsum(above_terms[::-1])[::-1][1:], 0.0)
    below = np.append(np.cumsum(below_terms[::-1])[::-1][1:], 0.0)
    peak = ((order - 1.0) / order) ** (order - 1.0) / order
    with np.errstate(under="ignore"):
        error = np.exp(-(order - 1.0) * s) * (
            peak * outside + bin_error * (1.0 / (step * order * (order - 1.0)) + 1.0)
        )
    error += 2.0 * _UNIT * s.size * above
    return Window(
        side,
        order,
        tilt.epsilon,
        log_moment - (order - 1.0) * tilt.epsilon,
        s,
        above,
        below,
        error,
        -math.expm1(survive),
        math.exp(_MASS_ERROR * steps),
        _LOSS_ERROR * (steps + tilt.mean_size),
    )


def _transform_error(size: int) -> float:
    """How far one value of a transform is off, where the inputs' sizes sum to 1.

    Every input reaches it through log2(size) butterflies, whose product and sum
    are off by a relative 4 u at most (sqrt(5) u for the product, as much as u
    for the sum and for the root of unity; Brent, Percival and Zimmermann 2007).
    Its absolute value, its logarithm near 0 and `exp` take 4 u more.
    """
    return 4.0 * _UNIT * (math.log2(size) + 1.0)


def _masses(
    law: Law, outline: Outline, tilt: Tilt, step: float, times: int, side: Side
) -> Masses:
    log_moment, weight = outline.tilted(tilt.order)
    loss = outline.loss
    order = np.argsort(loss)
    share = np.cumsum(weight[order])
    low = float(loss[order][int(np.searchsorted(share, math.exp(-40.0) / times))])
    high = float(loss.max())
    start = math.fmod(high, step) if not law.pieces else 0.0  # a lattice's own points
    first, last = math.floor((low - start) / step) - 1, math.ceil(high / step) + 1
    grid = Grid(start, step, first, last, tilt.order, log_moment)
    return spread(law, grid) if side == "upper" else gather(law, grid)


def _outside(
    pieces: list[tuple[Masses, int]], tilt: Tilt, start: float, width: float
) -> float:
    """Chernoff's bound on the tilted mass outside the window."""
    total = 0.0
    for sign, edge in ((-1.0, start), (1.0, start + width)):
        least = math.inf
        for d in (8.5, 6.0, 4.0, 2.5, 1.5, 0.8, 0.4, 0.15, 0.05):
            rate = sign * d / tilt.width
            exponent = -rate * edge
            for masses, times in pieces:
                points = masses.origin + masses.step * (
                    masses.first + np.arange(masses.mass.size)
                )
                lift = rate * points
                top = float(lift.max())
                with np.errstate(under="ignore"):
                    inner = float(masses.mass @ np.exp(lift - top))
                exponent += times * (top + math.log(max(inner, 1e-300)))
            least = min(least, exponent)
        total += math.exp(min(least, 0.0) + 1e-6)
    return total
