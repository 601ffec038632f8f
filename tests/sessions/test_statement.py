"""``drdp statement`` as typed: words, JSON under its schema, and unknowns."""

import jsonschema
import pytest

from drdp.privacy.codec import dumps
from drdp.privacy.events import Gaussian, Laplace, NonPrivate
from tests.sessions.test_bad_input import refused

RUN = "--sigma 0.748028 --steps 20 --rate 0.05 --delta 1/149"


@pytest.fixture(scope="module")
def schema(drdp):
    found = drdp("statement --schema").json
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def test_a_run(drdp, schema):
    answer = drdp(f"statement {RUN} --clip-norm 1 --placement central --json").json
    jsonschema.validate(answer, schema)
    assert answer["accounting"]["epsilon"]["upper"] == pytest.approx(1.34377, abs=2e-4)
    assert answer["mechanism"]["clip_norm"] == 1.0
    assert answer["mechanism"]["steps"] == 20
    assert answer["setting"] == {"placement": "central", "adversary": "unknown"}
    advantage = answer["risk"][0]
    assert advantage["upper"] == pytest.approx(0.1557998, abs=1e-6)


def test_the_same_in_words(drdp):
    line = f"statement {RUN} --clip-norm 1 --placement central"
    text = drdp(line, "--adversary", "sees every model", "--covers", "one run").out
    assert "(1.34377, 0.00671141)-differentially" in text
    flat = " ".join(text.split())
    for words in (
        "placement central",
        "adversary sees every model",
        "covers one run",
        "released unknown",
        "population unknown",
        "clip norm 1",
        "Not covered",
        "Assumed",
        "membership advantage",
        "drdp 0.",
    ):
        assert words in flat


def test_an_event_from_a_file(drdp, schema, tmp_path):
    file = tmp_path / "event.json"
    file.write_text(dumps(Gaussian(2.0) + Laplace(3.0)))
    answer = drdp("statement --json --no-risk --event", str(file)).json
    jsonschema.validate(answer, schema)
    assert answer["definition"]["unit"] == "unknown"
    assert answer["definition"]["adjacency"] == "unknown"
    assert answer["risk"] == "unknown"
    assert len(answer["mechanism"]["releases"]) == 2
    said = drdp("statement --unit example --json --no-risk --event", str(file)).json
    assert said["definition"]["unit"] == "example"


def test_no_protection_is_said_plainly(drdp, schema, tmp_path):
    file = tmp_path / "event.json"
    file.write_text(dumps(NonPrivate()))
    answer = drdp("statement --json --event", str(file)).json
    jsonschema.validate(answer, schema)
    assert answer["accounting"]["epsilon"]["upper"] == "inf"
    assert "not differentially private" in answer["statement"]
    text = drdp("statement --event", str(file)).out
    assert "not differentially private" in " ".join(text.split())


def test_neither_a_run_nor_an_event(drdp):
    refused(drdp("statement"), "--sigma", "--event")
    refused(drdp("statement --sigma 1 --steps 2"), "--rate")
