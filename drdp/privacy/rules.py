"""Rules that tell two samples of outputs apart, learnt on one part of the trials.

Nothing learnt here is proof: a rule is tested on trials that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]

__all__ = ["Rule", "chosen", "learnt"]

_MOST_SINGLE = 32  # columns that are tried one by one
_MOST_VALUES = 64  # different ones, up to which an output counts as a category
_MOST_CUTS = 200
_FEW = 4  # trials per number that a full covariance needs
_RIDGE = 1e-9
_DOUBT = 2.0  # standard errors


@final
@dataclass(frozen=True, slots=True)
class Rule:
    """Says "in" where the score reaches the cut.

    Args:
        name: What the score is.
        score: From outputs, shape (trials, numbers), to shape (trials,).
        cut: The threshold.
    """

    name: str
    score: Score
    cut: float

    def calls(self, outputs: NDArray[np.float64]) -> int:
        """On how many trials it says "in"."""
        import numpy as np

        return int(np.count_nonzero(self.score(outputs) >= self.cut))


def learnt(
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    names: Sequence[str] = (),
) -> Iterator[tuple[str, Score]]:
    """Scores that may tell the samples apart, larger for "in".

    Args:
        inside: Outputs with the unit, shape (trials, numbers).
        outside: Outputs without it.
        names: Of the first numbers of an output, those that should be larger for
            "in" unless something is wrong.
    """
    import numpy as np

    numbers = inside.shape[1]
    called = [*names, *(f"number {k}" for k in range(len(names), numbers))]
    for k in range(min(numbers, _MOST_SINGLE)):
        gap = float(inside[:, k].mean() - outside[:, k].mean())
        if k < len(names):  # believed to be larger, unless clearly smaller
            spread = math.hypot(float(inside[:, k].std()), float(outside[:, k].std()))
            gap += _DOUBT * spread / math.sqrt(len(inside))
        yield called[k], _single(k, 1.0 if gap >= 0.0 else -1.0)
        values = np.unique(np.concatenate([inside[:, k], outside[:, k]]))
        if len(values) <= _MOST_VALUES:
            yield (
                f"frequencies of {called[k]}",
                _frequencies(k, values, inside, outside),
            )
    if numbers > 1:
        yield "linear discriminant", _linear(inside, outside)
    yield "means and variances", _gaussian(inside, outside)


def chosen(
    scores: list[tuple[str, Score]],
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    *,
    delta: float,
    level: float,
) -> tuple[Rule, Rule]:
    """The rules with the largest bounds on these trials: on epsilon, on mu.

    Args:
        scores: Candidates, learnt on other trials.
        inside: Outputs with the unit.
        outside: Outputs without it.
        delta: Of the guarantee.
        level: Of each confidence limit.
    """
    import numpy as np
    from scipy.special import betaincinv, ndtri

    best: list[tuple[float, Rule]] = []
    for name, score in scores:
        ups, downs = np.sort(score(inside)), np.sort(score(outside))
        cuts = _cuts(np.concatenate([ups, downs]))
        tp = len(ups) - np.searchsorted(ups, cuts, side="left")
        fp = len(downs) - np.searchsorted(downs, cuts, side="left")
        with np.errstate(divide="ignore", invalid="ignore"):
            low = np.where(tp > 0, betaincinv(tp, len(ups) - tp + 1, level), 0.0)
            high = np.where(
                fp < len(downs), betaincinv(fp + 1, len(downs) - fp, 1 - level), 1.0
            )
            one = np.log(np.maximum(low - delta, 1e-300) / high)
            two = np.log(np.maximum(1.0 - high - delta, 1e-300) / (1.0 - low))
            epsilons = np.nan_to_num(np.maximum(one, two), nan=-np.inf)
            mus = np.nan_to_num(ndtri(low) - ndtri(high), nan=-np.inf)
        for k, values in enumerate((epsilons, mus)):
            at = int(np.argmax(values))
            found = (float(values[at]), Rule(name, score, float(cuts[at])))
            if len(best) <= k:
                best.append(found)
            elif found[0] > best[k][0]:
                best[k] = found
    return best[0][1], best[1][1]


def _cuts(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds between scores, denser towards both ends."""
    import numpy as np

    ordered = np.unique(scores)
    count = len(ordered)
    if count <= _MOST_CUTS:
        return ordered
    ranks = np.unique(np.geomspace(1, count, _MOST_CUTS // 2).astype(int)) - 1
    kept = np.unique(np.concatenate([ranks, count - 1 - ranks]))
    return np.asarray(ordered[kept], dtype=np.float64)


def _single(column: int, sign: float) -> Score:
    return lambda outputs: sign * outputs[:, column]


def _frequencies(
    column: int,
    values: NDArray[np.float64],
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
) -> Score:
    import numpy as np

    def counts(sample: NDArray[np.float64]) -> NDArray[np.float64]:
        places = np.searchsorted(values, sample[:, column])
        return np.bincount(places, minlength=len(values)).astype(np.float64) + 0.5

    ratios = np.log(counts(inside) / counts(outside))

    def score(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        shown = outputs[:, column]
        places = np.minimum(np.searchsorted(values, shown), len(values) - 1)
        known = values[places] == shown
        return np.asarray(np.where(known, ratios[places], 0.0), dtype=np.float64)

    return score


def _linear(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> Score:
    """Fisher's discriminant; the covariance is diagonal where trials are few."""
    import numpy as np

    gap = inside.mean(axis=0) - outside.mean(axis=0)
    rest = np.concatenate([one - one.mean(axis=0) for one in (inside, outside)])
    numbers = rest.shape[1]
    spread = np.maximum(rest.std(axis=0), 1e-150)
    if len(rest) < _FEW * numbers:
        weights = gap / spread**2
    else:
        # In units of each number's own spread, so that the ridge is no bias.
        scaled = rest / spread
        matrix = scaled.T @ scaled / len(rest) + _RIDGE * np.eye(numbers)
        weights = np.linalg.solve(matrix, gap / spread) / spread
    return lambda outputs: np.asarray(outputs @ weights, dtype=np.float64)


def _gaussian(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> Score:
    """Likelihood ratio of normal laws with independent numbers."""
    import numpy as np

    means = [one.mean(axis=0) for one in (inside, outside)]
    floor = 1e-12 * (np.abs(means[0]) + np.abs(means[1])) + 1e-150
    spreads = [np.maximum(one.std(axis=0), floor) for one in (inside, outside)]

    def log_law(outputs: NDArray[np.float64], k: int) -> NDArray[np.float64]:
        z = (outputs - means[k]) / spreads[k]
        return np.asarray(-0.5 * z**2 - np.log(spreads[k]), dtype=np.float64)

    return lambda outputs: np.asarray(
        np.sum(log_law(outputs, 0) - log_law(outputs, 1), axis=1), dtype=np.float64
    )
