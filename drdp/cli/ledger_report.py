"""How a ledger looks: what is spent, what is left, every entry."""

from __future__ import annotations

import json
from typing import Any

import click

from drdp.cli.numbers import plain, up
from drdp.cli.render import json_text
from drdp.errors import UnsupportedEventError
from drdp.privacy.chain import Entry
from drdp.privacy.codec import to_dict
from drdp.privacy.costs import rho_within
from drdp.privacy.events import Event, atoms
from drdp.privacy.filters import Budget, GaussianFilter, RenyiFilter
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger, Receipt
from drdp.privacy.odometer import running_epsilon
from drdp.privacy.wording import in_words, releases

__all__ = ["calibrated", "charged", "export", "status"]

_WIDTH = 79
_MARGIN = 13
_BAR = 40


def status(ledger: Ledger, *, as_json: bool) -> None:
    """Print what is spent and what still fits."""
    found = _state(ledger)
    if as_json:
        click.echo(json_text(found))
        return
    budget, tally = ledger.budget, ledger.tally
    terms, (count, head) = ledger.terms, ledger.head
    many = "" if terms.population is None else f" of {terms.population}"
    _line("ledger", f"{ledger.path.name}: {count} {_entries(count)}, verified")
    _line("protects", f"every {terms.unit}{many}, {terms.adjacency}")
    if budget is None:
        _line("budget", "none: charges are only recorded")
    else:
        at = f"epsilon {plain(budget.epsilon)} at delta {plain(budget.delta)}"
        _line("budget", f"{at}, {found['budget']['in_words']}")
        share = budget.used(tally)
        full = min(_BAR, int(share * _BAR))
        bar = "#" * full + "-" * (_BAR - full)
        _line("used", f"[{bar}] {up(100.0 * share, 3)} %")
        _line("so far", f"epsilon {up(found['spent_epsilon'])}{_caveat(budget)}")
        running = found["running_epsilon"]
        if running:
            _line("odometer", f"epsilon {up(running)}, wherever the run stops")
    lines = releases(tally.event)
    for line in lines[:5] or ["nothing"]:
        _line("spent", line)
    if len(lines) > 5:
        _line("", f"and {len(lines) - 5} other releases")
    for left in found["remaining"]:
        _line("still fits", f"{left['count']} x {left['in_words']}")
    if found["pending"]:
        _line("pending", f"{found['pending']} reserved, not committed; they count")
    last = ledger.entries()[-1]
    about = ", ".join(part for part in (last.run, last.label) if part)
    _line("last entry", f"{last.time} {last.kind}" + (f" ({about})" if about else ""))
    _line("head", head)


def charged(ledger: Ledger, receipt: Receipt, *, as_json: bool) -> None:
    """Print a receipt, and what it leaves."""
    left = _remaining(ledger, receipt.event)
    if as_json:
        click.echo(
            json_text(
                {
                    "seq": receipt.seq,
                    "hash": receipt.hash,
                    "already": receipt.already,
                    "event": to_dict(receipt.event),
                    "remaining": left,
                }
            )
        )
        return
    done = "charged before as" if receipt.already else "charged as"
    _line(done.split(maxsplit=1)[0], f"{done.partition(' ')[2]} entry {receipt.seq}")
    for line in releases(receipt.event):
        _line("", line)
    if ledger.budget is not None:
        _line("still fits", f"{left} more like it")
    _line("receipt", receipt.hash)


def calibrated(ledger: Ledger, noise: float, event: Event, *, as_json: bool) -> None:
    """Print the noise that uses up what a ledger has left."""
    budget = ledger.budget
    if budget is None:
        raise TypeError("nothing is calibrated to a ledger without a budget")
    if as_json:
        click.echo(
            json_text(
                {
                    "solved_for": "noise_multiplier",
                    "noise_multiplier": noise,
                    "event": to_dict(event),
                    "ledger": _state(ledger),
                    "bound": "upper",
                }
            )
        )
        return
    click.echo(f"noise multiplier   {up(noise)}  (tested to fit what is left)")
    margin = f"{'for':<19}"
    text = "; ".join(releases(event))
    click.echo(click.wrap_text(text, _WIDTH, margin, " " * len(margin)))
    click.echo(
        f"{'of the budget':<18} epsilon {plain(budget.epsilon)} at delta"
        f" {plain(budget.delta)}, {up(100.0 * budget.used(ledger.tally), 3)} % used"
    )
    if isinstance(budget, FixedBudget):
        text = (
            "This ledger's plan is fixed. `drdp ledger declare` gives it the new one:"
            " a promise that it was not chosen from what was released."
        )
        click.echo("\n" + click.wrap_text(text, _WIDTH))


def export(ledger: Ledger, *, as_json: bool) -> None:
    """Print every entry."""
    entries, (count, head) = ledger.entries(), ledger.head
    end = {"head": {"entries": count, "hash": head}}
    if as_json:
        click.echo(json_text({"entries": [_decoded(one) for one in entries], **end}))
        return
    for entry in entries:
        click.echo(entry.line())
    click.echo(json.dumps(end, separators=(",", ":")))


def _decoded(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(entry.line())
    return found


def _line(name: str, text: str) -> None:
    margin = f"{name:<{_MARGIN}}"
    click.echo(click.wrap_text(text, _WIDTH, margin, " " * _MARGIN))


def _entries(count: int) -> str:
    return "entry" if count == 1 else "entries"


def _caveat(budget: Budget) -> str:
    if isinstance(budget, FixedBudget):
        return ", if the stop is not chosen from what was released"
    return ", by the filter's own count"


def _state(ledger: Ledger) -> dict[str, Any]:
    budget, terms, tally = ledger.budget, ledger.terms, ledger.tally
    count, head = ledger.head
    spent = tally.event
    found: dict[str, Any] = {
        "ledger": str(ledger.path),
        "verified": True,
        "entries": count,
        "head": head,
        "unit": terms.unit,
        "population": terms.population,
        "adjacency": str(terms.adjacency),
        "budget": None,
        "spent": to_dict(spent),
        "used": None,
        "spent_epsilon": None,
        "running_epsilon": None,
        "remaining": [],
        "pending": len(ledger.pending),
    }
    if budget is not None:
        found["budget"] = {
            "epsilon": budget.epsilon,
            "delta": budget.delta,
            "kind": type(budget).__name__,
            "in_words": _described(budget),
        }
        found["used"] = budget.used(tally)
        found["spent_epsilon"] = budget.spent_epsilon(tally)
        found["running_epsilon"] = _running(budget, spent)
        found["remaining"] = [
            {
                "event": to_dict(one),
                "in_words": in_words(one),
                "count": _remaining(ledger, one),
            }
            for one in _next(budget, ledger)
        ]
    return found


def _next(budget: Budget, ledger: Ledger) -> list[Event]:
    """Which releases to say of how often they still fit."""
    if isinstance(budget, FixedBudget):
        return list(atoms(budget.plan))[:3]
    for entry in reversed(ledger.entries()):
        if entry.kind in ("charge", "reserve"):
            return list(atoms(entry.event))[:3]
    return []


def _remaining(ledger: Ledger, event: Event) -> int | None:
    try:
        return None if ledger.budget is None else ledger.remaining(event)
    except UnsupportedEventError:
        return None


def _running(budget: Budget, spent: Event) -> float | None:
    """The odometer, where every release is known to be zero-concentrated."""
    try:
        return running_epsilon(spent, budget.epsilon, budget.delta)
    except UnsupportedEventError:
        return None


def _described(budget: Budget) -> str:
    match budget:
        case FixedBudget():
            plan = "; ".join(releases(budget.plan))
            return f"fixed plan ({plan}), {budget.times} times"
        case RenyiFilter(orders=orders):
            listed = ", ".join(plain(order) for order in orders)
            return f"Renyi filter at order {listed}"
        case GaussianFilter():
            return f"Gaussian filter, mu {plain(budget.mu)}"
    rho = rho_within(budget.epsilon, budget.delta)
    return f"zero-concentrated filter, rho {plain(rho)}"
