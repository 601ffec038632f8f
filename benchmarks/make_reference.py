"""Write reference.csv: the settings' answers in 40-digit arithmetic.

Run ``python -m benchmarks.make_reference`` in the repository root, with the
names of settings to redo only those; it needs mpmath and takes some minutes.
delta(epsilon) comes from `tests.oracles.make_reference`, which shares no code
with the package.  The package only supplies the point at which one Newton step
on that function starts; the last column counts the digits on which the
oracle's two ways of computing delta agree there.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from typing import NamedTuple

import mpmath as mp

from benchmarks.settings import HARD, REFERENCE, USUAL, Setting
from drdp.privacy.calibration import calibrate, within
from drdp.privacy.events import Gaussian, PoissonSampled
from drdp.privacy.pld import epsilon_interval, pld_curve
from tests.oracles import make_reference as oracle

FIELDS = ("name", "epsilon", "noise_multiplier", "method", "digits")
WAYS = ((1.0, 1.0), (1.07, 0.83))
LEAST_DIGITS = 13


class UnsettledError(ArithmeticError):
    """The oracle's two ways of computing delta do not agree."""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    epsilon: str
    noise_multiplier: str
    method: str
    digits: int


def log_delta(
    setting: Setting, noise: float, epsilon: float, ways: int
) -> tuple[mp.mpf, str, int]:
    """log delta at epsilon, how it was found and its certain digits."""
    kind = ("gaussian",) if setting.rate == 1.0 else ("poisson", setting.rate)
    parts = [(setting.steps, *kind, noise)]
    exact, method = oracle.exact_and_method(parts, "remove")
    if exact is not None:
        return mp.log(exact(mp.mpf(epsilon))), method, oracle.DIGITS
    if setting.steps <= 3:
        q, s = mp.mpf(setting.rate), mp.mpf(noise)
        with mp.workdps(20):
            found = [
                oracle.few_steps(mp.mpf(epsilon), q, s, setting.steps, n)
                for n in (3, 2)[:ways]
            ]
        method = "quadrature"
    else:
        contour = oracle.Contour(parts, "remove", setting.delta)
        found = [contour.value(epsilon, 20, *way) for way in WAYS[:ways]]
        method = "contour"
    if None in found:
        raise UnsettledError(f"{setting.name}: too much work")
    digits = oracle.agreement(found[0], found[-1])
    if digits < LEAST_DIGITS:
        raise UnsettledError(f"{setting.name}: only {digits} digits")
    return mp.log(found[0]), method, digits


def newton(
    at: Callable[[float, int], tuple[mp.mpf, str, int]], start: float, wanted: float
) -> tuple[str, str, int]:
    """One Newton step from a start that is right to about nine digits."""
    first, method, digits = at(start, 2)
    beside = start * (1 + 1e-6)
    slope = (at(beside, 1)[0] - first) / (mp.mpf(beside) - mp.mpf(start))
    step = (mp.log(mp.mpf(wanted)) - first) / slope
    if abs(step) > 3e-6 * start:
        raise UnsettledError(f"the start {start!r} is off by {float(step)}")
    return mp.nstr(mp.mpf(start) + step, 20), method, digits


def row(setting: Setting) -> Row:
    """The answers to one setting; a cross-checked interval where all else fails."""
    low, high, method = epsilon_interval(setting.event(), setting.delta, tolerance=1e-9)
    middle, noise = 0.5 * (low + high), ""
    try:
        epsilon, method, digits = newton(
            lambda e, ways: log_delta(setting, setting.noise_multiplier, e, ways),
            middle,
            setting.delta,
        )
    except UnsettledError as reason:
        print(reason, file=sys.stderr)
        width = mp.mpf(high - low) / middle
        digits = int(-mp.log10(max(width, mp.mpf(10) ** -16)))
        return Row(setting.name, repr(middle), "", f"drdp, {method}", digits)
    target = setting.epsilon
    if target is not None:
        noise, _, other = newton(
            lambda s, ways: log_delta(setting, s, target, ways),
            calibrate(
                lambda s: PoissonSampled(setting.rate, Gaussian(s)) * setting.steps,
                pld_curve,
                within(target, setting.delta),
            ),
            setting.delta,
        )
        digits = min(digits, other)
    return Row(setting.name, epsilon, noise, method, digits)


def main() -> None:
    """Compute the settings named on the command line, or all of them."""
    mp.mp.dps = oracle.DIGITS
    lines: dict[str, tuple[str, ...]] = {}
    if sys.argv[1:] and REFERENCE.exists():
        with REFERENCE.open(newline="") as file:
            lines = {line[0]: tuple(line) for line in list(csv.reader(file))[1:]}
    for setting in (*USUAL, *HARD):
        if sys.argv[1:] and setting.name not in sys.argv[1:]:
            continue
        found = row(setting)
        print(*found, file=sys.stderr, flush=True)
        lines[setting.name] = tuple(map(str, found))
        with REFERENCE.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(FIELDS)
            table.writerows(lines[s.name] for s in (*USUAL, *HARD) if s.name in lines)


if __name__ == "__main__":
    main()
