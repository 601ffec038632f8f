"""``drdp audit``: what an attack on a run's own code proves about it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drdp.cli import options
from drdp.cli.numbers import between, down, plain
from drdp.cli.render import json_text
from drdp.cli.settings import Settings, run_settings

if TYPE_CHECKING:
    from drdp.fedsim.run_audit import Target
    from drdp.privacy.findings import Finding

__all__ = ["audit"]

_WIDTH = 79
_VIOLATED = 1  # the exit code
_SEEN = ("messages", "sum", "models")
_KINDS = ("sphere", "dirac")


@options.command(
    examples="""
drdp audit --release-only --noise-multiplier 1 --rate 0.2 --clients 20
drdp audit --release-only --epsilon 2 --rounds 4 --set cohort.kind=every
drdp audit --config run.toml --trials 200 --plot roc.svg
drdp audit --run FOLDER --canaries 100 --trials 4 --json
"""
)
@run_settings
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Audit the run in this folder, with its codec and its noise.",
)
@click.option(
    "--release-only",
    is_flag=True,
    help="Audit cohort, clip and noise without model, data and codec: seconds.",
)
@options.option(
    "--trials",
    check=options.whole,
    metavar="N",
    text="Runs with the canary, and as many without; or runs, with more canaries.",
    default="500",
)
@options.option(
    "--canaries",
    check=options.whole,
    metavar="M",
    text="Canaries in each run; more than 1: each is in by a coin of its own.",
    default="1",
)
@options.option(
    "--audit-rounds",
    check=options.whole,
    metavar="R",
    text="Rounds of each run, at most those of the settings.  Its claim is for these.",
    default="1",
)
@options.option(
    "--kind",
    check=options.choices(*_KINDS),
    metavar="KIND",
    text="Canaries: sphere (random directions of code space) or dirac (one number).",
    default="sphere",
)
@options.option(
    "--seen",
    check=options.choices(*_SEEN),
    metavar="WHAT",
    text="messages, sum or models.  Default: what the run's adversary is shown.",
    required=False,
)
@options.option(
    "--confidence",
    check=options.probability,
    metavar="P",
    text="With what probability a true claim is left standing.",
    default="0.95",
)
@options.option(
    "--claim",
    check=options.positive,
    metavar="S",
    text="Test this claim instead of the run's own: each round is one Gaussian"
    " release with noise multiplier S, without sampling.",
    required=False,
)
@options.picture("Draw ROC and certified wall into this .png, .svg or .pdf file.")
@options.as_json
def audit(
    *,
    settings: Settings,
    folder: Path | None,
    release_only: bool,
    picture: Path | None,
    as_json: bool,
    **asked: Any,
) -> int:
    """Attack a run's own code, and compare with what is certified.

    Canary clients with crafted data go through the code that real clients go
    through: encode, clip, noise, sum.  From released values alone an attacker
    who knows everything but the noise says whether a canary was in.  What he
    gets right bounds epsilon from below; beyond the certified trade-off curve the
    claim is false, and the exit code is 1.  An audit never proves privacy.
    """
    from drdp.fedsim.auditing import audit_simulation
    from drdp.privacy.events import Event, Gaussian

    target = _target(settings, folder, release_only, quiet=as_json)
    rounds = min(asked["audit_rounds"], target.rounds)
    claim: Event = target.simulation.protection.run_event(rounds)
    if asked["claim"] is not None:
        claim = Gaussian(asked["claim"]) * rounds
    found = audit_simulation(
        target.simulation,
        delta=target.delta,
        rounds=rounds,
        runs=asked["trials"],
        canaries=asked["canaries"],
        claimed=claim,
        kind=asked["kind"],
        seen=asked["seen"],
        confidence=asked["confidence"],
        seed=settings.values.get("run.seed"),
        progress=_progress(as_json),
    )
    if picture is not None:
        from drdp.cli import plot_audit

        plot_audit.save([(found.attack, found.rates)], claim, picture)
    if as_json:
        about = {
            "audited": target.about,
            "rounds": rounds,
            "runs": asked["trials"],
            "canaries": asked["canaries"],
        }
        click.echo(json_text(about | found.to_dict()))
    else:
        _show(found, target, rounds, asked)
        if picture is not None:
            click.echo(f"\nwrote {picture}")
    return _VIOLATED if found.verdict == "violated" else 0


def _target(
    settings: Settings, folder: Path | None, release_only: bool, *, quiet: bool
) -> Target:
    from drdp.fedsim import run_audit

    def tell(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    if folder is not None:
        if settings.given or release_only:
            raise click.UsageError(
                "--run takes no other settings: it audits the run as it is"
            )
        return run_audit.of_folder(folder, tell)
    if release_only:
        return run_audit.without_model(settings.config())
    return run_audit.with_codec(settings.config(), tell)


def _progress(quiet: bool) -> Callable[[int, int], None] | None:
    """A counter on a terminal, and nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        return None

    def tell(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            click.echo(f"\r\033[Krun {done}/{total}", err=True, nl=done == total)

    return tell


def _show(found: Finding, target: Target, rounds: int, asked: dict[str, Any]) -> None:
    plan = target.simulation.protection
    some = "1 round" if rounds == 1 else f"{rounds} rounds"
    if asked["canaries"] == 1:
        trials = f"{asked['trials']} runs with a canary, {asked['trials']} without"
    else:
        trials = f"{asked['canaries']} canaries in each of {asked['trials']} runs"
    click.echo(f"Audit of {target.about}, {some}, {plan.relation}")
    bounds = (
        f"epsilon {down(found.epsilon, 4)} at delta {plain(found.delta)},"
        f" mu {down(found.mu, 4)}, {plain(100 * found.confidence)} % confidence"
    )
    rows = [
        ("noise", f"multiplier {plain(plan.noise_multiplier)}, {plan.placement}"),
        ("trials", f"{trials}; {found.trials} outcomes tested"),
        ("attack", found.attack),
        ("at least", bounds),
    ]
    if found.certified is not None:
        rows.append(("certified", f"epsilon {between(found.certified)}"))
    for name, text in rows:
        click.echo(click.wrap_text(f"{name:<11}{text}", _WIDTH, "  ", " " * 13))
    click.echo(click.wrap_text(found.sentence(), _WIDTH))
