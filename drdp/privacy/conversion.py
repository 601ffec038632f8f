"""The best delta that one Renyi divergence allows.

Reference: Asoodeh et al., arXiv:2001.05990.
"""

from __future__ import annotations

import math

__all__ = ["two_point"]

_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)


def two_point(order: float, moment: float, epsilon: float) -> float:
    """log of the largest p - e^eps q over two-point pairs of bounded divergence.

    The pairs have p^a q^(1-a) + (1-p)^a (1-q)^(1-a) <= e^moment: for each p the
    least such q, then the best p.
    """

    def log_sum(log_p: float, log_q: float) -> float:
        rest_p, rest_q = math.log(-math.expm1(log_p)), math.log(-math.expm1(log_q))
        one = order * log_p + (1.0 - order) * log_q
        two = order * rest_p + (1.0 - order) * rest_q
        top = max(one, two)
        return top + math.log(math.exp(one - top) + math.exp(two - top))

    def gap(log_p: float) -> float:
        low, high = log_p - (moment - order * log_p) / (order - 1.0) - 1.0, log_p
        for _ in range(60):
            middle = 0.5 * (low + high)
            if log_sum(log_p, middle) > moment:
                low = middle
            else:
                high = middle
        # the left end has too large a divergence: q is no smaller, delta no larger
        return math.exp(log_p) - math.exp(min(epsilon + low, 700.0))

    low, high = math.log(1e-300) if epsilon > 600 else -epsilon - 60.0, -1e-15
    for _ in range(90):
        a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if gap(a) < gap(b):
            low = a
        else:
            high = b
    best = gap(0.5 * (low + high))
    return math.log(best) + 1e-9 if best > 0.0 else -700.0
