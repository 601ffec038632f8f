"""``drdp report``: a run, or a comparison of methods, as one page that stands alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from drdp.cli import options
from drdp.cli.render import json_text

__all__ = ["report"]


@options.command(
    examples="""
drdp report run
drdp report run --out page.html
drdp report run --private --out for-me-alone.html
drdp report compared --json
"""
)
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the page goes; by default report.html in the folder, or"
    " report-private.html.",
)
@click.option(
    "--private",
    is_flag=True,
    help="Add what only the operator may see; then do not share the page.",
)
@options.as_json
def report(*, folder: Path, out: Path | None, private: bool, as_json: bool) -> None:
    """A run, or a comparison of methods, as one HTML page.

    FOLDER is what drdp train or drdp compare-methods has written.  The page
    states the guarantee first, then what it cost and brought; it loads nothing,
    and shows nothing that is marked private unless --private is given.
    """
    from drdp.errors import RunFolderError
    from drdp.fedsim.report import gathered, page_of

    found = gathered(folder, private=private)
    if as_json:
        click.echo(json_text(_known(found)))
    if as_json and out is None:
        return
    target = out or folder / ("report-private.html" if private else "report.html")
    try:
        target.write_text(page_of(found), encoding="utf-8")
    except OSError as error:
        raise RunFolderError(
            f"--out {target} cannot be written: {error.strerror}"
        ) from None
    if not as_json:
        click.echo(f"wrote {target}")


def _known(value: Any) -> Any:
    """The same without what is not a number, for which JSON has null."""
    if isinstance(value, dict):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_known(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
