"""Paying for steps: what fits, what is charged, what a step of several batches is."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drdp.errors import BudgetExceededError, InvalidArgumentError
from drdp.privacy.adapters.payments import Payments, Prepaid, step_event, total
from drdp.privacy.calibration import calibrate_count, within
from drdp.privacy.events import NOTHING, Gaussian, NonPrivate, PoissonSampled, atoms
from drdp.privacy.fixed_budget import FixedBudget
from drdp.privacy.ledger import Ledger
from drdp.privacy.pld import epsilon_interval, pld_curve
from tests.adapters.models import Receipts


@given(
    rate=st.sampled_from([0.01, 0.05, 0.3, 1.0]),
    noise=st.floats(0.7, 3.0),
    epsilon=st.floats(0.3, 6.0),
)
@settings(max_examples=20)
def test_exactly_as_many_steps_are_paid_as_fit(rate, noise, epsilon):
    step, spent = step_event(noise, rate), Counter()
    target = within(epsilon, 1e-5)
    payments = Payments(budget=target)
    while payments.room(spent, step) and spent[step] < 300:
        payments.pay(spent, step)
    most = calibrate_count(lambda n: step * n, pld_curve, target, most=300)
    assert spent[step] == most
    if most < 300:
        with pytest.raises(BudgetExceededError, match=f"{most} steps of this run"):
            payments.pay(spent, step)
        assert spent[step] == most


def test_other_steps_count_towards_the_same_budget():
    first, second = step_event(1.0, 0.05), step_event(0.8, 0.05)
    spent, payments = Counter(), Payments(budget=within(2.0, 1e-5))
    for _ in range(10):
        payments.pay(spent, first)
    while payments.room(spent, second):
        payments.pay(spent, second)
    while payments.room(spent, first):
        payments.pay(spent, first)
    assert epsilon_interval(total(spent), 1e-5).upper <= 2.0
    for step in (first, second):
        assert epsilon_interval(total(spent) + step, 1e-5).lower > 2.0


def test_a_ledger_that_refuses_leaves_nothing_counted():
    ledger, spent = Receipts(most=2), Counter()
    payments = Payments(ledger=ledger, run="r")
    step = step_event(1.0, 0.1)
    payments.pay(spent, step)
    payments.pay(spent, step)
    with pytest.raises(BudgetExceededError):
        payments.pay(spent, step)
    assert spent[step] == 2
    assert ledger.total == {step: 2}


def test_no_two_charges_share_a_key_even_across_processes():
    ledger = Receipts()
    for _ in range(3):  # three processes of one run
        payments, spent = Payments(ledger=ledger, run="r"), Counter()
        for _ in range(4):
            payments.pay(spent, step_event(1.0, 0.1))
    assert len(set(ledger.keys)) == 12


def test_several_draws_are_a_binomial_mixture():
    found = step_event(1.3, 0.1, 3)
    assert found.sensitivities == (0.0, 1.0, 2.0, 3.0)
    assert found.probabilities == pytest.approx((0.729, 0.243, 0.027, 0.001))
    # one in all of them without sampling: three clip norms
    assert atoms(step_event(1.5, 1.0, 3)) == {Gaussian(0.5): 1}
    assert atoms(step_event(0.0, 0.5, 3)) == {NonPrivate(): 1}
    assert atoms(step_event(1.5, 0.0, 3)) == atoms(NOTHING)
    assert step_event(1.5, 0.2, 1) == PoissonSampled(0.2, Gaussian(1.5))


def test_several_draws_cost_more_than_each_alone():
    two = epsilon_interval(step_event(1.0, 0.05, 2) * 10, 1e-5)
    one = epsilon_interval(step_event(1.0, 0.05) * 10, 1e-5)
    assert two.lower > one.upper


@pytest.mark.parametrize(
    "options", [{"ledger": "receipts"}, {"budget": (2.0, 1e-5)}, {"ledger": object()}]
)
def test_what_is_no_ledger_and_no_budget_is_refused(options):
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        Payments(**options)


def test_paying_in_advance_covers_every_step_and_stops_at_the_same_one(tmp_path):
    step, spent = step_event(1.0, 0.05), Counter()
    with Ledger.create(
        tmp_path / "ledger.db", budget=FixedBudget(2.0, 1e-5, step)
    ) as ledger:
        payments = Payments(ledger=Prepaid(ledger, 6), run="r")
        held = []
        while payments.room(spent, step):
            payments.pay(spent, step)
            held.append(atoms(ledger.spent)[step])
        assert held == [6] * 6 + [12] * 6 + [18] * 6 + [20] * 2
        assert spent[step] == 20
        with pytest.raises(BudgetExceededError):
            payments.pay(spent, step)
        assert len(ledger.entries()) == 1 + 4


def test_what_is_in_stock_does_not_count_as_released(tmp_path):
    """A budget of one's own is used to its end, though the ledger holds more."""
    step, spent = step_event(1.0, 0.05), Counter()
    with Ledger.create(tmp_path / "ledger.db") as ledger:
        prepaid = Prepaid(ledger, 50)
        payments = Payments(ledger=prepaid, budget=within(2.0, 1e-5))
        while payments.room(spent, step):
            payments.pay(spent, step)
        assert spent[step] == atoms(prepaid.spent)[step] == 20
        assert atoms(ledger.spent)[step] == 50
        # another process counts all of them
        other = Payments(ledger=ledger, budget=within(2.0, 1e-5))
        assert not other.room(Counter(), step)
