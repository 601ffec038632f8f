"""Questions with a few possible answers, graded by the likelihood of each answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.errors import DataError, ModelError
from drdp.fedsim.disciplines import CEVAL, CEVAL_HARD, MMLU
from drdp.fedsim.marks import Weigh, marks
from drdp.fedsim.records import json_lines, table_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.fedsim.lora.scoring import Scorer

__all__ = ["Question", "grade", "read_ceval", "read_mmlu", "read_sst2", "scores"]

_LETTERS = "ABCD"


@final
@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and what may follow it.

    Args:
        prompt: Ends where the answer begins.
        options: The possible continuations, leading space included.
        answer: Place of the right one.
        subject: What it is about.
        discipline: The group that `scores` reports it in; may be empty.
        hard: Whether it belongs to the benchmark's hard part.
    """

    prompt: str
    options: tuple[str, ...]
    answer: int
    subject: str = ""
    discipline: str = ""
    hard: bool = False


def read_mmlu(
    path: str | Path, *, shots_from: str | Path | None = None, shots: int = 5
) -> tuple[Question, ...]:
    """MMLU questions of a JSONL file: subject, question, choices, answer.

    Args:
        path: The questions.
        shots_from: A file of the same form with solved examples, such as MMLU's
            dev set; None asks without examples.
        shots: How many of its examples stand before each question.

    Raises:
        DataError: No such file, or a line is not a question; names the line.

    References: Hendrycks et al., arXiv:2009.03300 (the prompt is theirs).
    """
    solved: dict[str, list[str]] = {}
    if shots_from is not None:
        for subject, text, answer in _mmlu_records(Path(shots_from)):
            solved.setdefault(subject, []).append(f"{text} {_LETTERS[answer]}\n\n")
    questions = []
    for subject, text, answer in _mmlu_records(Path(path)):
        spoken = subject.replace("_", " ")
        opening = f"The following are multiple choice questions about {spoken}.\n\n"
        before = "".join(solved.get(subject, [])[: _check.count(shots=shots)])
        questions.append(
            Question(
                opening + before + text, _LETTER_OPTIONS, answer, subject, MMLU[subject]
            )
        )
    return tuple(questions)


def read_ceval(
    folder: str | Path, *, part: str = "val", shots: int = 0
) -> tuple[Question, ...]:
    """C-Eval questions of a folder: ``val/<subject>_val.csv`` and so on.

    Each file has the columns id, question, A, B, C, D, answer, as they are
    distributed.  `shots` solved examples come from ``dev/<subject>_dev.csv``.

    Raises:
        DataError: The folder has no such files, or a file is not of this form.

    References: Huang et al., arXiv:2305.08322.
    """
    home = Path(folder)
    files = sorted((home / part).glob(f"*_{part}.csv"))
    if not files:
        raise DataError(f"{home / part} holds no files named <subject>_{part}.csv")
    questions = []
    for path in files:
        subject = path.stem.removesuffix(f"_{part}")
        if subject not in CEVAL:
            raise DataError(f"{path}: C-Eval has no subject {subject}")
        before = ""
        if _check.count(shots=shots):
            solved = _ceval_records(home / "dev" / f"{subject}_dev.csv")[:shots]
            before = "".join(f"{text}{_LETTERS[a]}\n\n" for text, a in solved)
        for text, answer in _ceval_records(path):
            questions.append(
                Question(
                    before + text,
                    tuple(_LETTERS),
                    answer,
                    subject,
                    CEVAL[subject],
                    hard=subject in CEVAL_HARD,
                )
            )
    return tuple(questions)


def read_sst2(path: str | Path) -> tuple[Question, ...]:
    """SST-2 sentences of a TSV file with the columns sentence and label (0, 1).

    Raises:
        DataError: The file is not of this form; names the line.

    References: Socher et al. 2013; Wang et al., arXiv:1804.07461 (GLUE).
    """
    questions = []
    for number, row in table_rows(Path(path), ("sentence", "label"), tabs=True):
        if row["label"] not in {"0", "1"}:
            raise DataError(
                f"{path}, line {number}: label must be 0 or 1, got {row['label']!r}"
            )
        prompt = f"Review: {row['sentence'].strip()}\nSentiment:"
        answer = int(row["label"])
        questions.append(Question(prompt, (" negative", " positive"), answer))
    return tuple(questions)


def grade(
    questions: Sequence[Question],
    scorer: Scorer,
    tokenizer: Any,
    *,
    max_length: int = 1024,
) -> NDArray[np.bool_]:
    """Which questions are answered rightly: the likeliest option is the answer.

    Options are compared by the first token in which they differ, after the tokens
    they share; for single letters that is their whole likelihood.

    Args:
        questions: What to ask.
        scorer: The model, such as ``trainer.scorer(parameters)``.
        tokenizer: The model's.
        max_length: Longer prompts lose their beginning.

    Raises:
        ModelError: The tokenizer does not tell the options apart.
    """
    import numpy as np

    max_length = _check.count(max_length=max_length, least=16)
    if not questions:
        raise DataError("there are no questions")
    correct = np.zeros(len(questions), dtype=np.bool_)
    for options in dict.fromkeys(question.options for question in questions):
        at = [i for i, question in enumerate(questions) if question.options == options]
        shared, choices = _forks(tokenizer, options)
        texts = [questions[i].prompt for i in at]
        prompts = [
            np.array([*tokens, *shared][-max_length:], dtype=np.int32)
            for tokens in tokenizer(texts, verbose=False)["input_ids"]
        ]
        chosen = scorer.next_tokens(prompts, choices).argmax(axis=1)
        correct[at] = chosen == np.array([questions[i].answer for i in at])
    return correct


def scores(
    questions: Sequence[Question],
    correct: NDArray[np.bool_],
    *,
    weigh: Weigh = "questions",
) -> Mapping[str, float]:
    """Percent right by discipline, the average, and that of the hard part.

    Args:
        questions: What was asked.
        correct: What `grade` says of them.
        weigh: Whether every question counts the same, as in MMLU, or every subject,
            as in C-Eval.

    Returns:
        The disciplines that occur, then ``"average"``, then ``"average (hard)"`` if
        any question is hard.

    >>> import numpy as np
    >>> asked = [Question("", ("A", "B"), 0, "law", "humanities")] * 3
    >>> asked += [Question("", ("A", "B"), 0, "logic", "humanities", hard=True)]
    >>> right = np.array([True, False, False, True])
    >>> scores(asked, right)
    {'humanities': 50.0, 'average': 50.0, 'average (hard)': 100.0}
    >>> round(scores(asked, right, weigh="subjects")["average"], 2)
    66.67
    """
    found = marks(questions, correct, weigh=weigh)
    return {group: mark.percent for group, mark in found.items()}


_LETTER_OPTIONS = tuple(f" {letter}" for letter in _LETTERS)


def _forks(tokenizer: Any, options: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """The tokens that all options begin with, and the next token of each."""
    lists = tokenizer(list(options), add_special_tokens=False)["input_ids"]
    shared = 0
    while all(len(tokens) > shared + 1 for tokens in lists) and (
        len({tokens[shared] for tokens in lists}) == 1
    ):
        shared += 1
    following = [tokens[shared] for tokens in lists]
    if len(set(following)) < len(options):
        raise ModelError(
            f"the tokenizer does not tell {', '.join(map(repr, options))} apart by"
            " one token"
        )
    return lists[0][:shared], following


def _mmlu_records(path: Path) -> list[tuple[str, str, int]]:
    records = []
    for number, record in json_lines(path):
        where = f"{path}, line {number}"
        match record:
            case {
                "subject": str(subject),
                "question": str(question),
                "choices": [str(), str(), str(), str()] as choices,
                "answer": "A" | "B" | "C" | "D" as answer,
            }:
                pass
            case _:
                raise DataError(
                    f"{where}: not a question with a subject, four choices and an"
                    " answer A, B, C or D"
                )
        if subject not in MMLU:
            raise DataError(f"{where}: MMLU has no subject {subject!r}")
        listed = "".join(
            f"{letter}. {choice}\n"
            for letter, choice in zip(_LETTERS, choices, strict=True)
        )
        text = f"{question.strip()}\n{listed}Answer:"
        records.append((subject, text, _LETTERS.index(answer)))
    if not records:
        raise DataError(f"{path} holds no question")
    return records


def _ceval_records(path: Path) -> list[tuple[str, int]]:
    records = []
    fields = ("question", *_LETTERS, "answer")
    for number, row in table_rows(path, fields):
        if row["answer"] not in set(_LETTERS):
            raise DataError(
                f"{path}, line {number}: answer must be A, B, C or D, got"
                f" {row['answer']!r}"
            )
        listed = "".join(f"{letter}. {row[letter]}\n" for letter in _LETTERS)
        text = f"{row['question'].strip()}\n{listed}答案："
        records.append((text, _LETTERS.index(row["answer"])))
    return records
