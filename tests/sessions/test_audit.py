"""``drdp audit``, as typed."""

import json

import pytest
from click.testing import CliRunner

from drdp.cli import main
from drdp.fedsim.documents import toml
from tests.fedsim.small import small

LOUD = "audit --release-only --noise-multiplier 0.5 --rate 1 --clients 3 --seed 1"
# SPEC N82: five shares of 2 sigma / 5, as printed, and of 2 sigma / sqrt(5).
PAPER = (
    "audit --release-only --set cohort.kind=every --clients 5 --trials 250"
    " --set privacy.placement=distributed --set privacy.view=sum --seed 1"
    " --claim 0.748028 --rounds 1"
)
PRINTED = f"{PAPER} --noise-multiplier 0.2992112"
REPAIRED = f"{PAPER} --noise-multiplier 0.6690567"


def test_a_bound_beside_the_certified_interval(drdp):
    answer = drdp(f"{LOUD} --trials 200 --json").json
    assert answer["verdict"] == "consistent"
    assert answer["confidence"] == 0.95
    assert 0.0 < answer["epsilon_at_least"] <= answer["certified"]["upper"]
    assert 0.8 < answer["mu_at_least"] <= 2.0
    assert answer["attack"] == "likelihood ratio"
    assert answer["rates"][-1] == [1.0, 1.0]
    assert answer["beyond"] is None


def test_the_text_fits_and_says_what_an_audit_is(drdp):
    session = drdp(f"{LOUD} --trials 200")
    assert session.code == 0
    assert max(map(len, session.out.splitlines())) <= 80
    assert "never proves that something is private" in " ".join(session.out.split())
    assert "certified  epsilon" in session.out


def test_a_false_claim_is_exit_code_one(drdp):
    session = drdp(PRINTED)
    assert session.code == 1
    assert session.err == ""
    assert "VIOLATED" in session.out
    assert "is allowed" in session.out
    assert drdp(REPAIRED).code == 0


def test_canaries_that_share_a_run(drdp):
    answer = drdp(
        f"{LOUD} --trials 1 --canaries 60 --kind dirac --code-length 64 --json"
    ).json
    assert answer["verdict"] == "consistent"
    assert answer["canaries"] == 60


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "roc.svg"
    line = f"{LOUD} --trials 60 --plot {target}"
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 0
    assert result.stdout.endswith(f"wrote {target}\n")
    assert "certified: impossible" in target.read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--release-only --noise-multiplier 1 --trials 3", "at least 40"),
        ("--release-only --epsilon 2 --method cent", "--release-only"),
        ("--release-only --epsilon 2 --method base", "nothing to audit"),
        ("--release-only --epsilon 2 --seen messages --trials 40", "view is messages"),
        ("--run nowhere", "no run in nowhere"),
        ("--run nowhere --epsilon 2", "no other settings"),
        ("--release-only", "privacy.epsilon"),
    ],
)
def test_what_cannot_be_audited_is_one_line(drdp, line, said):
    session = drdp(f"audit {line}")
    assert session.code == 2
    assert session.out == ""
    assert said in session.err
    assert session.err.count("\n") == 1


def test_json_is_one_object(drdp):
    assert isinstance(json.loads(drdp(f"{LOUD} --trials 200 --json").out), dict)


@pytest.fixture(scope="module")
def folder(drdp, tmp_path_factory):
    """A finished run of a tiny model, and the names of its files."""
    place = tmp_path_factory.mktemp("audited")
    settings = small() | {
        "cohort": {"kind": "every"},
        "privacy": {"noise_multiplier": 1.0},
    }
    (place / "run.toml").write_text(toml(settings), encoding="utf-8")
    run = place / "run"
    assert drdp(f"train --config {place / 'run.toml'} --out {run} --json").code == 0
    return run


@pytest.mark.slow
def test_a_finished_run_is_audited_with_a_client_that_trains(drdp, folder):
    """The folder stays as it is; several views have one confidence together."""
    before = {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    line = f"audit --run {folder} --suspect client --seen sum,last --trials 40 --seed 1"
    answer = drdp(f"{line} --json").json
    assert set(answer["seen"]) == {"sum", "last"}
    assert answer["confidence"] == 0.95
    assert answer["seen"]["sum"]["confidence"] == 0.975
    assert answer["verdict"] in ("consistent", "vacuous")
    after = {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    assert after == before


@pytest.mark.slow
def test_a_made_text_refutes_a_false_claim(drdp, folder):
    line = f"audit --config {folder / 'config.toml'} --suspect text --seed 1"
    session = drdp(f"{line} --trials 120 --claim 20")
    assert session.code == 1
    assert "a client with a made text" in session.out
    assert max(map(len, session.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--suspect text --release-only --epsilon 2", "neither --release-only nor"),
        ("--suspect client --canaries 3 --epsilon 2", "neither --release-only nor"),
        ("--suspect nobody --epsilon 2", "must be one of canary, client"),
        ("--member -1 --epsilon 2", "whole number from 0"),
        ("--seen sum,lost --epsilon 2", "must be one of messages, sum"),
    ],
)
def test_suspects_that_cannot_be_are_one_line(drdp, line, said):
    session = drdp(f"audit {line}")
    assert session.code == 2
    assert session.err.count("\n") == 1
    assert said in session.err
