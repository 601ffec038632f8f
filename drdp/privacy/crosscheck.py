"""Whether independent methods contradict the certified epsilon of an event.

drdp's own paths, other packages and a simulation answer one question: which
epsilon goes with this delta?  Each answer is an interval or a one-sided bound,
so two of them contradict each other where they have no point in common.  A
package runs in a process of its own: it may crash, hang or lie, and that is
then reported.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

from drdp import _check
from drdp.errors import DrdpError, InvalidArgumentError, UnsupportedEventError
from drdp.privacy.codec import from_dict, to_dict
from drdp.privacy.curves import Interval, invert
from drdp.privacy.events import (
    Adjacency,
    Event,
    FixedSizeSampled,
    Gaussian,
    PoissonSampled,
    atoms,
)
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.rdp import rdp_curve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["CONFIDENCE", "PEERS", "Finding", "Report", "crosscheck", "simulated_delta"]

Atoms = tuple[tuple[Event, int], ...]
Ends = tuple[float, float]

PEERS = {
    "prv-accountant": "prv_accountant",
    "dp-accounting PLD": "dp_accounting",
    "Opacus RDP": "opacus",
    "Opacus PRV": "opacus",
}
"""The methods of other packages, each with the package that it needs."""

CONFIDENCE = 0.999
_QUANTILE = 3.2906  # of the normal law, 0.1 % in both tails together
_PEER_ROUNDING = 1e-9  # relative: peers do not bound their rounding
_PEER_MEMORY = 8 << 30
_MOST_RUNS, _FEWEST_RUNS, _DRAWS = 100_000, 400, 10_000_000
_BLOCK = 1 << 17  # draws at a time
_CELLS = 1 << 15
_LOG_ROOT_2PI = 0.5 * math.log(2.0 * math.pi)


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """What one method says.

    Args:
        method: Its name.
        status: Whether it answered; `detail` says why not, or how.
        lower: Of epsilon, or for the simulation of delta at the upper end of the
            certified epsilon; 0 where the method bounds from above only.
        upper: The other end.
        seconds: How long it took, the start of a package's process included.
        position: Where its epsilon lies, seen from the certified interval.
    """

    method: str
    status: Literal["answered", "no formula", "not installed", "not asked", "failed"]
    lower: float = 0.0
    upper: float = math.inf
    seconds: float | None = None
    position: Literal["agrees", "below", "above", "too coarse to tell"] = "agrees"
    detail: str = ""

    @property
    def ours(self) -> bool:
        """Whether drdp answers for it."""
        return self.method not in PEERS

    def clashes(self, other: Finding | Interval) -> Literal["", "below", "above"]:
        """Whether the whole answer lies below or above another one."""
        theirs = isinstance(other, Finding) and not other.ours
        slack = _PEER_ROUNDING if theirs or not self.ours else 0.0
        if self.upper < other.lower - slack * max(1.0, other.lower):
            return "below"
        return "above" if other.upper < self.lower * (1.0 - slack) - slack else ""


@final
@dataclass(frozen=True, slots=True)
class Report:
    """The certified interval, what every method found, and who contradicts whom.

    `clashes` are methods that contradict each other but not the certified
    interval, which is wide then.
    """

    delta: float
    certified: Interval
    findings: tuple[Finding, ...]
    simulated: Finding
    clashes: tuple[tuple[Finding, Finding], ...]

    @property
    def against(self) -> tuple[Finding, ...]:
        """The methods that contradict the certified interval."""
        every = (*self.findings, self.simulated)
        return tuple(one for one in every if one.position in ("below", "above"))

    @property
    def verdict(self) -> Literal["agree", "contradiction"]:
        """Whether anything contradicts anything."""
        return "contradiction" if self.against or self.clashes else "agree"

    @property
    def involves_drdp(self) -> bool:
        """Whether an answer of drdp's own is contradicted."""
        return bool(self.against) or any(a.ours or b.ours for a, b in self.clashes)


def crosscheck(
    event: Event,
    delta: float,
    *,
    peers: Collection[str] = ("prv-accountant", "dp-accounting PLD"),
    samples: int | None = None,
    seed: int = 1,
    time_limit: float = 60.0,
) -> Report:
    """Ask every independent method for the epsilon of an event at `delta`.

    Args:
        event: What was released.
        delta: Strictly between 0 and 1.
        peers: Which of `PEERS` to ask.
        samples: Simulated runs; by default as many as a few seconds allow.
        seed: Of the simulation.
        time_limit: Seconds after which a package is stopped.

    Guarantees:
        A right certificate is called contradicted by an unlucky simulation about
        once in a million times: it has to fall outside its confidence interval
        twice, the second time with four times as many fresh runs.

    >>> report = crosscheck(Gaussian(2.0) * 3, 1e-5, peers=())
    >>> report.verdict, report.certified.method
    ('agree', 'closed form')
    """
    delta = _check.probability(delta=delta)
    time_limit = _check.positive(time_limit=time_limit)
    seed = _check.count(seed=seed)
    if samples is not None:
        samples = _check.count(least=2, samples=samples)
    if not set(peers) <= set(PEERS):
        raise InvalidArgumentError(f"peers must be of {', '.join(PEERS)}, got {peers}")
    parts = tuple(atoms(event).items())
    certified = epsilon_interval(event, delta)
    found = [
        _own("contour", lambda: _contour(parts, delta, certified)),
        _own("grid", lambda: _grid(parts, delta, certified)),
        _own("closed form", lambda: _closed_form(parts, delta)),
        _own("rdp", lambda: (0.0, rdp_curve(event).epsilon(delta))),
        *(_peer(name, event, delta, name in peers, time_limit) for name in PEERS),
    ]
    placed = [
        replace(one, position=one.clashes(certified) or "agrees") for one in found
    ]
    near = [one for one in placed if one.position == "agrees"]
    return Report(
        delta,
        certified,
        tuple(placed),
        _simulation(event, delta, certified, samples, seed),
        tuple((a, b) for a, b in combinations(near, 2) if a.clashes(b)),
    )


# --- drdp's own paths ----------------------------------------------------------


def _own(method: str, ask: Callable[[], Ends]) -> Finding:
    start = time.perf_counter()
    try:
        lower, upper = ask()
    except UnsupportedEventError as error:
        return Finding(method, "no formula", detail=str(error))
    except (ArithmeticError, DrdpError, MemoryError, RuntimeError, ValueError) as error:
        return Finding(method, "failed", detail=f"{type(error).__name__}: {error}")
    return Finding(method, "answered", lower, upper, time.perf_counter() - start)


def _contour(parts: Atoms, delta: float, certified: Interval) -> Ends:
    from drdp.privacy.exact import exact_interval

    _refuse_odd_noise(certified)
    found = exact_interval(parts, "epsilon", delta, 1e-6)
    if found is None:
        raise UnsupportedEventError("the sum has no formula or does not converge here")
    return found.lower, found.upper


def _grid(parts: Atoms, delta: float, certified: Interval) -> Ends:
    from drdp.privacy.grid import grid_interval

    _refuse_odd_noise(certified)
    return grid_interval(parts, "epsilon", delta, 1e-4)[:2]


def _refuse_odd_noise(certified: Interval) -> None:
    if certified.method.startswith("nothing") or "without" in certified.method:
        raise UnsupportedEventError(f"answered as: {certified.method}")


def _closed_form(parts: Atoms, delta: float) -> Ends:
    """Unsampled Gaussians, or one release: a profile inverted by bisection."""
    from drdp.privacy.losses import directions, log_profile

    noises = [(a.noise_multiplier, n) for a, n in parts if isinstance(a, Gaussian)]
    if parts and len(noises) == len(parts):
        mu = math.sqrt(math.fsum(n * (1.0 / z) * (1.0 / z) for z, n in noises))
        parts = ((Gaussian(1.0 / mu), 1),)
    if len(parts) != 1 or parts[0][1] != 1:
        raise UnsupportedEventError("there is one for one round, or without sampling")
    atom = parts[0][0]
    profiles = [log_profile(atom, way) for way in directions(atom, lower=False)]
    if None in profiles:
        raise UnsupportedEventError("there is none for this release")

    def worst(epsilon: float) -> float:
        return math.exp(max(profile(epsilon) for profile in profiles if profile))

    more, less = delta * (1.0 + 1e-11), delta * (1.0 - 1e-11)
    return invert(worst, more, upper=False), invert(worst, less, upper=True)


# --- other packages --------------------------------------------------------------


def _peer(
    method: str, event: Event, delta: float, asked: bool, limit: float
) -> Finding:
    """One package's answer, from a process that may not survive."""
    if find_spec(PEERS[method]) is None:
        return Finding(method, "not installed")
    if not asked:
        return Finding(method, "not asked")
    question = json.dumps([method, to_dict(event), delta])
    code = f"from {__name__} import _answer; _answer()"
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=question,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        text = f"no answer within {limit:g} seconds"
        return Finding(method, "failed", seconds=limit, detail=text)
    seconds = time.perf_counter() - start
    if done.returncode == 0:
        lower, upper = json.loads(done.stdout.splitlines()[-1])
        return Finding(method, "answered", max(0.0, lower), upper, seconds)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    text = lines[-1] if lines else f"its process died with code {done.returncode}"
    text = text.removeprefix("drdp.errors.UnsupportedEventError: ")
    status: Literal["no formula", "failed"]
    status = "no formula" if "no formula" in text else "failed"
    return Finding(method, status, seconds=seconds, detail=f"{text:.200}")


def _answer() -> None:
    """The other end of `_peer`: reads a question, writes the answer."""
    import warnings

    warnings.simplefilter("ignore")
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_PEER_MEMORY, most))
    method, document, delta = json.loads(sys.stdin.read())
    ask = {"prv_accountant": _prv, "dp_accounting": _dp_accounting, "opacus": _opacus}
    lower, upper = ask[PEERS[method]](method, from_dict(document), delta)
    if math.isnan(lower) or not upper >= 0.0:
        raise ValueError(f"it answers {lower} to {upper}")
    sys.stdout.write("\n" + json.dumps([lower, upper]))


def _prv(_: str, event: Event, delta: float) -> Ends:
    from drdp.privacy.prv import prv_curve

    lower = prv_curve(event, bound="lower").epsilon(delta)
    return lower, prv_curve(event, bound="upper").epsilon(delta)


def _dp_accounting(_: str, event: Event, delta: float) -> Ends:
    host: Any = import_module("dp_accounting.pld.privacy_loss_distribution")
    relations = import_module("dp_accounting").NeighboringRelation
    answers = []
    for pessimistic in (False, True):
        total = None
        for rate, noise, replaced, times in _rounds(event):
            law = host.from_gaussian_mechanism(
                noise,
                pessimistic_estimate=pessimistic,
                use_connect_dots=pessimistic,
                sampling_prob=rate,
                neighboring_relation=relations.REPLACE_ONE
                if replaced
                else relations.ADD_OR_REMOVE_ONE,
            ).self_compose(times)
            total = law if total is None else total.compose(law)
        answers.append(0.0 if total is None else total.get_epsilon_for_delta(delta))
    return float(answers[0]), float(answers[1])


def _opacus(method: str, event: Event, delta: float) -> Ends:
    accountant: Any = import_module("opacus.accountants").create_accountant(
        method.split()[1].lower()
    )
    for rate, noise, replaced, times in _rounds(event):
        if replaced:
            raise UnsupportedEventError("Opacus has no formula for replace-one")
        accountant.history.append((noise, rate, times))
    return 0.0, float(accountant.get_epsilon(delta))


class _Round(NamedTuple):
    rate: float
    noise: float
    replaced: bool
    times: int


def _rounds(event: Event, *, reached: bool = False) -> list[_Round]:
    """The atoms of an event; `reached` turns fixed-size sampling into what it is
    no cheaper than: data sets whose other members all pull the other way.
    """
    rounds = []
    for atom, times in atoms(event).items():
        match atom:
            case Gaussian(noise_multiplier=z):
                rounds.append(_Round(1.0, z, False, times))
            case PoissonSampled(event=Gaussian(noise_multiplier=z)):
                replaced = atom.adjacency is Adjacency.REPLACE_ONE
                rounds.append(_Round(atom.rate, z, replaced, times))
            case FixedSizeSampled(event=Gaussian(noise_multiplier=z)) if reached:
                rounds.append(_Round(atom.rate, z, False, times))
            case _:
                raise UnsupportedEventError(f"it has no formula for {atom!r}")
    return rounds


# --- simulation --------------------------------------------------------------------


def _simulation(
    event: Event, delta: float, certified: Interval, samples: int | None, seed: int
) -> Finding:
    """delta at the certified ends: not above it at the upper, nor below at the lower.

    An answer that contradicts is asked for again, with fresh and more runs.
    """
    name, start = "Monte Carlo", time.perf_counter()
    if not certified.upper < math.inf:
        return Finding(name, "no formula", detail="the certified epsilon is infinite")
    found = Finding(name, "answered")
    try:
        steps = sum(one.times for one in _rounds(event, reached=True))
        runs = samples or min(_MOST_RUNS, _DRAWS // max(1, steps))
        if runs < _FEWEST_RUNS and samples is None:
            raise UnsupportedEventError(f"{steps} rounds take long: give the samples")
        for more, stream in ((runs, 2 * seed), (4 * runs, 2 * seed + 1)):
            ends = simulated_delta(event, certified[:2], samples=more, seed=stream)
            (low, high), (upper_low, upper_high) = ends
            position = found.position
            if any(lower < upper / 3.0 for lower, upper in ends) or upper_high == 0.0:
                position = "too coarse to tell"
            elif upper_low > delta:
                position = "above"
            elif certified.lower > 0.0 and high < delta:
                position = "below"
            text = f"{more:,} runs from seed {seed}, {CONFIDENCE:.1%} confidence"
            seconds = time.perf_counter() - start
            found = Finding(
                name, "answered", upper_low, upper_high, seconds, position, text
            )
            if position not in ("above", "below"):
                break
    except UnsupportedEventError as error:
        return Finding(name, "no formula", detail=str(error))
    return found


def simulated_delta(
    event: Event, epsilons: tuple[float, float], *, samples: int, seed: int
) -> tuple[Ends, Ends]:
    """Confidence intervals for delta = E_P[(1 - e^(epsilon - L))_+], L the loss.

    Outcomes x are not drawn from P but from p (p/q)^t, so that losses near
    epsilon are common, and weighted by exact density ratios.  The draws are from
    cells of constant density, whose width costs precision but no bias.

    Returns:
        One interval for each epsilon, of level `CONFIDENCE`, for the worse
        direction; t suits the last epsilon.
    """
    import numpy as np

    rounds = _rounds(event, reached=True)
    rng = np.random.default_rng(seed)
    worst = [(0.0, 0.0)] * 2
    for add in (False, True)[: 1 + any(_is_two_sided(one) for one in rounds)]:
        most = math.fsum(
            -one.times * math.log1p(-one.rate) if _is_two_sided(one) else math.inf
            for one in rounds
        )
        if add and epsilons[1] >= most:
            continue  # no outcome loses that much
        tilt = _tilt(rounds, add, epsilons[1])
        cells = [_cells(one, add, tilt) for one in rounds]
        sums = np.zeros((2, 2))
        width = max(1, min(samples, _BLOCK))
        for first in range(0, samples, width):
            losses, weights = _drawn(
                rounds, cells, add, min(width, samples - first), rng
            )
            for row, epsilon in enumerate(epsilons):
                hit = losses > epsilon
                value = -np.expm1(epsilon - losses[hit]) * np.exp(weights[hit])
                sums[row] += value.sum(), (value * value).sum()
        means, squares = (sums / samples).T
        errors = _QUANTILE * np.sqrt((squares - means**2).clip(0.0) / (samples - 1))
        pairs = zip(worst, means, errors, strict=True)
        worst = [
            (max(low, mean - error, 0.0), max(high, mean + error))
            for (low, high), mean, error in pairs
        ]
    return (*map(float, worst[0]),), (*map(float, worst[1]),)


def _is_two_sided(one: _Round) -> bool:
    return one.rate < 1.0 and not one.replaced


def _loss(one: _Round, add: bool, x: Array) -> tuple[Array, Array]:
    """The privacy loss at x and log of P's density, up to a constant factor."""
    import numpy as np

    mu = 1.0 / one.noise
    stays = math.log1p(-one.rate) if one.rate < 1.0 else -math.inf
    joins = math.log(one.rate) - 0.5 * mu * mu
    ratio = np.logaddexp(stays, joins + mu * x)
    bell = -0.5 * x * x
    if one.replaced:
        return ratio - np.logaddexp(stays, joins - mu * x), ratio + bell
    return (-ratio, bell) if add and one.rate < 1.0 else (ratio, ratio + bell)


def _axis(one: _Round, tilt: float) -> Array:
    import numpy as np

    reach = 40.0 + (1.0 + 2.0 * tilt) / one.noise
    if reach > 1e5:
        raise UnsupportedEventError("there is too little noise to simulate")
    return np.arange(-reach, reach, 0.25)


def _tilt(rounds: list[_Round], add: bool, epsilon: float) -> float:
    """The t of Chernoff's bound: least log E_P[e^(t (L - epsilon))]."""
    import numpy as np

    def bound(log_tilt: float) -> float:
        tilt, total = math.exp(log_tilt), -math.exp(log_tilt) * epsilon
        for one in rounds:
            loss, log_p = _loss(one, add, _axis(one, tilt))
            total += one.times * float(np.logaddexp.reduce(log_p + tilt * loss))
            total -= one.times * math.log(math.sqrt(2.0 * math.pi) / 0.25)
        return total

    least = min(one.noise for one in rounds)
    points = np.linspace(math.log(1e-5), math.log(min(1e4, 2.5e4 * least)), 41)
    for _ in range(2):
        best = min(points, key=bound)
        step = points[1] - points[0]
        points = np.linspace(best - step, min(best + step, points[-1]), 9)
    return math.exp(min(points, key=bound))


def _cells(one: _Round, add: bool, tilt: float) -> tuple[Array, Array, float, float]:
    """Edges of the cumulated proposal, log densities, left end and cell width."""
    import numpy as np

    def log_density(x: Array) -> Array:
        loss, log_p = _loss(one, add, x)
        return log_p + tilt * loss

    axis = _axis(one, tilt)
    rough = log_density(axis)
    kept = axis[rough > rough.max() - 45.0]  # the rest, e^-45, is never drawn
    left, right = float(kept[0]) - 0.25, float(kept[-1]) + 0.25
    width = (right - left) / _CELLS
    if width > 0.1:
        raise UnsupportedEventError("there is too little noise to simulate")
    height = log_density(left + width * (np.arange(_CELLS) + 0.5))
    share = np.exp(height - np.logaddexp.reduce(height))
    with np.errstate(divide="ignore"):
        log_share = np.log(share / width)
    return np.cumsum(share) / share.sum(), log_share, left, width


def _drawn(
    rounds: list[_Round],
    cells: list[tuple[Array, Array, float, float]],
    add: bool,
    runs: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Losses of whole runs, and the logs of their weights."""
    import numpy as np

    losses, weights = np.zeros(runs), np.zeros(runs)
    rows = max(1, _BLOCK // runs)
    for one, (edges, log_density, left, width) in zip(rounds, cells, strict=True):
        for first in range(0, one.times, rows):
            shape = (min(rows, one.times - first), runs)
            cell = np.searchsorted(edges, rng.random(shape), side="right")
            cell = np.minimum(cell, _CELLS - 1)
            loss, log_p = _loss(one, add, left + width * (cell + rng.random(shape)))
            losses += loss.sum(axis=0)
            weights += (log_p - _LOG_ROOT_2PI - log_density[cell]).sum(axis=0)
    return losses, weights
