"""The benchmarks that a run's model is asked, before training and after it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.errors import DataError, RunFolderError
from drdp.fedsim.choices import Question, read_ceval, read_mmlu, read_sst2
from drdp.fedsim.config import Evaluation
from drdp.fedsim.marks import Mark, Weigh, marks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Answers",
    "Exam",
    "Examination",
    "Grader",
    "exams_of",
    "known_results",
    "metric",
    "result",
    "same_questions",
    "sampled",
]

Answers = Mapping[str, "NDArray[np.bool_]"]
"""By exam, which questions were answered rightly."""

Grader = Callable[["NDArray[np.float32]", Sequence[Question]], "NDArray[np.bool_]"]


@final
@dataclass(frozen=True, slots=True)
class Exam:
    """The questions of one benchmark that a run asks.

    Args:
        name: Of the benchmark.
        questions: What is asked.
        weigh: What counts the same in its averages.
    """

    name: str
    questions: tuple[Question, ...]
    weigh: Weigh = "questions"

    @property
    def chance(self) -> float:
        """Percent right by guessing."""
        each = [1.0 / len(question.options) for question in self.questions]
        return 100.0 * sum(each) / len(each)

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked, in order."""
        asked = [[q.prompt, q.options, q.answer] for q in self.questions]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def marks(self, values: NDArray[np.bool_] | NDArray[np.float64]) -> dict[str, Mark]:
        """Means by discipline; see `drdp.fedsim.marks`."""
        return marks(self.questions, values, weigh=self.weigh)


@final
@dataclass(frozen=True, slots=True)
class Examination:
    """Exams and who takes them.

    Args:
        exams: What is asked.
        grade: Which questions a model with some parameters answers rightly.
    """

    exams: tuple[Exam, ...]
    grade: Grader

    def answers(self, parameters: NDArray[np.float32]) -> Answers:
        """Ask the model everything."""
        return {
            exam.name: self.grade(parameters, exam.questions) for exam in self.exams
        }

    def metrics(self, answers: Answers) -> tuple[dict[str, float], dict[str, float]]:
        """Percent right and its standard error, by `metric`."""
        found = {
            metric(exam.name, group): mark
            for exam in self.exams
            for group, mark in exam.marks(answers[exam.name]).items()
        }
        return (
            {name: mark.percent for name, mark in found.items()},
            {name: mark.standard_error for name, mark in found.items()},
        )


def metric(exam: str, group: str) -> str:
    """The name of a mark among other metrics.

    >>> metric("ceval", "average (hard)"), metric("mmlu", "social sciences")
    ('ceval_average_hard', 'mmlu_social_sciences')
    """
    plain = group.lower().replace("(", "").replace(")", "").replace(" ", "_")
    return f"{exam}_{plain}"


def exams_of(evaluation: Evaluation, seed: int) -> tuple[Exam, ...]:
    """The exams that the settings ask for.

    MMLU is a JSONL file, or a folder that holds ``test.jsonl`` (``.gz`` is
    unpacked); solved examples come from ``dev.jsonl`` beside it.

    Args:
        evaluation: The settings.
        seed: Of the choice of questions where not all are asked.

    Raises:
        DataError: If a file is missing or not of its benchmark's form.
    """
    found = []
    if evaluation.mmlu is not None:
        file = _file(Path(evaluation.mmlu), "test")
        solved = _file(file.parent, "dev") if evaluation.shots else None
        asked = read_mmlu(file, shots_from=solved, shots=evaluation.shots)
        found.append(Exam("mmlu", asked))
    if evaluation.ceval is not None:
        asked = read_ceval(evaluation.ceval, shots=evaluation.shots)
        found.append(Exam("ceval", asked, "subjects"))
    if evaluation.sst2 is not None:
        found.append(Exam("sst2", read_sst2(evaluation.sst2)))
    for exam in found:
        if not exam.questions:
            raise DataError(f"evaluation.{exam.name} holds no questions")
    return tuple(
        Exam(exam.name, sampled(exam.questions, evaluation.questions, seed), exam.weigh)
        for exam in found
    )


def sampled(
    questions: Sequence[Question], count: int, seed: int
) -> tuple[Question, ...]:
    """Some of the questions, from each subject its share, in their order.

    Args:
        questions: All of them.
        count: How many to take; 0 takes all.
        seed: Of the choice.

    Guarantees:
        A subject gets its exact share of `count`, rounded down or up.
    """
    import numpy as np

    count = _check.count(count=count)
    if count == 0 or count >= len(questions):
        return tuple(questions)
    rng = np.random.Generator(np.random.PCG64(_check.count(seed=seed)))
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question.subject, []).append(place)
    shares = {s: count * len(own) / len(questions) for s, own in places.items()}
    quota = {subject: math.floor(share) for subject, share in shares.items()}
    # Largest remainders first; equal ones in random order.
    order = [list(places)[i] for i in rng.permutation(len(places))]
    order.sort(key=lambda subject: quota[subject] - shares[subject])
    for subject in order[: count - sum(quota.values())]:
        quota[subject] += 1
    kept = [
        int(place)
        for subject, own in places.items()
        for place in rng.permutation(own)[: quota[subject]]
    ]
    return tuple(questions[place] for place in sorted(kept))


def result(
    exams: Sequence[Exam], before: Answers, after: Answers | None = None
) -> dict[str, Any]:
    """What is kept of an examination: every answer, and the marks.

    Args:
        exams: What was asked.
        before: Answers before training.
        after: Answers after it; None while it goes on.
    """
    return {exam.name: _kept(exam, before, after) for exam in exams}


def _kept(exam: Exam, before: Answers, after: Answers | None) -> dict[str, Any]:
    first = before[exam.name]
    kept: dict[str, Any] = {
        "questions": len(exam.questions),
        "weigh": exam.weigh,
        "chance": exam.chance,
        "digest": exam.digest,
        "before": _bits(first),
    }
    told = {"before": exam.marks(first)}
    if after is not None:
        last = after[exam.name]
        kept["after"] = _bits(last)
        told |= {
            "after": exam.marks(last),
            "change": exam.marks(last.astype(float) - first.astype(float)),
        }
    kept["marks"] = {
        group: {"questions": mark.questions}
        | {when: list(found[group][:2]) for when, found in told.items()}
        for group, mark in told["before"].items()
    }
    return kept


def same_questions(exams: Sequence[Exam], kept: Mapping[str, Any]) -> dict[str, Any]:
    """The answers before training that `result` kept.

    Raises:
        RunFolderError: If they are answers to other questions.
    """
    import numpy as np

    found = {}
    for exam in exams:
        one = kept.get(exam.name)
        if not isinstance(one, dict) or one.get("digest") != exam.digest:
            raise RunFolderError(
                f"the questions of evaluation.{exam.name} are not those that the run"
                " began with, so it cannot go on; put the old file back"
            )
        bits = one.get("before")
        if not isinstance(bits, str) or len(bits) != len(exam.questions):
            raise RunFolderError("questions.json is damaged; restore it from a copy")
        found[exam.name] = np.array([bit == "1" for bit in bits])
    return found


def known_results(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The marks of a document that `result` made, checked, without the answers.

    Raises:
        RunFolderError: If it is damaged.
    """
    try:
        return {
            str(name): {
                "questions": int(one["questions"]),
                "chance": float(one["chance"]),
                "marks": {
                    str(group): {"questions": int(mark["questions"])}
                    | {
                        when: [float(mark[when][0]), float(mark[when][1])]
                        for when in ("before", "after", "change")
                        if when in mark
                    }
                    for group, mark in one["marks"].items()
                },
            }
            for name, one in kept.items()
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"questions.json is damaged: {error!r:.80}") from None


def _bits(answers: NDArray[np.bool_]) -> str:
    return "".join("1" if right else "0" for right in answers)


def _file(path: Path, stem: str) -> Path:
    """The file itself, or the one of that name in a folder."""
    if not path.is_dir():
        return path
    for name in (f"{stem}.jsonl", f"{stem}.jsonl.gz"):
        if (path / name).exists():
            return path / name
    raise DataError(f"{path} holds no {stem}.jsonl and no {stem}.jsonl.gz")
