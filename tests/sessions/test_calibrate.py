"""``drdp calibrate`` as typed."""

import pytest

LINE = "calibrate --epsilon 2 --steps 20 --rate 0.05"


def test_the_readme_line(drdp):
    session = drdp(LINE)
    assert session.code == 0
    assert session.err == ""
    first, second = session.out.splitlines()[:2]
    noise = float(first.split()[2])
    assert first.startswith("noise multiplier")
    assert "(pld, certified)" in first
    assert 0.9967 <= noise <= 0.9972
    assert second.startswith("certified epsilon")
    assert float(second.split()[4]) <= 2.0


def test_the_printed_noise_is_private(drdp):
    printed = drdp(LINE).out.split()[2]
    exact = drdp(f"{LINE} --json").json["noise_multiplier"]
    assert exact <= float(printed) <= exact * (1 + 1e-5)
    words = "epsilon --steps 20 --rate 0.05 --json --compare none --sigma"
    assert drdp(words, printed).json["certified"]["upper"] <= 2.0


def test_the_clt_is_seen_to_under_report(drdp):
    rows = {line.split()[0]: line for line in drdp(LINE).out.splitlines() if line}
    gdp, rdp = rows["gdp"].split(), rows["rdp"].split()
    assert float(gdp[1]) == pytest.approx(0.746, abs=1e-3)
    assert gdp[2] == "estimate"
    assert float(gdp[3]) == pytest.approx(3.99, abs=0.015)
    assert gdp[4] == "UNDER-REPORTS"
    assert float(rdp[1]) > 1.0
    assert float(rdp[3]) < 2.0
    assert "within the budget" in rows["rdp"]


def test_the_assumptions_are_stated(drdp):
    out = drdp(LINE).out
    assert "Guarantee: epsilon 2" in out
    for words in (
        "one client more or less",
        "each client joins a round with probability 0.05",
        "noise standard deviation / clip norm",
        "1e-5 (the default",
        "the noise is central",
        "sees every released model, but not who takes part",
    ):
        assert words in out


def test_json_has_full_precision_and_stable_keys(drdp):
    answer = drdp(f"{LINE} --json").json
    assert {
        "epsilon",
        "delta",
        "delta_source",
        "noise_multiplier",
        "steps",
        "rate",
        "sampling",
        "adjacency",
        "unit",
        "accountant",
        "bound",
        "method",
        "certified",
        "comparisons",
        "verdict",
    } <= set(answer)
    assert (answer["epsilon"], answer["delta"]) == (2.0, 1e-5)
    assert (answer["steps"], answer["rate"]) == (20, 0.05)
    assert (answer["accountant"], answer["bound"]) == ("pld", "upper")
    assert answer["verdict"] == "within"
    assert 1.99 < answer["certified"]["lower"] <= answer["certified"]["upper"] <= 2.0
    verdicts = {row["accountant"]: row["verdict"] for row in answer["comparisons"]}
    assert verdicts == {"gdp": "under-reports", "rdp": "within"}
    assert len(repr(answer["noise_multiplier"])) > 10


def test_an_estimate_is_labelled_and_the_certified_epsilon_stands_beside(drdp):
    session = drdp(f"{LINE} --accountant gdp")
    first, second, third = session.out.splitlines()[:3]
    assert "(gdp, estimate)" in first
    assert float(second.split()[2]) == pytest.approx(3.99, abs=0.015)
    assert "UNDER-REPORTS" in third
    assert "Guarantee: epsilon 3.99" in session.out
    answer = drdp(f"{LINE} --accountant gdp --json").json
    assert (answer["bound"], answer["verdict"]) == ("estimate", "under-reports")
    assert [row["accountant"] for row in answer["comparisons"]] == ["pld", "rdp"]


def test_rdp_needs_more_noise(drdp):
    answer = drdp(f"{LINE} --accountant rdp --compare none --json").json
    assert answer["noise_multiplier"] > 1.0
    assert answer["bound"] == "upper"
    assert answer["certified"]["upper"] < 2.0


@pytest.mark.slow
def test_prv_is_asked_on_demand(drdp):
    row = drdp(f"{LINE} --compare prv --json").json["comparisons"][0]
    assert row["accountant"] == "prv"
    assert row["verdict"] == "within"
    assert row["noise_multiplier"] == pytest.approx(0.997, abs=0.05)


def test_nothing_is_compared_with_none(drdp):
    session = drdp(f"{LINE} --compare none")
    assert "other accountants" not in session.out


def test_fixed_size_sampling_is_replace_one(drdp):
    line = f"{LINE} --sampling fixed"
    answer = drdp(f"{line} --json").json
    assert answer["adjacency"] == "replace-one"
    assert answer["noise_multiplier_divisor"] == "2 * clip_norm"
    assert answer["certified"]["upper"] <= 2.0
    assert "(2 x clip norm)" in drdp(line).out


def test_a_fixed_cohort_of_a_known_population(drdp):
    line = "calibrate --epsilon 2 --steps 20 --rate 5/100 --sampling fixed"
    known = drdp(f"{line} --population 100 --delta 1e-5 --json").json
    unknown = drdp(f"{line} --json").json
    assert known["sample_size"] == 5
    assert known["noise_multiplier"] == unknown["noise_multiplier"]
    assert "5/100 of all clients" in drdp(f"{line} --population 100").out


def test_zero_out_costs_what_add_remove_costs(drdp):
    zero_out = drdp(f"{LINE} --adjacency zero-out --json").json
    add_remove = drdp(f"{LINE} --json").json
    assert zero_out["adjacency"] == "zero-out"
    assert zero_out["noise_multiplier"] == add_remove["noise_multiplier"]


def test_replace_one_costs_more_and_some_accountants_cannot(drdp):
    answer = drdp(f"{LINE} --adjacency replace-one --json").json
    assert answer["noise_multiplier"] > 1.0
    gdp = answer["comparisons"][0]
    assert gdp["noise_multiplier"] is None
    assert gdp["verdict"] is None
    assert "gdp_curve" in gdp["problem"]
    assert "gdp: gdp_curve" in drdp(f"{LINE} --adjacency replace-one").out


def test_rate_one_is_the_gaussian_mechanism(drdp):
    answer = drdp("calibrate --epsilon 1 --steps 1 --rate 1 --json").json
    assert answer["noise_multiplier"] == pytest.approx(3.7306316, rel=2e-6)
    gdp = answer["comparisons"][0]
    assert gdp["bound"] == "upper"
    assert gdp["noise_multiplier"] == pytest.approx(3.7306316, rel=2e-6)


@pytest.mark.parametrize(
    "line",
    [
        "calibrate --target-epsilon 2 --rounds 20 --sample-rate 0.05",
        "calibrate --epsilon 2 --num-steps 20 --sampling-probability 0.05",
        "calibrate --epsilon 2.0 --steps 2e1 --rate 1/20 --target-delta 1e-5",
    ],
)
def test_aliases_and_other_spellings(drdp, line):
    answer = drdp(f"{line} --json --compare none").json
    expected = drdp(f"{LINE} --json --compare none").json
    assert answer["noise_multiplier"] == expected["noise_multiplier"]


def test_the_unit_is_a_label(drdp):
    session = drdp(f"{LINE} --unit example")
    assert "for every example" in session.out
    assert "one example more or less" in session.out


@pytest.mark.parametrize(
    ("options", "delta", "source"),
    [
        ("", 1e-5, "the default"),
        ("--delta 1e-6", 1e-6, "from --delta"),
        ("--delta 1/149", 1 / 149, "from --delta"),
        ("--population 100", 1e-5, "from --population 100"),
        ("--population 1000000", 1e6**-1.1, "from --population 1000000"),
        ("--population 1000000 --delta 1e-7", 1e-7, "from --delta"),
        ("--population 100 --delta 0.01 --allow-large-delta", 0.01, "from --delta"),
    ],
)
def test_where_delta_comes_from(drdp, options, delta, source):
    answer = drdp(f"{LINE} --json --compare none {options}").json
    assert answer["delta"] == pytest.approx(delta, rel=1e-12)
    assert source in answer["delta_source"]
    assert source in drdp(f"{LINE} --compare none {options}").out
