"""Curves as a picture in a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from drdp.cli.numbers import plain
from drdp.cli.plan import Plan
from drdp.cli.series import Curves
from drdp.errors import InvalidArgumentError, MissingPackageError
from drdp.privacy.figures import certified_curve
from drdp.privacy.risk import true_positive_rate

__all__ = ["drawn", "save", "save_trade_off"]

_MARKERS = "osD^vP*X"


def save(curves: Curves, path: Path) -> None:
    """Draw the curves and write them to `path`."""
    drawn(lambda axes: _draw(curves, axes), path)


def drawn(draw: Callable[[Any], None], path: Path) -> None:
    """Write what `draw` puts on a pair of axes to `path`.

    The suffix of the path names the format.

    Raises:
        InvalidArgumentError: If the file cannot be written.
        MissingPackageError: If matplotlib is not installed.
    """
    try:
        matplotlib = import_module("matplotlib")
        figure = import_module("matplotlib.figure").Figure
    except ImportError:
        raise MissingPackageError(
            "--plot needs matplotlib; install it with: pip install 'drdp[plot]'"
        ) from None
    # Without a date and with a fixed salt the same picture has the same bytes.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    kind = path.suffix[1:].lower()
    with matplotlib.rc_context({"svg.hashsalt": "drdp"}):
        page = figure(figsize=(7.0, 4.6), layout="constrained")
        draw(page.add_subplot())
        try:
            page.savefig(path, format=kind, dpi=150, metadata=metadata.get(kind))
        except OSError as error:
            raise InvalidArgumentError(
                f"--plot {path} cannot be written: {error.strerror or error}"
            ) from None


def save_trade_off(plan: Plan, path: Path) -> None:
    """Draw the true positive rate against the false positive rate."""
    curve = certified_curve(plan.event(), "upper")
    fprs = [10.0 ** (-0.25 * k) for k in range(24, -1, -1)]
    rates = [true_positive_rate(curve, fpr).value for fpr in fprs]

    def draw(axes: Any) -> None:
        axes.plot(fprs, rates, label="best attack (upper bound)")
        axes.plot(fprs, fprs, linestyle="--", color="0.4", label="guessing")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.set_title(
            f"noise multiplier {plain(plan.noise_multiplier or 0)}, {plan.steps}"
            f" rounds, rate {plain(float(plan.rate or 1))} ({plan.sampling}),"
            f" {plan.adjacency}",
            fontsize=10,
        )
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8)

    drawn(draw, path)


def _draw(curves: Curves, axes: Any) -> None:
    for k, series in enumerate(curves.series):
        axes.plot(
            curves.places,
            [value if math.isfinite(value) else math.nan for value in series.values],
            label=plain(series.noise_multiplier),
            marker=_MARKERS[k % len(_MARKERS)],
            markersize=4,
        )
    axes.set_xlabel("rounds" if curves.against == "rounds" else "epsilon")
    axes.set_ylabel(f"{curves.quantity} ({_kind(curves)})")
    if curves.against == "rounds":
        axes.xaxis.get_major_locator().set_params(integer=True)
    else:
        axes.set_yscale("log")
        delta = curves.plan.delta or 0.0
        axes.set_ylim(delta / 10.0, 1.0)
        axes.axhline(delta, linestyle="--", linewidth=1.0, color="0.4")
        axes.annotate(f"delta = {plain(delta)}", (0.0, delta), va="bottom")
    axes.set_title(_title(curves), fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(title="noise multiplier", fontsize=8, ncols=1 + len(curves.series) // 8)


def _kind(curves: Curves) -> str:
    return "an estimate" if curves.bound == "estimate" else f"{curves.bound} bound"


def _title(curves: Curves) -> str:
    plan = curves.plan
    fixed = (
        f"delta {plain(plan.delta or 0)}"
        if curves.against == "rounds"
        else f"{plan.steps} rounds"
    )
    return (
        f"{fixed}, rate {plain(float(plan.rate or 1))} ({plan.sampling}),"
        f" {plan.adjacency}, accountant {curves.accountant}"
    )
