"""``drdp epsilon`` and ``drdp delta`` as typed."""

import pytest

PAPER = "--sigma 0.748028 --steps 20 --rate 0.05"


def test_epsilon_of_the_paper(drdp):
    answer = drdp(f"epsilon {PAPER} --delta 1/149 --json").json
    low, high = answer["certified"]["lower"], answer["certified"]["upper"]
    assert low <= high
    assert low == pytest.approx(1.34377, abs=2e-4)
    assert high == pytest.approx(1.34377, abs=2e-4)
    assert answer["epsilon"] == high
    reported = {row["accountant"]: row for row in answer["comparisons"]}
    assert reported["gdp"]["epsilon"] == pytest.approx(1.0, abs=1e-5)
    assert reported["gdp"]["verdict"] == "under-reports"
    assert reported["rdp"]["epsilon"] == pytest.approx(2.118, abs=5e-3)
    assert reported["rdp"]["verdict"] == "within"


def test_epsilon_as_text(drdp):
    session = drdp(f"epsilon {PAPER} --delta 1/149")
    assert session.out.startswith("certified epsilon  1.343")
    assert "UNDER-REPORTS by 0.34" in session.out
    assert "no less than the certified value" in session.out
    assert "Guarantee: epsilon 1.34" in session.out


def test_what_the_clt_noise_really_costs(drdp):
    answer = drdp("epsilon --sigma 0.747 --steps 20 --rate 0.05 --json").json
    assert answer["epsilon"] == pytest.approx(3.98, abs=5e-3)


def test_delta_of_the_paper(drdp):
    answer = drdp(f"delta --epsilon 1 {PAPER} --json").json
    assert answer["certified"]["lower"] == pytest.approx(0.0151674, abs=1e-6)
    assert answer["certified"]["upper"] == pytest.approx(0.0151674, abs=1e-6)
    assert answer["delta"] == answer["certified"]["upper"]
    gdp = answer["comparisons"][0]
    assert gdp["delta"] == pytest.approx(1 / 149, rel=1e-4)
    assert gdp["verdict"] == "under-reports"
    assert answer["epsilon"] == 1.0


def test_delta_as_text(drdp):
    session = drdp(f"delta --epsilon 1 {PAPER}")
    assert session.out.startswith("certified delta  0.01516")
    assert "at epsilon 1" in session.out
    assert "Guarantee: epsilon 1 and delta 0.01516" in session.out


def test_delta_has_no_delta(drdp):
    assert drdp(f"delta --epsilon 1 {PAPER} --delta 1e-5").code == 2


def test_epsilon_and_delta_are_inverse(drdp):
    epsilon = drdp(f"epsilon {PAPER} --json --compare none").json["epsilon"]
    line = f"delta {PAPER} --json --compare none --epsilon"
    delta = drdp(line, repr(epsilon)).json["certified"]
    assert delta["lower"] <= 1e-5 * (1 + 1e-6)
    assert delta["upper"] == pytest.approx(1e-5, rel=1e-3)


def test_one_unsampled_gaussian(drdp):
    answer = drdp("epsilon --sigma 1 --steps 1 --rate 1 --json").json
    assert answer["epsilon"] == pytest.approx(4.377178, abs=1e-6)
    assert answer["comparisons"][0]["verdict"] == "within"


def test_noise_multiplier_is_an_alias(drdp):
    alias = "epsilon --noise-multiplier 0.748028 --rounds 20 --sample-rate 0.05"
    assert drdp(alias).out == drdp(f"epsilon {PAPER}").out


def test_a_huge_epsilon_is_a_number(drdp):
    answer = drdp("epsilon --sigma 0.2 --steps 50 --rate 0.2 --json").json
    assert answer["epsilon"] == pytest.approx(275.9, abs=0.1)
