"""How a run's clip norm follows a quantile of its code norms, and what that takes.

Beside the sum of codes each round releases a noised count of the codes that were
not clipped.  A contribution to both together is a vector whose norm, in units of
the noise, is at most 1/z where ``1/z^2 = 1/z_codes^2 + 1/(2 s)^2`` with s the
noise of the count.  So the round costs what a round with noise multiplier z and a
fixed clip norm costs, under every neighbouring relation and every cohort.

References: Andrew, Thakkar, McMahan and Ramaswamy, arXiv:1905.03871, Theorem 1.

>>> round(Steering().codes_noise(1.0, 100.0), 7)
1.0050378
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from drdp import _check
from drdp.errors import InvalidArgumentError

if TYPE_CHECKING:
    from drdp.fedsim.config import Privacy
    from drdp.mechanisms.adaptive import AdaptiveClip

__all__ = ["Steering", "steering_of"]


@final
@dataclass(frozen=True, slots=True)
class Steering:
    """The rule by which a clip norm moves from round to round.

    Args:
        quantile: The share of contributions that should not be clipped.
        learning_rate: How far the logarithm of the clip norm moves for each unit
            by which that share is off.
        count_noise: The standard deviation of the noise on the count, as a share
            of the expected size of a cohort.
    """

    quantile: float = 0.5
    learning_rate: float = 0.2
    count_noise: float = 0.05

    def __post_init__(self) -> None:
        _check.probability(quantile=self.quantile)
        _check.positive(learning_rate=self.learning_rate)
        _check.positive(count_noise=self.count_noise)

    def count_multiplier(self, size: float) -> float:
        """The noise of the count / what one contribution adds to it, which is 1/2."""
        return 2.0 * self.count_noise * _check.positive(size=size)

    def codes_noise(self, noise_multiplier: float, size: float) -> float:
        """The noise multiplier of the codes, where a round has one for everything.

        Args:
            noise_multiplier: Of codes and count together; 0 for no noise.
            size: The public expected size of a cohort.

        Guarantees:
            Codes with this noise and the count with its own cost, together, at
            most what `noise_multiplier` stands for.

        Raises:
            InvalidArgumentError: If the count alone costs as much, or more.
        """
        if _check.at_least_zero(noise_multiplier=noise_multiplier) == 0.0:
            return 0.0
        count = self.count_multiplier(size)
        if count <= noise_multiplier:
            raise InvalidArgumentError(
                "privacy.clip_norm adaptive cannot be paid for: a round's noise"
                f" multiplier must be below {count:.6g}, which the count that moves the"
                f" clip norm would use up alone, got {noise_multiplier:.6g}; raise"
                f" privacy.clip_count_noise ({self.count_noise:g} of the {size:.6g}"
                " expected in a cohort), draw larger cohorts, or give a fixed"
                " privacy.clip_norm"
            )
        return self.rule(1.0, size).mechanism(noise_multiplier).noise_multiplier

    def rule(self, clip_norm: float, size: float) -> AdaptiveClip:
        """The clip of a round, which makes the next round's.

        Distances are per contribution: what neighbours differ by is the business
        of the event.
        """
        from drdp.mechanisms.adaptive import AdaptiveClip

        return AdaptiveClip(
            clip_norm=clip_norm,
            expected_size=size,
            quantile=self.quantile,
            learning_rate=self.learning_rate,
            count_noise=self.count_noise * size,
        )

    def sentence(self, start: float) -> str:
        """The rule in words.

        Args:
            start: The clip norm of the first round.
        """
        return (
            f"The clip norm begins at {start:.4g} and follows the"
            f" {self.quantile:g}-quantile of code norms, by a noised count of those"
            f" that were clipped (its noise is {self.count_noise:g} of a cohort, and a"
            " contribution moves it by 1/2).  A round's noise multiplier covers codes"
            " and count together, whatever the clip norm is by then."
        )


def steering_of(privacy: Privacy) -> Steering | None:
    """How settings let the clip norm move; None where it stays."""
    if privacy.clip_norm != "adaptive":
        return None
    return Steering(
        privacy.clip_quantile, privacy.clip_learning_rate, privacy.clip_count_noise
    )
