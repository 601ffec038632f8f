"""``drdp report`` as typed: where the page goes, what is printed, what is refused."""

import shutil
from pathlib import Path

import pytest

from tests.fedsim.made_runs import config_of, copied, make_run
from tests.sessions.conftest import Answer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = config_of(run={"rounds": 3})
    return make_run(tmp_path_factory.mktemp("sessions") / "run", config)


def test_the_page_goes_into_the_folder(drdp: Answer, run: Path, tmp_path: Path) -> None:
    mine = copied(run, tmp_path / "mine")
    told = drdp("report", str(mine))
    assert (told.code, told.out) == (0, f"wrote {mine / 'report.html'}\n")
    text = (mine / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert 'id="private"' not in text


def test_a_private_page_never_takes_the_place_of_the_other(
    drdp: Answer, run: Path, tmp_path: Path
) -> None:
    mine = copied(run, tmp_path / "mine")
    drdp("report", str(mine))
    shared = (mine / "report.html").read_bytes()
    assert drdp("report", str(mine), "--private").code == 0
    assert (mine / "report.html").read_bytes() == shared
    text = (mine / "report-private.html").read_text(encoding="utf-8")
    assert 'id="private"' in text
    assert "do not share this page" in text


def test_another_place_is_taken_and_the_folder_is_left_alone(
    drdp: Answer, run: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert drdp("report", str(run), "--out", str(page)).code == 0
    assert page.exists()
    assert not (run / "report.html").exists()


def test_json_is_what_the_page_shows(drdp: Answer, run: Path) -> None:
    told = drdp("report", str(run), "--json").json
    assert told["kind"] == "run"
    assert told["rounds_done"] == told["rounds_planned"] == 3
    assert 3.9 < told["statement"]["epsilon"] <= 4.0
    assert [one["bound"] for one in told["spending"]["accountants"]] == [
        "upper",
        "upper",
        "estimate",
    ]
    assert "private" not in told
    assert not (run / "report.html").exists()
    private = drdp("report", str(run), "--json", "--private").json["private"]
    assert [one["round"] for one in private] == [1, 2, 3]


def test_json_of_a_run_without_noise_is_json(drdp: Answer, tmp_path: Path) -> None:
    config = config_of(epsilon="inf", run={"rounds": 1})
    bare = make_run(tmp_path / "bare", config)
    told = drdp("report", str(bare), "--json", "--private").json
    assert told["statement"]["epsilon"] == "inf"


def test_a_folder_of_runs_is_a_comparison(
    drdp: Answer, run: Path, tmp_path: Path
) -> None:
    copied(run, tmp_path / "all" / "fedlora-epsilon4-seed0")
    told = drdp("report", str(tmp_path / "all"))
    assert told.out == f"wrote {tmp_path / 'all' / 'report.html'}\n"
    assert drdp("report", str(tmp_path / "all"), "--json").json["kind"] == "comparison"


@pytest.mark.parametrize("what", ["missing", "empty", "file", "damaged", "out"])
def test_a_mistake_is_one_line(
    drdp: Answer, run: Path, tmp_path: Path, what: str
) -> None:
    place, more = tmp_path / what, []
    if what == "empty":
        place.mkdir()
    elif what == "file":
        place.write_text("x")
    elif what == "damaged":
        shutil.copytree(run, place)
        (place / "metrics.jsonl").write_text("[]\n")
    elif what == "out":
        place, more = run, ["--out", str(tmp_path / "nowhere" / "page.html")]
    told = drdp("report", str(place), *more)
    assert told.code == 2
    assert told.out == ""
    assert told.err.startswith("Error: ")
    assert told.err.count("\n") == 1
    assert str(tmp_path) in told.err
