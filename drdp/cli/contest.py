"""All accountants on one event: what each says, how long it takes, and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

from drdp.errors import DrdpError
from drdp.privacy.curves import Accountant, Interval
from drdp.privacy.events import Event, Gaussian, atoms
from drdp.privacy.gdp import gdp_curve
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.prv import prv_curve
from drdp.privacy.rdp import rdp_curve

__all__ = ["Contest", "Contestant", "contest"]

Standing = Literal["certified", "agrees", "above", "under-reports", "no answer"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """What one accountant says about epsilon.

    Args:
        name: The accountant.
        lower: What it says epsilon is at least; None where it does not say.
        estimate: What it says epsilon is about.
        upper: What it says epsilon is at most.
        seconds: How long it took, imports included.
        why: One sentence on how it works and why it differs.
        problem: Why it has no answer.
    """

    name: str
    why: str
    lower: float | None = None
    estimate: float | None = None
    upper: float | None = None
    seconds: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Contest:
    """The certified interval and every accountant's answer."""

    certified: Interval
    entries: tuple[Contestant, ...]

    def standing(self, entry: Contestant) -> Standing:
        """How an answer stands to the certified interval."""
        if entry.problem is not None:
            return "no answer"
        if entry.name == "pld":
            return "certified"
        said = [v for v in (entry.estimate, entry.upper) if v is not None]
        if max(said) < self.certified.lower:
            return "under-reports"
        least = min(said) if entry.lower is None else entry.lower
        return "above" if least > self.certified.upper else "agrees"


def contest(event: Event, delta: float) -> Contest:
    """Ask every accountant for the epsilon of an event at `delta`.

    Raises:
        DrdpError: If the certified accountant has no answer; another one that
            has none says why in its own entry.
    """
    start = time.perf_counter()
    certified = epsilon_interval(event, delta)
    first = Contestant(
        "pld",
        f"adds up the law of the privacy loss itself ({certified.method}); whatever"
        " is left out or rounded is put on the safe side.",
        lower=certified.lower,
        upper=certified.upper,
        seconds=time.perf_counter() - start,
    )
    return Contest(
        certified, (first, *(_asked(name, event, delta) for name in _OTHERS))
    )


def _asked(name: str, event: Event, delta: float) -> Contestant:
    ask, explain = _OTHERS[name]
    blank = Contestant(name, explain(event))
    start = time.perf_counter()
    try:
        found = ask(blank, event, delta)
    except (DrdpError, ArithmeticError) as error:
        return replace(blank, problem=" ".join(str(error).split()))
    return replace(found, seconds=time.perf_counter() - start)


def _by_curve(curve_of: Accountant) -> Callable[[Contestant, Event, float], Contestant]:
    def ask(blank: Contestant, event: Event, delta: float) -> Contestant:
        curve = curve_of(event)
        value = curve.epsilon(delta)
        if curve.bound == "upper":
            return replace(blank, upper=value)
        return replace(blank, estimate=value)

    return ask


def _by_prv(blank: Contestant, event: Event, delta: float) -> Contestant:
    low, middle, high = (
        prv_curve(event, bound=bound).epsilon(delta)
        for bound in ("lower", "estimate", "upper")
    )
    return replace(blank, lower=low, estimate=middle, upper=high)


def _edgeworth(event: Event) -> object:
    """The Edgeworth accountant's curve, where this version has one."""
    return import_module("drdp.privacy.edgeworth").edgeworth_curve(event)


def _why_rdp(_: Event) -> str:
    return (
        "bounds one moment of the privacy loss at a time; a moment does not know the"
        " tail at epsilon exactly, so turning it into epsilon loses something."
    )


def _why_gdp(event: Event) -> str:
    if all(isinstance(atom, Gaussian) for atom in atoms(event)):
        return "Gaussians without sampling compose exactly: the squares of mu add."
    return (
        "takes the sum of the losses for Gaussian, as it is in the limit of many"
        " small rounds; with few rounds or little noise the true tail is heavier."
    )


def _why_prv(_: Event) -> str:
    return (
        "adds up the same law on a grid, in an independent package; its interval is"
        " as wide as the error asked for, 0.01 on each side."
    )


def _why_edgeworth(_: Event) -> str:
    return (
        "corrects the Gaussian limit by the next cumulants of the loss; better than"
        " gdp, but its error in the tail is not bounded."
    )


Ask = Callable[[Contestant, Event, float], Contestant]
Explain = Callable[[Event], str]

_OTHERS: dict[str, tuple[Ask, Explain]] = {
    "rdp": (_by_curve(rdp_curve), _why_rdp),
    "gdp": (_by_curve(gdp_curve), _why_gdp),
    "prv": (_by_prv, _why_prv),
}
if find_spec("drdp.privacy.edgeworth") is not None:
    _OTHERS["edgeworth"] = (_by_curve(_edgeworth), _why_edgeworth)  # type: ignore[arg-type]
