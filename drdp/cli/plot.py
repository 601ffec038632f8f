"""Curves as a picture in a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from drdp.cli.grids import Found, Sweep
from drdp.cli.numbers import plain
from drdp.cli.plan import Plan
from drdp.cli.series import Curves
from drdp.errors import InvalidArgumentError, MissingPackageError
from drdp.privacy.figures import certified_curve
from drdp.privacy.history import history
from drdp.privacy.ledger import Ledger
from drdp.privacy.risk import true_positive_rate

__all__ = ["drawn", "save", "save_spending", "save_sweep", "save_trade_off"]

_MARKERS = "osD^vP*X"
_MOST_PLACES = 25  # where the spend is computed


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


def save_spending(ledger: Ledger, path: Path) -> None:
    """Draw the epsilon that is spent, entry by entry, beside the budget."""
    budget = ledger.budget
    if budget is None:
        raise InvalidArgumentError(
            f"--plot shows a budget and what is spent of it; {ledger.path} has none"
        )
    seqs, values = history(ledger.entries(), budget, points=_MOST_PLACES)

    def draw(axes: Any) -> None:
        axes.step(seqs, values, where="post", marker=".", label="spent so far")
        axes.axhline(budget.epsilon, linestyle="--", color="0.4", label="the budget")
        axes.set_xlabel("entry of the ledger")
        axes.set_ylabel(f"epsilon at delta {plain(budget.delta)}")
        axes.set_ylim(0.0, 1.1 * budget.epsilon)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(f"{ledger.path.name}, {ledger.terms.adjacency}", fontsize=10)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8)

    drawn(draw, path)


def save_sweep(
    job: Sweep, found: Sequence[Found], path: Path, *, heatmap: bool
) -> None:
    """Draw a sweep: lines over its longest grid, or a map of two grids."""
    along = job.varied[0] if job.varied else next(iter(job.axes))
    other = job.varied[1] if len(job.varied) > 1 else None
    xs = [float(value) for value in job.axes[along]]
    others: list[Any] = list(job.axes[other]) if other else [None]
    values = dict(zip((tuple(p.values()) for p in job.points), found, strict=True))

    def row(second: Any) -> list[float]:
        at = {along: None, other: second}
        keys = [
            tuple(
                x if name == along else at.get(name, v[0])
                for name, v in job.axes.items()
            )
            for x in job.axes[along]
        ]
        return [_finite(values[key].value) for key in keys]

    rows = [row(second) for second in others]
    sure = all(one.bound == "upper" for one in found if one.value is not None)
    label = job.quantity if sure else f"{job.quantity} (an estimate)"
    title = ", ".join(
        [
            *(
                f"{name} {plain(float(v[0]))}"
                for name, v in job.axes.items()
                if name not in (along, other)
            ),
            *([f"FPR {plain(job.fpr)}"] if job.fpr else []),
            f"{job.plan.sampling}, {job.plan.adjacency}, accountant {job.accountant}",
        ]
    )

    def draw(axes: Any) -> None:
        if heatmap and other:
            ys = [float(value) for value in others]
            norm = "log" if _wide([v for line in rows for v in line]) else "linear"
            mesh = axes.pcolormesh(xs, ys, rows, shading="nearest", norm=norm)
            axes.figure.colorbar(mesh, ax=axes, label=label)
            axes.set_ylabel(other)
            axes.set_yscale("log" if _wide(ys) else "linear")
        else:
            for k, (second, line) in enumerate(zip(others, rows, strict=True)):
                name = None if second is None else plain(float(second))
                mark = _MARKERS[k % len(_MARKERS)]
                axes.plot(xs, line, marker=mark, markersize=4, label=name)
            axes.set_ylabel(label)
            every = [value for line in rows for value in line]
            axes.set_yscale("log" if _wide(every) else "linear")
            axes.grid(visible=True, alpha=0.3)
            if other:
                axes.legend(title=other, fontsize=8, ncols=1 + len(rows) // 9)
        axes.set_xlabel(along)
        axes.set_xscale("log" if _wide(xs) else "linear")
        axes.set_title(title, fontsize=10)

    drawn(draw, path)


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan


def _wide(values: Sequence[float]) -> bool:
    """Whether values reach over more than a decade and a half."""
    kept = [value for value in values if value > 0.0]
    return len(kept) > 1 and max(kept) > 30.0 * min(kept)


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
