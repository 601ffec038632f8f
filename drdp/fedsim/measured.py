"""What of a line of metrics is a metric, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["NOT_METRICS", "measured"]

NOT_METRICS = frozenset(
    (
        "round",
        "epsilon",
        "step_norm",
        "clip_norm",
        "seconds",
        "standard_errors",
        "private",
    )
)
"""Entries of a line that are no metrics."""


def measured(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a line, without what else stands there.

    >>> measured({"round": 3, "epsilon": 0.7, "loss": 2.5})
    {'loss': 2.5}
    """
    return {
        name: float(value) for name, value in record.items() if name not in NOT_METRICS
    }
