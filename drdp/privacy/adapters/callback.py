"""A callback that pays for a Trainer's steps, logs epsilon, and stops in time."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any, final

import torch
from opacus.optimizers import DPOptimizer, DPPerLayerOptimizer
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from drdp import _check
from drdp.errors import (
    BudgetExceededError,
    CodecError,
    InvalidArgumentError,
    UnsoundThreatModelError,
)
from drdp.privacy import codec
from drdp.privacy.adapters.lora import MoveGuard
from drdp.privacy.adapters.opacus import refuse_unsound
from drdp.privacy.adapters.payments import Payments, step_event, total
from drdp.privacy.adapters.poisson import poisson_rate, poisson_sampler
from drdp.privacy.calibration import Within, within
from drdp.privacy.events import Event, atoms
from drdp.privacy.payment import Payer
from drdp.privacy.pld import pld_curve

__all__ = ["PrivacyCallback", "refuse_arguments", "refuse_precision"]

_VERSION = 1


@final
class PrivacyCallback(TrainerCallback, ExportableState):
    """Pays for each optimiser step before it changes the model.

    Args:
        delta: The delta of the epsilon in the logs; by default the budget's.
        budget: ``within(epsilon, delta)``; training stops before the step that
            would cross it, and saves what there is.
        ledger: Charged durably for each step.  Without one, the account is in
            memory and in the trainer's checkpoints: what a crash threw away
            after the last checkpoint must then not have been seen by anyone.
        run: The name under which the ledger files the charges.

    Guarantees:
        Opacus' optimiser runs the payment after adding noise and before its
        update; where it fails, the update is not made.  A resumed run counts the
        steps up to its checkpoint once; steps done again after it have fresh
        noise, are new releases and are charged as such.

    What it cannot see is the loss.  That must be a mean, or a sum, of one loss for
    each example, which depends on no other, as `per_example_losses` in
    `drdp.privacy.adapters.huggingface` gives it; the Trainer's own is not.

    Logs gain ``epsilon``, and lose ``grad_norm``: that is the exact norm of the
    clipped and averaged gradient's noiseless original.  The logged ``loss`` is
    exact too, and so no part of the guarantee.
    """

    def __init__(
        self,
        *,
        delta: float | None = None,
        budget: Within | Sequence[float] | None = None,
        ledger: Payer | None = None,
        run: str = "",
    ) -> None:
        if isinstance(budget, Sequence):  # as a checkpoint holds it
            budget = within(*budget)
        self.payments = Payments(ledger=ledger, budget=budget, run=run)
        if delta is None and budget is not None:
            delta = budget.delta
        self.delta = _check.probability(delta=delta)
        self.restored: dict[str, Any] | None = None
        self._account = secrets.token_hex(8)
        self._own: Counter[Event] = Counter()
        self._optimizer: DPOptimizer | None = None
        self._rate, self._parts = 1.0, 1
        self._guard: MoveGuard | None = None
        self._paid = self._made = 0

    @property
    def spent(self) -> Event:
        """What this run has released."""
        return total(self._own)

    @property
    def steps(self) -> int:
        """How many steps were paid for."""
        return sum(self._own.values())

    def epsilon(self, delta: float | None = None) -> float:
        """The certified upper bound on epsilon, of this run."""
        return pld_curve(self.spent).epsilon(self.delta if delta is None else delta)

    def state(self) -> dict[str, Any]:
        """What the trainer writes into its checkpoints."""
        budget = self.payments.budget
        kept: dict[str, Any] = {"delta": self.delta, "run": self.payments.run}
        if budget is not None:
            kept["budget"] = [budget.epsilon, budget.delta]
        if self.payments.ledger is not None:
            kept["ledger"] = "a ledger that a checkpoint cannot restore"
        restored = {
            "version": _VERSION,
            "account": self._account,
            "spent": codec.to_dict(total(atoms(self.spent))),
        }
        return {"args": kept, "attributes": {"restored": restored}}

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Check the set-up, take over a checkpoint's account, and ask for room."""
        refuse_arguments(args)
        self._optimizer = _private_optimizer(kwargs["optimizer"])
        loader = kwargs["train_dataloader"]
        parts = getattr(poisson_sampler(loader), "parts", 1)
        if parts != args.gradient_accumulation_steps:
            raise UnsoundThreatModelError(
                f"gradient_accumulation_steps is {args.gradient_accumulation_steps},"
                f" but the sampler cuts each Poisson batch into {parts}; a step must be"
                f" one batch: PoissonBatchSampler(..., parts="
                f"{args.gradient_accumulation_steps})"
            )
        self._rate, self._parts = poisson_rate(loader), parts
        if state.global_step > 0:
            self._resume(state)
        if self._optimizer.step_hook not in (None, self._pay):
            raise UnsoundThreatModelError(
                "the optimizer has a step hook already, where an engine or another"
                " callback counts its steps; let one of them count"
            )
        self._optimizer.attach_step_hook(self._pay)
        self._paid = self._made = 0
        if not self._room:
            raise BudgetExceededError(
                "not even one step fits into what is left of the budget; nothing was"
                " trained"
            )
        if self._guard is not None:
            self._guard.close()
        names = [name for name, _ in kwargs["model"].named_parameters()]
        adapted = any("lora_B" in name for name in names)
        self._guard = (
            MoveGuard(kwargs["model"], kwargs["optimizer"]) if adapted else None
        )

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Make sure that the step was paid, and clear what belonged to it."""
        self._made += 1
        if self._optimizer is None or self._paid != self._made:
            raise UnsoundThreatModelError(
                f"{self._made} steps were made and {self._paid} paid: the trainer's"
                " optimizer was replaced, or a step was made elsewhere"
            )
        # the Trainer clears .grad only, Opacus keeps its sums elsewhere
        self._optimizer.zero_grad(set_to_none=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Stop here if the next step would cross the budget."""
        if not self._room:
            control.should_training_stop = True
            control.should_log = True
            control.should_save = args.save_strategy != "no"
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop watching."""
        if self._guard is not None and self._guard.watching:
            self._guard.close()
            self._guard.check()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put epsilon beside the loss."""
        epsilon = self.epsilon()
        for logs in (kwargs.get("logs"), *state.log_history[-1:]):
            if logs is not None:
                logs.pop("grad_norm", None)
                logs["epsilon"] = epsilon

    @property
    def _room(self) -> bool:
        return self.payments.room(self._own, self._step)

    @property
    def _step(self) -> Event:
        if self._optimizer is None:
            raise InvalidArgumentError("the callback must have seen training begin")
        return step_event(float(self._optimizer.noise_multiplier), self._rate)

    def _pay(self, optimizer: DPOptimizer) -> None:
        """Opacus calls it after the noise and before the update."""
        paid = False
        try:
            refuse_unsound(optimizer, paid=self.payments.ledger is not None)
            if optimizer.accumulated_iterations != self._parts:
                raise UnsoundThreatModelError(
                    f"a step must be one Poisson batch in {self._parts} parts, got"
                    f" {optimizer.accumulated_iterations} backward passes"
                )
            self.payments.pay(self._own, self._step)
            self._paid += 1
            paid = True
        finally:
            if not paid:
                for parameter in optimizer.params:
                    parameter.grad = None

    def _resume(self, state: Any) -> None:
        """Add the account of the checkpoint, unless it is this object's own."""
        found = self.restored
        if found is None:
            saved = state.stateful_callbacks.get(type(self).__name__) or {}
            saved = saved[0] if isinstance(saved, list) else saved
            found = saved.get("attributes", {}).get("restored")
        if not isinstance(found, dict) or found.get("version") != _VERSION:
            raise CodecError(
                f"the checkpoint at step {state.global_step} has no account of its"
                f" steps that version {_VERSION} can read: it was trained without this"
                " callback; start from step 0"
            )
        if found["account"] == self._account:
            return
        for event, times in atoms(codec.from_dict(found["spent"])).items():
            self._own[event] += times
        missing = atoms(self.spent) - self.payments.spent(self._own)
        if missing:
            raise UnsoundThreatModelError(
                f"the checkpoint at step {state.global_step} has spent what the ledger"
                f" does not hold, such as {next(iter(missing))!r:.120}; open the ledger"
                " that it was trained with"
            )


def _private_optimizer(optimizer: Any) -> DPOptimizer:
    """Opacus' optimiser inside Accelerate's wrapper."""
    found = optimizer
    while not isinstance(found, DPOptimizer) and hasattr(found, "optimizer"):
        found = found.optimizer
    # its subclass for ghost clipping relies on a loss that the Trainer does not use
    if type(found) not in (DPOptimizer, DPPerLayerOptimizer):
        raise UnsoundThreatModelError(
            f"the trainer's optimizer must clip each example's gradient and add noise,"
            f" got {type(found).__name__}; use make_private(trainer, ...), or pass"
            " optimizers=(opacus.optimizers.DPOptimizer(...), None)"
        )
    if found.generator is None and not found.secure_mode:
        raise UnsoundThreatModelError(
            "the optimizer draws its noise from PyTorch's global generator, which the"
            " Trainer sets to args.seed: anyone could compute it; give DPOptimizer"
            " generator=fresh_generator()"
        )
    refuse_precision(found)
    return found


def refuse_precision(optimizer: Any) -> None:
    """Say no to trained parameters in which noise would round away."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.dtype not in (torch.float32, torch.float64):
                raise UnsoundThreatModelError(
                    f"trained parameters must be float32, got {parameter.dtype}: norms"
                    " and noise round away; half precision is for what is frozen"
                )


def refuse_arguments(args: Any) -> None:
    """Training arguments under which clipping or accounting would not hold."""
    refused = {
        "fp16": (args.fp16, "its loss scale would move the clip norm"),
        "bf16": (args.bf16, "norms of bfloat16 gradients are out by up to 0.4 %"),
        "gradient_checkpointing": (
            getattr(args, "activation_checkpointing", None)  # its name from 5.23 on
            or getattr(args, "gradient_checkpointing", None),
            "per-example gradients are lost in it",
        ),
        "auto_find_batch_size": (
            args.auto_find_batch_size,
            "it starts over with another batch size",
        ),
        "torch_compile": (args.torch_compile, "per-example gradients are lost in it"),
        "deepspeed": (args.deepspeed, "it replaces the optimizer"),
        "fsdp": (args.fsdp, "it replaces the optimizer"),
    }
    for name, (value, why) in refused.items():
        if value:
            raise UnsoundThreatModelError(
                f"{name} must be off for private training, got {value!r}: {why}"
            )
    if args.world_size > 1 or args.n_gpu > 1:
        raise UnsoundThreatModelError(
            f"private training here takes one process and one device, got"
            f" {args.world_size} and {args.n_gpu}; set CUDA_VISIBLE_DEVICES to one"
        )
