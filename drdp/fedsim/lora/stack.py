"""Any causal model with one LoRA adapter per client in each targeted layer.

Rows are grouped by client; the rows of client k meet the factors of client k
by batched matrix products, while the frozen base is shared.  The total loss is
the sum of the clients' own mean losses, so that slice k of the gradient is the
gradient of client k alone.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from drdp.errors import InvalidArgumentError
from drdp.fedsim.examples import IGNORED
from drdp.fedsim.lora.layout import Layout, Place
from drdp.fedsim.lora.packing import Batch

__all__ = ["StackedModel", "over_same_weights"]

# What autograd keeps of a token in a layer, in multiples of four times the hidden
# width: a Llama of SmolLM2's shape was measured to need 6.5 in bfloat16 and 5.1 in
# float32.
_KEPT: Final = 7.0


@final
class _Call:
    """The factors and gradients that a forward and backward pass work on."""

    def __init__(self) -> None:
        self.clients = 0
        self.tokens = 0  # padded, of one client
        self.parameters: Tensor | None = None
        self.gradients: Tensor | None = None
        self.frozen: Tensor | None = None
        self.trigger = torch.zeros((), requires_grad=True)


class _Product(torch.autograd.Function):
    """Base layer plus every client's adapter; saves x and A x only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, trigger: Tensor, linear: StackedLinear) -> Tensor:
        del trigger  # makes autograd come back here
        a, b = linear.factors()
        clients = linear.call.clients
        rows = x.to(linear.weight.dtype).reshape(clients, -1, x.shape[-1])
        low = rows @ a.transpose(1, 2)
        out = functional.linear(rows, linear.weight, linear.bias)
        b = b.transpose(1, 2).expand(clients, -1, -1)
        out.baddbmm_(low, b, alpha=linear.layout.scale)
        ctx.save_for_backward(rows, low)
        ctx.linear, ctx.shape, ctx.dtype = linear, x.shape, x.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        linear: StackedLinear = ctx.linear
        rows, low = ctx.saved_tensors
        a, b = linear.factors()
        scale = linear.layout.scale
        out = grads[0].to(rows.dtype).reshape(*rows.shape[:-1], -1)
        back = torch.bmm(out, b.expand(len(out), -1, -1)).mul_(scale)
        linear.add(
            back.transpose(1, 2) @ rows if not linear.layout.freeze_a else None,
            torch.bmm(out.transpose(1, 2), low).mul_(scale),
        )
        if not ctx.needs_input_grad[0]:
            return None, None, None
        x = out @ linear.weight
        x.baddbmm_(back, a.expand(len(out), -1, -1))
        return x.view(ctx.shape).to(ctx.dtype), None, None


@final
class StackedLinear(nn.Module):
    """A frozen linear layer with as many adapters as the call has clients."""

    def __init__(
        self, linear: nn.Linear, place: Place, layout: Layout, call: _Call
    ) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.in_features, self.out_features = place.inputs, place.outputs
        self.place, self.layout, self.call = place, layout, call

    def factors(self) -> tuple[Tensor, Tensor]:
        """A, (clients or 1, rank, inputs), and B likewise, in the layer's dtype."""
        own, frozen = self.call.parameters, self.call.frozen
        if own is None or frozen is None:
            raise InvalidArgumentError(
                "a stacked model runs through StackedModel, not by itself"
            )
        home = frozen if self.layout.freeze_a else own
        dtype = self.weight.dtype
        a, b = self.layout.a(home, self.place), self.layout.b(own, self.place)
        return a.to(dtype), b.to(dtype)

    def add(self, a: Tensor | None, b: Tensor) -> None:
        """Add to the gradients of the factors."""
        gradients = self.call.gradients
        if gradients is None:
            return
        if a is not None:
            self.layout.a(gradients, self.place).add_(a)
        self.layout.b(gradients, self.place).add_(b)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, tokens, inputs) to (rows, tokens, outputs)."""
        call = self.call
        if x.numel() != call.clients * call.tokens * x.shape[-1]:
            raise InvalidArgumentError(
                f"{self.place.module} sees {x.shape[:-1].numel()} tokens of "
                f"{call.clients * call.tokens}: the model routes tokens, and rows "
                "can't be told apart by client; train one client at a time"
            )
        product: Tensor = _Product.apply(x, call.trigger, self)  # type: ignore[no-untyped-call]
        return product


@final
class _ChosenHead(nn.Module):
    """The output layer at the chosen positions only."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.chosen: Tensor | None = None

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits, (1, chosen, vocabulary), of hidden states (rows, tokens, width)."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        if self.chosen is not None:
            flat = flat.index_select(0, self.chosen)
        logits: Tensor = self.head(flat[None])
        return logits


@final
class StackedModel:
    """A causal language model that runs many clients' adapters in one pass.

    Shares the model's weights and leaves its modules as they are.  Works for every
    architecture whose targets are `nn.Linear` and see all tokens of all rows.

    Args:
        model: A causal model of transformers, without dropout.
        layout: Which layers have adapters.
        frozen: The frozen factors where only B is trained, shape
            (layout.frozen_length,).
        bf16: Whether to store the linear layers in bfloat16 and compute under
            autocast; factors, their gradients and the loss stay float32.
        checkpointing: Whether to keep only each block's input and compute the
            block again on the way back (the model has to support it).

    Guarantees:
        Row k of the gradients depends on row k of the parameters and on the rows
        of client k; other clients change it by rounding only.
    """

    tier = "any"

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        *,
        frozen: Tensor | None = None,
        bf16: bool = False,
        checkpointing: bool = False,
    ) -> None:
        self.layout = layout
        self._model = model = over_same_weights(model)
        self._bf16 = bf16
        self._call = call = _Call()
        if any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()):
            raise InvalidArgumentError(
                "dropout must be 0 to train many clients at once; set the "
                "probabilities in the model's configuration to 0"
            )
        if getattr(getattr(model, "config", None), "attention_dropout", 0.0):
            raise InvalidArgumentError(
                "attention_dropout must be 0 to train many clients at once"
            )
        self._head = _heads_choice(model)
        for place in layout.places:
            linear = model.get_submodule(place.module)
            parent = model.get_submodule(place.module.rpartition(".")[0])
            stacked = StackedLinear(linear, place, layout, call)  # type: ignore[arg-type]
            setattr(parent, place.module.rpartition(".")[2], stacked)
        first = next(model.parameters())
        self.device, self.dtype = first.device, first.dtype
        call.trigger = call.trigger.to(self.device).detach().requires_grad_()
        call.frozen = (
            torch.zeros(1, layout.frozen_length) if frozen is None else frozen[None]
        ).to(self.device, self.dtype)
        if bf16:
            for module in model.modules():
                if isinstance(module, nn.Linear | StackedLinear):
                    # A new parameter: a tied embedding stays as it is.
                    weight = module.weight.detach().to(torch.bfloat16)
                    module.weight = nn.Parameter(weight, requires_grad=False)
                    if module.bias is not None:
                        module.bias = nn.Parameter(
                            module.bias.detach().to(torch.bfloat16), requires_grad=False
                        )
        if checkpointing:
            _checkpoint(model)
        model.train(checkpointing)  # without dropout, training only checkpoints
        self._checkpointing = checkpointing

    def gradients(self, parameters: Tensor, batch: Batch, out: Tensor) -> Tensor:
        """Every client's gradient of its own mean loss.

        Args:
            parameters: Shape (clients, layout.length), or (1, layout.length) if
                all have the same.
            batch: The rows of each client, in the same order.
            out: Where the gradients go, shape (clients, layout.length).

        Returns:
            The mean losses, shape (clients,).
        """
        out.zero_()
        self._call.gradients = out
        losses = self._losses(parameters, batch)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self._call.gradients = self._call.parameters = None
        return losses.detach()

    def losses(self, parameters: Tensor, batch: Batch) -> Tensor:
        """Every client's mean loss, shape (clients,), without a gradient."""
        with torch.no_grad():
            losses = self._losses(parameters, batch)
        self._call.parameters = None
        return losses

    def memory(self, rows: int, length: int) -> int:
        """Bytes that one client's pass keeps, about, for `rows` of `length`."""
        config: Any = getattr(self._model, "config", None)
        layers = int(getattr(config, "num_hidden_layers", len(self.layout.places)))
        wide = max(place.inputs + place.outputs for place in self.layout.places)
        wide = max(wide, getattr(config, "hidden_size", 0) * 4)
        depth = 1.5 if self._checkpointing else float(layers)
        size = 2 if self._bf16 else self.dtype.itemsize
        vocabulary = int(getattr(config, "vocab_size", 0))
        kept = rows * length * (depth * _KEPT * wide * size + 12 * vocabulary)
        return int(kept) + 16 * self.layout.length

    def _losses(self, parameters: Tensor, batch: Batch) -> Tensor:
        call = self._call
        ids, chosen, targets, owners = _padded(batch, self.device)
        call.clients, call.tokens = len(batch), ids.numel() // len(batch)
        call.parameters = parameters
        if self._head is not None:
            self._head.chosen = chosen
        mixed = torch.autocast(self.device.type, torch.bfloat16)
        with mixed if self._bf16 else nullcontext():
            logits = self._model(input_ids=ids, use_cache=False).logits
        flat = logits.reshape(-1, logits.shape[-1])
        if self._head is None:
            flat = flat.index_select(0, chosen)
        if flat.dtype.itemsize < 4:
            flat = flat.float()
        each = functional.cross_entropy(flat, targets, reduction="none")
        counts = torch.bincount(owners, minlength=len(batch)).to(each.dtype)
        return each.new_zeros(len(batch)).index_add(0, owners, each) / counts


def over_same_weights(model: nn.Module) -> nn.Module:
    """A copy of a model's modules that may be changed, over the same storage."""
    known: dict[int, Any] = {
        id(weight): nn.Parameter(weight.detach(), requires_grad=False)
        for weight in model.parameters()
    }
    return copy.deepcopy(model, known)


def _checkpoint(model: nn.Module) -> None:
    # The name of transformers 5, then the one before it.
    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):
        enable = getattr(model, name, None)
        if callable(enable):
            enable({"use_reentrant": False})
            return
    raise InvalidArgumentError(
        f"checkpointing must be off: {type(model).__name__} does not support it"
    )


def _heads_choice(model: nn.Module) -> _ChosenHead | None:
    """Replace the output layer, where the model tells which it is."""
    ask = getattr(model, "get_output_embeddings", None)
    head = ask() if callable(ask) else None
    for name, module in model.named_modules():
        if head is not None and module is head and name:
            parent = model.get_submodule(name.rpartition(".")[0])
            chosen = _ChosenHead(module)
            setattr(parent, name.rpartition(".")[2], chosen)
            return chosen
    return None


def _padded(
    batch: Batch, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows as a rectangle, equally many for each client.

    Padding comes after a row's tokens, where a causal model does not look, and
    a row that is padding only predicts nothing.

    Returns:
        Token ids (rows, length), and for each predicted token its flat position,
        its target and its client.
    """
    most = max(len(rows) for rows in batch)
    length = max(len(row) for rows in batch for row in rows) - 1
    ids = torch.zeros(len(batch) * most, length, dtype=torch.int64)
    targets = torch.full_like(ids, IGNORED)
    for k, rows in enumerate(batch):
        for i, row in enumerate(rows, k * most):
            last = len(row) - 1
            ids[i, :last] = torch.from_numpy(row.tokens[:-1])
            targets[i, :last] = torch.from_numpy(row.labels[1:])
    chosen = (targets.view(-1) != IGNORED).nonzero()[:, 0]
    owners = chosen // (most * length)
    found = targets.view(-1)[chosen]
    return ids.to(device), chosen.to(device), found.to(device), owners.to(device)
