"""The DR-Encoder paper's Table 3, from first principles, beside the truth.

The paper inverts the central limit theorem of Gaussian DP to get sigma from
epsilon, and lists the epsilon of Renyi DP at the same sigma.  Both models use
the Poisson formula, at rate 1 as well, where it is not meant to be used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from drdp.privacy.curves import Interval
from drdp.privacy.events import Gaussian, PoissonSampled
from drdp.privacy.gdp import clt_noise_multiplier
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.rdp import rdp_curve

__all__ = ["MODELS", "PAPER_ORDERS", "Model", "Row", "rows"]

CLAIMS = (math.inf, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
PAPER_ORDERS = (*(1 + x / 10 for x in range(1, 100)), *range(12, 64))


@dataclass(frozen=True, slots=True)
class Model:
    """The run behind one half of the table.

    `rdp_steps` is the number of rounds that the paper's RDP column was computed
    with; for Qwen it is one more than the 4 rounds that the paper states.
    """

    name: str
    rate: float
    steps: int
    rdp_steps: int
    delta: Fraction


MODELS = (
    Model("LLaMA", 0.05, 20, 20, Fraction(1, 149)),
    Model("Qwen", 1.0, 4, 5, Fraction(1, 285)),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: the paper's three numbers, and what that sigma really gives."""

    model: Model
    noise_multiplier: float
    rdp_epsilon: float
    gdp_epsilon: float
    certified: Interval

    @property
    def under_reports(self) -> bool:
        """Whether the epsilon that the paper claims is proved too small."""
        return self.certified.lower > self.gdp_epsilon


def rows() -> list[Row]:
    """The table, both models, the trivial first line included."""
    return [_row(model, claim) for model in MODELS for claim in CLAIMS]


def _row(model: Model, claim: float) -> Row:
    if claim == math.inf:
        nothing = Interval(math.inf, math.inf, "no noise")
        return Row(model, 0.0, math.inf, math.inf, nothing)
    delta = float(model.delta)
    sigma = clt_noise_multiplier(claim, delta, model.rate, model.steps)
    one = PoissonSampled(model.rate, Gaussian(sigma))
    rdp = rdp_curve(one * model.rdp_steps, orders=PAPER_ORDERS)
    certified = epsilon_interval(one * model.steps, delta, tolerance=1e-4)
    return Row(model, sigma, rdp.epsilon(delta), claim, certified)
