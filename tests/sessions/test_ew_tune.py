"""``drdp table --preset ew-tune`` as typed, and the accountant on the command line."""

import csv
import io
import json

import pytest

LINE = "table --preset ew-tune"
CERTIFIED = {
    ("MNLI", 1e-6): "9.60",
    ("QQP", 1e-6): "9.54",
    ("QNLI", 1e-6): "8.71",
    ("SST-2", 1e-6): "8.51",
    ("MNLI", 1e-5): "9.14",
    ("QQP", 1e-5): "9.09",
    ("QNLI", 1e-5): "8.46",
    ("SST-2", 1e-5): "8.29",
}


def printed(drdp):
    """(task, delta) -> cells."""
    found, delta = {}, None
    for line in drdp(LINE).out.splitlines():
        if line.startswith("epsilon 8, delta "):
            delta = float(line.rpartition(" ")[2])
        cells = line.split()
        if delta and (cells[:1] or [""])[0] in {task for task, _ in CERTIFIED}:
            found[cells[0], delta] = cells
    return found


def test_what_the_noise_really_spends(drdp):
    cells = printed(drdp)
    assert {row: line[6] for row, line in cells.items()} == CERTIFIED
    assert all(line[8] == "UNDER-REPORTS" for line in cells.values())


def test_a_line_of_the_table(drdp):
    assert printed(drdp)["MNLI", 1e-6] == [
        *("MNLI", "0.005093", "3920", "0.573", "0.607", "0.65"),
        *("9.60", "0.6045", "UNDER-REPORTS"),
    ]


def test_the_text_fits_and_says_what_it_means(drdp):
    out = drdp(LINE).out
    assert max(map(len, out.splitlines())) <= 80
    text = " ".join(out.split())
    assert "estimate of epsilon, which is no bound" in text
    assert "The advertised 5.6% less noise (MNLI: 0.573 for 0.607)" in text
    assert "under-noising: it is 5.2% less than is needed" in text
    assert "quoted from training logs" in text


def test_the_published_noise_comes_out(drdp):
    rows = list(csv.DictReader(io.StringIO(drdp(f"{LINE} --format csv").out)))
    assert len(rows) == 8
    for row in rows:
        assert row["ew_noise_multiplier"] == row["published_ew_noise_multiplier"]
        assert float(row["ew_epsilon"]) < 8.0
        low, high = float(row["certified_lower"]), float(row["certified_upper"])
        assert 8.0 < low <= high <= low + 1e-3
        needed = float(row["needed_noise_multiplier"])
        assert needed > float(row["ew_noise_multiplier"])
        line = (
            f"epsilon --sigma {needed!r} --rate 2000/{row['records']}"
            f" --steps {row['steps']} --delta {row['delta']} --compare none"
        )
        certified = drdp(f"{line} --json").json["certified"]
        assert 8.0 - 1e-3 < certified["upper"] <= 8.0


def test_json_says_the_same(drdp):
    answer = drdp(f"{LINE} --json").json
    assert answer == json.loads(drdp(f"{LINE} --format json").out)
    assert answer["preset"] == "ew-tune"
    assert answer["guarantee"] == "none (Edgeworth point estimate)"
    assert [row["under_reports"] for row in answer["rows"]] == [True] * 8


def test_markdown_and_latex(drdp):
    line = "MNLI {0} 0.005093 {0} 3920 {0} 0.573 {0} 0.607 {0} 0.65 {0} 9.60"
    assert line.format("|") in drdp(f"{LINE} --format markdown").out
    latex = drdp(f"{LINE} --format latex").out
    assert line.format("&") in latex
    assert latex.count(r"\multicolumn{9}{l}") == 2


def test_the_preset_takes_no_grid(drdp):
    session = drdp(f"{LINE} --epsilons 1,2 --steps 5 --rate 0.1")
    assert session.code == 2
    assert "--preset ew-tune" in session.err


# The accountant -------------------------------------------------------------

RUN = "--rate 0.05 --steps 20"


def row_of(session, name):
    (line,) = [x for x in session.out.splitlines() if x.split()[:1] == [name]]
    return line


def test_it_can_be_compared_with(drdp):
    line = row_of(drdp(f"epsilon {RUN} --sigma 0.748 --compare edgeworth"), "edgeworth")
    assert "estimate" in line
    assert "UNDER-REPORTS by 1.20" in line


def test_all_includes_it(drdp):
    answer = drdp(f"calibrate {RUN} --epsilon 2 --compare all --json").json
    (one,) = [c for c in answer["comparisons"] if c["accountant"] == "edgeworth"]
    assert one["bound"] == "estimate"
    assert one["verdict"] == "under-reports"
    assert one["certified"]["lower"] > 2.6


@pytest.mark.parametrize(
    "line",
    [
        f"calibrate {RUN} --epsilon 2",
        "steps --rate 0.05 --sigma 1 --epsilon 2",
        "rate --steps 20 --sigma 1 --epsilon 2",
    ],
)
def test_asked_first_it_is_still_an_estimate(drdp, line):
    out = drdp(f"{line} --accountant edgeworth --compare none").out
    assert "(edgeworth, estimate)" in out
    assert "UNDER-REPORTS by" in out


def test_sampling_of_a_fixed_number_has_no_expansion(drdp):
    session = drdp(f"epsilon {RUN} --sigma 1 --sampling fixed --compare edgeworth")
    assert session.code == 0
    assert row_of(session, "edgeworth").split() == ["edgeworth", "none"]
    assert "use pld_curve" in " ".join(session.out.split())


def test_it_can_be_traced(drdp):
    out = drdp(f"curve {RUN} --sigma 1 --accountant edgeworth").out
    assert "# bound: estimate" in out
