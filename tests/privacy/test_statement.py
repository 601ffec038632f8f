"""Statements: valid under their schema, complete, and never below the truth."""

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drdp.errors import InvalidArgumentError, UnsupportedEventError
from drdp.privacy import statement
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    ApproxDP,
    FixedSizeSampled,
    Gaussian,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.statement import UNKNOWN, Circumstances, schema, state

EVENTS = [
    NOTHING,
    NonPrivate(),
    Gaussian(1.0),
    ApproxDP(1.0, 1e-7) * 3,
    PoissonSampled(0.05, Gaussian(0.75)) * 20 + Gaussian(5.0),
    PoissonSampled(0.1, Gaussian(1.0), Adjacency.REPLACE_ONE) * 2,
    FixedSizeSampled(5, 100, Gaussian(1.0)) * 2,
]
FULL = Circumstances(
    unit="client",
    population=100,
    adjacency=Adjacency.ZERO_OUT,
    clip_norm=0.5,
    placement="distributed",
    adversary="sees the sum",
    output="every model",
    data_accesses="one run",
    delta_source="chosen",
    assumptions=("at least 4 of 5 clients are honest",),
    not_covered=("stage 1",),
)


def valid(found: statement.Statement) -> dict:
    document = found.to_dict()
    # as a file would hold it
    again = json.loads(json.dumps(document, allow_nan=False))
    jsonschema.Draft202012Validator(schema()).validate(again)
    return document


@pytest.mark.parametrize("event", EVENTS, ids=repr)
@pytest.mark.parametrize("about", [None, FULL])
def test_every_statement_is_valid(event, about):
    found = state(event, 1e-5, about, with_risk=False)
    document = valid(found)
    assert document["accounting"]["bound"] == "upper"
    assert found.epsilon.lower <= found.epsilon.upper


def test_the_schema_is_one_and_is_strict():
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    document = state(Gaussian(1.0), 1e-5).to_dict()
    for key in document:
        less = {name: value for name, value in document.items() if name != key}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(less, found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "extra": 1}, found)
    document["accounting"]["bound"] = "estimate"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, found)


def test_what_nobody_said_is_unknown():
    document = valid(state(Gaussian(1.0), 1e-5, with_risk=False))
    assert set(document["setting"].values()) == {UNKNOWN}
    assert set(document["definition"].values()) == {UNKNOWN}
    assert document["mechanism"]["clip_norm"] == UNKNOWN
    assert document["accounting"]["delta_source"] == UNKNOWN
    assert document["risk"] == UNKNOWN


def test_what_was_said_is_there():
    document = valid(state(Gaussian(1.0), 1e-5, FULL, with_risk=False))
    assert UNKNOWN not in json.dumps(
        [document["setting"], document["definition"], document["mechanism"]]
    )
    assert document["definition"]["neighbours"] == (
        "one client's contribution replaced by zero"
    )
    assert FULL.assumptions[0] in document["assumptions"]
    assert FULL.not_covered[0] in document["not_covered"]
    assert any("0.5 in L2 norm" in line for line in document["assumptions"])


def test_the_relation_of_an_event_wins_over_what_was_said():
    event = PoissonSampled(0.1, Gaussian(1.0))
    found = state(event, 1e-5, FULL, with_risk=False)
    assert found.adjacency is Adjacency.ADD_REMOVE


def test_sampling_comes_with_its_assumption():
    sampled = state(EVENTS[4], 1e-5, with_risk=False).to_dict()
    assert "poisson-sampled" in sampled["mechanism"]["sampling"]
    assert any("Shuffled" in line for line in sampled["assumptions"])
    plain = state(Gaussian(1.0), 1e-5, with_risk=False).to_dict()
    assert plain["mechanism"]["sampling"] == "none"
    assert not any("Shuffled" in line for line in plain["assumptions"])


@settings(max_examples=30)
@given(st.floats(0.05, 50.0), st.floats(-15.0, -0.5))
def test_the_sentence_never_promises_more_than_is_certified(noise, log10_delta):
    delta = 10.0**log10_delta
    found = state(Gaussian(noise), delta, with_risk=False)
    inside = found.sentence().split("(")[1].split(")")[0]
    epsilon, shown_delta = map(float, inside.split(","))
    assert epsilon >= found.epsilon.upper
    assert shown_delta >= delta
    assert epsilon == pytest.approx(found.epsilon.upper, rel=2e-5)


def test_figures_of_risk_follow_the_curve():
    document = valid(state(Gaussian(1.0), 1e-5))
    by_name = {one["name"]: one for one in document["risk"]}
    assert by_name["advantage"]["upper"] == pytest.approx(0.3829249, abs=1e-6)
    assert by_name["advantage"]["lower"] <= by_name["advantage"]["upper"]


def test_an_event_without_a_certified_formula_gets_a_bound(monkeypatch):
    def refuse(*_, **__):
        raise UnsupportedEventError("no law")

    monkeypatch.setattr(statement, "epsilon_interval", refuse)
    found = state(Gaussian(1.0), 1e-5)
    document = valid(found)
    assert found.accountant == "rdp"
    assert found.epsilon.upper > 4.377
    assert document["accounting"]["epsilon"]["lower"] == UNKNOWN
    assert document["accounting"]["error_at_most"] == UNKNOWN
    assert document["risk"][0]["lower"] == UNKNOWN
    monkeypatch.setattr(statement, "rdp_curve", refuse)
    with pytest.raises(UnsupportedEventError):
        state(Gaussian(1.0), 1e-5)


def test_an_estimate_never_becomes_a_statement(monkeypatch):
    from drdp.errors import EstimateRefusedError

    def refuse(*_, **__):
        raise UnsupportedEventError("no law")

    def guess(_):
        return PrivacyCurve(lambda _: 0.1, "estimate", lambda _: 1.0)

    monkeypatch.setattr(statement, "epsilon_interval", refuse)
    monkeypatch.setattr(statement, "rdp_curve", guess)
    with pytest.raises(EstimateRefusedError):
        state(Gaussian(1.0), 1e-5)


@pytest.mark.parametrize("bad", [0.0, 1.0, -1.0, float("nan"), "x"])
def test_a_bad_delta_is_named(bad):
    with pytest.raises(InvalidArgumentError, match="delta"):
        state(Gaussian(1.0), bad)
