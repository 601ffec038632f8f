"""Which combinations of cohort, noise and clipping a guarantee is known for."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.fedsim.cohort import AllocatedCohort
from drdp.privacy.threat import Placement, PoissonCohort, View

if TYPE_CHECKING:
    from drdp.fedsim.protection import Protection

__all__ = ["MechanismName", "check_combination"]


@final
class MechanismName(StrEnum):
    """The law of the noise.

    - ``GAUSSIAN``: on floating-point numbers.
    - ``DISCRETE_GAUSSIAN``, ``SKELLAM``: on an integer grid, as secure aggregation
      needs it, and exact.  No amplification by sampling is claimed with them.
    """

    GAUSSIAN = "gaussian"
    DISCRETE_GAUSSIAN = "discrete-gaussian"
    SKELLAM = "skellam"


def check_combination(protection: Protection) -> None:
    """What the threat model does not know about."""
    central = protection.placement is Placement.CENTRAL
    hidden = protection.view is View.OUTSIDER
    gaussian = protection.mechanism is MechanismName.GAUSSIAN
    if not gaussian:
        _check_discrete(protection)
    if isinstance(protection.cohort, AllocatedCohort) and not (central and hidden):
        raise UnsoundThreatModelError(
            "random allocation is accounted for with central noise and an outsider's"
            " view only: with noise at the clients the number of noise shares would"
            " show who takes part; use a cohort of fixed size"
        )
    if protection.steering is not None and not central:
        raise UnsoundThreatModelError(
            "privacy.clip_norm adaptive needs placement central, got"
            f" {protection.placement}: the count of clipped codes is noised once, by"
            " whoever adds up, and clients' own noise does not cover it; use a fixed"
            " clip norm"
        )
    if protection.steering is not None and not gaussian:
        raise UnsoundThreatModelError(
            "privacy.clip_norm adaptive needs privacy.mechanism gaussian, got"
            f" {protection.mechanism}: the integer grid is made for one clip norm"
        )
    if protection.steering is not None and protection.clip_norm == math.inf:
        raise InvalidArgumentError(
            "privacy.clip_norm adaptive needs a finite norm to begin with, got inf"
        )
    if protection.examples_per_user is None:
        return
    _check.count(least=1, examples_per_user=protection.examples_per_user)
    if not (central and hidden and isinstance(protection.cohort, PoissonCohort)):
        raise UnsoundThreatModelError(
            "user-level guarantees of example-level sampling are accounted for with"
            " Poisson sampling, central noise and an outsider's view only"
        )


def _check_discrete(protection: Protection) -> None:
    """What discrete noise needs to be told, and what nobody has proven of it."""
    _check.positive(granularity=protection.granularity)
    if protection.code_length is None:
        raise InvalidArgumentError(
            f"code_length must be given with mechanism {protection.mechanism}: what"
            " rounding adds to a code's norm depends on it"
        )
    _check.count(least=1, code_length=protection.code_length)
    if (
        isinstance(protection.cohort, AllocatedCohort)
        or protection.examples_per_user is not None
    ):
        raise UnsoundThreatModelError(
            f"with mechanism {protection.mechanism} neither random allocation nor"
            " example-level sampling is accounted for: no worst case of sampled"
            " vectors of integers is proven; use mechanism gaussian"
        )
