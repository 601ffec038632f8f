"""``drdp verify`` as typed."""

import json

import pytest
from click.testing import CliRunner

from drdp.cli import main
from drdp.privacy import crosscheck
from drdp.privacy.curves import Interval

RUN = "verify --steps 20 --rate 0.05 --sigma 0.747"
QUICK = f"{RUN} --peers none --samples 5000"
METHODS = [
    "contour",
    "grid",
    "closed form",
    "rdp",
    "prv-accountant",
    "dp-accounting PLD",
    "Opacus RDP",
    "Opacus PRV",
    "Monte Carlo",
]


def test_agreement_as_text(drdp):
    session = drdp(QUICK)
    assert session.code == 0
    first, second, *_ = session.out.splitlines()
    assert first == "agree  4 methods do not contradict the certified interval"
    assert second.startswith("certified epsilon  3.98152 to 3.98153  at delta 1e-5")
    assert [line for line in METHODS if f"\n  {line} " not in session.out] == []
    assert "at most 4.87" in session.out
    assert "5,000 runs from seed 1, 99.9 % confidence" in session.out


def test_agreement_as_json(drdp):
    answer = drdp(f"{QUICK} --json").json
    assert answer["verdict"] == "agree"
    assert answer["contradictions"] == []
    low, high = answer["certified"]["lower"], answer["certified"]["upper"]
    assert low <= high == pytest.approx(3.981529, abs=1e-6)
    rows = {row["method"]: row for row in answer["methods"]}
    assert list(rows) == METHODS
    assert rows["grid"]["lower"] <= high
    assert rows["grid"]["seconds"] > 0
    assert rows["closed form"]["lower"] is None
    simulated = rows["Monte Carlo"]
    assert simulated["quantity"] == "delta"
    assert simulated["at_epsilon"] == high
    assert simulated["confidence"] == 0.999
    assert 5e-6 < simulated["lower"] < 1e-5 < simulated["upper"] < 2e-5


@pytest.mark.parametrize(
    "more",
    [
        "",
        "--delta 1e-20 --sampling fixed",
        "--adjacency replace-one",
        "--delta 0.9",
        "--delta 1e-250",
        "--samples 2",
    ],
)
def test_text_fits_and_is_plain(drdp, more):
    session = drdp(f"{RUN} --peers none {more}")
    assert session.code == 0
    assert session.err == ""
    assert max(map(len, session.out.splitlines())) <= 80
    assert "\x1b" not in session.out
    assert "nan" not in session.out
    assert all(line == line.rstrip() for line in session.out.splitlines())


def planted(monkeypatch, *more):
    wrong = Interval(3.0, 3.1, "planted")
    monkeypatch.setattr(crosscheck, "grid_interval", lambda *_: wrong)
    return CliRunner().invoke(main, [*QUICK.split(), *more])


def test_a_contradiction_is_loud_and_exits_with_1(monkeypatch):
    result = planted(monkeypatch)
    assert result.exit_code == 1
    first, second, *_ = result.stdout.splitlines()
    assert first == "CONTRADICTION  with the certified interval: grid"
    assert second == "3 other methods do not contradict it"
    assert "BELOW by 0.882" in result.stdout
    assert result.stderr == ""


def test_a_contradiction_in_json(monkeypatch):
    result = planted(monkeypatch, "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["verdict"] == "contradiction"
    assert answer["contradictions"] == ["grid"]
    (row,) = (row for row in answer["methods"] if row["method"] == "grid")
    assert row["position"] == "below"


def test_a_certificate_too_low_is_caught(monkeypatch):
    wrong = Interval(3.8, 3.81, "planted")
    monkeypatch.setattr(crosscheck, "epsilon_interval", lambda *_: wrong)
    result = CliRunner().invoke(main, QUICK.split())
    assert result.exit_code == 1
    assert "interval: contour, grid, Monte Carlo" in result.stdout
    assert "epsilon ABOVE it" in result.stdout


def test_the_peers_that_start_fast_are_asked_by_default(drdp):
    rows = {row["method"]: row for row in drdp(f"{RUN} --json").json["methods"]}
    assert rows["prv-accountant"]["status"] == "answered"
    assert rows["dp-accounting PLD"]["status"] in ("answered", "not installed")
    assert rows["Opacus PRV"]["status"] in ("not asked", "not installed")


@pytest.mark.slow
def test_opacus_below_the_truth(drdp):
    pytest.importorskip("opacus")
    session = drdp(
        "verify --steps 1000 --rate 0.01 --sigma 1 --delta 1e-12 --peers all"
    )
    if "no answer within" in session.out:
        pytest.skip("Opacus needed longer than it is given: the machine is busy")
    assert session.code == 1
    assert "with the certified interval: Opacus PRV" in session.out
    assert "BELOW by 0.0012" in session.out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("--peers some", "none, fast, all"),
        ("--samples 1", "at least 2"),
        ("--samples 1.5", "whole number"),
        ("--seed -1", "whole number from 0"),
        ("--seed one", "whole number from 0"),
        ("--delta 2", "strictly between 0 and 1"),
        ("--sampling fixed --adjacency add-remove", "replace-one"),
    ],
)
def test_bad_input_is_one_line(drdp, more, says):
    session = drdp(f"{RUN} {more}")
    assert session.code == 2
    assert session.out == ""
    assert session.err.count("\n") == 1
    assert says in session.err


def test_help_has_examples_that_fit_and_imports_no_numerics(drdp, python):
    session = drdp("verify --help")
    assert session.out.split("Examples:")[1].count("drdp verify") >= 2
    assert max(map(len, session.out.splitlines())) <= 80
    program = (
        "import sys\n"
        "from drdp.cli import main\n"
        "try:\n    main(['verify', '--help'])\nexcept SystemExit:\n    pass\n"
        "print({'numpy', 'scipy', 'numba'} & set(sys.modules), file=sys.stderr)\n"
    )
    assert python("-c", program).stderr.strip() == "set()"
