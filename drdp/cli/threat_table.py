"""The DR-Encoder paper's noise against each adversary, as printed and repaired.

The paper states neither the clients of a round nor those in all; both are
inferred from its predecessor CG-FedLLM and marked as assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from drdp.cli import paper
from drdp.cli.numbers import about, plain, up
from drdp.cli.tabulate import Section, Table
from drdp.privacy.curves import Interval
from drdp.privacy.dr_encoder import Configuration, as_printed, repaired
from drdp.privacy.events import Adjacency
from drdp.privacy.exposure import noise_std_for
from drdp.privacy.gdp import clt_noise_multiplier
from drdp.privacy.threat import Placement, View

__all__ = ["ASSUMED", "KINDS", "threat_table"]

ASSUMED = {"LLaMA": (5, 100), "Qwen": (3, 3)}
"""Clients per round and in all."""

KINDS = ("as-printed", "repaired")
_TOLERANCE = 1e-3

_ASSUMED_NOTE = (
    "Clients per round (K) and in all are assumed: the paper states neither.  It"
    " states a selection fraction of 0.05 and of 1; CG-FedLLM, the framework it"
    " builds on, has 100 and 3 clients."
)
_VIEWS_NOTE = (
    "outsider: sees the models, not who takes part, so that sampling (of a fixed"
    " number) helps.  sum: a server with secure aggregation.  messages: a server that"
    " sees each message.  The server draws the clients, so against it sampling does"
    " not help, and a client may take part in every round."
)
_MORE_VIEWS_NOTE = (
    "1 colludes: an outsider and one client, who knows its own noise.  once: messages,"
    " for a client that takes part in one round."
)
_PRINTED_NOTE = (
    "Every cell is the certified epsilon of the noise as printed: 2 sigma/K at each"
    " client.  Under replace-one its multiplier is sigma/sqrt(K) for outsider and"
    " sum, sigma sqrt(K-1)/K if 1 colludes, sigma/K for messages; under zero-out"
    " twice that.  claims: the epsilon that the paper states for sigma."
)
_REPAIRED_NOTE = (
    "printed and repair: noise at each client in units of the clip norm, 2 sigma/K"
    " and 2 sigma/sqrt(K), which makes sigma the multiplier that an outsider faces."
    "  spends: the certified epsilon of the repaired noise against an outsider."
)
_NEEDED_NOTE = (
    "outsider, sum, messages: the noise at each client that keeps to the claimed"
    " epsilon against that adversary, rounded up."
)


@dataclass(frozen=True, slots=True)
class _Against:
    """One adversary: its heading, its view, and how often a client takes part."""

    title: str
    view: View
    placement: Placement = Placement.DISTRIBUTED
    colluding: int = 0
    once: bool = False


_PRINTED = (
    _Against("outsider", View.OUTSIDER),
    _Against("1 colludes", View.COLLUDING, colluding=1),
    _Against("sum", View.SUM),
    _Against("messages", View.MESSAGES),
    _Against("once", View.MESSAGES, once=True),
)
_NEEDED = (
    _Against("outsider", View.OUTSIDER),
    _Against("sum", View.SUM),
    _Against("messages", View.MESSAGES, Placement.LOCAL),
)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: the cells for people and the records for programs."""

    model: paper.Model
    claim: float
    sigma: float
    adjacency: Adjacency
    cells: list[str] = field(default_factory=list)
    records: list[Mapping[str, Any]] = field(default_factory=list)

    def under(self, against: _Against, noise_std: float | None = None) -> Configuration:
        """The printed configuration against an adversary, or with other noise."""
        run = as_printed(
            self.sigma,
            *ASSUMED[self.model.name],
            view=against.view,
            placement=against.placement,
            adjacency=self.adjacency,
            colluding=against.colluding,
        )
        return run if noise_std is None else replace(run, noise_std=noise_std)

    def add(self, noise: str, against: _Against, run: Configuration) -> Interval:
        """Account a configuration, and keep what was found."""
        rounds = 1 if against.once else self.model.steps
        found = run.exposure(rounds, float(self.model.delta), tolerance=_TOLERANCE)
        size, population = ASSUMED[self.model.name]
        self.records.append(
            {
                "model": self.model.name,
                "clients_per_round": size,
                "population": population,
                "clients": "assumed",
                "steps": self.model.steps,
                "delta": float(self.model.delta),
                "sigma": self.sigma,
                "claimed_epsilon": self.claim,
                "view": str(against.view),
                "placement": str(against.placement),
                "colluding": against.colluding,
                "participations": rounds,
                "noise": noise,
                "noise_std": run.noise_std,
                "noise_multiplier": run.multiplier,
                "certified_lower": found.lower,
                "certified_upper": found.upper,
            }
        )
        return found


def _printed(row: _Row) -> None:
    for against in _PRINTED:
        found = row.add("printed", against, row.under(against))
        row.cells.append(about(found, 4))


def _repaired(row: _Row) -> None:
    model, outsider = row.model, _NEEDED[0]
    printed = row.under(outsider)
    # The printed noise times sqrt(K), whatever the relation.
    mended = repaired(row.sigma, *ASSUMED[model.name]).noise_std
    spent = row.add("repaired", outsider, row.under(outsider, mended))
    row.cells.extend([up(printed.noise_std, 4), up(mended, 4), about(spent, 4)])
    for against in _NEEDED:
        noise_std = noise_std_for(
            row.under(against).threat,
            row.claim,
            float(model.delta),
            model.steps,
            tolerance=_TOLERANCE,
            rtol=1e-5,
        )
        row.add("needed", against, row.under(against, noise_std))
        row.cells.append(up(noise_std, 4))


def threat_table(kind: str, adjacency: Adjacency) -> Table:
    """The table of a kind in `KINDS`, under replace-one or zero-out adjacency."""
    rows = [
        _Row(
            model,
            claim,
            clt_noise_multiplier(claim, float(model.delta), model.rate, model.steps),
            adjacency,
        )
        for model in paper.MODELS
        for claim in paper.CLAIMS
        if claim < math.inf
    ]
    for row in rows:
        (_printed if kind == "as-printed" else _repaired)(row)
    title, header, notes = _FACES[kind]
    return Table(
        title,
        ("sigma", "claims", *header),
        [_section(model, adjacency, rows) for model in paper.MODELS],
        (*notes, _ASSUMED_NOTE),
        [record for row in rows for record in row.records],
        {"preset": "dr-encoder", "threat": kind, "adjacency": str(adjacency)},
    )


def _section(model: paper.Model, adjacency: Adjacency, rows: list[_Row]) -> Section:
    size, population = ASSUMED[model.name]
    return Section(
        f"{model.name}: {size} of {population} clients a round (assumed),"
        f" {model.steps} rounds, delta {model.delta}, {adjacency}",
        [
            (f"{row.sigma:.2f}", plain(row.claim), *row.cells)
            for row in rows
            if row.model is model
        ],
    )


_FACES = {
    "as-printed": (
        "The DR-Encoder paper's noise as printed: certified epsilon by adversary",
        [against.title for against in _PRINTED],
        (_PRINTED_NOTE, _VIEWS_NOTE, _MORE_VIEWS_NOTE),
    ),
    "repaired": (
        "The DR-Encoder paper's noise repaired: noise at each client",
        ["printed", "repair", "spends", *(a.title for a in _NEEDED)],
        (_REPAIRED_NOTE, _NEEDED_NOTE, _VIEWS_NOTE),
    ),
}
