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
    "drdp.privacy.releases": (
        "DiscreteGaussian",
        "MixtureOfGaussians",
        "RandomisedResponse",
        "Skellam",
        "ZeroConcentrated",
    ),
    "drdp.privacy.outside": ("DensityPair", "DominatingPair"),
    "drdp.privacy.example_level": ("example_level", "example_level_fixed_size"),
    "drdp.privacy.distributed": ("distributed_discrete_gaussian", "rounded_norm"),
    "drdp.privacy.sampling": (
        "FixedSizeZeroOut",
        "RandomlyAllocated",
        "Scheduled",
        "Shuffled",
        "TruncatedPoissonSampled",
    ),
    "drdp.privacy.curves": ("Accountant", "Interval", "PrivacyCurve"),
    "drdp.privacy.gdp": ("gdp_curve",),
    "drdp.privacy.edgeworth": ("edgeworth_curve", "edgeworth_estimate"),
    "drdp.privacy.ew_tune": ("ew_tune_noise_multiplier",),
    "drdp.privacy.finite_sample": ("edgeworth_epsilon_interval", "edgeworth_interval"),
    "drdp.privacy.rdp": ("rdp_curve",),
    "drdp.privacy.pld": ("delta_interval", "epsilon_interval", "pld_curve"),
    "drdp.privacy.prv": ("prv_curve",),
    "drdp.privacy.batch": ("deltas", "epsilons", "noise_multipliers"),
    "drdp.privacy.calibration": (
        "Within",
        "calibrate",
        "calibrate_count",
        "within",
    ),
    "drdp.privacy.inversion": ("cohort_size_for", "noise_multiplier_for"),
    "drdp.privacy.blocks": ("Clipping",),
    "drdp.privacy.threat": (
        "EveryClient",
        "FixedCohort",
        "Placement",
        "PoissonCohort",
        "ThreatModel",
        "View",
    ),
    "drdp.privacy.exposure": (
        "effective_event",
        "effective_multiplier",
        "exposure",
        "noise_std",
        "noise_std_for",
    ),
    "drdp.privacy.stages": (
        "Prior",
        "calibrate_stages",
        "stage_one",
    ),
    "drdp.privacy.risk": ("advantage_below", "attack_below"),
    "drdp.privacy.black_box": ("audit",),
    "drdp.privacy.ledger": ("Ledger",),
    "drdp.privacy.fixed_budget": ("FixedBudget",),
    "drdp.privacy.filters": (
        "ApproxDPFilter",
        "GaussianFilter",
        "RenyiFilter",
        "ZeroConcentratedFilter",
    ),
    "drdp.mechanisms.gaussian": ("GaussianMechanism", "analytic_gaussian"),
    "drdp.mechanisms.laplace": ("LaplaceMechanism",),
    "drdp.mechanisms.integer_noise": ("DiscreteGaussianMechanism", "SkellamMechanism"),
    "drdp.mechanisms.randomised_response": ("RandomisedResponseMechanism",),
    "drdp.mechanisms.adaptive": ("AdaptiveClip",),
    "drdp.mechanisms.noise": ("SecureNoise", "SeededNoise"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "NOTHING",
    "Accountant",
    "AdaptiveClip",
    "Adjacency",
    "ApproxDP",
    "ApproxDPFilter",
    "Clipping",
    "Composed",
    "DensityPair",
    "DiscreteGaussian",
    "DiscreteGaussianMechanism",
    "DominatingPair",
    "Event",
    "EveryClient",
    "FixedBudget",
    "FixedCohort",
    "FixedSizeSampled",
    "FixedSizeZeroOut",
    "Gaussian",
    "GaussianFilter",
    "GaussianMechanism",
    "Interval",
    "Laplace",
    "LaplaceMechanism",
    "Ledger",
    "MixtureOfGaussians",
    "NonPrivate",
    "Placement",
    "PoissonCohort",
    "PoissonSampled",
    "Prior",
    "PrivacyCurve",
    "RandomisedResponse",
    "RandomisedResponseMechanism",
    "RandomlyAllocated",
    "RenyiFilter",
    "Repeated",
    "Scheduled",
    "SecureNoise",
    "SeededNoise",
    "Shuffled",
    "Skellam",
    "SkellamMechanism",
    "ThreatModel",
    "TruncatedPoissonSampled",
    "View",
    "Within",
    "ZeroConcentrated",
    "ZeroConcentratedFilter",
    "__version__",
    "adjacency_of",
    "advantage_below",
    "analytic_gaussian",
    "atoms",
    "attack_below",
    "audit",
    "calibrate",
    "calibrate_count",
    "calibrate_stages",
    "cohort_size_for",
    "delta_interval",
    "deltas",
    "distributed_discrete_gaussian",
    "edgeworth_curve",
    "edgeworth_epsilon_interval",
    "edgeworth_estimate",
    "edgeworth_interval",
    "effective_event",
    "effective_multiplier",
    "epsilon_interval",
    "epsilons",
    "ew_tune_noise_multiplier",
    "example_level",
    "example_level_fixed_size",
    "exposure",
    "gdp_curve",
    "noise_multiplier_for",
    "noise_multipliers",
    "noise_std",
    "noise_std_for",
    "pld_curve",
    "prv_curve",
    "rdp_curve",
    "rounded_norm",
    "stage_one",
    "within",
]

if TYPE_CHECKING:
    from drdp.mechanisms.adaptive import AdaptiveClip
    from drdp.mechanisms.gaussian import GaussianMechanism, analytic_gaussian
    from drdp.mechanisms.integer_noise import (
        DiscreteGaussianMechanism,
        SkellamMechanism,
    )
    from drdp.mechanisms.laplace import LaplaceMechanism
    from drdp.mechanisms.noise import SecureNoise, SeededNoise
    from drdp.mechanisms.randomised_response import RandomisedResponseMechanism
    from drdp.privacy.batch import deltas, epsilons, noise_multipliers
    from drdp.privacy.black_box import audit
    from drdp.privacy.blocks import Clipping
    from drdp.privacy.calibration import (
        Within,
        calibrate,
        calibrate_count,
        within,
    )
    from drdp.privacy.curves import Accountant, Interval, PrivacyCurve
    from drdp.privacy.distributed import distributed_discrete_gaussian, rounded_norm
    from drdp.privacy.edgeworth import edgeworth_curve, edgeworth_estimate
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
    from drdp.privacy.ew_tune import ew_tune_noise_multiplier
    from drdp.privacy.example_level import example_level, example_level_fixed_size
    from drdp.privacy.exposure import (
        effective_event,
        effective_multiplier,
        exposure,
        noise_std,
        noise_std_for,
    )
    from drdp.privacy.filters import (
        ApproxDPFilter,
        GaussianFilter,
        RenyiFilter,
        ZeroConcentratedFilter,
    )
    from drdp.privacy.finite_sample import (
        edgeworth_epsilon_interval,
        edgeworth_interval,
    )
    from drdp.privacy.fixed_budget import FixedBudget
    from drdp.privacy.gdp import gdp_curve
    from drdp.privacy.inversion import cohort_size_for, noise_multiplier_for
    from drdp.privacy.ledger import Ledger
    from drdp.privacy.outside import DensityPair, DominatingPair
    from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve
    from drdp.privacy.prv import prv_curve
    from drdp.privacy.rdp import rdp_curve
    from drdp.privacy.releases import (
        DiscreteGaussian,
        MixtureOfGaussians,
        RandomisedResponse,
        Skellam,
        ZeroConcentrated,
    )
    from drdp.privacy.risk import advantage_below, attack_below
    from drdp.privacy.sampling import (
        FixedSizeZeroOut,
        RandomlyAllocated,
        Scheduled,
        Shuffled,
        TruncatedPoissonSampled,
    )
    from drdp.privacy.stages import Prior, calibrate_stages, stage_one
    from drdp.privacy.threat import (
        EveryClient,
        FixedCohort,
        Placement,
        PoissonCohort,
        ThreatModel,
        View,
    )


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
