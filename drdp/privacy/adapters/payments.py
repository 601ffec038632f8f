"""Whether a step is affordable, and the receipt that precedes it.

An adapter asks `Payments.room` before it begins a step, and calls
`Payments.pay` once the noisy result exists but nothing has been done with it.
Only when `pay` returns, the step may change what others will see.

>>> from drdp.privacy.calibration import within
>>> step, spent = PoissonSampled(0.05, Gaussian(1.0)), Counter()
>>> payments = Payments(budget=within(2.0, 1e-5))
>>> while payments.room(spent, step):
...     payments.pay(spent, step)
>>> spent[step]
20
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from typing import Protocol, final, runtime_checkable

from drdp import _check
from drdp.errors import BudgetExceededError, InvalidArgumentError
from drdp.privacy.calibration import Within, calibrate_count
from drdp.privacy.events import (
    Composed,
    Event,
    Gaussian,
    PoissonSampled,
    Repeated,
    atoms,
)
from drdp.privacy.payment import Payer
from drdp.privacy.pld import pld_curve
from drdp.privacy.releases import MixtureOfGaussians

__all__ = ["Payments", "Prepaid", "Remembers", "step_event", "total"]


@runtime_checkable
class Remembers(Protocol):
    """A payer that knows what it was charged and what is left, as a ledger does."""

    @property
    def spent(self) -> Event:
        """Everything charged so far."""
        ...

    def remaining(self, event: Event) -> int:
        """How many releases of `event` it would still pay for."""
        ...


class RememberingPayer(Payer, Remembers, Protocol):
    """Both at once, such as a `Ledger`."""


def total(spent: Counter[Event]) -> Event:
    """What was spent, as one event."""
    return Composed(tuple(Repeated(event, times) for event, times in spent.items()))


def step_event(noise_multiplier: float, rate: float, draws: int = 1) -> Event:
    """What one step of DP-SGD releases.

    Args:
        noise_multiplier: Noise standard deviation / clip norm, of the sum.
        rate: Probability with which an example is in a batch.
        draws: How many batches, each drawn anew, one step sums up.

    Returns:
        A Poisson-sampled Gaussian; for several draws a mixture of Gaussians,
        because one example may be in several of them and move the sum by as
        many clip norms.  (It is no single draw at `draws` times the rate, which
        would cost less.)  A batch that was drawn once and processed in parts is
        one draw.

    >>> step_event(1.0, 0.5, 2).probabilities
    (0.25, 0.5, 0.25)
    """
    if draws == 1:
        return PoissonSampled(rate, Gaussian(noise_multiplier))
    if rate in (0.0, 1.0) or noise_multiplier == 0.0:
        return PoissonSampled(rate, Gaussian(noise_multiplier / draws))
    return MixtureOfGaussians(
        tuple(float(k) for k in range(draws + 1)),
        tuple(
            math.comb(draws, k) * rate**k * (1.0 - rate) ** (draws - k)
            for k in range(draws + 1)
        ),
        noise_multiplier,
    )


@final
class Payments:
    """A budget, a ledger, both or neither, in front of every step.

    Args:
        ledger: Charged durably before each step; without one, spending lives in
            the process's memory and in its checkpoints only.
        budget: Never crossed, as far as this run (with a ledger that tells, all
            runs on it) has spent.  As with a `FixedBudget`, the noise and the rate
            of each step must not be chosen from what was released.
        run: The name under which the ledger files the charges.

    Guarantees:
        `pay` returns only after the charge is recorded.  Each charge of this
        object has a key of its own, so that repeating one that may or may not
        have gone through cannot count twice, while a step that is done again
        with fresh noise, as after a resume, is a new release and counts again.
    """

    def __init__(
        self,
        *,
        ledger: Payer | None = None,
        budget: Within | None = None,
        run: str = "",
    ) -> None:
        _check_types(ledger, budget)
        self.ledger = ledger
        self.budget = budget
        self.run = run
        self._session = secrets.token_hex(8)
        self._charges = 0
        self._beside: Counter[Event] | None = None
        self._step: Event | None = None
        self._known = self._most = 0

    def spent(self, own: Counter[Event]) -> Counter[Event]:
        """All that counts against the budget: the ledger's sum, or one's own."""
        ledger: object = self.ledger
        if isinstance(ledger, Remembers):
            return atoms(ledger.spent)
        return atoms(total(own))

    def room(self, own: Counter[Event], step: Event) -> bool:
        """Whether one more step stays within the budget, and within the ledger's.

        Args:
            own: What this run has spent.
            step: The step to come.

        Raises:
            UnplannedChargeError: If the ledger's plan has no such step.
        """
        ledger: object = self.ledger
        if isinstance(ledger, Remembers) and ledger.remaining(step) < 1:
            return False
        return self._within_budget(own, step)

    def pay(self, own: Counter[Event], step: Event, *, label: str = "step") -> None:
        """Charge a step, and add it to `own`; returns once that is durable.

        Args:
            own: What this run has spent; one step more afterwards.
            step: What is about to be released.
            label: What the ledger calls it.

        Raises:
            BudgetExceededError: If it would cross the budget.  Nothing was
                charged then, and nothing may be released.
        """
        if self.budget is not None and not self._within_budget(own, step):
            raise BudgetExceededError(
                f"one more step would cross the budget of epsilon"
                f" {self.budget.epsilon:g} at delta {self.budget.delta:g};"
                f" {sum(own.values())} steps of this run were paid; the step was not"
                " made: stop here, or start over with more noise"
            )
        if self.ledger is not None:
            key = f"{self.run}/{self._session}/{self._charges}"
            self.ledger.charge(step, label=label, run=self.run, key=key)
        self._charges += 1
        own[step] += 1

    def _within_budget(self, own: Counter[Event], step: Event) -> bool:
        if self.budget is None:
            return True
        parts = atoms(step)
        if not parts:
            return True
        spent = self.spent(own)
        if len(parts) > 1:
            return self.budget(pld_curve(total(spent) + step))
        ((atom, times),) = parts.items()
        return spent[atom] + times <= self._fitting(self.budget, spent, atom, times)

    def _fitting(
        self, budget: Within, spent: Counter[Event], atom: Event, times: int
    ) -> int:
        """A count of `atom` that fits beside the rest: the asked one, if any does.

        Equal steps are the rule: what fits is found by doubling, and remembered.
        """
        beside = Counter({event: n for event, n in spent.items() if event != atom})
        if beside != self._beside or atom != self._step:
            self._beside, self._step = beside, atom
            self._known, self._most = 0, -1
        wanted = spent[atom] + times

        def run(count: int) -> Event:
            return total(beside) + atom * count

        if wanted <= self._known or self._most >= 0:
            return self._known
        if budget(pld_curve(run(2 * wanted))):
            self._known = 2 * wanted
        else:
            fits = calibrate_count(run, pld_curve, budget, most=2 * wanted)
            self._known = self._most = fits
        return self._known


@final
class Prepaid:
    """A ledger that is charged for several steps at once, where disks are slow.

    Args:
        ledger: What is charged.
        count: For how many equal steps at a time; for as many as fit, where
            fewer do.

    Guarantees:
        Every step was charged durably before it was paid for here.  Up to
        `count` - 1 steps that were charged may never be made; whoever else
        reads the ledger counts them as spent.
    """

    def __init__(self, ledger: RememberingPayer, count: int) -> None:
        self.ledger = ledger
        self.count = _check.count(least=1, count=count)
        self._stock: Counter[Event] = Counter()

    def charge(
        self, event: Event, *, label: str = "", run: str = "", key: str | None = None
    ) -> None:
        """Take a step from the stock, or charge for new ones."""
        if self._stock[event] == 0:
            several = max(1, min(self.count, self.ledger.remaining(event)))
            charged = event if several == 1 else event * several
            if several > 1:
                label = f"{label} ({several} in advance)".strip()
            self.ledger.charge(charged, label=label, run=run, key=key)
            self._stock[event] = several
        self._stock[event] -= 1

    @property
    def spent(self) -> Event:
        """What the ledger holds, less what is in stock: it was not released."""
        stock = atoms(total(self._stock))
        return total(atoms(self.ledger.spent) - stock)

    def remaining(self, event: Event) -> int:
        """How many releases of `event` are in stock, or still fit."""
        return self._stock[event] + self.ledger.remaining(event)


def _check_types(ledger: object, budget: object) -> None:
    if ledger is not None and not callable(getattr(ledger, "charge", None)):
        raise InvalidArgumentError(
            f"ledger must have a method charge(event, ...), got {ledger!r:.80}"
        )
    if budget is not None and not isinstance(budget, Within):
        raise InvalidArgumentError(
            f"budget must be within(epsilon, delta), got {budget!r:.80}"
        )
