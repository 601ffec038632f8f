"""The guarantee of a ledger as a statement.

What a filter guarantees is its budget, whatever was chosen on the way; what the
same releases would cost with parameters fixed beforehand is no guarantee then.
A fixed budget guarantees what its whole plan costs, also where the run stopped
early because of what it had released.
"""

from __future__ import annotations

from dataclasses import replace

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.curves import Interval, PrivacyCurve
from drdp.privacy.events import ApproxDP, atoms
from drdp.privacy.figures import certified_curve, figures
from drdp.privacy.fixed_budget import FixedBudget, certified
from drdp.privacy.ledger import Ledger
from drdp.privacy.risk import remembered
from drdp.privacy.statement import Circumstances, Statement, state

__all__ = ["statement_of"]

_PAID = (
    "All releases about the data were charged to this ledger, each before it was made."
)
_PLANNED = (
    "The planned releases were not chosen from what had been released.  Their order,"
    " and where the run stopped, may have been."
)
_ADAPTIVE = (
    "The parameters of each release, and where the run stopped, may have been chosen"
    " from what had been released before, and from nothing else about the data."
)
_COVERED = "the ledger up to entry {} with the hash {}"


def statement_of(
    ledger: Ledger,
    circumstances: Circumstances | None = None,
    *,
    delta: float | None = None,
    with_risk: bool = True,
) -> Statement:
    """The statement of what a ledger guarantees.

    Args:
        ledger: An open ledger.
        circumstances: What is known beside it; the unit, the population and the
            neighbouring relation are the ledger's own.
        delta: Needed for a ledger without a budget; otherwise the budget's.
        with_risk: Whether figures of risk are computed.

    Returns:
        With a filter, its whole budget; with a fixed budget, the certified cost
        of its plan as often as it fits, never more than the budget; without a
        budget, the certified cost of what was charged.

    Raises:
        InvalidArgumentError: If the delta is missing, or not the budget's.
    """
    spent, budget, terms = ledger.spent, ledger.budget, ledger.terms
    count, last = ledger.head
    given = circumstances or Circumstances()
    about = replace(
        given,
        unit=terms.unit,
        population=terms.population,
        adjacency=terms.adjacency,
        data_accesses=given.data_accesses or _COVERED.format(count - 1, last),
        assumptions=(_PAID, *given.assumptions),
    )
    if budget is None:
        if delta is None:
            raise InvalidArgumentError(
                "delta must be given for a ledger without a budget"
            )
        return state(spent, delta, about, with_risk=with_risk)
    if delta is not None and _check.probability(delta=delta) != budget.delta:
        raise InvalidArgumentError(
            f"delta must be that of the budget, {budget.delta:g}, or left out;"
            f" got {delta:g}"
        )
    about = replace(about, delta_source=given.delta_source or "the ledger's budget")
    curve: PrivacyCurve
    if isinstance(budget, FixedBudget):
        about = replace(about, choices=_PLANNED)
        if atoms(budget.whole) == atoms(spent):
            return state(spent, budget.delta, about, with_risk=with_risk)
        curve = certified(budget.whole)
        epsilon = min(budget.epsilon, curve.epsilon(budget.delta))
        accountant = "upper bound"
        method = f"the whole plan, {budget.times} times, of which a part was released"
    else:
        about = replace(about, choices=_ADAPTIVE)
        curve = certified_curve(ApproxDP(budget.epsilon, budget.delta), "upper")
        epsilon, accountant = budget.epsilon, type(budget).__name__
        method = "the whole budget, which the filter keeps to"
    risk = tuple(figures(remembered(curve))) if with_risk else None
    found = Interval(0.0, epsilon, method)
    return Statement(spent, budget.delta, found, accountant, about, risk)
