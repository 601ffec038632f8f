"""What a report of a run shows, as plain data, and no more than that.

What is marked private in the folder is left out unless it is asked for, and so is
what would give it away: exact times of rounds tell how many clients took part, and
the number of private examples depends on every client.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from drdp.errors import CodecError
from drdp.fedsim.assumptions import circumstances
from drdp.fedsim.config import written
from drdp.fedsim.digits import roughly, up
from drdp.fedsim.evidence import Evidence, Measured, Planned
from drdp.fedsim.spending import Book, accounted, certified, spread, until
from drdp.privacy.adjacency import known_adjacency
from drdp.privacy.chain import Entry
from drdp.privacy.codec import from_dict
from drdp.privacy.curves import Interval
from drdp.privacy.events import NOTHING, Event, atoms
from drdp.privacy.statement import Statement, in_words

__all__ = ["VERSION", "Document", "cost_of", "run_findings"]

VERSION = 1

Document = dict[str, Any]

_MOST_ENTRIES = 60
"""Up to this many entries of a ledger are shown one by one."""

_MOST_POINTS = 500
"""Of more rounds than this, evenly many are shown."""

_SLACK = 1e-5  # relative; between two computations of one certified epsilon
_NUMBER_BYTES = 4  # of a number in an update that is sent whole, as float32
_NO_LIMIT = 10**9
_ISOMETRIC = ("fedlora", "pca", "projection", "uls", "els", "ew-tune")
"""Methods whose decoding keeps norms, so that noise stays as long as it is."""


def run_findings(seen: Evidence, *, private: bool = False) -> Document:
    """The data behind a run's report.

    Args:
        seen: What the run left.
        private: Whether what only the operator may see is added.

    Returns:
        Values that JSON knows, and infinities.

    Guarantees:
        The epsilon of the statement is at least the certified one of all charges
        in the ledger, and at least what was noted in statement and metrics.
        Without `private` nothing depends on the private part of the metrics.
    """
    plan, book = seen.plan, seen.book
    charges = book.charges if book is not None else []
    document: Document = {
        "drdp_report": VERSION,
        "kind": "run",
        "name": seen.name,
        "method": seen.config.run.method,
        "finished": seen.finished,
        "rounds_done": seen.done,
        "rounds_planned": None if plan is None else plan.rounds,
        "simulation": seen.seeded,
        "warnings": [],
        "statement": None,
        "spending": None,
    }
    if plan is not None:
        delta = plan.delta
        cost, doubts = cost_of(seen, plan)
        document["warnings"] = doubts
        document["statement"] = _statement(seen, plan, cost)
        rounds = spread(seen.done, [one.round for one in seen.rounds if one.metrics])
        document["spending"] = {
            "delta": delta,
            "budget": book.budget[0] if book and book.budget else None,
            "epsilon": cost.upper,
            "rounds": rounds,
            "accountants": [
                {"name": one.name, "bound": one.bound, "epsilon": list(one.epsilons)}
                for one in accounted(charges, rounds, delta)
            ],
        }
    elif charges:
        document["warnings"] = [_unplanned(seen)]
    document |= {
        "utility": _utility(seen),
        "signal": None if plan is None else _signal(seen, plan),
        "reconstruction": None if plan is None else _reconstruction(seen, plan),
        "communication": None if plan is None else _communication(seen, plan),
        "timing": _timing(seen, private),
        "configuration": written(seen.config),
        "ledger": None if book is None else _ledger(book),
    }
    if private:
        document["private"] = [
            {"round": one.round, "seconds": one.seconds, **one.private}
            for one in _thinned([one for one in seen.rounds if one.private])
        ]
    return document


def cost_of(seen: Evidence, plan: Planned) -> tuple[Interval, list[str]]:
    """The certified epsilon of a run, and what does not fit together.

    Guarantees:
        The upper end is at least the certified epsilon of all charges in the
        ledger, and at least what was noted in statement and metrics.
    """
    cost, doubts = certified(_spent(seen), plan.delta), []
    claims = {"metrics.jsonl": max((one.epsilon for one in seen.rounds), default=0.0)}
    if seen.statement is not None:
        upper = seen.statement["accounting"]["epsilon"]["upper"]
        claims["statement.json"] = float(upper)
        if cost.upper > float(upper) * (1.0 + _SLACK):
            doubts.append(
                "The ledger holds more than the statement that the run ended with:"
                " rounds that were interrupted were paid for again. What is shown here"
                " covers all that was paid for."
            )
    for name, claim in claims.items():
        if claim > cost.upper * (1.0 + _SLACK):
            doubts.append(
                f"{name} tells of a greater epsilon than the charges in the ledger:"
                " one of them is not this run's. The greater one is shown; do not"
                " rely on either before that is cleared up."
            )
            cost = Interval(cost.lower, claim, cost.method)
    return cost, doubts


def _unplanned(seen: Evidence) -> str:
    """What was paid for before the plan was written: the fitting of a codec."""
    delta = seen.config.privacy.delta
    if seen.book is not None and seen.book.budget is not None:
        delta = seen.book.budget[1]
    if delta is None:
        known = "its epsilon is not known, since no delta is"
    else:
        epsilon = certified(_spent(seen), delta).upper
        known = f"epsilon {up(epsilon)} at delta {up(delta)}, certified"
    return f"Fitting the codec has been paid for before the first round: {known}."


def _thinned(found: Sequence[Measured]) -> Sequence[Measured]:
    """The first, the last, and evenly many in between."""
    if len(found) <= _MOST_POINTS:
        return found
    last = len(found) - 1
    return [found[k * last // (_MOST_POINTS - 1)] for k in range(_MOST_POINTS)]


def _spent(seen: Evidence) -> Event:
    charges = seen.book.charges if seen.book is not None else []
    return until(charges, _NO_LIMIT) if charges else NOTHING


def _statement(seen: Evidence, plan: Planned, cost: Interval) -> Document:
    privacy, book = seen.config.privacy, seen.book
    adjacency = book.adjacency if book is not None else privacy.adjacency or "zero-out"
    found = Statement(
        _spent(seen),
        plan.delta,
        cost,
        "rdp" if "Renyi" in cost.method else "pld",
        circumstances(
            unit=plan.unit,
            population=plan.population,
            adjacency=known_adjacency(adjacency),
            clip_norm=plan.clip_norm,
            placement=privacy.placement,
            view=privacy.view,
            seeded=seen.seeded,
            mechanism=privacy.mechanism,
            examples_per_user=(
                privacy.most_examples if seen.config.run.method == "els" else None
            ),
        ),
        None,
    )
    told = found.to_dict()
    return {
        "sentence": told["statement"],
        "epsilon": cost.upper,
        "delta": plan.delta,
        "population": plan.population,
        "unit": plan.unit,
        "adjacency": told["definition"]["adjacency"],
        "neighbours": told["definition"]["neighbours"],
        "sampling": told["mechanism"]["sampling"],
        "cohort": {"kind": seen.config.cohort.kind, "rate": seen.config.cohort.rate},
        "clip_norm": plan.clip_norm,
        "noise_multiplier": plan.noise_multiplier,
        "placement": privacy.placement,
        "view": privacy.view,
        "releases": [
            f"{one['count']} x {one['description']}"
            for one in told["mechanism"]["releases"]
        ],
        "assumptions": told["assumptions"],
        "not_covered": told["not_covered"],
        "risk": _risk(seen, cost),
    }


def _risk(seen: Evidence, cost: Interval) -> list[Document]:
    """The figures that the run ended with, if they are about what the ledger holds."""
    if seen.statement is None or not 0.0 < cost.upper < math.inf:
        return []
    stated = float(seen.statement["accounting"]["epsilon"]["upper"])
    mechanism, listed = seen.statement.get("mechanism"), seen.statement.get("risk")
    event = mechanism.get("event") if isinstance(mechanism, dict) else None
    try:
        same = atoms(from_dict(event)) == atoms(_spent(seen))
    except CodecError:
        same = False
    if not same or cost.upper > stated * (1.0 + _SLACK) or not isinstance(listed, list):
        return []
    return [one for one in listed if _is_figure(one)]


def _is_figure(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and isinstance(one.get("upper"), float)
        and 0.0 <= one["upper"] <= 1.0
    )


def _utility(seen: Evidence) -> Document:
    names = dict.fromkeys(name for one in seen.rounds for name in one.metrics)
    return {
        name: [
            [one.round, one.metrics[name]]
            for one in _thinned([one for one in seen.rounds if name in one.metrics])
        ]
        for name in names
    }


def _signal(seen: Evidence, plan: Planned) -> Document:
    """What is known about signal and noise without looking at private parts."""
    noise = None
    if math.isfinite(plan.clip_norm) and plan.expected_cohort > 0.0:
        total = plan.noise_multiplier * plan.clip_norm * math.sqrt(plan.code_length)
        if seen.config.privacy.placement != "central":
            total *= math.sqrt(plan.expected_cohort)
        noise = total / plan.expected_cohort
    keeps = seen.config.run.method in _ISOMETRIC and seen.config.code.bits is None
    return {
        "forecast": list(plan.forecast),
        "noise_norm": noise if keeps else None,
        "alignment": plan.alignment,
        "steps": [
            [one.round, one.step_norm]
            for one in _thinned(
                [one for one in seen.rounds if one.step_norm is not None]
            )
        ],
    }


def _reconstruction(seen: Evidence, plan: Planned) -> Document:
    return {
        "method": seen.config.run.method,
        "update_length": plan.update_length,
        "code_length": plan.code_length,
        "ratio": plan.code_length / max(plan.update_length, 1),
    }


def _communication(seen: Evidence, plan: Planned) -> Document:
    full = _NUMBER_BYTES * plan.update_length
    messages = plan.expected_cohort * seen.done

    def sent(numbers: int, size: int) -> Document:
        return {
            "numbers": numbers,
            "bytes": size,
            "round_numbers": plan.expected_cohort * numbers,
            "round_bytes": plan.expected_cohort * size,
            "total_numbers": messages * numbers,
            "total_bytes": messages * size,
        }

    return {
        "expected_cohort": plan.expected_cohort,
        "codes": sent(plan.code_length, plan.message_bytes)
        if plan.rounds
        else sent(0, 0),
        "full_updates": sent(plan.update_length, full),
    }


def _timing(seen: Evidence, private: bool) -> Document:
    """Times, which tell how many clients took part, for the operator alone."""
    taken = sorted(one.seconds for one in seen.rounds if one.seconds is not None)
    taken = taken if private else []
    if not taken:
        return {"round_seconds": None, "total_seconds": None}
    return {
        "round_seconds": roughly(taken[len(taken) // 2]),
        "total_seconds": roughly(sum(taken)),
    }


def _ledger(book: Book) -> Document:
    return {
        "entries": book.head.entries,
        "head": book.head.hash,
        "unit": book.unit,
        "adjacency": book.adjacency,
        "budget": None if book.budget is None else list(book.budget),
        "rows": _rows(book.entries),
    }


def _rows(entries: Sequence[Entry]) -> list[Document]:
    """One row an entry, or one for each stretch of equal ones where they are many."""
    rows: list[Document] = []
    last: Entry | None = None
    for entry in entries:
        same = (
            len(entries) > _MOST_ENTRIES
            and last is not None
            and (last.kind, last.run, last.body) == (entry.kind, entry.run, entry.body)
        )
        if same:
            rows[-1] |= {"to": entry.seq, "last": entry.label, "hash": entry.hash}
        else:
            event = entry.event
            rows.append(
                {
                    "from": entry.seq,
                    "to": entry.seq,
                    "kind": entry.kind,
                    "first": entry.label,
                    "last": entry.label,
                    "released": "" if event == NOTHING else in_words(event),
                    "hash": entry.hash,
                }
            )
        last = entry
    return rows
