"""``drdp ledger`` as typed: a budget, charges, refusals, and what is left."""

import json

import jsonschema
import pytest
from click.testing import CliRunner

from drdp.cli import main
from drdp.privacy.codec import dumps
from drdp.privacy.events import Gaussian, Laplace, PoissonSampled
from drdp.privacy.statement import schema
from tests.sessions.conftest import Session

ROUND = "--sigma 1 --rate 0.05"
BUDGET = f"--epsilon 2 {ROUND}"


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """A command line in a folder of its own, answered afresh each time."""
    monkeypatch.chdir(tmp_path)

    def run(line, *more):
        result = CliRunner().invoke(main, [*line.split(), *more])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Session(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def opened(typed):
    """The same, where run.db has 3 of its 20 rounds charged."""
    assert typed(f"ledger init run.db {BUDGET}").code == 0
    for number in (1, 2, 3):
        line = f"ledger charge run.db {ROUND} --run seven --key round-{number}"
        assert typed(line, "--label", f"round {number}").code == 0
    return typed


def test_a_budget_buys_its_rounds_and_then_refuses(opened):
    last = opened(f"ledger charge run.db {ROUND} --steps 17 --json").json
    assert last["remaining"] == 0
    refused = opened(f"ledger charge run.db {ROUND}")
    assert (refused.code, refused.out) == (3, "")
    assert refused.err.startswith("Error: the budget (epsilon 2, delta 1e-05)")
    assert refused.err.count("\n") == 1
    assert opened("ledger status run.db --json").json["used"] == 1.0


def test_what_was_not_planned_is_refused(opened):
    refused = opened("ledger charge run.db --sigma 2 --rate 0.05")
    assert refused.code == 3
    assert "RenyiFilter or ZeroConcentratedFilter" in refused.err


def test_a_key_is_charged_once(opened):
    again = opened(f"ledger charge run.db {ROUND} --key round-2")
    assert "before as entry 2" in again.out
    assert opened("ledger status run.db --json").json["entries"] == 4
    other = opened(f"ledger charge run.db {ROUND} --steps 2 --key round-2")
    assert other.code == 2
    assert "a key names one release" in other.err


def test_status_in_words(opened):
    text = opened("ledger status run.db").out
    for words in (
        "run.db: 4 entries, verified",
        "every client, add-remove",
        "epsilon 2 at delta 1e-5, fixed plan",
        "[######----------------------------------] 15 %",
        "3 x poisson-sampled (rate 0.05, adjacency add-remove) gaussian",
        "17 x poisson-sampled",
        "charge (seven, round 3)",
    ):
        assert words in text
    assert "odometer" not in text  # sampled rounds are not zero-concentrated


def test_status_as_json(opened):
    answer = opened("ledger status run.db --json").json
    assert answer["budget"]["epsilon"] == 2.0
    assert answer["budget"]["kind"] == "FixedBudget"
    assert answer["remaining"][0]["count"] == 17
    assert answer["used"] == pytest.approx(0.15)
    assert 0.5 < answer["spent_epsilon"] < 2.0
    assert answer["spent"]["count"] == 3


@pytest.mark.parametrize("name", ["spend.svg", "spend.png"])
def test_status_draws_the_spend(opened, tmp_path, name):
    pytest.importorskip("matplotlib")
    assert opened(f"ledger status run.db --plot {name}").code == 0
    drawn = (tmp_path / name).read_bytes()
    assert drawn.startswith(b"<?xml" if name.endswith("svg") else b"\x89PNG")
    assert opened("ledger status run.db --plot spend.txt").code == 2


def test_verify_and_the_noted_head(opened, tmp_path):
    noted = opened("ledger verify run.db --json").json
    assert (noted["verified"], noted["entries"]) == (True, 4)
    older = (tmp_path / "run.db").read_bytes()
    opened(f"ledger charge run.db {ROUND}")
    after = opened("ledger verify run.db --json").json["head"]
    assert "among them" in opened(f"ledger verify run.db --head {noted['head']}").out
    (tmp_path / "run.db").write_bytes(older)
    assert opened("ledger verify run.db").code == 0
    found = opened(f"ledger verify run.db --head {after}")
    assert (found.code, found.out) == (2, "")
    assert "older copy" in found.err


def test_export(opened):
    text = opened("ledger export run.db").out
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line.get("kind") for line in lines] == ["open", *["charge"] * 3, None]
    head = lines[-1]["head"]
    assert head == {"entries": 4, "hash": lines[-2]["hash"]}
    whole = opened("ledger export run.db --json").json
    assert whole == {"entries": lines[:-1], "head": head}


def test_a_statement_of_a_fixed_budget_is_that_of_its_plan(opened):
    answer = opened("ledger statement run.db --json --clip-norm 1").json
    jsonschema.validate(answer, schema())
    assert answer["accounting"]["epsilon"]["lower"] == "unknown"
    assert answer["accounting"]["epsilon"]["upper"] == pytest.approx(1.98472, abs=1e-4)
    assert answer["mechanism"]["steps"] == 3
    assert answer["mechanism"]["clip_norm"] == 1.0
    assert "the ledger up to entry 3" in answer["definition"]["data_accesses"]
    assumed = " ".join(answer["assumptions"])
    assert "not chosen from what had been released" in assumed
    assert "fixed without looking at the data" not in assumed
    assert answer["risk"][0]["name"] == "advantage"
    opened(f"ledger charge run.db {ROUND} --steps 17")
    whole = opened("ledger statement run.db --json --no-risk").json
    assert 1.984 < whole["accounting"]["epsilon"]["lower"] < 1.98473


def test_a_statement_of_a_filter_is_its_budget(typed):
    typed("ledger init z.db --epsilon 1 --filter zcdp --population 5000")
    typed("ledger charge z.db --sigma 50 --rate 1 --steps 10")
    answer = typed("ledger statement z.db --json").json
    jsonschema.validate(answer, schema())
    delta = typed("ledger status z.db --json").json["budget"]["delta"]
    assert answer["accounting"]["epsilon"]["upper"] == 1.0
    assert answer["accounting"]["delta"] == delta == pytest.approx(1e-5)
    assert answer["accounting"]["accountant"] == "ZeroConcentratedFilter"
    assert answer["definition"]["population"] == 5000
    assert "may have been chosen" in " ".join(answer["assumptions"])
    text = typed("ledger statement z.db").out
    assert "(1, 1e-5)-differentially private" in text
    other = typed("ledger statement z.db --delta 1e-6")
    assert other.code == 2
    assert "that of the budget" in other.err


def test_a_ledger_without_a_budget(typed, tmp_path):
    assert typed("ledger init log.db --filter none").code == 0
    (tmp_path / "event.json").write_text(dumps(Laplace(3.0) * 2))
    assert typed("ledger charge log.db --event event.json").code == 0
    status = typed("ledger status log.db")
    assert "none: charges are only recorded" in status.out
    assert "2 x laplace (noise multiplier 3)" in status.out
    found = typed("ledger statement log.db --no-risk --json").json
    assert found["accounting"]["epsilon"]["upper"] == pytest.approx(2 / 3, abs=1e-3)
    plotted = typed("ledger status log.db --plot spend.svg")
    assert plotted.code == 2
    assert "has none" in plotted.err


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (BUDGET, "FixedBudget"),
        (f"{BUDGET} --steps 10", "FixedBudget"),
        (f"{BUDGET} --filter renyi", "RenyiFilter"),
        ("--epsilon 2 --filter renyi --order 8,16", "RenyiFilter"),
        ("--epsilon 2 --filter zcdp", "ZeroConcentratedFilter"),
        ("--epsilon 2 --filter gaussian --delta 1e-6", "GaussianFilter"),
        ("--epsilon 2 --filter approx --slack 1e-6", "ApproxDPFilter"),
    ],
)
def test_budgets(typed, options, kind):
    assert typed(f"ledger init run.db {options} --json").json["budget"]["kind"] == kind


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ledger init run.db", "give --epsilon"),
        ("ledger init run.db --epsilon 2", "--filter fixed needs the plan"),
        ("ledger init run.db --epsilon 2 --sigma 1", "--rate"),
        ("ledger init run.db --epsilon 2 --filter renyi", "--order"),
        (f"ledger init run.db {BUDGET} --order 8", "--order belongs"),
        (f"ledger init run.db {BUDGET} --slack 1e-6", "--slack belongs"),
        ("ledger init run.db --filter none --epsilon 2", "sets no limit"),
        ("ledger init run.db --epsilon 0.01 --sigma 0.5 --rate 1", "even once"),
        (f"ledger init nowhere/run.db {BUDGET}", "cannot be created"),
        ("ledger init run.db --epsilon 0.1 --filter renyi --order 2", "larger orders"),
        (f"ledger charge run.db {ROUND}", "no ledger at run.db"),
        ("ledger status run.db", "no ledger at run.db"),
        ("ledger verify run.db", "no ledger at run.db"),
        ("ledger", "Usage"),
        ("ledger spend run.db", "No such command"),
    ],
)
def test_mistakes_are_one_line(typed, line, says):
    session = typed(line)
    if session.code == 0:
        assert line == "ledger"
        return
    assert session.code == 2
    assert says in (session.err + session.out)
    assert session.err.count("\n") == 1 or line == "ledger"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", "give --sigma and --rate"),
        (f"{ROUND} --event event.json", "exclude"),
        ("--event nowhere.json", "cannot be read"),
        ("--event bad.json", "not JSON"),
        (f"{ROUND} --sampling fixed", "--sampling fixed is only defined under"),
        (f"{ROUND} --key a --key b", "given 2 times"),
        ("--event zero-out.json", "zero-out, the ledger under add-remove"),
    ],
)
def test_a_bad_charge_is_not_charged(opened, tmp_path, options, says):
    (tmp_path / "event.json").write_text(dumps(Gaussian(1.0)))
    (tmp_path / "bad.json").write_text("{")
    other = PoissonSampled(0.05, Gaussian(1.0), "zero-out")
    (tmp_path / "zero-out.json").write_text(dumps(other))
    session = opened(f"ledger charge run.db {options}")
    assert session.code == 2
    assert says in session.err
    assert opened("ledger status run.db --json").json["entries"] == 4


def test_a_new_plan(opened):
    line = "calibrate --ledger run.db --rate 0.05 --steps 10"
    noise = opened(f"{line} --json").json["noise_multiplier"]
    text = opened(line).out
    assert "promise that it was not chosen" in " ".join(text.split())
    printed = text.split()[2]
    assert noise <= float(printed) <= noise * 1.00001
    declared = f"ledger declare run.db --sigma {printed} --rate 0.05 --steps 10"
    assert opened(declared).code == 0
    status = opened("ledger status run.db --json").json
    assert status["remaining"][0]["count"] == 10
    charged = f"ledger charge run.db --sigma {printed} --rate 0.05 --steps 10"
    assert opened(charged).code == 0
    assert 1.99 < opened("ledger status run.db --json").json["spent_epsilon"] <= 2.0


@pytest.mark.parametrize(
    ("name", "run"),
    [("zcdp", "--rate 1"), ("gaussian", "--rate 1"), ("renyi --order 9", "--rate 0.1")],
)
def test_what_is_left_of_a_filter(typed, name, run):
    typed(f"ledger init run.db --epsilon 2 --filter {name}")
    typed(f"ledger charge run.db --sigma 40 {run} --steps 50")
    noise = typed(f"calibrate --ledger run.db {run} --steps 10 --json").json[
        "noise_multiplier"
    ]
    less = typed(f"ledger charge run.db --sigma {noise * 0.999} {run} --steps 10")
    assert less.code == 3
    enough = typed(f"ledger charge run.db --sigma {noise!r} {run} --steps 10")
    assert enough.code == 0
    assert typed("ledger status run.db --json").json["used"] > 0.999
    text = typed("ledger status run.db").out
    assert ("odometer" in text) == (run == "--rate 1")


@pytest.mark.parametrize(
    "option", ["--epsilon 2", "--delta 1e-6", "--adjacency zero-out", "--tpr 0.1"]
)
def test_a_ledger_has_settled_what_may_be_spent(opened, option):
    line = f"calibrate --ledger run.db --rate 0.05 --steps 10 {option}"
    session = opened(line)
    assert session.code == 2
    assert option.split()[0] in session.err


@pytest.mark.parametrize(
    "command",
    ["init", "charge", "declare", "status", "verify", "export", "statement"],
)
def test_help_has_examples_that_fit(typed, command):
    session = typed(f"ledger {command} --help")
    assert session.code == 0
    examples = session.out.split("Examples:")[1]
    assert examples.count(f"drdp ledger {command}") >= 2
    assert max(map(len, session.out.splitlines())) <= 80
    assert command in typed("ledger --help").out


@pytest.mark.parametrize(
    "line",
    [
        "ledger status run.db",
        "ledger verify run.db",
        "ledger statement run.db --no-risk",
        f"ledger charge run.db {ROUND}",
        "calibrate --ledger run.db --rate 0.05 --steps 10",
    ],
)
def test_text_fits_and_is_plain(opened, line):
    session = opened(line)
    assert (session.code, session.err) == (0, "")
    assert max(map(len, session.out.splitlines())) <= 80
    assert all(line == line.rstrip() for line in session.out.splitlines())


def test_charging_imports_no_more_than_it_needs(python, tmp_path):
    program = (
        "import sys\n"
        "from drdp.cli import main\n"
        "def run(line):\n"
        "    try:\n        main(line.split())\n"
        "    except SystemExit as end:\n        assert not end.code, end.code\n"
        f"path = {str(tmp_path / 'run.db')!r}\n"
        f"run(f'ledger init {{path}} {BUDGET}')\n"
        f"run(f'ledger charge {{path}} {ROUND}')\n"
        "run(f'ledger status {path}')\n"
        "bad = {'numba', 'torch', 'matplotlib', 'scipy'}\n"
        "print(sorted(bad & set(sys.modules)), file=sys.stderr)\n"
    )
    session = python("-c", program)
    assert session.stderr.strip() == "[]"
