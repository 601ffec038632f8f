"""Whether independent methods contradict the certified epsilon of an event.

drdp's own paths, other packages and a simulation answer one question: which
epsilon goes with this delta?  Each answer is an interval or a one-sided bound;
it contradicts the certified interval where the two have no point in common.
A package runs in a process of its own: it may crash, hang or lie.
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
from typing import Any, Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from drdp import _check
from drdp.errors import DrdpError, InvalidArgumentError, UnsupportedEventError
from drdp.privacy.codec import from_dict, to_dict
from drdp.privacy.curves import Interval, invert
from drdp.privacy.events import Adjacency, Event, Gaussian, PoissonSampled, atoms
from drdp.privacy.events import FixedSizeSampled as Fixed
from drdp.privacy.exact import exact_interval
from drdp.privacy.grid import grid_interval
from drdp.privacy.losses import directions, log_profile
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.rdp import rdp_curve

__all__ = ["FAST", "PEERS", "Finding", "Report", "crosscheck", "simulated_delta"]

Array = NDArray[np.float64]
Atoms = tuple[tuple[Event, int], ...]
Draw = Callable[[int, np.random.Generator], tuple[Array, Array]]
Ends = tuple[float, float]
Status = Literal["answered", "no formula", "not installed", "not asked", "failed"]

FAST = ("prv-accountant", "dp-accounting PLD")
PEERS = dict(zip(FAST, ("prv_accountant", "dp_accounting"), strict=True)) | {
    "Opacus RDP": "opacus",  # imports torch, which takes seconds
    "Opacus PRV": "opacus",
}
"""The methods of other packages, each with the package that it needs."""

_QUANTILE = 3.2906  # of the normal law, 0.1 % in both tails together
_PEER_ROUNDING = 1e-9  # relative: peers do not bound their rounding
_TIME_LIMIT, _MEMORY_LIMIT = 60.0, 8 << 30  # of a peer, in seconds and bytes
_MOST_RUNS, _FEWEST_RUNS, _DRAWS = 100_000, 300, 6_000_000
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
        lower: Of epsilon; of delta at the certified epsilon for the simulation.
        upper: The other end; an upper bound alone has 0 as its lower one.
        seconds: How long it took, the start of a package's process included.
        position: Where its epsilon lies, seen from the certified interval.
    """

    method: str
    status: Status
    lower: float = 0.0
    upper: float = math.inf
    seconds: float | None = None
    position: Literal["agrees", "below", "above", "too coarse to tell"] = "agrees"
    detail: str = ""

    def beside(self, certified: Interval) -> Finding:
        """The same with its position."""
        slack = _PEER_ROUNDING if self.method in PEERS else 0.0
        low, high, _ = certified
        if self.upper < low - slack * max(1.0, low):
            return replace(self, position="below")
        if self.lower > high + slack * max(1.0, high):
            return replace(self, position="above")
        return self


class Report(NamedTuple):
    """The certified interval and what every method found; the last one simulates."""

    certified: Interval
    findings: tuple[Finding, ...]

    @property
    def against(self) -> tuple[Finding, ...]:
        """The methods that contradict the certified interval."""
        return tuple(f for f in self.findings if f.position in ("below", "above"))


def crosscheck(
    event: Event,
    delta: float,
    *,
    peers: Collection[str] = FAST,
    samples: int | None = None,
    seed: int = 1,
) -> Report:
    """Ask every independent method for the epsilon of an event at `delta`.

    Args:
        event: What was released.
        delta: Strictly between 0 and 1.
        peers: Which of `PEERS` to ask.
        samples: Simulated runs; by default as many as a few seconds allow.
        seed: Of the simulation.

    Guarantees:
        An unlucky simulation contradicts a right certificate about once in a
        million times: it has to miss twice, the second time with fresh runs.

    >>> report = crosscheck(Gaussian(2.0) * 3, 1e-5, peers=())
    >>> report.against, report.certified.method
    ((), 'closed form')
    """
    delta = _check.probability(delta=delta)
    seed = _check.count(seed=seed)
    samples = None if samples is None else _check.count(least=2, samples=samples)
    if not set(peers) <= set(PEERS):
        raise InvalidArgumentError(f"peers must be of {', '.join(PEERS)}; got {peers}")
    parts = tuple(atoms(event).items())
    certified = epsilon_interval(event, delta)
    odd = "nothing" in certified.method or "without sampling" in certified.method
    question: tuple[Atoms, Literal["epsilon"], float] = (parts, "epsilon", delta)
    found = (
        _own("contour", lambda: exact_interval(*question, 1e-6), odd),
        _own("grid", lambda: grid_interval(*question, 1e-4), odd),
        _own("closed form", lambda: _closed_form(parts, delta)),
        _own("rdp", lambda: Interval(0.0, rdp_curve(event).epsilon(delta), ""), odd),
        *(_peer(name, event, delta, name in peers) for name in PEERS),
    )
    simulated = _monte_carlo(event, delta, certified, samples, seed)
    return Report(certified, (*(one.beside(certified) for one in found), simulated))


def _own(method: str, ask: Callable[[], Interval | None], odd: bool = False) -> Finding:
    start = time.perf_counter()
    try:
        found = None if odd else ask()
    except UnsupportedEventError as error:
        return Finding(method, "no formula", detail=str(error))
    except (ArithmeticError, DrdpError, MemoryError, RuntimeError, ValueError) as error:
        return Finding(method, "failed", detail=f"{type(error).__name__}: {error}")
    if found is None:
        return Finding(method, "no formula")
    return Finding(method, "answered", *found[:2], time.perf_counter() - start)


def _closed_form(parts: Atoms, delta: float) -> Interval | None:
    """Unsampled Gaussians, or one release: its profile inverted by bisection."""
    if len(parts) == 1 and isinstance(atom := parts[0][0], Gaussian):
        parts = ((Gaussian(atom.noise_multiplier / math.sqrt(parts[0][1])), 1),)
    if len(parts) != 1 or parts[0][1] != 1:
        return None
    atom = parts[0][0]
    profiles = [log_profile(atom, way) for way in directions(atom, lower=False)]
    if None in profiles:
        return None

    def worst(epsilon: float) -> float:
        return math.exp(max(profile(epsilon) for profile in profiles if profile))

    more, less = delta * (1.0 + 1e-11), delta * (1.0 - 1e-11)
    low, high = invert(worst, more, upper=False), invert(worst, less, upper=True)
    return Interval(low, high, "closed form")


def _peer(method: str, event: Event, delta: float, asked: bool) -> Finding:
    """One package's answer, from a process that may not survive."""
    if find_spec(PEERS[method]) is None:
        return Finding(method, "not installed")
    if not asked:
        return Finding(method, "not asked")
    start = time.perf_counter()
    code = "from drdp.privacy.crosscheck import _answer; _answer()"
    line = [sys.executable, "-c", code, json.dumps([method, to_dict(event), delta])]
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=_TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        late = f"no answer within {_TIME_LIMIT:g} seconds"
        return Finding(method, "failed", seconds=_TIME_LIMIT, detail=late)
    seconds = time.perf_counter() - start
    if done.returncode == 0:
        lower, upper = json.loads(done.stdout.splitlines()[-1])
        return Finding(method, "answered", max(0.0, lower), upper, seconds)
    died = f"its process ended with code {done.returncode}"
    text = (done.stderr.strip() or died).splitlines()[-1]
    text = text.removeprefix("drdp.errors.UnsupportedEventError: ")[:200]
    if "no formula" in text:
        return Finding(method, "no formula", detail=text)
    return Finding(method, "failed", seconds=seconds, detail=text)


def _answer() -> None:
    """The other end of `_peer`: an error ends the process, its last line says why."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, most))
    method, document, delta = json.loads(sys.argv[1])
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
    run = _run_of(event)
    relation = relations.REPLACE_ONE if run.replaced else relations.ADD_OR_REMOVE_ONE
    options = {"sampling_prob": run.rate, "neighboring_relation": relation}
    below = {"pessimistic_estimate": False, "use_connect_dots": False}
    answers = []
    for more in (below, {}):
        law = host.from_gaussian_mechanism(run.noise, **options, **more)
        composed = law.self_compose(run.times)
        answers.append(float(composed.get_epsilon_for_delta(delta)))
    return answers[0], answers[1]


def _opacus(method: str, event: Event, delta: float) -> Ends:
    host: Any = import_module("opacus.accountants")
    run = _run_of(event)
    if run.replaced:
        raise UnsupportedEventError("Opacus has no formula for replace-one")
    accountant = host.create_accountant(method.split()[1].lower())
    accountant.history.append((run.noise, run.rate, run.times))
    return 0.0, float(accountant.get_epsilon(delta))


class _Run(NamedTuple):
    """Equal rounds; in the direction `add`, P lacks the unit that Q has."""

    rate: float
    noise: float
    times: int
    replaced: bool = False
    add: bool = False


def _run_of(event: Event, *, reached: bool = False) -> _Run:
    """An event's rounds; with `reached`, what fixed-size sampling costs at least."""
    match tuple(atoms(event).items()):
        case ((Gaussian(noise_multiplier=z), times),):
            return _Run(1.0, z, times)
        case ((PoissonSampled(event=Gaussian(noise_multiplier=z)) as atom, times),):
            return _Run(atom.rate, z, times, atom.adjacency is Adjacency.REPLACE_ONE)
        case ((Fixed(event=Gaussian(noise_multiplier=z)) as atom, times),) if reached:
            return _Run(atom.rate, z, times)
    raise UnsupportedEventError("it has no formula for this release")


def _monte_carlo(
    event: Event, delta: float, certified: Interval, samples: int | None, seed: int
) -> Finding:
    """delta is not above the target at the upper end, nor below it at the lower."""
    name, start = "Monte Carlo", time.perf_counter()
    try:
        if certified.upper == math.inf:
            raise UnsupportedEventError("the certified epsilon is infinite")
        rounds = _run_of(event, reached=True).times
        runs = samples or min(_MOST_RUNS, _DRAWS // rounds)
        if runs < _FEWEST_RUNS and not samples:
            raise UnsupportedEventError(f"{rounds} rounds take long; say how many runs")
        for more, stream in ((runs, 2 * seed), (4 * runs, 2 * seed + 1)):
            ends = certified[:2]
            lows, highs = simulated_delta(event, ends, samples=more, seed=stream)
            text = f"{more:,} runs from seed {seed}, 99.9 % confidence"
            took = time.perf_counter() - start
            found = Finding(name, "answered", lows[1], highs[1], took, detail=text)
            if 3.0 * lows[0] <= highs[0] or 3.0 * lows[1] <= highs[1]:
                return replace(found, position="too coarse to tell")
            if lows[1] <= delta and (highs[0] >= delta or certified.lower == 0.0):
                break
            found = replace(found, position="above" if lows[1] > delta else "below")
    except UnsupportedEventError as error:
        return Finding(name, "no formula", detail=str(error))
    return found


def simulated_delta(
    event: Event, epsilons: Ends, *, samples: int, seed: int
) -> tuple[Ends, Ends]:
    """99.9 % confidence bounds on delta = E_P[(1 - e^(epsilon - L))_+], L the loss.

    Outcomes x are not drawn from p but near p (p/q)^t, so that losses around
    epsilon are common, and weighted by exact density ratios.

    Returns:
        The lower bounds and the upper ones at both epsilons, for the worse
        direction; t suits the second epsilon.
    """
    run = _run_of(event, reached=True)
    rng = np.random.default_rng(seed)
    lows = highs = np.zeros(2)
    one_way = run.rate == 1.0 or run.replaced
    if not one_way:  # adding loses at most -log(1 - rate) in a round
        one_way = epsilons[1] >= -run.times * math.log1p(-run.rate)
    for way in (run, run._replace(add=True))[: 1 if one_way else 2]:
        sums, left = np.zeros((2, 2)), samples
        draw, unit = _proposal(way, epsilons[1])
        while left > 0:
            losses, weights = draw(min(left, _BLOCK), rng)
            left -= losses.size
            for row, epsilon in enumerate(epsilons):
                hit = losses > epsilon
                gain = -np.expm1(epsilon - losses[hit]) * np.exp(weights[hit] - unit)
                sums[row] += gain.sum(), (gain * gain).sum()
        means, squares = (sums / samples).T
        spread = np.maximum(0.0, squares - means**2) / (samples - 1)
        means, error = math.exp(unit) * np.stack([means, _QUANTILE * np.sqrt(spread)])
        lows, highs = np.maximum(lows, means - error), np.maximum(highs, means + error)
    return (float(lows[0]), float(lows[1])), (float(highs[0]), float(highs[1]))


def _tilted(run: _Run, tilt: float, x: Array) -> tuple[Array, Array, Array]:
    """The loss at x, log p(x) and log of p (p/q)^tilt."""
    mu = 1.0 / run.noise
    stays = math.log1p(-run.rate) if run.rate < 1.0 else -math.inf
    joins = math.log(run.rate) - 0.5 * mu * mu
    bell, ratio = -0.5 * x * x - _LOG_ROOT_2PI, np.logaddexp(stays, joins + mu * x)
    loss, log_p = (-ratio, bell) if run.add else (ratio, bell + ratio)
    if run.replaced:
        loss = loss - np.logaddexp(stays, joins - mu * x)
    return loss, log_p, log_p + tilt * loss


def _proposal(run: _Run, epsilon: float) -> tuple[Draw, float]:
    """What draws losses of whole runs and the logs of their weights.

    From a density near p (p/q)^t that is constant on each of many cells, with t
    that of Chernoff's bound on P(L > epsilon), whose logarithm is returned as well.
    """

    def axis(tilt: float) -> Array:
        reach = 40.0 + (1.0 + 2.0 * tilt) / run.noise
        if reach > 1e5:
            raise UnsupportedEventError("there is too little noise to simulate")
        return np.arange(-reach, reach, 0.25)

    def bound(log_tilt: float) -> float:
        tilt = math.exp(log_tilt)
        moment = float(np.logaddexp.reduce(_tilted(run, tilt, axis(tilt))[2]))
        return run.times * (moment + math.log(0.25)) - tilt * epsilon

    last = math.log(min(1e4, 4e4 * run.noise))
    rough = min(np.linspace(math.log(1e-5), last, 41), key=bound)
    near = np.linspace(rough - 0.5, min(rough + 0.5, last), 41)
    best = min(near, key=bound)
    x, tilt = axis(math.exp(best)), math.exp(best)
    height = _tilted(run, tilt, x)[2]
    kept = x[height > height.max() - 45.0]  # e^-45 of the rest is never drawn
    left = float(kept[0]) - 0.25
    width = (float(kept[-1]) + 0.25 - left) / _CELLS
    middles: Array = np.linspace(left, left + _CELLS * width, _CELLS, endpoint=False)
    height = _tilted(run, tilt, middles + 0.5 * width)[2]
    log_share = height - np.logaddexp.reduce(height)
    edges = np.cumsum(np.exp(log_share))
    edges /= edges[-1]

    def draw(runs: int, rng: np.random.Generator) -> tuple[Array, Array]:
        losses, weights = np.zeros(runs), np.zeros(runs)
        rows = max(1, _BLOCK // runs)
        for first in range(0, run.times, rows):
            shape = (min(rows, run.times - first), runs)
            cell = np.searchsorted(edges, rng.random(shape), side="right")
            x = left + width * (cell + rng.random(shape))
            loss, log_p, _ = _tilted(run, 0.0, x)
            losses += loss.sum(axis=0)
            weights += (log_p - log_share[cell] + math.log(width)).sum(axis=0)
        return losses, weights

    return draw, bound(best)
