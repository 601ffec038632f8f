"""The noise of the DR-Encoder paper as its equations print it, and its repair.

Equations 3 and 4 give every client noise of standard deviation ``2 sigma / K``
on a message of norm at most 1 and equation 5 averages K of them, while Lemma
4.2 claims the noise multiplier sigma, as if that noise were on the average.  On
the average it is ``2 sigma / K^1.5``, and its sensitivity is ``2 / K``: what
whoever sees the average faces is ``sigma / sqrt(K)``.

>>> run = as_printed(0.748028, 5, 100)
>>> round(run.noise_std, 6), round(run.multiplier, 6)
(0.299211, 0.334528)
>>> fixed = repaired(0.748028, 5, 100)
>>> round(fixed.noise_std, 6), round(fixed.multiplier, 6)
(0.669057, 0.748028)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from drdp import _check
from drdp.privacy.blocks import Clipping
from drdp.privacy.curves import Interval
from drdp.privacy.events import Adjacency, Event
from drdp.privacy.exposure import (
    effective_event,
    effective_multiplier,
    exposure,
    noise_std,
)
from drdp.privacy.threat import FixedCohort, Placement, ThreatModel, View

__all__ = [
    "Configuration",
    "as_printed",
    "printed_noise_std",
    "product_noise",
    "repaired",
]


@final
@dataclass(frozen=True, slots=True)
class Configuration:
    """A threat model together with the noise that is added under it."""

    threat: ThreatModel
    noise_std: float

    @property
    def multiplier(self) -> float:
        """The noise multiplier that the adversary faces in one release."""
        return effective_multiplier(self.threat, self.noise_std)

    def event(self, rounds: int) -> Event:
        """What `rounds` rounds release to the adversary."""
        return effective_event(self.threat, self.noise_std, rounds)

    def exposure(
        self, rounds: int, delta: float, *, tolerance: float = 1e-4
    ) -> Interval:
        """The certified epsilon of `rounds` rounds against the adversary."""
        return exposure(self.threat, self.noise_std, rounds, delta, tolerance=tolerance)


def printed_noise_std(
    sigma: float, clients_per_round: int, clip_norm: float = 1.0
) -> float:
    """The noise of one client by equations 3 and 4: ``2 sigma C / K``."""
    size = _check.count(least=1, clients_per_round=clients_per_round)
    sigma = _check.at_least_zero(sigma=sigma)
    return 2.0 * sigma * _check.positive(clip_norm=clip_norm) / size


def as_printed(
    sigma: float,
    clients_per_round: int,
    population: int,
    *,
    view: View = View.OUTSIDER,
    placement: Placement = Placement.DISTRIBUTED,
    adjacency: Adjacency = Adjacency.REPLACE_ONE,
    colluding: int = 0,
    clip_norm: float = 1.0,
    blocks: int = 1,
) -> Configuration:
    """The paper's configuration with its noise where and as large as printed.

    Args:
        sigma: The paper's sigma, the multiplier that its accountant works with.
        clients_per_round: K; the paper never states it.
        population: M; the paper never states it either.
        view: What the adversary sees.
        placement: ``DISTRIBUTED`` as in equations 3 and 4.  ``CENTRAL`` is what
            Lemma 4.2 would need: ``2 sigma C`` once on the sum.
        adjacency: Which data sets are neighbours; Lemma 4.1 takes replace-one.
        colluding: How many clients tell the adversary their noise.
        clip_norm: C; the paper takes 1.
        blocks: How many blocks are clipped to C one by one.  The lemma takes 1,
            equations 1 and 2 clip the two factors separately.

    References:
        Wu et al., DR-Encoder, equations 1 to 5, Lemmas 4.1 and 4.2.
    """
    threat = _threat(
        clients_per_round,
        population,
        view=view,
        placement=placement,
        adjacency=adjacency,
        colluding=colluding,
        clip_norm=clip_norm,
        blocks=blocks,
    )
    spread = 1 if threat.placement is Placement.CENTRAL else clients_per_round
    return Configuration(threat, printed_noise_std(sigma, spread, clip_norm))


def repaired(
    sigma: float,
    clients_per_round: int,
    population: int,
    *,
    view: View = View.OUTSIDER,
    placement: Placement = Placement.DISTRIBUTED,
    adjacency: Adjacency = Adjacency.REPLACE_ONE,
    colluding: int = 0,
    clip_norm: float = 1.0,
    blocks: int = 1,
) -> Configuration:
    """The same with the noise that really gives the multiplier sigma.

    For replace-one, one block and no collusion that is ``2 sigma C / sqrt(K)``
    at each client, sqrt(K) times what is printed.  The arguments are those of
    `as_printed`.

    Guarantees:
        The adversary faces a noise multiplier of at least `sigma`.
    """
    threat = _threat(
        clients_per_round,
        population,
        view=view,
        placement=placement,
        adjacency=adjacency,
        colluding=colluding,
        clip_norm=clip_norm,
        blocks=blocks,
    )
    return Configuration(threat, noise_std(threat, sigma))


def _threat(
    clients_per_round: int,
    population: int,
    *,
    view: View,
    placement: Placement,
    adjacency: Adjacency,
    colluding: int,
    clip_norm: float,
    blocks: int,
) -> ThreatModel:
    return ThreatModel(
        view,
        placement,
        FixedCohort(clients_per_round, population),
        adjacency=adjacency,
        clipping=Clipping((clip_norm,) * _check.count(least=1, blocks=blocks)),
        colluding=colluding,
    )


def product_noise(
    norm_a: float,
    norm_b: float,
    shape: tuple[int, int, int],
    std_a: float,
    std_b: float,
) -> float:
    """What multiplying two noised factors, as in equation 5, adds to their product.

    ``E ||(A + N_A)(B + N_B) - A B||_F^2 = m s_B^2 ||A||^2 + n s_A^2 ||B||^2 +
    n m r s_A^2 s_B^2`` for A of n x r and B of r x m.  The product stays
    unbiased, but the last term, quadratic in the noise, does not depend on the
    signal and grows with the size of the product.

    Args:
        norm_a: The Frobenius norm of A.
        norm_b: The Frobenius norm of B.
        shape: (n, r, m).
        std_a: Standard deviation of the noise on each entry of A.
        std_b: The same for B; both noises are independent.

    >>> round(product_noise(1.0, 1.0, (4096, 8, 4096), 0.1, 0.1), 1)
    13503.7
    """
    n, r, m = (_check.count(least=1, dimension=size) for size in shape)
    a, b = _check.at_least_zero(norm_a=norm_a), _check.at_least_zero(norm_b=norm_b)
    s, t = _check.at_least_zero(std_a=std_a), _check.at_least_zero(std_b=std_b)
    return m * (t * a) ** 2 + n * (s * b) ** 2 + n * m * r * (s * t) ** 2
