"""drdp: differential-privacy accounting, mechanisms and federated training.

The public names below are loaded when first used, so that importing the
package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "drdp.privacy.events": (
        "NOTHING",
        "Adjacency",
        "ApproxDP",
        "Composed",
        "Event",
        "FixedSizeSampled",
        "Gaussian",
        "Laplace",
        "NonPrivate",
        "PoissonSampled",
        "Repeated",
        "adjacency_of",
        "atoms",
    ),
    "drdp.privacy.curves": ("Accountant", "Interval", "PrivacyCurve"),
    "drdp.privacy.gdp": ("gdp_curve",),
    "drdp.privacy.rdp": ("rdp_curve",),
    "drdp.privacy.pld": ("delta_interval", "epsilon_interval", "pld_curve"),
    "drdp.privacy.prv": ("prv_curve",),
    "drdp.privacy.batch": ("deltas", "epsilons", "noise_multipliers"),
    "drdp.privacy.calibration": (
        "Within",
        "calibrate",
        "calibrate_count",
        "noise_multiplier_for",
        "within",
    ),
    "drdp.privacy.risk": ("advantage_below", "attack_below"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "NOTHING",
    "Accountant",
    "Adjacency",
    "ApproxDP",
    "Composed",
    "Event",
    "FixedSizeSampled",
    "Gaussian",
    "Interval",
    "Laplace",
    "NonPrivate",
    "PoissonSampled",
    "PrivacyCurve",
    "Repeated",
    "Within",
    "__version__",
    "adjacency_of",
    "advantage_below",
    "atoms",
    "attack_below",
    "calibrate",
    "calibrate_count",
    "delta_interval",
    "deltas",
    "epsilon_interval",
    "epsilons",
    "gdp_curve",
    "noise_multiplier_for",
    "noise_multipliers",
    "pld_curve",
    "prv_curve",
    "rdp_curve",
    "within",
]

if TYPE_CHECKING:
    from drdp.privacy.batch import deltas, epsilons, noise_multipliers
    from drdp.privacy.calibration import (
        Within,
        calibrate,
        calibrate_count,
        noise_multiplier_for,
        within,
    )
    from drdp.privacy.curves import Accountant, Interval, PrivacyCurve
    from drdp.privacy.events import (
        NOTHING,
        Adjacency,
        ApproxDP,
        Composed,
        Event,
        FixedSizeSampled,
        Gaussian,
        Laplace,
        NonPrivate,
        PoissonSampled,
        Repeated,
        adjacency_of,
        atoms,
    )
    from drdp.privacy.gdp import gdp_curve
    from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
    from drdp.privacy.prv import prv_curve
    from drdp.privacy.rdp import rdp_curve
    from drdp.privacy.risk import advantage_below, attack_below


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
