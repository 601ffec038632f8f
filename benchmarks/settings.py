"""The settings that are timed, and their answers in 40-digit arithmetic."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from drdp.privacy.events import Event, Gaussian, PoissonSampled

REFERENCE = Path(__file__).with_name("reference.csv")


class Setting(NamedTuple):
    """Equal Poisson-sampled Gaussians; `epsilon` is the target of calibration."""

    name: str
    rate: float
    steps: int
    noise_multiplier: float
    delta: float
    epsilon: float | None = None

    def event(self) -> Event:
        """What drdp is asked about."""
        return PoissonSampled(self.rate, Gaussian(self.noise_multiplier)) * self.steps

    def text(self) -> str:
        """One cell of a table."""
        return (
            f"rate {self.rate:.4g}, steps {self.steps:,},"
            f" noise {self.noise_multiplier:g}, delta {self.delta:.3g}"
        )


class Truth(NamedTuple):
    """epsilon of a setting, the noise that meets its target, and their source."""

    epsilon: float
    noise_multiplier: float | None
    method: str


USUAL = (
    Setting("S1", 0.05, 20, 0.99675, 1e-5, 2.0),
    Setting("S2", 0.01, 10_000, 2.12738, 1e-5, 2.0),
    Setting("S3", 0.001, 100_000, 1.36477, 1e-5, 1.0),
    Setting("S4", 1.0, 4, 4.41342, 1 / 285, 1.0),
    Setting("S5", 256 / 60_000, 14_000, 0.65524, 1e-5, 8.0),
    Setting("S6", 0.05, 20, 0.65046, 1 / 149, 2.0),
    Setting("S7", 1e-4, 1_000_000, 1.33005, 1e-10, 0.5),
)

HARD = (
    Setting("H1", 0.01, 1_000, 0.3, 1e-5),
    Setting("H2", 0.5, 100_000, 50.0, 1e-5),
    Setting("H3", 1e-6, 10_000_000, 0.5, 1e-5),
    Setting("H4", 0.3, 1, 1.0, 1e-5),
    Setting("H5", 0.9, 3, 0.7, 1e-5),
    Setting("H6", 0.2, 50, 0.2, 1e-5),
    Setting("H7", 0.01, 10_000, 2.12738, 1e-15),
    Setting("H8", 0.999, 30, 2.0, 1e-5),
)


def reference() -> dict[str, Truth]:
    """The answers that `make_reference` stored."""
    with REFERENCE.open(newline="") as file:
        return {
            row["name"]: Truth(
                float(row["epsilon"]),
                float(row["noise_multiplier"]) if row["noise_multiplier"] else None,
                row["method"],
            )
            for row in csv.DictReader(file)
        }
