"""``drdp threat``: what a run costs against whom, and the noise it needs."""

from __future__ import annotations

from typing import Any

import click

from drdp.cli import options
from drdp.cli.threat_report import assess, show

__all__ = ["threat"]


@options.command(
    examples="""
drdp threat --as-printed --sigma 0.748 --clients-per-round 5 \\
    --population 100 --steps 20 --delta 1/149
drdp threat --noise-std 0.3 --clients-per-round 5 --population 100 \\
    --steps 20 --view sum --colluding 1 --epsilon 8
drdp threat --epsilon 2 --clients-per-round 5 --population 100 --steps 20
drdp threat --epsilon 2 --rate 0.05 --placement central --steps 20
"""
)
@options.option(
    "--noise-std",
    check=options.positive,
    metavar="S",
    text="Standard deviation of the noise as it is added: at each client, or once"
    " to the sum with --placement central.",
    required=False,
)
@options.option(
    "--sigma",
    "--noise-multiplier",
    check=options.positive,
    metavar="Z",
    text="The noise multiplier that is meant; alone, asks for the noise to add.",
    required=False,
)
@options.option(
    "--epsilon",
    "--target-epsilon",
    check=options.positive,
    metavar="E",
    text="The budget that is meant; alone, asks for the noise to add.",
    required=False,
)
@click.option(
    "--as-printed",
    is_flag=True,
    help="Take the noise that the DR-Encoder paper prints: 2 x sigma x clip norm"
    " / K at each client.",
)
@options.option(
    "--view",
    check=options.choices("messages", "sum", "colluding", "outsider"),
    metavar="VIEW",
    text="What the adversary sees: messages (a server that sees each), sum (a"
    " server that sees their sum), colluding (clients), outsider (the models).",
    default="outsider",
)
@options.option(
    "--placement",
    check=options.choices("central", "distributed", "local"),
    metavar="WHERE",
    text="Where noise is added: central (once), distributed (a share at each"
    " client), local (at each client, enough for itself).",
    default="distributed",
)
@options.option(
    "--clients-per-round",
    check=options.whole,
    metavar="K",
    text="Clients drawn in a round; needs --population.",
    required=False,
)
@options.option(
    "--population",
    check=options.whole,
    metavar="M",
    text="Number of clients in all.",
    required=False,
)
@options.rate(required=False)
@options.steps()
@options.delta
@options.option(
    "--adjacency",
    check=options.choices(*options.ADJACENCIES),
    metavar="REL",
    text="add-remove, zero-out or replace-one.  Default: replace-one, or zero-out"
    " with --rate.",
    required=False,
)
@options.option(
    "--clip-norm",
    check=options.positive,
    metavar="C",
    text="The largest norm of a contribution, or of a block of it.",
    default="1",
)
@options.option(
    "--blocks",
    check=options.whole,
    metavar="G",
    text="Number of blocks that are clipped one by one.",
    default="1",
)
@options.option(
    "--honest",
    "--survivors",
    "survivors",
    check=options.whole,
    metavar="H",
    text="Clients guaranteed to be in each sum, colluding ones included."
    "  Default: all that are drawn.",
    required=False,
)
@options.option(
    "--colluding",
    check=options.whole,
    metavar="N",
    text="How many of these tell the adversary their noise.",
    required=False,
)
@options.option(
    "--max-participations",
    check=options.whole,
    metavar="N",
    text="A hard limit on the rounds of one client.",
    required=False,
)
@click.option(
    "--amplify",
    is_flag=True,
    help="Insist that sampling helps.  Where clients may drop out this assumes"
    " that dropping out has nothing to do with who the client is.",
)
@options.as_json
def threat(as_json: bool, **described: Any) -> None:
    """What a run costs against whom, and the noise it needs.

    Prints the noise multiplier that the adversary really faces, the certified
    epsilon of the run against this adversary, and where a multiplier or budget
    was meant, the noise that gives it.  Combinations from which no guarantee
    follows are refused with the reason.
    """
    show(assess(**described), as_json=as_json)
