"""What ``drdp threat`` answers: the run against one adversary, and the repair."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import click

from drdp.cli.numbers import between, down, nearest, plain, up
from drdp.cli.plan import read_delta
from drdp.cli.render import json_text
from drdp.errors import UnsoundThreatModelError
from drdp.privacy.blocks import Clipping
from drdp.privacy.codec import to_dict
from drdp.privacy.curves import Interval
from drdp.privacy.dr_encoder import Configuration, printed_noise_std
from drdp.privacy.events import Adjacency
from drdp.privacy.exposure import noise_std, noise_std_for
from drdp.privacy.threat import (
    Cohort,
    FixedCohort,
    Placement,
    PoissonCohort,
    ThreatModel,
    View,
)

__all__ = ["Assessment", "Repair", "assess", "show"]

_TOLERANCE, _COARSE = 1e-5, 1e-4  # to show an epsilon; to search for noise
_ROUNDING = 1e-12
_WIDTH = 79
_VIEWS = {
    View.MESSAGES: "a server that sees each message and draws the clients",
    View.SUM: "a server that sees the sum of each round and draws the clients",
    View.COLLUDING: "clients who see each model, not who else takes part",
    View.OUTSIDER: "sees each model, not who takes part",
}
_PLACES = {
    Placement.CENTRAL: "once on the sum of a round, by someone trusted",
    Placement.DISTRIBUTED: "a share at each client",
    Placement.LOCAL: "at each client, relying on nobody else's",
}
_AMPLIFIED = "hidden from this adversary, so it helps"
_NOT_AMPLIFIED = "does not help here: the most participations possible are composed"


@dataclass(frozen=True, slots=True)
class Repair:
    """What gives what was meant: other noise, or none needed, or why none can."""

    meant: str
    run: Configuration | None
    certified: Interval | None
    reason: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """One run against one adversary."""

    run: Configuration
    steps: int
    delta: float
    delta_source: str
    blocks: int
    clip_norm: float
    noise_source: str
    certified: Interval
    repair: Repair | None


def assess(
    *,
    view: str,
    placement: str,
    noise_std: float | None,
    sigma: float | None,
    epsilon: float | None,
    as_printed: bool,
    clients_per_round: int | None,
    population: int | None,
    rate: Fraction | None,
    steps: int,
    delta: float | None,
    allow_large_delta: bool,
    adjacency: str | None,
    clip_norm: float,
    blocks: int,
    survivors: int | None,
    colluding: int | None,
    max_participations: int | None,
    amplify: bool,
) -> Assessment:
    """Answer the options of ``drdp threat``.

    Raises:
        click.UsageError: If the options contradict each other.
        DrdpError: If no guarantee follows from them.
    """
    _refuse_contradictions(noise_std, sigma, epsilon, as_printed, clients_per_round)
    cohort = _cohort(clients_per_round, population, rate)
    poisson = isinstance(cohort, PoissonCohort)
    delta, source = read_delta(delta, population, allow_large_delta)
    threat = ThreatModel(
        View(view),
        Placement(placement),
        cohort,
        adjacency=Adjacency(adjacency or ("zero-out" if poisson else "replace-one")),
        clipping=Clipping((clip_norm * math.sqrt(blocks),)),
        survivors=survivors,
        colluding=colluding or 0,
        max_participations=max_participations,
        amplify=amplify or None,
    )
    wanted = _Wanted(threat, steps, delta, sigma, epsilon)
    if noise_std is not None:
        added, origin = noise_std, "as given by --noise-std"
    elif as_printed and sigma is not None and clients_per_round is not None:
        spread = 1 if threat.placement is Placement.CENTRAL else clients_per_round
        added = printed_noise_std(sigma, spread, clip_norm)
        origin = "as the paper prints it: 2 x sigma x clip norm / K"
        if threat.placement is Placement.CENTRAL:
            origin = "as the paper's lemma needs it: 2 x sigma x clip norm"
    else:
        added, origin = wanted.noise_std(), f"what {wanted} needs here"
    run = Configuration(threat, added)
    certified = run.exposure(steps, delta, tolerance=_TOLERANCE)
    asked = noise_std is None and not as_printed
    repair = None if asked else wanted.repair(run, certified)
    return Assessment(
        run, steps, delta, source, blocks, clip_norm, origin, certified, repair
    )


def _refuse_contradictions(
    noise_std: float | None,
    sigma: float | None,
    epsilon: float | None,
    as_printed: bool,
    clients_per_round: int | None,
) -> None:
    if as_printed and sigma is None:
        raise click.UsageError("--as-printed needs --sigma, the paper's sigma")
    if as_printed and noise_std is not None:
        raise click.UsageError("--as-printed and --noise-std exclude each other")
    if as_printed and clients_per_round is None:
        raise click.UsageError("--as-printed needs --clients-per-round")
    if sigma is not None and epsilon is not None and not as_printed:
        raise click.UsageError(
            "--sigma and --epsilon are two ways to say what is meant: give one"
        )
    if noise_std is None and sigma is None and epsilon is None:
        raise click.UsageError(
            "give --noise-std to ask what it costs, or --sigma or --epsilon to ask"
            " for the noise"
        )


def _cohort(
    clients_per_round: int | None, population: int | None, rate: Fraction | None
) -> Cohort:
    if rate is not None and clients_per_round is not None:
        raise click.UsageError(
            "--rate (each client joins by chance) and --clients-per-round (a fixed"
            " number is drawn) exclude each other"
        )
    if rate is not None:
        return PoissonCohort(float(rate))
    if clients_per_round is None or population is None:
        raise click.UsageError(
            "say who takes part: --clients-per-round with --population, or --rate"
        )
    if clients_per_round > population:
        raise click.UsageError(
            f"--clients-per-round {clients_per_round} is more than --population"
            f" {population}"
        )
    return FixedCohort(clients_per_round, population)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the noise is meant to give: a budget, or else a multiplier, or nothing."""

    threat: ThreatModel
    steps: int
    delta: float
    sigma: float | None
    epsilon: float | None

    def __str__(self) -> str:
        if self.epsilon is not None:
            return f"epsilon {plain(self.epsilon)}"
        return f"multiplier {plain(self.sigma or 0)}"

    def noise_std(self) -> float:
        """The noise that gives it."""
        if self.epsilon is not None:
            return noise_std_for(
                self.threat,
                self.epsilon,
                self.delta,
                self.steps,
                tolerance=_COARSE,
                rtol=_COARSE / 10,
            )
        return noise_std(self.threat, self.sigma or 0)

    def repair(self, run: Configuration, certified: Interval) -> Repair | None:
        """The noise it takes, where the noise of a run is not enough."""
        if self.epsilon is None and self.sigma is None:
            return None
        enough = (
            certified.upper <= self.epsilon
            if self.epsilon is not None
            else run.multiplier >= (self.sigma or 0) * (1 - _ROUNDING)
        )
        if enough:
            return Repair(str(self), None, None, "")
        try:
            mended = replace(run, noise_std=self.noise_std())
        except UnsoundThreatModelError as error:
            return Repair(str(self), None, None, str(error))
        found = mended.exposure(self.steps, self.delta, tolerance=_TOLERANCE)
        return Repair(str(self), mended, found, "")


def show(report: Assessment, *, as_json: bool) -> None:
    """Print an assessment for people, or as JSON."""
    if as_json:
        click.echo(json_text(_document(report)))
        return
    run, threat = report.run, report.run.threat
    _line("noise added", f"{up(run.noise_std)} {_where(threat)}")
    _line("", report.noise_source)
    _line("effective multiplier", click.style(down(run.multiplier), bold=True))
    shown = click.style(between(report.certified), bold=True)
    _line("certified epsilon", f"{shown}  at delta {plain(report.delta)}")
    if report.repair is not None:
        _show_repair(report, report.repair)
    click.echo(f"\nAgainst: {_VIEWS[threat.view]}")
    for name, text in _facts(report):
        lines = click.wrap_text(text, _WIDTH - 16).splitlines()
        for label, line in zip((name, *[""] * len(lines)), lines, strict=False):
            click.echo(f"  {label:<13} {line}")


def _line(label: str, text: str) -> None:
    click.echo(f"{label:<21} {text}")


def _show_repair(report: Assessment, repair: Repair) -> None:
    if repair.reason:
        indent = f"{'repair':<22}", " " * 22
        click.echo(click.wrap_text(f"none: {repair.reason}", _WIDTH, *indent))
    elif repair.run is None or repair.certified is None:
        _line("repair", f"none needed: this is enough for {repair.meant}")
    else:
        ratio = nearest(repair.run.noise_std / report.run.noise_std, 4)
        where = _where(report.run.threat)
        _line("repair", f"{up(repair.run.noise_std)} {where}, {ratio} times as much")
        _line("", f"gives {repair.meant}: epsilon {between(repair.certified)}")


def _where(threat: ThreatModel) -> str:
    return "on the sum" if threat.placement is Placement.CENTRAL else "at each client"


def _facts(report: Assessment) -> list[tuple[str, str]]:
    """What the answer rests on, as label and text."""
    threat = report.run.threat
    kappa, reach = plain(threat.distance), up(threat.clipping.norm)
    bound = f"clip norm {plain(report.clip_norm)}"
    if report.blocks > 1:
        bound += f", {report.blocks} blocks clipped one by one"
    facts = [
        ("adjacency", str(threat.adjacency)),
        ("cohort", _cohort_in_words(threat)),
        ("noise", f"{threat.placement}: {_PLACES[threat.placement]}"),
    ]
    if threat.placement is Placement.DISTRIBUTED and threat.view is not View.MESSAGES:
        source = "guaranteed" if threat.survivors else "assumed: nobody drops out"
        facts.append(
            ("shares", f"{threat.shares} honest shares in each sum ({source})")
        )
    facts += [
        ("sensitivity", f"{up(threat.sensitivity)} = {kappa} x {reach} ({bound})"),
        (
            "sampling",
            _AMPLIFIED if threat.amplified else _NOT_AMPLIFIED,
        ),
        ("rounds", f"{report.steps}, each of which releases a model"),
        ("delta", f"{plain(report.delta)} ({report.delta_source})"),
        ("event", repr(report.run.event(report.steps))),
        ("certified by", report.certified.method),
    ]
    return facts


def _cohort_in_words(threat: ThreatModel) -> str:
    match threat.cohort:
        case FixedCohort(clients_per_round=size, population=population):
            return f"{size} of {population} clients, drawn anew in each round"
        case PoissonCohort(rate=rate):
            return f"each client joins a round with probability {plain(rate)}"
    return "every client in every round"


def _document(report: Assessment) -> dict[str, Any]:
    run, threat, repair = report.run, report.run.threat, report.repair
    cohort = threat.cohort
    fixed = cohort if isinstance(cohort, FixedCohort) else None
    return {
        "noise_std": run.noise_std,
        "noise_source": report.noise_source,
        "noise_multiplier": run.multiplier,
        "epsilon": report.certified.upper,
        **_certified(report.certified),
        "delta": report.delta,
        "delta_source": report.delta_source,
        "steps": report.steps,
        "view": str(threat.view),
        "placement": str(threat.placement),
        "adjacency": str(threat.adjacency),
        "clients_per_round": fixed.clients_per_round if fixed else None,
        "population": fixed.population if fixed else None,
        "rate": cohort.rate if isinstance(cohort, PoissonCohort) else None,
        "clip_norm": report.clip_norm,
        "blocks": report.blocks,
        "sensitivity": threat.sensitivity,
        "survivors": threat.survivors,
        "colluding": threat.colluding,
        "max_participations": threat.max_participations,
        "amplified": threat.amplified,
        "event": to_dict(run.event(report.steps)),
        "repair": None
        if repair is None
        else {
            "meant": repair.meant,
            "needed": bool(repair.reason) or repair.run is not None,
            "noise_std": None if repair.run is None else repair.run.noise_std,
            "noise_multiplier": None if repair.run is None else repair.run.multiplier,
            **_certified(repair.certified),
            "problem": repair.reason or None,
        },
    }


def _certified(found: Interval | None) -> dict[str, Any]:
    if found is None:
        return {"method": None, "certified": None}
    ends = {"lower": found.lower, "upper": found.upper}
    return {"method": found.method, "certified": ends}
