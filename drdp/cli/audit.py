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
    from drdp.privacy.findings import Jointly

__all__ = ["audit"]

_WIDTH = 79
_VIOLATED = 1  # the exit code
_SEEN = ("messages", "sum", "models", "last")
_KINDS = ("sphere", "dirac")
_WHO = ("canary", "client", "text", "example")


def _place(text: str) -> int:
    if not text.isdecimal():
        raise click.BadParameter(f"must be a whole number from 0, got {text:.60}")
    return int(text)


@options.command(
    examples="""
drdp audit --release-only --noise-multiplier 1 --rate 0.2 --clients 20
drdp audit --release-only --epsilon 2 --rounds 4 --set cohort.kind=every
drdp audit --config run.toml --trials 200 --plot roc.svg
drdp audit --run FOLDER --canaries 100 --trials 4 --json
drdp audit --run FOLDER --suspect client --member 3 --seen sum,last
drdp audit --config run.toml --suspect text --seen last --audit-rounds 4
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
    "--suspect",
    check=options.choices(*_WHO),
    metavar="WHO",
    text="canary: crafted codes.  client: one of the run's own, which all train."
    "  text: a client with a made text.  example: a client with a made text more.",
    default="canary",
)
@options.option(
    "--member",
    check=_place,
    metavar="I",
    text="Which client is the suspect, or has its seat taken; from 0.",
    default="0",
)
@options.option(
    "--seen",
    check=options.listed(options.choices(*_SEEN), most=len(_SEEN)),
    metavar="WHAT",
    text="messages, sum, models, last (the last model alone), or several of them"
    " with commas.  Default: what the run's adversary is shown.",
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

    A suspect goes through the code that all clients go through: encode, clip,
    noise, sum.  It is a canary with crafted data, a client of the run, or one with
    a made text.  From released values alone an attacker who knows what the
    suspect would send says whether it was in.  What he gets right bounds epsilon
    from below; beyond the certified trade-off curve the claim is false, and the
    exit code is 1.  Several views are tested together.  An audit never proves
    privacy.
    """
    from drdp.fedsim.attacks import usual_view
    from drdp.fedsim.auditing import audit_canaries, audit_suspects
    from drdp.privacy.events import Event, Gaussian

    target = _target(settings, folder, release_only, asked, quiet=as_json)
    rounds = min(asked["audit_rounds"], target.rounds)
    claim: Event = target.simulation.protection.run_event(rounds)
    if asked["claim"] is not None:
        claim = Gaussian(asked["claim"]) * rounds
    said: dict[str, Any] = {
        "delta": target.delta,
        "runs": asked["trials"],
        "claimed": claim,
        "confidence": asked["confidence"],
        "seed": settings.values.get("run.seed"),
        "progress": _progress(as_json),
    }
    views = asked["seen"] or (usual_view(target.simulation.protection.view),)
    if target.cast is not None:
        found = audit_suspects(
            target.cast(rounds), target.simulation.trainer, seen=views, **said
        )
    else:
        found = audit_canaries(
            target.simulation,
            rounds=rounds,
            canaries=asked["canaries"],
            kind=asked["kind"],
            seen=views,
            **said,
        )
    if picture is not None:
        from drdp.cli import plot_audit

        names = {
            view: view if len(views) > 1 else part.attack for view, part in found.parts
        }
        plot_audit.save(
            [(names[view], part.rates) for view, part in found.parts], claim, picture
        )
    if as_json:
        about = {
            "audited": target.about,
            "rounds": rounds,
            "runs": asked["trials"],
            "canaries": asked["canaries"],
        }
        several = len(found.parts) > 1
        answer = found.to_dict() if several else found.parts[0][1].to_dict()
        click.echo(json_text(about | answer))
    else:
        _show(found, target, rounds, asked)
        if picture is not None:
            click.echo(f"\nwrote {picture}")
    return _VIOLATED if found.verdict == "violated" else 0


def _target(
    settings: Settings,
    folder: Path | None,
    release_only: bool,
    asked: dict[str, Any],
    *,
    quiet: bool,
) -> Target:
    from drdp.fedsim import run_audit
    from drdp.fedsim.planted_text import Casting

    def tell(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    casting = None
    if asked["suspect"] != "canary":
        if release_only or asked["canaries"] != 1:
            raise click.UsageError(
                f"--suspect {asked['suspect']} is one client with data: it takes"
                " neither --release-only nor --canaries"
            )
        casting = Casting(asked["suspect"], asked["member"])
    if folder is not None:
        others = set(settings.values) - {"run.seed"}  # the seed is the audit's
        if settings.file is not None or others or release_only:
            raise click.UsageError(
                "--run takes no other settings: it audits the run as it is"
            )
        return run_audit.of_folder(folder, tell, casting)
    if release_only:
        return run_audit.without_model(settings.config())
    return run_audit.with_codec(settings.config(), tell, casting)


def _progress(quiet: bool) -> Callable[[int, int], None] | None:
    """A counter on a terminal, and nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        return None

    def tell(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            click.echo(f"\r\033[Krun {done}/{total}", err=True, nl=done == total)

    return tell


def _show(found: Jointly, target: Target, rounds: int, asked: dict[str, Any]) -> None:
    plan = target.simulation.protection
    some = "1 round" if rounds == 1 else f"{rounds} rounds"
    who = "a canary" if target.cast is None else "the suspect"
    if asked["canaries"] == 1:
        trials = f"{asked['trials']} runs with {who}, {asked['trials']} without"
    else:
        trials = f"{asked['canaries']} canaries in each of {asked['trials']} runs"
    first = found.parts[0][1]
    click.echo(f"Audit of {target.about}, {some}, {plan.relation}")
    rows = [
        ("noise", f"multiplier {plain(plan.noise_multiplier)}, {plan.placement}"),
        ("trials", f"{trials}; {first.trials} outcomes tested"),
    ]
    several = len(found.parts) > 1
    for view, part in found.parts:
        bounds = (
            f"epsilon {down(part.epsilon, 4)} at delta {plain(part.delta)},"
            f" mu {down(part.mu, 4)}, {plain(100 * part.confidence)} % confidence"
        )
        rows += [("seen", view)] if several else []
        rows += [("attack", part.attack), ("at least", bounds)]
    if first.certified is not None:
        rows.append(("certified", f"epsilon {between(first.certified)}"))
    for name, text in rows:
        click.echo(click.wrap_text(f"{name:<11}{text}", _WIDTH, "  ", " " * 13))
    for view, part in found.parts:
        name = f"{view}: " if several else ""
        click.echo(click.wrap_text(name + part.sentence(), _WIDTH))
    if several:
        click.echo(
            click.wrap_text(
                f"Together: {found.verdict}; a true claim survives all of these with"
                f" {plain(100 * found.confidence)} % confidence.",
                _WIDTH,
            )
        )
