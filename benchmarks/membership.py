"""Claim: who attacks real clients learns less than from canaries, and never too much.

Run ``python -m benchmarks.membership`` in the repository root; it takes some minutes
and prints a table of docs/audit.md.  With ``--quick`` it makes fewer runs.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import Section, is_quick, show, table
from drdp.cli import plot_audit
from drdp.cli.numbers import down, up
from drdp.fedsim.auditing import audit_canaries, audit_suspects
from drdp.fedsim.config import Config, changed
from drdp.fedsim.planted_text import Casting, Who
from drdp.fedsim.run_audit import Target, with_codec
from drdp.privacy.audit import gaussian_epsilon
from drdp.privacy.findings import Jointly

DOCS = Path(__file__).parent.parent / "docs"
ROUNDS = 2
SETTINGS = {
    "run.method": "projection",
    "run.rounds": ROUNDS,
    "model.name": "tiny",
    "lora.rank": 2,
    "data.clients": 6,
    "data.most": 4,
    "data.max_length": 48,
    "data.public": 32,
    "data.held_out": 8,
    "local.steps": 2,
    "local.batch": 2,
    "cohort.kind": "every",
    "code.length": 64,
    "privacy.noise_multiplier": 1.0,
}


def target(who: Who | None) -> Target:
    """Six clients who train a tiny model for two rounds, all in each round."""
    casting = None if who is None else Casting(who)
    return with_codec(changed(Config(), SETTINGS), lambda text: None, casting)


def audited(who: Who | None, runs: int) -> Jointly:
    """One suspect, seen by the sums and in the last model alone, at 95 % together."""
    plan = target(who)
    said = {"delta": plan.delta, "runs": runs, "seen": ("sum", "last"), "seed": 5}
    if plan.cast is None:
        return audit_canaries(plan.simulation, rounds=ROUNDS, **said)
    return audit_suspects(plan.cast(ROUNDS), plan.simulation.trainer, **said)


def measure(*, quick: bool) -> Section:
    """One row per suspect and view."""
    runs = 40 if quick else 100
    suspects: tuple[tuple[str, Who | None], ...] = (
        ("canary in code space", None),
        ("client with a made text", "text"),
        ("client with one text more", "example"),
        ("one of the clients", "client"),
    )
    rows, lines = [], []
    for name, who in suspects:
        found = audited(who, runs)
        for view, part in found.parts:
            rows.append(
                (
                    name,
                    view,
                    part.attack,
                    down(part.epsilon, 4),
                    down(part.mu, 4),
                    down(gaussian_epsilon(part.mu, part.delta), 4),
                    up(part.certified.upper, 5) if part.certified else "",
                    str(part.verdict),
                )
            )
            if view == "last":
                lines.append((name, part.rates))
    if not quick:
        claim = target(None).simulation.protection.run_event(ROUNDS)
        plot_audit.save(lines, claim, DOCS / "audit-members.svg")
    head = (
        "suspect",
        "seen",
        "attack",
        "epsilon >=",
        "mu >=",
        "that is, if Gaussian",
        "certified",
        "verdict",
    )
    return Section("Membership", "python -m benchmarks.membership", table(head, rows))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    show(measure(quick=is_quick(__doc__)))
