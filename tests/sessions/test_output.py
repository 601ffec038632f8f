"""What every command's output keeps to: 80 columns, plain text, valid JSON."""

import json

import pytest
from click.testing import CliRunner

from drdp.cli import main, options
from drdp.privacy.events import Adjacency

RUN = "--steps 20 --rate 0.05"
LINES = [
    f"calibrate --epsilon 2 {RUN}",
    f"calibrate --epsilon 2 {RUN} --accountant gdp",
    f"calibrate --epsilon 2 {RUN} --adjacency replace-one --unit example",
    "calibrate --epsilon 2 --steps 20 --rate 5/149 --sampling fixed --population 149",
    f"epsilon --sigma 0.748028 {RUN} --delta 1/149",
    f"delta --epsilon 1 --sigma 0.748028 {RUN}",
    "steps --epsilon 2 --sigma 1 --rate 0.05",
    "rate --epsilon 2 --sigma 1 --steps 20 --population 123456789",
    f"calibrate --advantage 0.1 {RUN}",
    "calibrate --tpr 0.05 --fpr 0.01 --steps 4 --rate 1",
    f"risk --sigma 0.748028 {RUN}",
    "risk --sigma 2 --steps 4 --rate 1 --both",
    f"compare --sigma 0.748028 {RUN}",
    "compare --sigma 0.01 --steps 1e6 --rate 1",
    f"sweep --of sigma --epsilon 0.5,1,2 {RUN}",
    "sweep --of epsilon --sigma 1,2 --steps 1:9:9 --rate 0.05 --accountant gdp",
    f"statement --sigma 0.748028 {RUN}",
    "table",
    f"table --epsilons 0.25,0.5,1,2,4,8 {RUN}",
    f"curve --sigma 0.5,0.75,1 {RUN} --accountant gdp",
    f"curve --sigma 0.5,0.75,1 {RUN} --accountant gdp --against epsilon",
]


@pytest.mark.parametrize("line", LINES)
def test_text_fits_and_is_plain(drdp, line):
    session = drdp(line)
    assert session.code == 0
    assert session.err == ""
    assert max(map(len, session.out.splitlines())) <= 80
    assert "\x1b" not in session.out
    assert "nan" not in session.out.lower().split()
    assert all(line == line.rstrip() for line in session.out.splitlines())


@pytest.mark.parametrize("line", LINES)
def test_json_is_one_valid_object(drdp, line):
    session = drdp(f"{line} --json")
    assert session.err == ""
    assert all(key == key.lower() and " " not in key for key in session.json)


@pytest.mark.parametrize("line", LINES[:1])
def test_colours_on_a_terminal_only(line):
    result = CliRunner().invoke(main, line.split(), color=True)
    assert "\x1b[31mUNDER-REPORTS\x1b[0m" in result.stdout


def test_the_relations_are_those_of_the_events():
    assert tuple(Adjacency) == options.ADJACENCIES


def test_infinity_is_a_word_in_json(drdp):
    rows = json.loads(drdp("table --json").out)["rows"]
    assert rows[0]["certified_upper"] == "inf"
