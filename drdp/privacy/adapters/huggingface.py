"""The Hugging Face Trainer, private: paid steps, epsilon in its logs, a timely stop.

`make_private` turns a ``Trainer`` into one that draws Poisson batches, clips
each example's gradient, adds noise and pays for each step.  `PrivacyCallback`
alone does the paying, logging and stopping for a trainer that was set up by
hand, and refuses one whose gradients or batches are not what it would charge.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import Trainer

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.adapters.callback import (
    PrivacyCallback,
    refuse_arguments,
    refuse_precision,
)
from drdp.privacy.adapters.payments import total
from drdp.privacy.adapters.poisson import (
    PoissonBatchSampler,
    fresh_generator,
    with_empty_batches,
)
from drdp.privacy.calibration import Within
from drdp.privacy.inversion import noise_multiplier_for
from drdp.privacy.payment import Payer

__all__ = ["PrivacyCallback", "make_private", "per_example_losses"]

Losses = Callable[[Any, torch.Tensor], torch.Tensor]


def per_example_losses(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """One loss for each example: the mean over its own tokens, or its class's.

    The Trainer's own loss divides by the number of tokens in the whole batch.
    One example more or fewer then changes what every other contributes, and
    clipping each of them does not bound the change of their sum.

    Args:
        outputs: What the model returned; its logits have shape (examples, tokens,
            vocabulary), of a causal language model, or (examples, classes).
        labels: Token or class numbers; -100 where there is nothing to learn.

    Returns:
        Losses of shape (examples,); 0 for an example with no label.
    """
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs.logits
    if logits.ndim == 3:
        logits, labels = logits[:, :-1], labels[:, 1:]
    else:
        logits, labels = logits[:, None], labels.reshape(len(logits), 1)
    each = cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), reduction="none"
    ).view(labels.shape)
    return each.sum(dim=1) / (labels != -100).sum(dim=1).clamp(min=1)


def make_private(
    trainer: Trainer,
    *,
    clip_norm: float,
    noise_multiplier: float | None = None,
    budget: Within | None = None,
    delta: float | None = None,
    rate: float | None = None,
    ledger: Payer | None = None,
    run: str = "",
    losses: Losses = per_example_losses,
) -> PrivacyCallback:
    """Make a Trainer train with DP-SGD, and return the callback that counts.

    It changes the trainer: Opacus' hooks and optimiser, a loader that draws
    Poisson batches, a loss for each example, and the callback.  Call it once,
    before ``train``.

    Args:
        trainer: With a map-style ``train_dataset`` whose batches have labels; its
            optimiser, schedule, logging and checkpoints stay what they are.
        clip_norm: The largest L2 norm of one example's gradient, over all
            trainable parameters together.
        noise_multiplier: Noise standard deviation / clip norm; by default the
            least with which the planned steps fit into what is left of the budget.
        budget: ``within(epsilon, delta)``; training stops before it is crossed.
        delta: Of the logged epsilon; by default the budget's.
        rate: Probability with which an example is in a batch; by default
            per_device_train_batch_size * gradient_accumulation_steps / examples.
        ledger: Charged durably for each step.
        run: The name under which the ledger files the charges.
        losses: ``losses(outputs, labels)``, of shape (examples,); each may depend
            on its own example only.

    Raises:
        UnsoundThreatModelError: For settings under which the noise does not hide
            what is charged, such as mixed precision or several processes.
    """
    refuse_arguments(trainer.args)
    model = trainer.model
    if model is None or not isinstance(model, torch.nn.Module):
        raise InvalidArgumentError("trainer must have a model")
    ModuleValidator.validate(model, strict=True)
    plain = trainer.get_train_dataloader()
    size, parts = len(plain.dataset), trainer.args.gradient_accumulation_steps  # type: ignore[arg-type]
    if rate is None:
        rate = min(1.0, trainer.args.per_device_train_batch_size * parts / size)
    rate = _check.positive(rate=_check.rate(rate=rate))
    steps = max(1, round(1.0 / rate))
    sampler = PoissonBatchSampler(size, rate, steps=steps, parts=parts)
    callback = PrivacyCallback(delta=delta, budget=budget, ledger=ledger, run=run)
    if noise_multiplier is None:
        if budget is None:
            raise InvalidArgumentError("noise_multiplier or budget must be given")
        planned = trainer.args.max_steps
        if planned <= 0:
            planned = math.ceil(trainer.args.num_train_epochs * steps)
        noise_multiplier = noise_multiplier_for(
            budget.epsilon,
            budget.delta,
            sampler.rate,
            planned,
            beside=total(callback.payments.spent(Counter())),
        )
    noise_multiplier = _check.positive(noise_multiplier=noise_multiplier)

    optimizer = trainer.create_optimizer()
    refuse_precision(optimizer)
    trainer.optimizer = DPOptimizer(
        optimizer=optimizer,
        noise_multiplier=noise_multiplier,
        max_grad_norm=_check.positive(clip_norm=clip_norm),
        # Opacus multiplies it by the number of accumulated batches
        expected_batch_size=sampler.expected_size / parts,
        generator=fresh_generator(next(model.parameters()).device),
    )
    GradSampleHooks(model, loss_reduction="mean", strict=True)
    loader: DataLoader[Any] = DataLoader(
        plain.dataset,
        batch_sampler=sampler,
        collate_fn=with_empty_batches(plain.collate_fn, plain.dataset[0]),
        num_workers=trainer.args.dataloader_num_workers,
        pin_memory=trainer.args.dataloader_pin_memory,
    )

    def train_loader() -> DataLoader[Any]:
        prepared: DataLoader[Any] = trainer.accelerator.prepare(loader)
        return prepared

    def mean_loss(
        outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        each = losses(outputs, labels)
        if each.shape != labels.shape[:1]:
            raise InvalidArgumentError(
                f"losses must return one number for each of {len(labels)} examples,"
                f" got shape {tuple(each.shape)}"
            )
        learns = (labels.flatten(1) if labels.ndim > 1 else labels[:, None]) != -100
        return each.where(learns.any(dim=1), 0.0).mean()

    trainer.get_train_dataloader = train_loader  # type: ignore[method-assign]
    trainer.compute_loss_func = mean_loss
    # first, so that the callbacks that show the logs see them complete
    trainer.callback_handler.callbacks.insert(0, callback)
    return callback
