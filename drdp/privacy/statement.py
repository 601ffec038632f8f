"""The guarantee of an event in words and as JSON, with what it does not say.

The entries follow the reporting checklist of Ponomareva et al., "How to DP-fy
ML" (arXiv:2303.00654, Section 5.3.3): the setting, what the definition is
instantiated with, the accounting, and what others need to check it.  What
nobody stated is reported as unknown.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from importlib import metadata, resources
from typing import Any, final

from drdp import _check
from drdp.errors import UnsupportedEventError
from drdp.privacy.codec import to_dict
from drdp.privacy.curves import Interval, PrivacyCurve
from drdp.privacy.events import Adjacency, Event, adjacency_of, atoms
from drdp.privacy.figures import Figure, certified_curve, figures
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.rdp import rdp_curve
from drdp.privacy.risk import remembered
from drdp.privacy.wording import in_words, releases

__all__ = [
    "UNKNOWN",
    "VERSION",
    "Circumstances",
    "Statement",
    "in_words",
    "releases",
    "schema",
    "state",
]

VERSION = 1
UNKNOWN = "unknown"

_NEIGHBOURS = {
    Adjacency.ADD_REMOVE: "one {} more or less",
    Adjacency.ZERO_OUT: "one {}'s contribution replaced by zero",
    Adjacency.REPLACE_ONE: "one {}'s data replaced by other data",
}
_PACKAGES = ("drdp", "numpy", "scipy", "numba")
_ASSUMED = (
    (
        "Each {unit} contributes at most {bound} in L2 norm to each release,"
        " whatever its data are, and nothing else about it is released."
    ),
    (
        "The noise is what the events say, drawn afresh for each release and unknown"
        " to the adversary.  Its multiplier is the standard deviation of the noise in"
        " what the adversary sees, divided by the clip norm, or by twice the clip"
        " norm for sampling of a fixed size."
    ),
)
_FIXED = (
    "The number of releases and all parameters were fixed without looking at the data."
)
_BY_CHANCE = (
    "Each {unit} takes part in a round by chance, drawn as the events say, and the"
    " adversary does not learn who took part.  Shuffled or otherwise fixed batches"
    " do not meet this."
)
_UNCOVERED = (
    (
        "Any other use of the same data: choosing hyperparameters or the model,"
        " preprocessing, evaluation, other releases."
    ),
    "Groups: the guarantee for several {unit}s together is weaker.",
    (
        "What can be learned about a {unit} without its own data, from the population"
        " or from other members."
    ),
    "Noise drawn in floating point, timing and other side channels.",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What an event does not know about the run it stands for.

    Every entry may be left out; a statement then says that it is unknown.

    Args:
        unit: Whom the guarantee protects, e.g. ``"client"``.
        population: How many units there are.
        adjacency: The neighbouring relation; read off the event if it has one.
        clip_norm: The largest L2 norm of one contribution.
        bound: That norm in words, where no single number says it.
        placement: Who adds the noise: ``"central"``, ``"distributed"``, ...
        adversary: What the adversary sees, in words.
        output: What is released, e.g. ``"every round's model"``.
        data_accesses: Which uses of the data the guarantee covers.
        delta_source: Where delta comes from, in words.
        choices: How the releases were chosen, if not without looking at the data.
        assumptions: Further things that the guarantee rests on.
        not_covered: Further things that it does not cover.
    """

    unit: str | None = None
    population: int | None = None
    adjacency: Adjacency | None = None
    clip_norm: float | None = None
    bound: str = ""
    placement: str | None = None
    adversary: str | None = None
    output: str | None = None
    data_accesses: str | None = None
    delta_source: str | None = None
    choices: str | None = None
    assumptions: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Statement:
    """A guarantee with everything that belongs to it.

    Args:
        event: What was released.
        delta: The delta of the guarantee.
        epsilon: The interval that holds the true epsilon; only its upper end is
            known where the accountant gives no lower one.
        accountant: Which accountant answered.
        circumstances: What was stated about the run.
        risk: Figures of risk, where they were asked for.
    """

    event: Event
    delta: float
    epsilon: Interval
    accountant: str
    circumstances: Circumstances
    risk: tuple[Figure, ...] | None

    @property
    def adjacency(self) -> Adjacency | None:
        """The neighbouring relation, if the event or anybody states one."""
        return adjacency_of(self.event) or self.circumstances.adjacency

    def sentence(self) -> str:
        """The guarantee in one sentence, its epsilon rounded up."""
        unit = self.circumstances.unit or "privacy unit"
        if self.epsilon.upper == math.inf:
            return (
                f"At delta {_up(self.delta)} no finite epsilon is guaranteed for any"
                f" {unit}: this is not differentially private."
            )
        relation = (
            f"adjacency {self.adjacency}"
            if self.adjacency
            else "a neighbouring relation that is not stated"
        )
        return (
            f"For every {unit}, what is released is"
            f" ({_up(self.epsilon.upper)}, {_up(self.delta)})-differentially private"
            f" under {relation}."
        )

    def to_dict(self) -> dict[str, Any]:
        """The statement as JSON values, valid under `schema`."""
        about = self.circumstances
        low, high, method = self.epsilon
        parts = atoms(self.event)
        return {
            "drdp_statement": VERSION,
            "statement": self.sentence(),
            "setting": {
                "placement": _known(about.placement),
                "adversary": _known(about.adversary),
            },
            "definition": {
                "data_accesses": _known(about.data_accesses),
                "output": _known(about.output),
                "unit": _known(about.unit),
                "population": _known(about.population),
                "adjacency": _known(self.adjacency and str(self.adjacency)),
                "neighbours": self._neighbours(),
            },
            "mechanism": {
                "releases": [
                    {"count": times, "description": in_words(atom)}
                    for atom, times in parts.items()
                ],
                "sampling": self._sampling(),
                "steps": sum(parts.values()),
                "clip_norm": _known(about.clip_norm),
                "event": to_dict(self.event),
            },
            "accounting": {
                "epsilon": {
                    "lower": _number(low) if self._two_sided else UNKNOWN,
                    "upper": _number(high),
                },
                "delta": self.delta,
                "delta_source": _known(about.delta_source),
                "accountant": self.accountant,
                "method": method,
                "bound": "upper",
                "error_at_most": (
                    _number(high - low)
                    if self._two_sided and high < math.inf
                    else UNKNOWN
                ),
            },
            "assumptions": list(self._assumptions()),
            "not_covered": list(self._not_covered()),
            "risk": (
                UNKNOWN if self.risk is None else [_figure(one) for one in self.risk]
            ),
            "versions": _versions(),
        }

    @property
    def _two_sided(self) -> bool:
        return self.accountant == "pld"

    def _neighbours(self) -> str:
        if self.adjacency is None:
            return UNKNOWN
        unit = self.circumstances.unit or "privacy unit"
        return _NEIGHBOURS[self.adjacency].format(unit)

    def _sampling(self) -> str:
        kinds = {_kind(atom) for atom in atoms(self.event)}
        found = sorted(kind for kind in kinds if "sampled" in kind or "alloc" in kind)
        return ", ".join(found) if found else "none"

    def _assumptions(self) -> Sequence[str]:
        unit = self.circumstances.unit or "privacy unit"
        clip = self.circumstances.clip_norm
        bound = "the clip norm" if clip is None else f"{clip:g}"
        bound = self.circumstances.bound or bound
        lines = [line.format(unit=unit, bound=bound) for line in _ASSUMED]
        lines.append(self.circumstances.choices or _FIXED)
        if self._sampling() != "none":
            lines.append(_BY_CHANCE.format(unit=unit))
        return (*lines, *self.circumstances.assumptions)

    def _not_covered(self) -> Sequence[str]:
        unit = self.circumstances.unit or "privacy unit"
        lines = [line.format(unit=unit) for line in _UNCOVERED]
        return (*lines, *self.circumstances.not_covered)


def state(
    event: Event,
    delta: float,
    circumstances: Circumstances | None = None,
    *,
    with_risk: bool = True,
) -> Statement:
    """The statement of an event's guarantee.

    Args:
        event: What was released.
        delta: Strictly between 0 and 1.
        circumstances: What is known about the run beside the event.
        with_risk: Whether figures of risk are computed, which takes longer.

    Returns:
        A statement whose epsilon is certified.  Where the certified accountant
        has no formula the Renyi accountant answers, from above only.

    Raises:
        UnsupportedEventError: If neither accountant has a formula.

    >>> from drdp.privacy.events import Gaussian
    >>> found = state(Gaussian(1.0), 1e-5, Circumstances(unit="client"))
    >>> found.sentence()  # doctest: +ELLIPSIS
    'For every client, what is released is (4.37718, 1e-5)-differentially ...
    """
    delta = _check.probability(delta=delta)
    about = circumstances or Circumstances()
    below: PrivacyCurve | None
    try:
        epsilon, accountant = epsilon_interval(event, delta), "pld"
        above, below = certified_curve(event, "upper"), certified_curve(event, "lower")
    except UnsupportedEventError:
        above, below = remembered(rdp_curve(event)), None
        epsilon = Interval(0.0, above.epsilon(delta), "Renyi divergences")
        accountant = "rdp"
    risk = tuple(figures(above, below)) if with_risk else None
    return Statement(event, delta, epsilon, accountant, about, risk)


def schema() -> dict[str, Any]:
    """The JSON Schema of a statement, which ships with the package.

    >>> schema()["title"]
    'Statement of a differential privacy guarantee'
    """
    home = resources.files("drdp.privacy") / "statement.schema.json"
    found: dict[str, Any] = json.loads(home.read_text(encoding="utf-8"))
    return found


def _kind(event: Event) -> str:
    found: str = to_dict(event)["kind"]
    return found


def _up(value: float) -> str:
    """Six digits, rounded up."""
    if value == 0.0:
        return "0"
    exact = Context(prec=6, rounding=ROUND_CEILING).plus(Decimal(repr(value)))
    plain = value >= 1e-4 or value == 0.0
    return f"{exact.normalize():f}" if plain else f"{exact.normalize():e}"


def _known(value: object) -> object:
    return UNKNOWN if value is None or value == "" else value


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "fpr": figure.fpr,
        "prior": figure.prior,
        "upper": figure.upper,
        "lower": _known(figure.lower),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = UNKNOWN
    return found
