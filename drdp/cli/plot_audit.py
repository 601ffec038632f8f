"""Attacks against the wall: measured ROC curves beside a certified trade-off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drdp.cli.plot import drawn
from drdp.privacy.events import Event
from drdp.privacy.figures import certified_curve
from drdp.privacy.risk import true_positive_rate

__all__ = ["save"]

Rates = Sequence[tuple[float, float]]

_LEAST = 1e-4


def save(measured: Sequence[tuple[str, Rates]], claimed: Event, path: Path) -> None:
    """Draw ROC curves on log axes, and the wall that no attack may cross.

    Args:
        measured: Named points (FPR, TPR).
        claimed: What is certified.
        path: The suffix names the format.
    """
    curve = certified_curve(claimed, "upper")
    shown = [fpr for _, rates in measured for fpr, _ in rates if fpr > 0.0]
    least = max(_LEAST, min(shown, default=_LEAST))
    fprs = [least ** (1.0 - k / 24.0) for k in range(25)]
    wall = [true_positive_rate(curve, fpr).value for fpr in fprs]

    def draw(axes: Any) -> None:
        axes.fill_between(fprs, wall, 1.0, color="0.9", label="certified: impossible")
        axes.plot(fprs, wall, color="0.3")
        for name, rates in measured:
            kept = [(fpr, tpr) for fpr, tpr in rates if fpr > 0.0 and tpr > 0.0]
            axes.plot(*zip(*kept, strict=True), drawstyle="steps-post", label=name)
        axes.plot(fprs, fprs, linestyle="--", color="0.6", label="guessing")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")

    drawn(draw, path)
