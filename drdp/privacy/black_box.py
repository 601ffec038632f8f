"""Audits of anything that can be run: a lower bound on what its outputs tell.

The mechanism is run many times on each of two neighbouring inputs.  One half of
the trials is for learning how to tell the outputs apart, the other for the test,
so that the confidence does not depend on how the rule was found.

>>> import numpy as np
>>> from drdp.privacy.events import Gaussian
>>> rng = np.random.default_rng(7)
>>> def noisy(total):
...     return total + rng.normal(scale=0.5)
>>> found = audit(noisy, 1.0, 0.0, delta=1e-5, event=Gaussian(1.0), trials=1000)
>>> found.verdict, found.mu > 1.0
('violated', True)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.audit import CONFIDENCE, two_sample
from drdp.privacy.events import Event
from drdp.privacy.findings import Claim, Finding, points, verdict_on
from drdp.privacy.rules import chosen, learnt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.privacy.rules import Score

__all__ = ["audit", "judged"]

_FEWEST = 40


def audit(
    mechanism: Callable[[Any], Any],
    one: Any,
    other: Any,
    *,
    delta: float,
    event: Event | None = None,
    trials: int = 2000,
    confidence: float = CONFIDENCE,
    score: Callable[[Any], float] | None = None,
) -> Finding:
    """How private a mechanism is at best, from what it does to two inputs.

    Args:
        mechanism: From an input to numbers of any shape; it draws its own fresh
            randomness in each call, and calls must not influence each other.
        one: An input with the unit.
        other: A neighbouring input.
        delta: Of the guarantee, strictly between 0 and 1.
        event: What the mechanism claims to cost; None to get bounds alone.
        trials: How often it is run on each input, at least 40.
        confidence: With what probability a true claim is left standing.
        score: From an output to a number that is larger for `one`, where a good
            attack is known; otherwise rules are learnt from half of the trials.

    Returns:
        Bounds that hold with that confidence together, and a verdict on `event`.

    Raises:
        InvalidArgumentError: If outputs have different sizes.

    References: Jagielski, Ullman and Oprea, arXiv:2006.07709; Nasr et al.,
    arXiv:2302.07956.
    """
    trials = _check.count(least=_FEWEST, trials=trials)
    attack = "given score"

    def shown(output: Any) -> Any:
        return output if score is None else [float(score(output))]

    # In and out take turns, so that a drift in time is no difference between them.
    pairs = [(shown(mechanism(one)), shown(mechanism(other))) for _ in range(trials)]
    rows = _rows([output for pair in pairs for output in pair])
    return judged(
        rows[::2],
        rows[1::2],
        delta=delta,
        event=event,
        confidence=confidence,
        scores=None if score is None else {attack: lambda outputs: outputs[:, 0]},
    )


def judged(
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    *,
    delta: float,
    event: Event | None = None,
    confidence: float = CONFIDENCE,
    scores: dict[str, Score] | None = None,
    names: Sequence[str] = (),
) -> Finding:
    """What two samples of independent outputs prove.

    Args:
        inside: Outputs on one input, shape (trials, numbers).
        outside: Outputs on the other one, shape (trials, numbers).
        delta: Of the guarantee.
        event: The claim, if any.
        confidence: With what probability a true claim is left standing.
        scores: Scores fixed beforehand, by name, instead of learnt ones.
        names: Of the first numbers of an output, which should be larger for `inside`.

    Guarantees:
        The first half of each sample only chooses the rules; two of them are
        tested on the second half, with confidence limits that hold together.
    """
    delta = _check.probability(delta=delta)
    confidence = _check.probability(confidence=confidence)
    if min(len(inside), len(outside)) < _FEWEST or inside.ndim != outside.ndim:
        raise InvalidArgumentError(
            f"inside and outside must have at least {_FEWEST} trials each, got"
            f" {len(inside)} and {len(outside)}"
        )
    inside, outside = _finite(inside, outside)
    fit, pick, test = zip(_parts(inside), _parts(outside), strict=True)
    found = list(learnt(*fit, names)) if scores is None else list(scores.items())
    # Two rules are tested: each gets half of what may go wrong.
    apart = 1.0 - (1.0 - confidence) / 2.0
    rules = chosen(found, *pick, delta=delta, level=(1.0 - apart) / 2.0)
    claim = None if event is None else Claim.of(event, delta)
    sure = tuple(
        two_sample(
            rule.calls(test[0]),
            len(test[0]),
            rule.calls(test[1]),
            len(test[1]),
            delta=delta,
            confidence=apart,
        )
        for rule in rules
    )
    epsilon, mu = max(one.epsilon for one in sure), max(one.mu for one in sure)
    beyond = None if claim is None else claim.beyond(sure)
    refuted = beyond is not None
    return Finding(
        epsilon=epsilon,
        mu=mu,
        delta=delta,
        confidence=confidence,
        trials=len(test[0]) + len(test[1]),
        verdict=verdict_on(claim, refuted=refuted, epsilon=epsilon, mu=mu),
        certified=None if claim is None else claim.certified,
        attack=rules[1].name,
        rates=points(rules[1].score(test[0]), rules[1].score(test[1])),
        beyond=beyond,
    )


def _parts(
    sample: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A quarter to learn scores, a quarter to choose among them, a half to test."""
    quarter = len(sample) // 4
    return sample[:quarter], sample[quarter : 2 * quarter], sample[2 * quarter :]


def _rows(outputs: list[Any]) -> NDArray[np.float64]:
    import numpy as np

    flat = [np.asarray(output, dtype=np.float64).ravel() for output in outputs]
    sizes = {len(one) for one in flat}
    if len(sizes) != 1 or 0 in sizes:
        raise InvalidArgumentError(
            f"mechanism must always return equally many numbers, got {sorted(sizes)};"
            " pass a score that turns any output into one number"
        )
    return np.stack(flat)


def _finite(
    inside: NDArray[np.float64], outside: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers that are not finite become 0, and a column that counts them."""
    import numpy as np

    both = (inside, outside)
    broken = [~np.isfinite(one) for one in both]
    if not any(map(np.any, broken)):
        return both
    inside, outside = (
        np.column_stack([np.where(bad, 0.0, one), bad.sum(axis=1)])
        for one, bad in zip(both, broken, strict=True)
    )
    return inside, outside
