"""``drdp compare`` as typed: every accountant beside the certified interval."""

import json

import pytest

from drdp.privacy.codec import dumps
from drdp.privacy.events import ApproxDP, Gaussian, Laplace, NonPrivate
from tests.sessions.test_bad_input import refused

RUN = "--sigma 0.748028 --steps 20 --rate 0.05"


def entries(answer):
    return {one["accountant"]: one for one in answer["accountants"]}


def test_the_paper_row(drdp):
    answer = drdp(f"compare {RUN} --delta 1/149 --json").json
    found = entries(answer)
    assert list(found)[:4] == ["pld", "rdp", "gdp", "prv"]
    assert found["pld"]["upper"] == answer["certified"]["upper"]
    assert answer["certified"]["upper"] == pytest.approx(1.34377, abs=2e-4)
    assert found["gdp"]["estimate"] == pytest.approx(1.0, abs=1e-4)
    assert found["gdp"]["verdict"] == "under-reports"
    assert found["rdp"]["upper"] > answer["certified"]["upper"]
    assert found["rdp"]["verdict"] == "above"
    prv = found["prv"]
    assert prv["lower"] < prv["estimate"] < prv["upper"]
    assert prv["verdict"] == "agrees"
    for one in found.values():
        assert one["seconds"] >= 0.0
        assert one["why"].endswith(".")
        assert one["problem"] is None


def test_the_table_shows_bounds_on_their_side(drdp):
    session = drdp(f"compare {RUN} --delta 1/149")
    lines = {
        line.split()[0]: line for line in session.out.splitlines() if line[:2] == "  "
    }
    assert "UNDER-REPORTS by 0.344" in lines["gdp"]
    assert "above by" in lines["rdp"]
    assert "Why they differ:" in session.out


def test_exact_composition_agrees(drdp):
    answer = drdp("compare --sigma 2 --steps 4 --rate 1 --json").json
    found = entries(answer)
    assert found["gdp"]["upper"] == pytest.approx(answer["certified"]["upper"])
    assert "exactly" in found["gdp"]["why"]
    assert "agrees" in drdp("compare --sigma 2 --steps 4 --rate 1").out


def test_an_accountant_without_a_formula_stays_in_the_table(drdp):
    answer = drdp("compare --sigma 1 --steps 2 --rate 1/4 --sampling fixed --json").json
    prv = entries(answer)["prv"]
    assert prv["verdict"] == "no answer"
    assert prv["upper"] is None
    assert "prv_curve" in prv["problem"]


def test_an_event_from_a_file(drdp, tmp_path):
    file = tmp_path / "event.json"
    file.write_text(dumps(Gaussian(2.0) * 3 + Laplace(2.0)))
    answer = drdp("compare --json --event", str(file)).json
    assert answer["event"]["kind"] == "composed"
    assert answer["unit"] is None
    found = entries(answer)
    assert found["gdp"]["verdict"] == "no answer"
    assert found["rdp"]["verdict"] in ("above", "agrees")
    text = drdp("compare --event", str(file)).out
    assert "3 x gaussian (noise multiplier 2)" in text
    assert "1 x laplace" in text


@pytest.mark.parametrize("event", [NonPrivate(), ApproxDP(0.0, 0.0), Gaussian(1.0) * 0])
def test_the_ends_of_privacy(drdp, tmp_path, event):
    file = tmp_path / "event.json"
    file.write_text(dumps(event))
    session = drdp("compare --event", str(file))
    assert session.code == 0
    assert "UNDER-REPORTS" not in session.out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("{}", "drdp_event"),
        (json.dumps({"drdp_event": 1, "kind": "magic"}), "kind"),
        (
            json.dumps({"drdp_event": 1, "kind": "gaussian", "noise_multiplier": -1}),
            "-1",
        ),
    ],
)
def test_a_file_that_holds_no_event(drdp, tmp_path, content, says):
    file = tmp_path / "event.json"
    file.write_text(content)
    refused(drdp("compare --event", str(file)), says)


def test_a_file_that_cannot_be_read(drdp, tmp_path):
    refused(drdp("compare --event", str(tmp_path / "absent.json")), "absent.json")
    refused(drdp("compare --event", str(tmp_path)), "--event")


@pytest.mark.parametrize(
    "more", ["--sigma 1", "--steps 2", "--rate 1", "--sampling fixed"]
)
def test_an_event_and_a_run_exclude_each_other(drdp, tmp_path, more):
    file = tmp_path / "event.json"
    file.write_text(dumps(Gaussian(1.0)))
    refused(drdp(f"compare {more} --event", str(file)), "--event", more.split()[0])
