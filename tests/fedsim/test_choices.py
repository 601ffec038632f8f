"""Multiple choice: prompts as published, grading by likelihood, averages by group."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from drdp.errors import DataError, InvalidArgumentError, ModelError
from drdp.fedsim.choices import (
    Question,
    grade,
    read_ceval,
    read_mmlu,
    read_sst2,
    scores,
)
from drdp.fedsim.disciplines import CEVAL, CEVAL_HARD, DISCIPLINES, MMLU
from drdp.fedsim.lora.scoring import Scorer
from drdp.fedsim.lora.tiny import byte_tokenizer
from drdp.fedsim.models import load_model

TOKENIZER = byte_tokenizer()


def mmlu_line(**changes: object) -> str:
    record = {
        "subject": "high_school_physics",
        "question": "What falls?",
        "choices": ["a stone", "a star", "night", "all"],
        "answer": "D",
    }
    return json.dumps(record | changes) + "\n"


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(load_model("tiny").model, 1, bfloat16=False)


# --- disciplines ---------------------------------------------------------------


def test_every_subject_has_its_discipline() -> None:
    assert Counter(MMLU.values()) == dict(
        zip(DISCIPLINES, (19, 12, 13, 13), strict=True)
    )
    assert Counter(CEVAL.values()) == dict(
        zip(DISCIPLINES, (20, 10, 11, 11), strict=True)
    )
    assert len(CEVAL_HARD) == 8
    assert {CEVAL[subject] for subject in CEVAL_HARD} == {"STEM"}


# Rows of the DR-Encoder paper's table 2; the counts are those of MMLU's test set
# under this grouping.
@pytest.mark.parametrize(
    ("parts", "average"),
    [
        ((46.62, 65.52, 51.20, 63.69), 56.07),
        ((46.93, 65.42, 51.17, 63.75), 56.13),
        ((47.67, 66.01, 50.86, 64.33), 56.44),
        ((47.61, 65.62, 52.09, 64.40), 56.77),
        ((47.32, 65.58, 51.43, 64.95), 56.60),
    ],
)
def test_the_grouping_gives_the_papers_averages(
    parts: tuple[float, ...], average: float
) -> None:
    counts = (3153, 3077, 4705, 3107)
    questions, right = [], []
    for discipline, share, count in zip(DISCIPLINES, parts, counts, strict=True):
        questions += [Question("", ("A", "B"), 0, discipline, discipline)] * count
        solved = round(share / 100 * count)
        right += [True] * solved + [False] * (count - solved)
    found = scores(questions, np.array(right))
    assert list(found) == [*DISCIPLINES, "average"]
    assert found["average"] == pytest.approx(average, abs=0.011)


def test_subjects_may_count_the_same() -> None:
    questions = [
        Question("", ("A", "B"), 0, "law", "humanities"),
        Question("", ("A", "B"), 0, "law", "humanities"),
        Question("", ("A", "B"), 0, "college_physics", "STEM", hard=True),
    ]
    found = scores(questions, np.array([True, False, True]), weigh="subjects")
    assert found == {
        "STEM": 100.0,
        "humanities": 50.0,
        "average": 75.0,
        "average (hard)": 100.0,
    }


# --- files ---------------------------------------------------------------------


def test_mmlu_prompts(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(mmlu_line() + mmlu_line(subject="philosophy", answer="A"))
    solved = tmp_path / "dev.jsonl"
    solved.write_text(mmlu_line(answer="B") * 3)
    plain, _ = read_mmlu(path)
    assert plain.prompt == (
        "The following are multiple choice questions about high school physics.\n\n"
        "What falls?\nA. a stone\nB. a star\nC. night\nD. all\nAnswer:"
    )
    assert (plain.options, plain.answer) == ((" A", " B", " C", " D"), 3)
    shown, other = read_mmlu(path, shots_from=solved, shots=2)
    assert shown.prompt.count("Answer: B\n\n") == 2
    assert shown.prompt.endswith("D. all\nAnswer:")
    assert "Answer: B" not in other.prompt, "examples are of the same subject"
    assert other.discipline == "humanities"


@pytest.mark.parametrize(
    "changes",
    [{"answer": "E"}, {"choices": ["a", "b"]}, {"question": None}, {"answer": 3}],
)
def test_a_bad_mmlu_line_is_named(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(mmlu_line() + mmlu_line(**changes))
    with pytest.raises(DataError, match="line 2: not a question"):
        read_mmlu(path)


def test_mmlu_subjects_are_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(mmlu_line(subject="alchemy"))
    with pytest.raises(DataError, match="MMLU has no subject 'alchemy'"):
        read_mmlu(path)
    with pytest.raises(DataError, match="cannot read"):
        read_mmlu(tmp_path / "missing.jsonl")


CEVAL_HEAD = "id,question,A,B,C,D,answer,explanation\n"


def test_ceval_folders(tmp_path: Path) -> None:
    for part in ("val", "dev"):
        (tmp_path / part).mkdir()
        for subject in ("college_physics", "law"):
            file = tmp_path / part / f"{subject}_{part}.csv"
            file.write_text(
                CEVAL_HEAD + '0,"甲\n\n乙, 丙",一,二,三,四,C,\n1,丁,一,二,三,四,A,\n',
                encoding="utf-8-sig",
            )
    questions = read_ceval(tmp_path)
    assert [q.subject for q in questions] == ["college_physics"] * 2 + ["law"] * 2
    assert [q.hard for q in questions] == [True, True, False, False]
    first = questions[0]
    assert first.prompt == "甲\n\n乙, 丙\nA. 一\nB. 二\nC. 三\nD. 四\n答案："
    assert (first.options, first.answer) == (("A", "B", "C", "D"), 2)
    shown = read_ceval(tmp_path, shots=1)[1]
    assert shown.prompt == f"{first.prompt}C\n\n{questions[1].prompt}"


def test_a_bad_ceval_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no files named <subject>_val\.csv"):
        read_ceval(tmp_path)
    (tmp_path / "val").mkdir()
    file = tmp_path / "val" / "law_val.csv"
    file.write_text(CEVAL_HEAD + "0,q,1,2,3,4,E,\n")
    with pytest.raises(DataError, match="line 2: answer must be A, B, C or D"):
        read_ceval(tmp_path)
    file.write_text("id,question,A,B,C,D\n0,q,1,2,3,4\n")
    with pytest.raises(DataError, match="no column answer in the first line"):
        read_ceval(tmp_path)
    file.write_text(CEVAL_HEAD + "0,q,1\n")
    with pytest.raises(DataError, match="line 2: too few columns"):
        read_ceval(tmp_path)
    file.rename(file.with_name("alchemy_val.csv"))
    with pytest.raises(DataError, match="C-Eval has no subject alchemy"):
        read_ceval(tmp_path)


def test_sst2_sentences(tmp_path: Path) -> None:
    path = tmp_path / "validation.tsv"
    path.write_text('sentence\tlabel\na "charming film .\t1\ntoo long \t0\n')
    first, second = read_sst2(path)
    assert first.prompt == 'Review: a "charming film .\nSentiment:'
    assert (first.answer, second.answer) == (1, 0)
    path.write_text("sentence\tlabel\nfine\t2\n")
    with pytest.raises(DataError, match="line 2: label must be 0 or 1, got '2'"):
        read_sst2(path)


# --- grading -------------------------------------------------------------------


def test_the_likeliest_option_is_the_answer(scorer: Scorer) -> None:
    model = load_model("tiny").model
    options = (" A", " B", " C", " D")
    prompts = ["Why?", "A longer question, with more words.", "x", "Because"]
    expected = []
    for prompt in prompts:
        likelihoods = []
        for option in options:
            tokens = torch.tensor([TOKENIZER(prompt + option)["input_ids"]])
            with torch.no_grad():
                logs = model(input_ids=tokens).logits[0].log_softmax(1)
            body = range(len(TOKENIZER(prompt)["input_ids"]), tokens.shape[1])
            likelihoods.append(sum(float(logs[i - 1, tokens[0, i]]) for i in body))
        expected.append(int(np.argmax(likelihoods)))
    for shift in range(4):
        questions = [
            Question(prompt, options, (answer + shift) % 4)
            for prompt, answer in zip(prompts, expected, strict=True)
        ]
        right = grade(questions, scorer, TOKENIZER)
        assert right.tolist() == [shift == 0] * 4


def test_long_prompts_lose_their_beginning(scorer: Scorer) -> None:
    end = "the same end of both questions"
    options = (" negative", " positive")
    questions = [
        Question("x" * 500 + end, options, 0),
        Question("y" * 900 + end, options, 0),
    ]
    first, second = grade(questions, scorer, TOKENIZER, max_length=16)
    assert first == second


def test_options_the_tokenizer_cannot_tell_apart(scorer: Scorer) -> None:
    with pytest.raises(ModelError, match="does not tell 'ab', 'ab' apart"):
        grade([Question("q", ("ab", "ab"), 0)], scorer, TOKENIZER)
    with pytest.raises(DataError, match="no questions"):
        grade([], scorer, TOKENIZER)
    with pytest.raises(InvalidArgumentError, match="one entry per question"):
        scores([Question("q", ("a", "b"), 0)], np.array([True, False]))
    with pytest.raises(InvalidArgumentError, match="weigh must be"):
        scores([], np.array([]), weigh="tokens")  # type: ignore[arg-type]
