"""``drdp table`` as typed: the paper's 24 cells, and any grid."""

import csv
import io
import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent.parent / "golden" / "table3.csv"
CERTIFIED = {
    "LLaMA": ("5.29", "3.83", "2.47", "1.34", "0.63", "0.29"),
    "Qwen": ("5.93", "3.53", "1.91", "0.98", "0.50", "0.25"),
}
GRID = "table --epsilons 0.5,2,8 --steps 20 --rate 0.05"


def golden():
    with GOLDEN.open(newline="", encoding="utf-8") as file:
        return [
            pytest.param(row, id=f"{row['model']}-{row['row']}-{row['column']}")
            for row in csv.DictReader(file)
        ]


def records(drdp):
    return list(csv.DictReader(io.StringIO(drdp("table --format csv").out)))


def printed(drdp):
    """The text table: model -> lines of cells."""
    lines, found = drdp("table").out.splitlines(), {}
    for start, line in enumerate(lines):
        name = line.partition(":")[0]
        if name in CERTIFIED:
            found[name] = [cells.split() for cells in lines[start + 2 : start + 9]]
    return found


@pytest.mark.parametrize("row", golden())
def test_a_cell_of_table_3(drdp, row):
    column = ("noise_multiplier", "rdp_epsilon", "gdp_epsilon").index(row["column"])
    assert printed(drdp)[row["model"]][int(row["row"])][column] == row["value"]


@pytest.mark.parametrize("model", CERTIFIED)
def test_the_certified_column(drdp, model):
    lines = printed(drdp)[model]
    assert tuple(cells[3] for cells in lines[1:]) == CERTIFIED[model]
    assert lines[0][3] == "inf"


def test_what_the_paper_under_reports(drdp):
    marked = {
        model: [len(cells) > 4 for cells in lines]
        for model, lines in printed(drdp).items()
    }
    assert marked["LLaMA"] == [False, False, False, True, True, True, True]
    assert not any(marked["Qwen"])


def test_the_five_rounds_of_qwen_are_a_footnote(drdp):
    assert "only comes out with 5" in " ".join(drdp("table").out.split())
    steps = {(r["model"], r["steps"], r["rdp_steps"]) for r in records(drdp)}
    assert steps == {("LLaMA", "20", "20"), ("Qwen", "4", "5")}


def test_csv_has_full_precision(drdp):
    rows = records(drdp)
    assert len(rows) == 14
    assert float(rows[4]["noise_multiplier"]) == pytest.approx(0.748028, abs=1e-6)
    assert rows[0]["certified_upper"] == "inf"
    for row in rows[1:7] + rows[8:]:
        low, high = float(row["certified_lower"]), float(row["certified_upper"])
        assert low <= high <= low * (1 + 1e-3)


def test_json_says_the_same(drdp):
    answer = drdp("table --json").json
    assert answer == json.loads(drdp("table --format json").out)
    assert answer["preset"] == "dr-encoder"
    rows = records(drdp)
    assert [str(row["noise_multiplier"]) for row in answer["rows"]] == [
        row["noise_multiplier"] for row in rows
    ]
    assert answer["rows"][0]["rdp_epsilon"] == "inf"


def test_markdown(drdp):
    out = drdp("table --format markdown").out
    tables = [line for line in out.splitlines() if line.startswith("|")]
    assert len(tables) == 2 * (2 + 7)
    assert {line.count("|") for line in tables} == {6}
    assert "| 0.75 | 2.12 | 1.00 | 1.34 | UNDER-REPORTS |" in out


def test_latex(drdp):
    out = drdp("table --format latex").out
    assert r"\begin{tabular}{rrrrr}" in out
    assert r"0.75 & 2.12 & 1.00 & 1.34 & UNDER-REPORTS \\" in out
    assert r"$\infty$" in out
    assert out.rstrip().endswith(r"\end{tabular}")


def test_the_preset_is_the_default(drdp):
    assert drdp("table --preset dr-encoder").out == drdp("table").out


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "latex", "json"])
def test_a_grid_in_every_format(drdp, form):
    session = drdp(f"{GRID} --format {form}")
    assert session.code == 0
    assert session.err == ""
    assert "0.5" in session.out


def test_a_grid_agrees_with_calibrate(drdp):
    rows = drdp(f"{GRID} --json").json["rows"]
    assert [row["epsilon"] for row in rows] == [0.5, 2.0, 8.0]
    single = drdp("calibrate --epsilon 2 --steps 20 --rate 0.05 --json").json
    assert rows[1]["noise_multiplier"] == single["noise_multiplier"]
    gdp, rdp = single["comparisons"]
    assert rows[1]["gdp_noise_multiplier"] == gdp["noise_multiplier"]
    assert rows[1]["gdp_certified_upper"] == gdp["certified"]["upper"]
    assert rows[1]["gdp_under_reports"] is True
    assert rows[1]["rdp_noise_multiplier"] == rdp["noise_multiplier"]
    assert rows[1]["rdp_under_reports"] is False
    assert all(row["certified_upper"] <= row["epsilon"] for row in rows)


def test_a_grid_as_text(drdp):
    out = drdp(GRID).out
    (line,) = [line for line in out.splitlines() if line.startswith("  2 ")]
    assert line.split()[1].startswith("0.996")
    assert " * " in line
    assert "* under-reports" in out
