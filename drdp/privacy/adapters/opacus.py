"""Opacus with certified accounting, and with charges that precede each update.

`register` adds the accountant under the name ``"drdp"``, which is all that
``PrivacyEngine(accountant="drdp")`` needs.  `CertifiedEngine` is a
``PrivacyEngine`` that also checks what its accounting relies on, and pays a
ledger.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, MutableMapping
from copy import deepcopy
from typing import Any, final

import torch
from opacus import PrivacyEngine
from opacus.accountants import IAccountant
from opacus.accountants.registry import _ACCOUNTANTS, register_accountant
from opacus.data_loader import DPDataLoader
from opacus.optimizers import AdaClipDPOptimizer, DPOptimizer

from drdp import _check
from drdp.errors import (
    CodecError,
    InvalidArgumentError,
    UnsoundThreatModelError,
)
from drdp.privacy.adapters.payments import Payments, step_event, total
from drdp.privacy.adapters.poisson import (
    drawn_rate,
    fresh_generator,
    poisson_rate,
    poisson_sampler,
)
from drdp.privacy.calibration import Within
from drdp.privacy.curves import Interval
from drdp.privacy.events import Event
from drdp.privacy.inversion import noise_multiplier_for
from drdp.privacy.payment import Payer
from drdp.privacy.pld import epsilon_interval, pld_curve

__all__ = [
    "MECHANISM",
    "CertifiedAccountant",
    "CertifiedEngine",
    "refuse_unsound",
    "register",
]

MECHANISM = "drdp"
_VERSION = 1

History = list[tuple[Any, ...]]


@final
class CertifiedAccountant(IAccountant):  # type: ignore[misc]  # Opacus has no types
    """An Opacus accountant whose epsilon is a certified upper bound.

    Args:
        ledger: Charged durably for each step, before the parameters change.
        budget: ``within(epsilon, delta)``; the step that would cross it raises.
        run: The name under which the ledger files the charges.

    Attributes:
        history: (noise multiplier, sample rate, steps) of runs of equal steps, as
            Opacus keeps it; a fourth number where a step summed up several
            batches drawn anew.

    Guarantees:
        Under add/remove adjacency and Poisson sampling, `get_epsilon` is never
        below the truth, at any delta.

    >>> accountant = CertifiedAccountant()
    >>> for _ in range(20):
    ...     accountant.step(noise_multiplier=1.0, sample_rate=0.05)
    >>> len(accountant), round(accountant.get_epsilon(1e-5), 4)
    (20, 1.9847)
    """

    def __init__(
        self,
        *,
        ledger: Payer | None = None,
        budget: Within | None = None,
        run: str = "",
    ) -> None:
        self.history: History = []
        self._payments = Payments(ledger=ledger, budget=budget, run=run)

    @classmethod
    def mechanism(cls) -> str:
        """The name that Opacus knows it by."""
        return MECHANISM

    def __len__(self) -> int:
        """How many optimisation steps were taken."""
        return sum(entry[2] for entry in self.history)

    @property
    def event(self) -> Event:
        """What was released so far."""
        return total(self._spent())

    def step(self, *, noise_multiplier: float, sample_rate: float) -> None:
        """Pay for one step on one Poisson sample, before it changes anything.

        Raises:
            BudgetExceededError: If the budget, or the ledger's, does not allow it.
                Nothing is recorded then, and nothing may be released.
        """
        self._step(noise_multiplier, sample_rate, 1)

    def get_epsilon(
        self, delta: float, *, tolerance: float = 1e-6, **_others: Any
    ) -> float:
        """The certified upper bound on epsilon at `delta`.

        Args:
            delta: Strictly between 0 and 1.
            tolerance: How tight the bound shall be, in epsilon.
            **_others: Options of Opacus' own accountants (``eps_error``,
                ``alphas``, and what ``make_private_with_epsilon`` passes on) have
                no effect here.
        """
        return pld_curve(self.event, tolerance=tolerance).epsilon(delta)

    def get_interval(self, delta: float) -> Interval:
        """An interval that contains the true epsilon at `delta`."""
        return epsilon_interval(self.event, delta)

    def get_delta(self, epsilon: float) -> float:
        """The certified upper bound on delta at `epsilon`."""
        return pld_curve(self.event).delta(epsilon)

    def get_optimizer_hook_fn(
        self, sample_rate: float
    ) -> Callable[[DPOptimizer], None]:
        """What Opacus' optimiser runs between adding noise and its update.

        The charge is durable when the hook returns, and the parameters change
        after that; if it raises, the parameters stay as they are and the noisy
        gradient is dropped.

        Args:
            sample_rate: Probability with which an example is in one batch; it is
                rounded up to what Opacus' single-precision draws make of it.
        """
        return self.charging_hook(drawn_rate(sample_rate))

    def charging_hook(self, rate: float) -> Callable[[DPOptimizer], None]:
        """The same for batches that are drawn at exactly this rate."""
        rate = _check.rate(rate=rate)

        def hook(optimizer: DPOptimizer) -> None:
            paid = False
            try:
                refuse_unsound(optimizer, paid=self._payments.ledger is not None)
                draws = optimizer.accumulated_iterations
                self._step(float(optimizer.noise_multiplier), rate, draws)
                paid = True
            finally:
                if not paid:
                    for parameter in optimizer.params:
                        parameter.grad = None

        return hook

    def state_dict(
        self, destination: MutableMapping[str, Any] | None = None
    ) -> MutableMapping[str, Any]:
        """Its history, name and version; a copy that later steps leave alone."""
        state = OrderedDict() if destination is None else destination
        state["history"] = deepcopy(self.history)
        state["mechanism"] = MECHANISM
        state["version"] = _VERSION
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state; what does not fit is refused and changes nothing.

        Raises:
            CodecError: A ValueError, if the state is another accountant's, of
                another version, or not a history.
        """
        found = dict(state_dict or {})
        for key, wanted in (("mechanism", MECHANISM), ("version", _VERSION)):
            if found.get(key) != wanted:
                raise CodecError(
                    f"state_dict must have {key} {wanted!r}, got"
                    f" {found.get(key)!r:.80}; load a state that a"
                    f" {MECHANISM!r} accountant of this version has written"
                )
        self.history = _history(found.get("history"))

    @property
    def payments(self) -> Payments:
        """The ledger and the budget behind it."""
        return self._payments

    def _spent(self) -> Counter[Event]:
        spent: Counter[Event] = Counter()
        for noise, rate, steps, *draws in _history(self.history):
            spent[step_event(noise, rate, *draws)] += steps
        return spent

    def _step(self, noise_multiplier: float, rate: float, draws: int) -> None:
        step = step_event(noise_multiplier, rate, draws)
        self._payments.pay(self._spent(), step)
        same = (
            (noise_multiplier, rate) if draws == 1 else (noise_multiplier, rate, draws)
        )
        last = self.history[-1] if self.history else None
        if last is not None and (*last[:2], *last[3:]) == same:
            self.history[-1] = (*last[:2], last[2] + 1, *last[3:])
        else:
            self.history.append((noise_multiplier, rate, 1, *same[2:]))


def _history(entries: Any) -> History:
    """A history, checked and copied."""
    if not isinstance(entries, list | tuple):
        raise CodecError(f"history must be a list of steps, got {entries!r:.80}")
    found: History = []
    for entry in entries:
        if not isinstance(entry, list | tuple) or len(entry) not in (3, 4):
            raise CodecError(
                "history must hold (noise multiplier, sample rate, steps),"
                f" got {entry!r:.80}"
            )
        try:
            noise = _check.at_least_zero(noise_multiplier=entry[0])
            rate = _check.rate(sample_rate=entry[1])
            steps = _check.count(steps=entry[2])
            draws = tuple(_check.count(least=2, batches=n) for n in entry[3:])
        except InvalidArgumentError as error:
            raise CodecError(f"history: {error}") from None
        found.append((noise, rate, steps, *draws))
    return found


def refuse_unsound(optimizer: DPOptimizer, *, paid: bool) -> None:
    """Say no where the noise does not hide what the event says it hides."""
    if isinstance(optimizer, AdaClipDPOptimizer):
        raise UnsoundThreatModelError(
            "clipping='adaptive' sets the clip norm by the exact size of the batch,"
            " which no noise hides; use clipping='flat' or 'per_layer'"
        )
    if paid and torch.distributed.is_available() and torch.distributed.is_initialized():
        raise UnsoundThreatModelError(
            "a ledger would be charged once by every process of a distributed run;"
            " leave the ledger out there, and charge the run as one event"
        )
    for parameter in optimizer.params:
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            raise InvalidArgumentError(
                "the noisy gradient must be finite, got nan or inf: it would reveal"
                " the example it came from; find that example, or lower the"
                " learning rate"
            )


def register() -> None:
    """Make ``"drdp"`` an accountant that Opacus knows; once or many times.

    >>> from opacus.accountants import create_accountant
    >>> register()
    >>> type(create_accountant("drdp")).__name__
    'CertifiedAccountant'
    """
    if _ACCOUNTANTS.get(MECHANISM) is not CertifiedAccountant:
        register_accountant(MECHANISM, CertifiedAccountant, force=True)


@final
class CertifiedEngine(PrivacyEngine):  # type: ignore[misc]  # Opacus has no types
    """A ``PrivacyEngine`` that checks what its accounting relies on.

    Args:
        ledger: Charged durably for each step, before the parameters change.
        budget: ``within(epsilon, delta)``; the step that would cross it raises.
        run: The name under which the ledger files the charges.
        secure_mode: As in Opacus.  Without it, noise and sampling come from
            generators that the operating system seeds, not from PyTorch's
            global one, which ``torch.manual_seed`` would make predictable.

    `make_private` and `make_private_with_epsilon` are used as Opacus' own.
    They refuse a loader that is not Poisson-sampled, and account for the rate
    with which it really draws.
    """

    def __init__(
        self,
        *,
        ledger: Payer | None = None,
        budget: Within | None = None,
        run: str = "",
        secure_mode: bool = False,
    ) -> None:
        register()
        super().__init__(accountant=MECHANISM, secure_mode=secure_mode)
        self.accountant = CertifiedAccountant(ledger=ledger, budget=budget, run=run)
        if not secure_mode:
            self.secure_rng = fresh_generator()

    def make_private(
        self,
        *,
        optimizer: Any,
        poisson_sampling: bool = True,
        rand_on_empty: bool = False,
        assume_poisson: bool = False,
        **options: Any,
    ) -> Any:
        """Opacus' own, on Poisson samples.

        Args:
            optimizer: The optimiser to wrap.
            poisson_sampling: False only with a loader that draws Poisson samples
                by itself, as one with a `PoissonBatchSampler` does.
            rand_on_empty: Refused: a random example in an empty batch may differ
                from the only real one by two clip norms.
            assume_poisson: Trust a loader that is not recognised.  The guarantee
                then rests on your word that each example joins each batch
                independently, with probability 1 / len(data_loader).
            **options: Opacus' other arguments, unchanged.

        Raises:
            UnsoundThreatModelError: If the sampling is not what is accounted.
        """
        if rand_on_empty:
            raise UnsoundThreatModelError(
                "rand_on_empty=True puts a made-up example into an empty batch, which"
                " the accounting does not cover; leave it False"
            )
        if not poisson_sampling and not assume_poisson:
            sampler = poisson_sampler(options["data_loader"])
            if getattr(sampler, "parts", 1) != 1:
                raise UnsoundThreatModelError(
                    f"parts must be 1 with Opacus, got {sampler.parts}; it has"
                    " BatchMemoryManager to cut large batches"
                )
        if not self.secure_mode and options.get("noise_generator") is None:
            place = next(p.device for g in optimizer.param_groups for p in g["params"])
            options["noise_generator"] = fresh_generator(place)
        made = super().make_private(
            optimizer=optimizer, poisson_sampling=poisson_sampling, **options
        )
        loader = made[-1]
        if isinstance(loader, DPDataLoader):
            rate = loader.sample_rate
            # drawn_rate(rate) may be above it, the next multiple of 2^-24 is not
            loader.batch_sampler.sample_rate = math.floor(rate * 2.0**24) / 2.0**24
        else:
            rate = 1 / len(loader) if assume_poisson else poisson_rate(loader)
        made[1].attach_step_hook(self.accountant.charging_hook(rate))
        if made[1].expected_batch_size is not None:
            # what Opacus takes it to be rests on one pass having 1 / rate steps
            made[1].expected_batch_size = rate * len(loader.dataset)
        return made

    def make_private_with_epsilon(
        self,
        *,
        data_loader: Any,
        target_epsilon: float,
        target_delta: float,
        epochs: int,
        poisson_sampling: bool = True,
        assume_poisson: bool = False,
        **options: Any,
    ) -> Any:
        """Opacus' own, with the noise that just meets the target.

        What this engine, or its ledger, has spent before counts towards the
        target (Opacus' own assumes a zero starting point), and the steps are
        those that the loader really makes.

        Raises:
            CalibrationError: If what was spent already exceeds the target.
        """
        epochs = _check.count(least=1, epochs=epochs)
        known = poisson_sampling or assume_poisson
        rate = 1.0 / len(data_loader)  # with which Opacus makes its own loader
        steps = epochs * (int(1.0 / rate) if poisson_sampling else len(data_loader))
        rate = rate if known else poisson_rate(data_loader)
        spent = self.accountant.payments.spent(self.accountant._spent())
        noise = noise_multiplier_for(
            target_epsilon, target_delta, rate, steps, beside=total(spent)
        )
        return self.make_private(
            data_loader=data_loader,
            noise_multiplier=noise,
            poisson_sampling=poisson_sampling,
            assume_poisson=assume_poisson,
            **options,
        )
