"""Percent right by discipline, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from drdp.errors import InvalidArgumentError
from drdp.fedsim.disciplines import DISCIPLINES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.fedsim.choices import Question

__all__ = ["AVERAGE", "HARD", "Mark", "Weigh", "marks"]

AVERAGE, HARD = "average", "average (hard)"

Weigh = Literal["questions", "subjects"]


class Mark(NamedTuple):
    """A mean over questions, in percent.

    Args:
        percent: The mean.
        standard_error: Of it, over the choice of questions; infinite for one.
        questions: How many there are.
    """

    percent: float
    standard_error: float
    questions: int


def marks(
    questions: Sequence[Question],
    values: NDArray[np.float64] | NDArray[np.bool_],
    *,
    weigh: Weigh = "questions",
) -> dict[str, Mark]:
    """Means by discipline, the average, and that of the hard part.

    Args:
        questions: What was asked.
        values: One a question: whether it was answered rightly, or the change
            from one model to another, for a paired comparison.
        weigh: Whether every question counts the same, as in MMLU, or every subject,
            as in C-Eval.

    Returns:
        The disciplines that occur, then ``"average"``, then ``"average (hard)"`` if
        any question is hard.  Standard errors take the questions for a sample of
        all that could have been asked: to the first order, for a weighted mean.
        They tell nothing about another seed of the training.

    References: Miller, arXiv:2411.00640.

    >>> import numpy as np
    >>> from drdp.fedsim.choices import Question
    >>> asked = [Question("", ("A", "B"), 0, "law", "humanities")] * 4
    >>> found = marks(asked, np.array([1.0, 1.0, 1.0, 0.0]))["average"]
    >>> found.percent, round(found.standard_error, 3), found.questions
    (75.0, 25.0, 4)
    """
    import numpy as np

    if weigh not in {"questions", "subjects"}:
        raise InvalidArgumentError(
            f"weigh must be 'questions' or 'subjects', got {weigh!r}"
        )
    if len(questions) != len(values) or not questions:
        raise InvalidArgumentError(
            f"values must have one entry per question, got {len(values)} for"
            f" {len(questions)}"
        )
    reached = 100.0 * np.asarray(values, dtype=np.float64)

    def mark(kept: list[int]) -> Mark:
        sizes: dict[str, int] = {}
        units = [questions[i].subject if weigh == "subjects" else "" for i in kept]
        for unit in units:
            sizes[unit] = sizes.get(unit, 0) + 1
        weights = np.array([1.0 / (sizes[unit] * len(sizes)) for unit in units])
        mean = float(weights @ reached[kept])
        count = len(kept)
        if count < 2:
            return Mark(mean, math.inf, count)
        spread = float((weights**2) @ (reached[kept] - mean) ** 2)
        return Mark(mean, math.sqrt(spread * count / (count - 1)), count)

    everything = list(range(len(questions)))
    found = {}
    for discipline in DISCIPLINES:
        kept = [i for i in everything if questions[i].discipline == discipline]
        if kept:
            found[discipline] = mark(kept)
    found[AVERAGE] = mark(everything)
    hard = [i for i in everything if questions[i].hard]
    if hard:
        found[HARD] = mark(hard)
    return found
