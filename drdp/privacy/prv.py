"""The prv-accountant package, asked the same question: a second opinion.

The algorithm is Gopi, Lee and Wutschitz, arXiv:2106.02848; the code is
Microsoft's.  It shares nothing with drdp's own accountants, which is the point
of asking it.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any

from drdp import _check
from drdp.errors import InvalidArgumentError, UnsupportedEventError
from drdp.privacy.curves import Bound, PrivacyCurve
from drdp.privacy.events import (
    Adjacency,
    Event,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    atoms,
)
from drdp.privacy.releases import advice

__all__ = ["prv_curve"]

_SIDES: tuple[Bound, ...] = ("lower", "estimate", "upper")


def prv_curve(
    event: Event,
    *,
    bound: Bound = "upper",
    eps_error: float = 0.01,
    delta_error: float | None = None,
) -> PrivacyCurve:
    """The privacy curve by the prv-accountant package.

    Args:
        event: Gaussians, unsampled or Poisson-sampled, and Laplace releases.
        bound: Which of the package's three answers to return.
        eps_error: Half the width of its interval in epsilon.
        delta_error: Its error in delta; by default a thousandth of the delta
            asked for.

    Returns:
        A curve labelled with `bound`.

    Guarantees:
        Those of the package: its interval contains the truth up to its own
        rounding, which it does not bound.

    Raises:
        UnsupportedEventError: For other releases, and where the package fails
            or would need more memory than is sensible.

    >>> from drdp.privacy.events import PoissonSampled
    >>> run = PoissonSampled(0.05, Gaussian(0.748028)) * 20
    >>> 1.33 < prv_curve(run, bound="estimate").epsilon(1 / 149) < 1.36
    True
    """
    if bound not in _SIDES:
        raise InvalidArgumentError(
            f"bound must be lower, estimate or upper, got {bound!r}"
        )
    eps_error = _check.positive(eps_error=eps_error)
    if delta_error is not None:
        delta_error = _check.probability(delta_error=delta_error)
    parts = tuple(atoms(event).items())
    if not parts:
        return PrivacyCurve(lambda _: 0.0, bound, lambda _: 0.0)
    if any(isinstance(atom, NonPrivate) for atom, _ in parts):
        return PrivacyCurve(lambda _: 1.0, bound, lambda _: math.inf)
    for atom, _ in parts:
        _describe(atom)
    side = _SIDES.index(bound)

    def inverse(delta: float) -> float:
        error = delta_error if delta_error is not None else delta / 1000
        return _ask(parts, "compute_epsilon", delta, eps_error, error)[side]

    def profile(epsilon: float) -> float:
        error = delta_error if delta_error is not None else 1e-10
        # delta falls with epsilon, so the package's triple is already in order
        return _ask(parts, "compute_delta", epsilon, eps_error, error)[side]

    return PrivacyCurve(profile, bound, inverse)


def _describe(atom: Event) -> tuple[str, float, float]:
    match atom:
        case Gaussian(noise_multiplier=z):
            return "gaussian", z, 1.0
        case Laplace(noise_multiplier=z):
            return "laplace", z, 1.0
        case PoissonSampled(
            rate=rate, event=Gaussian(noise_multiplier=z), adjacency=relation
        ) if relation is not Adjacency.REPLACE_ONE:
            return "sampled", z, rate
    raise UnsupportedEventError(
        f"prv_curve has no formula for {atom!r}; {advice(atom)}"
    )


@lru_cache(maxsize=256)
def _ask(
    parts: tuple[tuple[Event, int], ...],
    question: str,
    given: float,
    eps_error: float,
    delta_error: float,
) -> tuple[float, float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from prv_accountant import PRVAccountant

        counts = [times for _, times in parts]
        try:
            accountant = PRVAccountant(
                prvs=[_prv(atom) for atom, _ in parts],
                max_self_compositions=counts,
                eps_error=eps_error,
                delta_error=delta_error,
            )
            answer = getattr(accountant, question)(given, num_self_compositions=counts)
        except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0][:120]
            raise UnsupportedEventError(
                f"prv-accountant cannot answer this question ({reason}); use pld_curve"
            ) from None
    low, middle, high = sorted(float(value) for value in answer)
    return max(0.0, low), max(0.0, middle), max(0.0, high)


def _prv(atom: Event) -> Any:
    from prv_accountant import privacy_random_variables as prvs

    kind, z, rate = _describe(atom)
    if kind == "laplace":
        return prvs.LaplaceMechanism(mu=1.0 / z)
    if kind == "gaussian":
        return prvs.GaussianMechanism(noise_multiplier=z)
    return prvs.PoissonSubsampledGaussianMechanism(
        sampling_probability=rate, noise_multiplier=z
    )
