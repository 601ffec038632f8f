"""``drdp risk``, and ``drdp calibrate`` to a bound on risk, as typed."""

import pytest
from scipy.stats import norm

from tests.sessions.test_bad_input import refused

RUN = "--steps 20 --rate 0.05"
QUICK = "--steps 4 --rate 1"  # mu = 2 / sigma


def figures(answer):
    return {(one["name"], one["fpr"], one["prior"]): one for one in answer["figures"]}


def test_the_figures_of_the_paper_row(drdp):
    """SPEC N64: advantage and beta(0.01) as riskcal gives them."""
    answer = drdp(f"risk --sigma 0.748028 {RUN} --delta 1/149 --json").json
    found = figures(answer)
    advantage = found["advantage", None, None]
    assert advantage["upper"] == pytest.approx(0.1557998, abs=1e-7)
    assert advantage["lower"] <= advantage["upper"]
    tpr = found["true_positive_rate", 0.01, None]
    assert 1 - tpr["upper"] == pytest.approx(0.9580069, abs=1e-5)
    assert tpr["lower"] is None
    assert answer["certified"]["upper"] == pytest.approx(1.34377, abs=2e-4)
    assert answer["bound"] == "upper"


def test_unsampled_figures_are_the_closed_forms(drdp):
    answer = drdp(f"risk --sigma 2 {QUICK} --both --json").json
    for (name, fpr, prior), one in figures(answer).items():
        exact = {
            "advantage": 2 * norm.cdf(0.5) - 1,
            "true_positive_rate": norm.sf(norm.isf(fpr or 0.5) - 1),
            "reconstruction": norm.sf(norm.isf(prior or 0.5) - 1),
            "bayes_success": norm.cdf(0.5),
            "positive_predictive_value": 1
            / (1 + (fpr or 0.5) / norm.sf(norm.isf(fpr or 0.5) - 1)),
        }[name]
        assert exact * (1 - 1e-12) <= one["upper"]
        assert one["upper"] == pytest.approx(exact, rel=1e-6)
        if name == "reconstruction":
            assert one["lower"] is None  # guessing data is more than telling two apart
            continue
        assert one["lower"] <= exact * (1 + 1e-12)
        assert one["lower"] == pytest.approx(exact, rel=2e-3)


def test_what_is_asked_for_is_what_is_printed(drdp):
    session = drdp(f"risk --sigma 2 {QUICK} --fprs 0.2,1e-8 --priors 1/256")
    assert "FPR 0.2" in session.out
    assert "FPR 1e-8" in session.out
    assert "prior 1/256" in session.out
    assert "FPR 0.1" not in session.out
    assert "Guarantee: epsilon" in session.out


def test_a_figure_is_rounded_up(drdp):
    session = drdp(f"risk --sigma 2 {QUICK} --fprs 0.01")
    (line,) = (one for one in session.out.splitlines() if "FPR 0.01" in one)
    assert line.split()[-1] == "0.09237"  # 0.0923622


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_trade_off_is_drawn(drdp, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    target = tmp_path / f"trade-off.{suffix}"
    session = drdp(f"risk --sigma 2 {QUICK} --plot", str(target))
    assert session.code == 0
    assert session.out.endswith(f"wrote {target}\n")
    assert target.stat().st_size > 5000


def test_almost_no_noise_and_almost_all(drdp):
    little = figures(drdp("risk --sigma 1e-300 --steps 1 --rate 1 --json").json)
    assert little["advantage", None, None]["upper"] == 1.0
    assert little["true_positive_rate", 1e-6, None]["upper"] == 1.0
    much = figures(drdp("risk --sigma 1e300 --steps 1 --rate 1 --json").json)
    assert much["advantage", None, None]["upper"] < 1e-100
    assert much["true_positive_rate", 0.1, None]["upper"] == pytest.approx(0.1)


# Calibration -------------------------------------------------------------------


def test_noise_for_an_advantage(drdp):
    answer = drdp(f"calibrate --advantage 0.1558 {RUN} --json").json
    assert answer["noise_multiplier"] == pytest.approx(0.748028, rel=1e-4)
    assert answer["advantage"]["upper"] <= 0.1558
    assert answer["target"] == {"figure": "advantage", "at_most": 0.1558, "fpr": None}
    assert answer["verdict"] == "within"
    names = [one["accountant"] for one in answer["comparisons"]]
    assert names == ["gdp", "rdp"]


def test_noise_for_an_attack(drdp):
    answer = drdp(f"calibrate --tpr 0.0923622 --fpr 0.01 {QUICK} --json").json
    assert answer["noise_multiplier"] == pytest.approx(2.0, rel=1e-5)
    reached = answer["true_positive_rate"]
    assert reached["lower"] <= reached["upper"] <= 0.0923622
    assert answer["delta"] == 1e-5
    assert answer["certified"]["upper"] == pytest.approx(4.37718, rel=1e-4)


def test_an_estimate_that_allows_too_much_is_exposed(drdp):
    session = drdp(f"calibrate --tpr 0.05 --fpr 0.01 {RUN}")
    (line,) = (one for one in session.out.splitlines() if "UNDER-REPORTS" in one)
    assert line.split()[0] == "gdp"
    alone = drdp(f"calibrate --tpr 0.05 --fpr 0.01 {RUN} --accountant gdp")
    assert "estimate" in alone.out.splitlines()[0]
    assert "UNDER-REPORTS" in alone.out


def test_an_accountant_without_an_answer_says_so_in_its_row(drdp):
    line = "calibrate --advantage 0.3 --steps 2 --rate 1/4 --sampling fixed"
    answer = drdp(f"{line} --compare prv --json").json
    (other,) = answer["comparisons"]
    assert "prv_curve" in other["problem"]
    assert other["noise_multiplier"] is None


@pytest.mark.parametrize(
    ("target", "culprits"),
    [
        ("", ("--epsilon", "--advantage", "--tpr")),
        ("--epsilon 1 --advantage 0.1", ("--epsilon", "--advantage")),
        ("--epsilon 1 --tpr 0.1 --fpr 0.01", ("--epsilon", "--tpr")),
        ("--advantage 0.1 --tpr 0.1 --fpr 0.01", ("--advantage", "--tpr")),
        ("--tpr 0.1", ("--fpr",)),
        ("--fpr 0.1", ("--tpr",)),
        ("--epsilon 1 --fpr 0.1", ("--fpr", "--tpr")),
        ("--tpr 0.01 --fpr 0.1", ("--tpr 0.01", "--fpr 0.1")),
        ("--tpr 0.1 --fpr 0.1", ("--tpr 0.1", "--fpr 0.1")),
        *((f"--advantage {x}", ("--advantage",)) for x in ("0", "1", "nan", "-1", "x")),
        *((f"--tpr {x} --fpr 0.01", ("--tpr",)) for x in ("0", "1", "nan", "1e999")),
        *((f"--tpr 0.5 --fpr {x}", ("--fpr",)) for x in ("0", "1", "nan", "1e-999")),
    ],
)
def test_a_target_that_is_none(drdp, target, culprits):
    refused(drdp(f"calibrate {target} {RUN}"), *culprits)


def test_a_target_that_asks_for_nothing(drdp):
    # Whoever is never drawn needs no noise.
    session = drdp("calibrate --advantage 0.5 --steps 1 --rate 1e-3")
    refused(session, "--advantage 0.5")
