"""Benchmarks of a run: which questions, what marks, how sure, and what is kept."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from drdp.errors import DataError, RunFolderError
from drdp.fedsim.choices import Question, read_mmlu
from drdp.fedsim.config import Config, Evaluation, changed, read
from drdp.fedsim.exams import (
    Exam,
    exams_of,
    known_results,
    metric,
    result,
    same_questions,
    sampled,
)
from drdp.fedsim.execution import Progress
from drdp.fedsim.federation import settled
from drdp.fedsim.folder import RunFolder
from drdp.fedsim.marks import marks
from drdp.fedsim.report import gathered, page_of
from drdp.fedsim.running import Run
from tests.fedsim.small import small

HERE = Path(__file__).parent / "questions"
ASKED = {
    "evaluation.mmlu": str(HERE / "mmlu"),
    "evaluation.ceval": str(HERE / "ceval"),
    "evaluation.sst2": str(HERE / "sst2.tsv"),
}


def config(**settings: object) -> Config:
    values = {name.replace("__", "."): value for name, value in settings.items()}
    return settled(changed(read(small()), ASKED | values))


# --- marks ---------------------------------------------------------------------


def test_the_error_of_a_share_is_the_binomial_one() -> None:
    asked = [Question("", ("A", "B"), 0, "law", "humanities")] * 50
    right = np.arange(50) < 20
    found = marks(asked, right)["average"]
    assert found.percent == pytest.approx(40.0)
    assert found.standard_error == pytest.approx(100 * np.sqrt(0.4 * 0.6 / 49))


def test_the_error_of_an_average_over_subjects_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(0)
    sizes, levels = (10, 40, 25), (0.3, 0.5, 0.4)
    asked = [
        Question("", ("A", "B"), 0, f"subject {s}", "STEM")
        for s, size in enumerate(sizes)
        for _ in range(size)
    ]
    level = np.repeat(levels, sizes)
    drawn = [
        marks(asked, rng.random(len(asked)) < level, weigh="subjects")["average"]
        for _ in range(600)
    ]
    spread = np.std([one.percent for one in drawn])
    assert np.mean([one.percent for one in drawn]) == pytest.approx(40.0, abs=1.0)
    told = np.mean([one.standard_error for one in drawn])
    assert told == pytest.approx(spread, rel=0.12)


def test_a_single_question_has_no_known_error() -> None:
    found = marks([Question("", ("A", "B"), 0)], np.array([True]))["average"]
    assert found.percent == 100.0
    assert found.standard_error == np.inf


# --- questions -----------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 7, 12, 15])
def test_each_subject_gets_its_share(count: int) -> None:
    questions = read_mmlu(HERE / "mmlu" / "test.jsonl")
    kept = sampled(questions, count, seed=1)
    assert len(kept) == count
    everything = Counter(question.subject for question in questions)
    found = Counter(question.subject for question in kept)
    for subject, size in everything.items():
        share = count * size / len(questions)
        assert np.floor(share) <= found[subject] <= np.ceil(share)
    places = [questions.index(question) for question in kept]
    assert places == sorted(set(places))
    assert sampled(questions, count, seed=1) == kept
    assert any(sampled(questions, count, seed=s) != kept for s in range(2, 6))


def test_every_question_is_as_likely_as_any_other() -> None:
    questions = read_mmlu(HERE / "mmlu" / "test.jsonl")
    found: Counter[str] = Counter()
    for seed in range(600):
        found.update(q.prompt for q in sampled(questions, 8, seed))
    shares = np.array([found[q.prompt] for q in questions]) / 600
    assert np.abs(shares - 0.5).max() < 0.1


def test_zero_and_too_many_ask_everything() -> None:
    questions = read_mmlu(HERE / "mmlu" / "test.jsonl")
    assert sampled(questions, 0, 0) == sampled(questions, 1000, 0) == questions


def test_exams_by_their_settings() -> None:
    names = {"mmlu": str(HERE / "mmlu"), "ceval": str(HERE / "ceval")}
    mmlu, ceval = exams_of(Evaluation(**names, questions=0, shots=1), 0)
    assert (mmlu.name, len(mmlu.questions), mmlu.weigh) == ("mmlu", 16, "questions")
    assert (ceval.name, len(ceval.questions), ceval.weigh) == ("ceval", 7, "subjects")
    assert "Mars\nD. Halley\nAnswer: C\n\nWhich body" in mmlu.questions[0].prompt
    assert mmlu.chance == 25.0
    file = str(HERE / "mmlu" / "test.jsonl")
    (same,) = exams_of(Evaluation(mmlu=file, questions=0, shots=1), 0)
    assert same.digest == mmlu.digest
    assert exams_of(Evaluation(), 0) == ()
    (few,) = exams_of(Evaluation(sst2=str(HERE / "sst2.tsv"), questions=4), 0)
    assert (len(few.questions), few.chance) == (4, 50.0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mmlu": "{0}"}, r"holds no test\.jsonl and no test\.jsonl\.gz"),
        ({"mmlu": "{0}/none.jsonl"}, "cannot read .*none.jsonl"),
        ({"mmlu": "{0}/here/test.jsonl", "shots": 1}, r"holds no dev\.jsonl"),
        ({"ceval": "{0}"}, "holds no files named"),
        ({"sst2": "{0}/empty.tsv"}, "evaluation.sst2 holds no questions"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, settings: dict[str, object], told: str
) -> None:
    (tmp_path / "empty.tsv").write_text("sentence\tlabel\n")
    (tmp_path / "here").mkdir()
    shutil.copy(HERE / "mmlu" / "test.jsonl", tmp_path / "here")
    values = {
        name: value.format(tmp_path) if isinstance(value, str) else value
        for name, value in settings.items()
    }
    with pytest.raises(DataError, match=told):
        exams_of(Evaluation(**values), 0)  # type: ignore[arg-type]


def test_what_is_kept_pairs_each_question_with_itself() -> None:
    exam = Exam("mmlu", read_mmlu(HERE / "mmlu" / "test.jsonl"))
    first, last = np.arange(16) % 4 == 0, np.arange(16) % 2 == 0
    kept = json.loads(json.dumps(result([exam], {"mmlu": first}, {"mmlu": last})))
    average = kept["mmlu"]["marks"]["average"]
    assert average["before"][0] == 25.0
    assert average["after"][0] == 50.0
    change = 100.0 * (last.astype(float) - first)
    assert average["change"] == pytest.approx([25.0, change.std(ddof=1) / 4.0])
    assert (same_questions([exam], kept)["mmlu"] == first).all()
    assert known_results(kept)["mmlu"]["marks"]["average"] == average
    other = Exam("mmlu", exam.questions[:-1])
    with pytest.raises(RunFolderError, match="not those that the run began with"):
        same_questions([other], kept)
    with pytest.raises(RunFolderError, match="damaged"):
        known_results({"mmlu": {"questions": 3}})


# --- runs ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that asked all three benchmarks."""
    folder = RunFolder(tmp_path_factory.mktemp("exams") / "run")
    with folder.locked():
        run = Run.begun(folder, config(run__method="pca", privacy__epsilon=8))
        run.executed(run.prepared(lambda text: None))
    return folder


def test_marks_stand_in_the_first_and_the_last_line(done: RunFolder) -> None:
    first, middle, last = done.records()
    names = {
        metric(exam, group)
        for exam, one in done.result()["benchmarks"].items()
        for group in one["marks"]
    }
    assert {"mmlu_social_sciences", "ceval_average_hard", "sst2_average"} <= names
    assert names <= set(first) & set(last)
    assert set(first["standard_errors"]) == set(last["standard_errors"]) == names
    assert not names & set(middle)
    kept = done.answers()
    for exam in ("mmlu", "ceval", "sst2"):
        told = kept[exam]["marks"]["average"]
        assert told["before"][0] == first[f"{exam}_average"]
        assert told["after"][0] == last[f"{exam}_average"]
        right = kept[exam]["after"].count("1") / kept[exam]["questions"]
        if exam != "ceval":
            assert told["after"][0] == pytest.approx(100.0 * right)


def test_the_page_and_the_plan_tell_of_them(done: RunFolder) -> None:
    page = page_of(gathered(done.path))
    assert "MMLU, percent right; chance is 25" in page
    assert "C-Eval, percent right; chance is 25" in page
    assert "mmlu_average" not in page, "in tables alone, not as a figure each"
    assert "benchmarks are public" in (done.path / "statement.txt").read_text()
    plan = done.plan()
    assert plan is not None
    assert "16 of mmlu, 7 of ceval, 6 of sst2" in " ".join(plan["told"]["Plan"])


def test_a_run_that_goes_on_ends_alike_and_not_with_other_questions(
    done: RunFolder, tmp_path: Path
) -> None:
    class StopError(Exception):
        """In place of a kill."""

    def stop(progress: Progress) -> None:
        if progress.round == 1:
            raise StopError

    shutil.copytree(HERE, tmp_path / "questions")
    settings = {
        name: value.replace(str(HERE), str(tmp_path / "questions"))
        for name, value in ASKED.items()
    }
    asked = changed(
        config(run__method="pca", privacy__epsilon="inf", run__noise="seeded"), settings
    )
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        run = Run.begun(folder, asked)
        with pytest.raises(StopError):
            run.executed(run.prepared(lambda text: None), stop)
        before = folder.answers()
        assert "after" not in before["mmlu"]
        shutil.copytree(folder.path, tmp_path / "copy")
        again = Run.resumed(folder)
        again.executed(again.prepared(lambda text: None))
    after = folder.answers()
    assert {name: one["before"] for name, one in after.items()} == {
        name: one["before"] for name, one in before.items()
    }
    assert set(folder.result()["benchmarks"]["mmlu"]["marks"]["average"]) == {
        *("questions", "before", "after", "change")
    }
    sst2 = tmp_path / "questions" / "sst2.tsv"
    sst2.write_text(sst2.read_text().replace("funny", "cold"))
    other = Run.resumed(RunFolder(tmp_path / "copy"))
    with pytest.raises(RunFolderError, match=r"evaluation\.sst2 are not those"):
        other.executed(other.prepared(lambda text: None))
