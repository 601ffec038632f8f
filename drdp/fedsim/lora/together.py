"""Local training of many clients at once: a trainer that advances a stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.fedsim.lora.advance import optimiser_of
from drdp.fedsim.lora.layout import Layout
from drdp.fedsim.lora.local import LocalData, LocalOptimiser, SingleStep
from drdp.fedsim.lora.rows import Batch, Row
from drdp.fedsim.trainer import Update

__all__ = ["ClientGradients", "StackedTrainer"]

_MOST_TOGETHER = 64  # more clients at once gain nothing measurable on a CPU


class ClientGradients(Protocol):
    """A model that gives the gradients of many clients in one pass.

    `StackedModel` and `PackedLlama` are the two.
    """

    layout: Layout
    device: torch.device

    def gradients(self, parameters: Tensor, batch: Batch, out: Tensor) -> Tensor:
        """Write every client's gradient of its mean loss; return the losses."""
        ...

    def losses(self, parameters: Tensor, batch: Batch) -> Tensor:
        """Every client's mean loss."""
        ...

    def memory(self, rows: int, length: int) -> int:
        """Bytes that one client's pass over `rows` of `length` tokens keeps."""
        ...


@final
class StackedTrainer:
    """A `Trainer` that trains as many clients at once as fit in memory.

    Clients with fewer steps drop out of the stack when they are done; a client's
    last step may have fewer rows.  Each has its own optimiser state, step size
    and mean loss, so that it ends where it would end alone.

    Args:
        model: The model that all clients share.
        data: The clients' rows.
        initial: The parameters that training starts from.
        optimiser: The local optimiser, or `SingleStep()` for minus the gradient.
        clients_at_once: How many clients advance together; ``"auto"`` for as
            many as `memory` allows.
        memory: Bytes that ``"auto"`` may use beside the model.
        held_out: Public rows for `evaluate`.
        float64: Whether to hold the stack in float64; for tests.

    Guarantees:
        Memory does not grow with the cohort: clients go in groups of at most
        `clients_at_once`, and a group's updates are given out before the next
        group starts.

    Raises:
        InvalidArgumentError: An argument is outside its domain.
    """

    def __init__(
        self,
        model: ClientGradients,
        data: LocalData,
        *,
        initial: NDArray[np.float32],
        optimiser: LocalOptimiser | SingleStep,
        clients_at_once: int | Literal["auto"] = "auto",
        memory: float = 4e9,
        held_out: Sequence[Row] = (),
        float64: bool = False,
    ) -> None:
        if initial.shape != (model.layout.length,):
            raise InvalidArgumentError(
                f"initial must have shape ({model.layout.length},), the model's "
                f"layout, got {initial.shape}"
            )
        if clients_at_once != "auto":
            clients_at_once = _check.count(least=1, clients_at_once=clients_at_once)
        self._model = model
        self._data = data
        self._initial = initial
        self._optimiser = optimiser
        self._at_once = clients_at_once
        self._memory = _check.positive(memory=memory)
        self._held_out = held_out
        self._dtype = torch.float64 if float64 else torch.float32

    @property
    def num_clients(self) -> int:
        """How many clients there are."""
        return self._data.num_clients

    @property
    def num_parameters(self) -> int:
        """Length of the flat vector."""
        return self._model.layout.length

    def initial(self) -> NDArray[np.float32]:
        """The parameters that training starts from."""
        return self._initial.copy()

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """One update per client, in order; memory does not grow with the cohort."""
        if parameters.shape != (self.num_parameters,):
            raise InvalidArgumentError(
                f"parameters must have shape ({self.num_parameters},), got "
                f"{parameters.shape}"
            )
        for client in clients:
            if not 0 <= client < self.num_clients:
                raise InvalidArgumentError(
                    f"clients must lie in [0, {self.num_clients}), got {client}"
                )
        start = torch.from_numpy(np.asarray(parameters, dtype=np.float32))
        start = start.to(self._model.device, self._dtype)
        group: list[int] = []
        plans: list[Sequence[Sequence[Row]]] = []
        needed = 0
        for client in clients:
            plan = self._plan(client, seed)
            cost = self._cost(plan)
            if group and self._full(len(group), needed + cost):
                yield from self._group(start, group, plans)
                group, plans, needed = [], [], 0
            group.append(client)
            plans.append(plan)
            needed += cost
        if group:
            yield from self._group(start, group, plans)

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """``{"loss": ...}``: the held-out rows' mean loss over predicted tokens."""
        if not self._held_out:
            return {}
        own = torch.from_numpy(np.asarray(parameters, dtype=np.float32))[None]
        own = own.to(self._model.device, self._dtype)
        total, tokens = 0.0, 0
        for begin in range(0, len(self._held_out), 16):
            rows = self._held_out[begin : begin + 16]
            count = sum(row.predicted for row in rows)
            total += float(self._model.losses(own, [rows])[0]) * count
            tokens += count
        return {"loss": total / tokens}

    def _plan(self, client: int, seed: int) -> Sequence[Sequence[Row]]:
        plan = self._data.steps(client, seed)
        return plan[:1] if isinstance(self._optimiser, SingleStep) else plan

    def _cost(self, plan: Sequence[Sequence[Row]]) -> int:
        if self._at_once != "auto":
            return 0
        return max(
            self._model.memory(len(rows), max(len(row.inputs) for row in rows))
            for rows in plan
        )

    def _full(self, clients: int, needed: int) -> bool:
        if self._at_once != "auto":
            return clients >= self._at_once
        return clients >= _MOST_TOGETHER or needed > self._memory

    def _group(
        self,
        start: Tensor,
        clients: Sequence[int],
        plans: Sequence[Sequence[Sequence[Row]]],
    ) -> Iterator[Update]:
        """Train a group together; the clients with most steps lie first."""
        order = sorted(range(len(clients)), key=lambda i: -len(plans[i]))
        stack = start.repeat(len(clients), 1)
        gradients = torch.empty_like(stack)
        totals = torch.zeros(len(clients), dtype=torch.float64)
        settings = self._optimiser
        advance = (
            None
            if isinstance(settings, SingleStep)
            else optimiser_of(settings, stack, [clients[i] for i in order])
        )
        for step in range(len(plans[order[0]])):
            active = sum(len(plan) > step for plan in plans)
            batch = [plans[i][step] for i in order[:active]]
            losses = self._model.gradients(stack[:active], batch, gradients[:active])
            totals[:active] += losses.double().cpu()
            if advance is not None:
                advance.step(stack[:active], gradients[:active])
        moved = stack.sub_(start) if advance is not None else gradients.neg_()
        deltas = moved.to("cpu", torch.float32).numpy()
        place = {i: k for k, i in enumerate(order)}
        for i, client in enumerate(clients):
            plan = plans[i]
            yield Update(
                client=client,
                delta=deltas[place[i]].copy(),
                loss=float(totals[place[i]]) / len(plan),
                examples=sum(len(rows) for rows in plan),
            )
