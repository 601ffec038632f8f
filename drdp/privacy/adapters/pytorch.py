"""DP-SGD in a plain PyTorch loop: charged, stopped in time, and really noisy.

`private_steps` clips, adds noise and charges; `paid_steps` only charges, for a
loop that makes its own noise.

>>> from drdp.privacy.calibration import within
>>> from drdp.privacy.adapters.poisson import PoissonBatchSampler
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
>>> x = torch.randn(100, 3)
>>> def loss(model, x):  # of one example
...     return (model(x) - x.sum()).square().sum()
>>> sampler = PoissonBatchSampler(100, 0.05, steps=50)
>>> with private_steps(
...     optimizer, sampler=sampler, clip_norm=1.0, noise_multiplier=1.0,
...     budget=within(2.0, 1e-5),
... ) as run:
...     for batch in sampler:
...         if not run.room:
...             break
...         run.backward(model, loss, x[batch])
...         optimizer.step()
>>> run.steps, round(run.epsilon(1e-5), 3)
(20, 1.985)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, final

import torch
from torch.func import functional_call, grad, vmap

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.adapters.lora import bare_optimizer
from drdp.privacy.adapters.payments import Payments, step_event, total
from drdp.privacy.adapters.poisson import PoissonBatchSampler, fresh_generator
from drdp.privacy.calibration import Within
from drdp.privacy.events import Event
from drdp.privacy.payment import Payer
from drdp.privacy.pld import pld_curve

__all__ = ["Normal", "PaidRun", "PrivateRun", "paid_steps", "private_steps"]

Loss = Callable[..., torch.Tensor]


class Normal(Protocol):
    """A source of noise, such as ``drdp.mechanisms.noise.SecureNoise``."""

    def normal(self, count: int) -> Any:
        """`count` independent standard normal numbers, a numpy array."""
        ...


@final
class PaidRun:
    """What a run has paid for its steps.

    Args:
        event: What one step releases.
        payments: Where it is charged.
    """

    def __init__(self, event: Event, payments: Payments) -> None:
        self.event = event
        self.payments = payments
        self._own: Counter[Event] = Counter()

    @property
    def steps(self) -> int:
        """How many steps were paid for."""
        return sum(self._own.values())

    @property
    def spent(self) -> Event:
        """What was released."""
        return total(self._own)

    @property
    def room(self) -> bool:
        """Whether one more step stays within the budget."""
        return self.payments.room(self._own, self.event)

    def epsilon(self, delta: float) -> float:
        """The certified upper bound on epsilon at `delta`, of this run."""
        return pld_curve(self.spent).epsilon(delta)

    def pay(self) -> None:
        """Charge one step.

        Raises:
            BudgetExceededError: If the budget does not allow it.
        """
        self.payments.pay(self._own, self.event)


@final
class PrivateRun:
    """A paid run that also makes the noisy gradients.

    Args:
        paid: Where its steps are charged.
        optimizer: Whose parameters get the gradients.
        clip_norm: The largest L2 norm of one example's gradient, over all
            parameters together.
        noise_multiplier: Noise standard deviation / clip norm, of the sum.
        expected_size: What the sum is divided by: the expected batch size, which
            says nothing about the batch itself.
        noise: Where the noise comes from; by default a generator that the
            operating system seeds.
    """

    def __init__(
        self,
        paid: PaidRun,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float,
        noise_multiplier: float,
        expected_size: float,
        noise: Normal | None = None,
    ) -> None:
        self.paid = paid
        self._trained = [p for group in optimizer.param_groups for p in group["params"]]
        if any(p.dtype not in (torch.float32, torch.float64) for p in self._trained):
            raise InvalidArgumentError(
                "optimizer must train float32 or float64 parameters, in which noise"
                " does not round away; keep half precision for what is frozen"
            )
        self._clip_norm = _check.positive(clip_norm=clip_norm)
        self._noise_multiplier = _check.at_least_zero(noise_multiplier=noise_multiplier)
        self._expected_size = _check.positive(expected_size=expected_size)
        self._noise = noise
        self._generator = fresh_generator(self._trained[0].device)
        self._ready: list[torch.Tensor] = []

    @property
    def steps(self) -> int:
        """How many steps were paid for."""
        return self.paid.steps

    @property
    def spent(self) -> Event:
        """What was released."""
        return self.paid.spent

    @property
    def room(self) -> bool:
        """Whether one more step stays within the budget."""
        return self.paid.room

    def epsilon(self, delta: float) -> float:
        """The certified upper bound on epsilon at `delta`, of this run."""
        return self.paid.epsilon(delta)

    def backward(
        self,
        model: torch.nn.Module,
        loss: Loss,
        *batch: torch.Tensor,
        chunk_size: int | None = None,
    ) -> None:
        """Put the clipped, summed and noisy gradient into ``.grad``.

        Args:
            model: The model; parameters that the optimizer lacks are not touched.
            loss: ``loss(model, *example)``: a single number for one example,
                whose tensors lack the first dimension.  It cannot see others.
            *batch: Tensors with one row for each example; none is allowed.
            chunk_size: How many examples to differentiate at once.

        A gradient that is not finite counts as 0.
        """
        mine = {id(p) for p in self._trained}
        names = {n: p for n, p in model.named_parameters() if id(p) in mine}
        if len(names) != len(self._trained):
            raise InvalidArgumentError(
                f"model must hold all {len(self._trained)} parameters of the"
                f" optimizer, got {len(names)} of them"
            )
        sums = {name: torch.zeros_like(p) for name, p in names.items()}
        if batch and len(batch[0]):
            self._add_clipped(sums, model, names, loss, batch, chunk_size)
        scale = self._noise_multiplier * self._clip_norm
        for name, parameter in names.items():
            noisy = sums[name] + scale * self._draw(parameter)
            parameter.grad = noisy / self._expected_size
        self._ready = [p.grad for p in self._trained if p.grad is not None]

    def _add_clipped(
        self,
        sums: dict[str, torch.Tensor],
        model: torch.nn.Module,
        names: dict[str, torch.nn.Parameter],
        loss: Loss,
        batch: tuple[torch.Tensor, ...],
        chunk_size: int | None,
    ) -> None:
        def of_one(values: dict[str, torch.Tensor], *example: torch.Tensor) -> Any:
            def called(*inputs: Any, **options: Any) -> Any:
                return functional_call(model, values, inputs, options)

            return loss(called, *example)

        values = {name: p.detach() for name, p in names.items()}
        each = vmap(
            grad(of_one),
            in_dims=(None, *(0 for _ in batch)),
            randomness="different",
            chunk_size=chunk_size,
        )(values, *batch)
        finite = torch.stack(
            [g.flatten(1).isfinite().all(dim=1) for g in each.values()]
        ).all(dim=0)
        norms = torch.stack(
            [g.flatten(1).double().norm(dim=1) for g in each.values()]
        ).norm(dim=0)
        # a hair below the clip norm, for the rounding of the products
        limit = self._clip_norm * (1.0 - 1e-6)
        factors = (limit / norms.clamp(min=limit)).where(finite, 0.0)
        for name, found in each.items():
            found = found.nan_to_num(0.0, 0.0, 0.0)  # noqa: PLW2901
            sums[name] += torch.einsum("i,i...", factors.to(found.dtype), found)

    def _draw(self, parameter: torch.Tensor) -> torch.Tensor:
        if self._noise is not None:
            drawn = torch.as_tensor(self._noise.normal(parameter.numel()))
            return drawn.to(parameter).view_as(parameter)
        return torch.randn(
            parameter.shape,
            generator=self._generator,
            dtype=parameter.dtype,
            device=parameter.device,
        )

    def _step(self, *_: Any) -> None:
        """Before the optimizer's step: only the gradients made here, and paid."""
        ready, self._ready = self._ready, []
        now = [p.grad for p in self._trained]
        if (
            not ready
            or len(ready) != len(now)
            or any(a is not b for a, b in zip(ready, now, strict=True))
        ):
            raise InvalidArgumentError(
                "optimizer.step() must follow run.backward(...), once for each: the"
                " gradients there are not the noisy ones"
            )
        self.paid.pay()


@contextmanager
def paid_steps(
    optimizer: Any,
    event: Event,
    *,
    budget: Within | None = None,
    ledger: Payer | None = None,
    run: str = "",
) -> Iterator[PaidRun]:
    """Charge `event` before each step of an optimizer.

    The charge is durable before the parameters change.  That the gradients are
    what the event says is yours to see to; `private_steps` sees to it itself.

    Args:
        optimizer: A torch optimizer, or Opacus' or Accelerate's wrapper of one.
        event: What one step releases, such as
            ``PoissonSampled(rate, Gaussian(noise_multiplier))``.
        budget: ``within(epsilon, delta)``; the step that would cross it raises.
        ledger: Charged durably for each step.
        run: The name under which the ledger files the charges.

    Raises:
        BudgetExceededError: Out of ``optimizer.step()``, before the parameters
            change.
    """
    paid = PaidRun(event, Payments(ledger=ledger, budget=budget, run=run))
    hook = bare_optimizer(optimizer).register_step_pre_hook(lambda *_: paid.pay())
    try:
        yield paid
    finally:
        hook.remove()


@contextmanager
def private_steps(
    optimizer: torch.optim.Optimizer,
    *,
    sampler: PoissonBatchSampler,
    clip_norm: float,
    noise_multiplier: float,
    budget: Within | None = None,
    ledger: Payer | None = None,
    run: str = "",
    noise: Normal | None = None,
) -> Iterator[PrivateRun]:
    """DP-SGD: ``run.backward`` clips and adds noise, ``optimizer.step`` is charged.

    Args:
        optimizer: Any torch optimizer.
        sampler: What draws the batches; its rate is the one accounted.
        clip_norm: The largest L2 norm of one example's gradient.
        noise_multiplier: Noise standard deviation / clip norm.
        budget: ``within(epsilon, delta)``; the step that would cross it raises.
        ledger: Charged durably before the parameters change.
        run: The name under which the ledger files the charges.
        noise: A source of noise; by default a generator that the operating
            system seeds, which is not cryptographically secure.

    Guarantees:
        Inside, a step of this optimizer is made only on gradients that
        ``run.backward`` made, each of them once, and only after it was paid.

    Raises:
        BudgetExceededError: Out of ``optimizer.step()``; the parameters are then
            as they were.  Ask ``run.room`` to stop before.
    """
    _check_sampler(sampler)
    event = step_event(noise_multiplier, sampler.rate)
    paid = PaidRun(event, Payments(ledger=ledger, budget=budget, run=run))
    made = PrivateRun(
        paid,
        optimizer,
        clip_norm=clip_norm,
        noise_multiplier=noise_multiplier,
        expected_size=sampler.expected_size,
        noise=noise,
    )
    hook = optimizer.register_step_pre_hook(made._step)
    try:
        yield made
    finally:
        hook.remove()


def _check_sampler(sampler: object) -> None:
    if not isinstance(sampler, PoissonBatchSampler) or sampler.parts != 1:
        raise InvalidArgumentError(
            f"sampler must be a PoissonBatchSampler with parts=1, got {sampler!r:.80}"
        )
