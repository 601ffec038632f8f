"""What a ledger guarantees, what it has left, and how it got there."""

import pytest

from drdp.errors import CalibrationError, InvalidArgumentError, UnsupportedEventError
from drdp.privacy.events import Gaussian, PoissonSampled
from drdp.privacy.filters import GaussianFilter, RenyiFilter, ZeroConcentratedFilter
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.history import history
from drdp.privacy.inversion import noise_multiplier_for
from drdp.privacy.ledger import Ledger
from drdp.privacy.ledger_statement import statement_of
from drdp.privacy.pld import epsilon_interval, pld_curve
from drdp.privacy.remainder import noise_multiplier_left
from drdp.privacy.statement import Circumstances

ROUND = PoissonSampled(0.05, Gaussian(1.0))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


def test_a_plan_that_was_half_used_still_guarantees_all_of_it(path):
    with Ledger.create(path, budget=FixedBudget(2.0, 1e-5, ROUND)) as ledger:
        ledger.charge(ROUND * 10)
        found = statement_of(ledger, with_risk=False)
        whole = epsilon_interval(ROUND * 20, 1e-5).upper
        assert found.epsilon.upper == pytest.approx(whole, rel=1e-9)
        assert found.event == ROUND * 10
        assert "the stop" not in found.sentence()
        ledger.charge(ROUND * 10)
        assert statement_of(ledger, with_risk=False).epsilon.lower > 1.98


def test_a_filter_guarantees_its_budget_and_never_the_smaller_sum(path):
    budget = RenyiFilter(2.0, 1e-5, 8.0)
    with Ledger.create(path, budget=budget, unit="example") as ledger:
        ledger.charge(ROUND)
        found = statement_of(ledger, Circumstances(clip_norm=1.0))
        assert found.epsilon.upper == 2.0
        assert found.risk[0].upper > pld_curve(ROUND).advantage
        document = found.to_dict()
        assert document["definition"]["unit"] == "example"
        assert any("may have been chosen" in a for a in document["assumptions"])


def test_a_ledger_without_a_budget_needs_a_delta(path):
    with Ledger.create(path) as ledger:
        ledger.charge(Gaussian(1.0))
        with pytest.raises(InvalidArgumentError, match="delta must be given"):
            statement_of(ledger)
        found = statement_of(ledger, delta=1e-5, with_risk=False)
        assert found.epsilon.upper == pytest.approx(4.377178, abs=1e-6)
        with pytest.raises(InvalidArgumentError, match="has none"):
            noise_multiplier_left(ledger, 0.05, 10)


def test_what_is_left_of_a_fixed_budget(path):
    with Ledger.create(path, budget=FixedBudget(2.0, 1e-5, ROUND)) as ledger:
        ledger.charge(ROUND * 8)
        noise = noise_multiplier_left(ledger, 0.05, 20)
        other = noise_multiplier_for(2.0, 1e-5, 0.05, 20, beside=ROUND * 8)
        assert noise == pytest.approx(other, rel=2e-6)
        run = PoissonSampled(0.05, Gaussian(noise))
        ledger.declare(run)
        ledger.charge(run * 20)
        assert pld_curve(ledger.spent).delta(2.0) <= 1e-5


@pytest.mark.parametrize(
    ("budget", "rate"),
    [
        (ZeroConcentratedFilter(2.0, 1e-5), 1.0),
        (GaussianFilter(2.0, 1e-5), 1.0),
        (RenyiFilter(2.0, 1e-5, (8.0, 16.0)), 0.02),
    ],
)
def test_what_is_left_of_a_filter(path, budget, rate):
    with Ledger.create(path, budget=budget) as ledger:
        ledger.charge(PoissonSampled(rate, Gaussian(30.0)) * 20)
        noise = noise_multiplier_left(ledger, rate, 10)
        ledger.charge(PoissonSampled(rate, Gaussian(noise)) * 10)
        assert 0.9999 < budget.used(ledger.tally) <= 1.0
        if rate == 1.0:
            with pytest.raises(CalibrationError, match="used up"):
                noise_multiplier_left(ledger, rate, 10**9)
            with pytest.raises(UnsupportedEventError):
                noise_multiplier_left(ledger, 0.5, 10)


def test_the_history_grows_to_what_is_spent(path):
    budget = GaussianFilter(1.0, 1e-5)
    with Ledger.create(path, budget=budget) as ledger:
        for _ in range(12):
            ledger.charge(Gaussian(50.0))
        ledger.note("the end")
        seqs, values = history(ledger.entries(), budget, points=5)
        assert seqs == [0, 3, 6, 9, 13]
        assert values == sorted(values)
        assert values[-1] == budget.spent_epsilon(ledger.tally)
