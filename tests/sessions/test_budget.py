"""``drdp steps`` and ``drdp rate`` as typed."""

import pytest

STEPS = "steps --epsilon 2 --sigma 1 --rate 0.05"
RATE = "rate --epsilon 2 --sigma 1 --steps 20"


def cost(drdp, **words):
    line = " ".join(f"--{name} {value}" for name, value in words.items())
    return drdp(f"epsilon {line} --json --compare none").json["certified"]


def test_steps_is_the_largest_number_that_fits(drdp):
    answer = drdp(f"{STEPS} --json").json
    steps = answer["steps"]
    assert answer["solved_for"] == "steps"
    assert isinstance(steps, int)
    assert cost(drdp, sigma=1, rate=0.05, steps=steps)["upper"] <= 2.0
    assert cost(drdp, sigma=1, rate=0.05, steps=steps + 1)["upper"] > 2.0
    assert drdp(STEPS).out.split()[1] == str(steps)


def test_steps_compares(drdp):
    rows = {r["accountant"]: r for r in drdp(f"{STEPS} --json").json["comparisons"]}
    assert rows["gdp"]["steps"] > drdp(f"{STEPS} --json").json["steps"]
    assert rows["gdp"]["verdict"] == "under-reports"
    assert rows["rdp"]["steps"] < drdp(f"{STEPS} --json").json["steps"]
    assert rows["rdp"]["verdict"] == "within"


def test_steps_may_be_none_at_all(drdp):
    line = "steps --epsilon 0.1 --sigma 0.5 --rate 0.5"
    answer = drdp(f"{line} --json").json
    assert answer["steps"] == 0
    assert answer["certified"] == {"lower": 0.0, "upper": 0.0}
    assert drdp(line).code == 0


def test_steps_of_the_unsampled_gaussian(drdp):
    answer = drdp("steps --epsilon 1 --sigma 50 --rate 1 --json").json
    assert answer["steps"] == 179


def test_rate_is_the_largest_that_fits(drdp):
    answer = drdp(f"{RATE} --json").json
    rate = answer["rate"]
    assert answer["solved_for"] == "rate"
    assert 0.0 < rate < 1.0
    assert cost(drdp, sigma=1, steps=20, rate=rate)["upper"] <= 2.0
    assert cost(drdp, sigma=1, steps=20, rate=rate * 1.0001)["upper"] > 2.0
    printed = float(drdp(RATE).out.split()[1])
    assert rate * (1 - 1e-5) <= printed <= rate


def test_rate_may_be_one(drdp):
    answer = drdp("rate --epsilon 8 --sigma 10 --steps 4 --json").json
    assert answer["rate"] == 1.0


def test_rate_of_a_fixed_cohort_is_a_whole_number_of_clients(drdp):
    line = f"{RATE} --sampling fixed --population 149"
    answer = drdp(f"{line} --json").json
    assert answer["rate"] * 149 == pytest.approx(answer["sample_size"], abs=1e-9)
    assert answer["certified"]["upper"] <= 2.0
    assert drdp(line).out.split()[1] == f"{answer['sample_size']}/149"


def test_rate_of_a_fixed_cohort_of_unknown_size(drdp):
    known = drdp(f"{RATE} --sampling fixed --population 10000 --delta 1e-5 --json")
    unknown = drdp(f"{RATE} --sampling fixed --json").json
    assert unknown["certified"]["upper"] <= 2.0
    assert unknown["rate"] == pytest.approx(known.json["rate"], abs=1e-4)


@pytest.mark.parametrize("line", [STEPS, RATE])
def test_an_estimate_first_is_labelled(drdp, line):
    session = drdp(f"{line} --accountant gdp --compare none")
    assert "(gdp, estimate)" in session.out.splitlines()[0]
    assert "UNDER-REPORTS" in session.out
