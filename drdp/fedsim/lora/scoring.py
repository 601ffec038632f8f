"""The loss of each example's response under a causal language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from drdp.fedsim.examples import IGNORED, Example

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Scorer", "prefers_bfloat16", "store_bfloat16"]

_BATCH_TOKENS = 2048  # padded tokens of an evaluation batch
_ROWS = 256  # rows of logits at a time where no gradient is wanted
_LARGE = 20_000_000  # parameters from which bfloat16 pays for its conversions


def prefers_bfloat16(model: torch.nn.Module) -> bool:
    """Whether bfloat16 products are faster: a matter of hardware and size.

    True on GPUs and processors with bfloat16 instructions, for models large enough
    that products outweigh conversions.
    """
    weights = list(model.parameters())
    if sum(weight.numel() for weight in weights) < _LARGE:
        return False
    if weights[0].device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if weights[0].device.type != "cpu":
        return False
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


def store_bfloat16(model: torch.nn.Module) -> None:
    """Keep the frozen weights of linear layers in bfloat16.

    Autocast would round them so at every use; kept so, they are rounded once and
    every product is the same.  Weights that other layers share, such as tied
    embeddings, and adapters stay in float32, in memory of their own: one that lay in
    a mapped file would keep all of the file mapped.
    """
    uses: dict[int, int] = {}
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            uses[id(weight)] = uses.get(id(weight), 0) + 1
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lora_" not in name:
            for weight in module.parameters(recurse=False):
                if uses[id(weight)] == 1:
                    weight.data = weight.data.to(torch.bfloat16)
    for weight in model.parameters():
        if weight.dtype is torch.float32 and not weight.requires_grad:
            weight.data = weight.data.clone()


@final
class Scorer:
    """Losses and next-token probabilities of a causal model.

    Args:
        model: A transformers or peft model.
        padding: A token to fill short rows with; no loss is taken there, and causal
            attention keeps what stands before it unchanged.
        bfloat16: Whether products are in bfloat16.
    """

    def __init__(self, model: Any, padding: int, *, bfloat16: bool) -> None:
        self._model = model
        self._padding = padding
        self._bfloat16 = bfloat16
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._device = next(model.parameters()).device
        self._body, self._head = inner.get_decoder(), inner.get_output_embeddings()
        self._split = self._splits()

    def losses(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Per example, the summed loss of its response and its count of tokens.

        Differentiable; both have shape (examples,), float32 and int64.
        """
        tokens = self._padded([example.tokens for example in examples])
        labels = self._padded([example.labels for example in examples], IGNORED)
        wanted = labels[:, 1:] != IGNORED
        aims = labels[:, 1:][wanted].long()
        with self.autocast():
            parts = [
                cross_entropy(logits.float(), own, reduction="none")
                for logits, own in self._parts(tokens, wanted, aims)
            ]
        each = torch.cat(parts)
        lengths = [example.response_length for example in examples]
        # Sums row by row: a scattered sum has no fixed order on a GPU.
        rows = each.split(lengths)  # type: ignore[no-untyped-call]
        sums = torch.stack([row.sum() for row in rows])
        return sums, torch.tensor(lengths, device=self._device)

    def measure(
        self, examples: Sequence[Example]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The same as arrays, in batches of similar length, without gradients."""
        sums = np.zeros(len(examples))
        counts = np.zeros(len(examples), dtype=np.int64)
        with torch.no_grad():
            for places in _buckets([len(example) for example in examples]):
                some, tokens = self.losses([examples[place] for place in places])
                sums[places] = some.double().cpu().numpy()
                counts[places] = tokens.cpu().numpy()
        return sums, counts

    def next_tokens(
        self, prompts: Sequence[NDArray[np.int32]], choices: Sequence[int]
    ) -> NDArray[np.float64]:
        """Log-probabilities of some tokens right after each prompt.

        Args:
            prompts: Tokens of each.
            choices: The tokens that are asked about.

        Returns:
            Shape (prompts, choices).
        """
        found = np.zeros((len(prompts), len(choices)))
        asked = torch.tensor(list(choices), device=self._device)
        with torch.no_grad():
            for places in _buckets([len(prompt) for prompt in prompts]):
                batch = [prompts[place] for place in places]
                tokens = self._padded(batch)
                wanted = torch.zeros_like(tokens, dtype=torch.bool)
                ends = torch.tensor([len(prompt) - 1 for prompt in batch])
                wanted[torch.arange(len(batch)), ends] = True
                with self.autocast():
                    logits = self._logits(tokens, wanted)
                logs = logits.float().log_softmax(dim=1)[:, asked]
                found[places] = logs.double().cpu().numpy()
        return found

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 products, or nothing special."""
        if not self._bfloat16:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def _parts(
        self, tokens: Tensor, wanted: Tensor, aims: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits at the places wanted beside their aims, few at a time.

        Where a gradient will need all of them again, they come at once.
        """
        if torch.is_grad_enabled() or not self._split:
            yield self._logits(tokens, wanted), aims
            return
        hidden = self._hidden(tokens, wanted)
        for first in range(0, len(aims), _ROWS):
            some = slice(first, first + _ROWS)
            yield self._head(hidden[some]), aims[some]

    def _hidden(self, tokens: Tensor, wanted: Tensor) -> Tensor:
        hidden = self._body(input_ids=tokens, use_cache=False).last_hidden_state
        return hidden[:, : wanted.shape[1]][wanted]  # type: ignore[no-any-return]

    def _logits(self, tokens: Tensor, wanted: Tensor) -> Tensor:
        """Logits at the places wanted, which may be one column short of the tokens."""
        columns = wanted.shape[1]
        if self._split:
            return self._head(self._hidden(tokens, wanted))  # type: ignore[no-any-return]
        logits = self._model(input_ids=tokens, use_cache=False).logits
        return logits[:, :columns][wanted]  # type: ignore[no-any-return]

    def _splits(self) -> bool:
        """Whether the head alone turns hidden states into logits.

        It does in most models; some scale or cap their logits.  Tried, not guessed:
        then the head, a fifth of a small model, runs on response tokens only.
        """
        if self._body is None or self._head is None:
            return False
        tokens = torch.tensor([[self._padding, 1, 2, 3]], device=self._device)
        with torch.no_grad(), self.autocast():
            whole = self._model(input_ids=tokens, use_cache=False).logits
            hidden = self._body(input_ids=tokens, use_cache=False).last_hidden_state
            return torch.allclose(whole, self._head(hidden), rtol=1e-4, atol=1e-4)

    def _padded(
        self, rows: Sequence[NDArray[np.int32]], fill: int | None = None
    ) -> Tensor:
        longest = max(len(row) for row in rows)
        table = np.full(
            (len(rows), longest),
            self._padding if fill is None else fill,
            dtype=np.int64,
        )
        for place, row in enumerate(rows):
            table[place, : len(row)] = row
        return torch.from_numpy(table).to(self._device)


def _buckets(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places in order of length, cut so that a padded batch stays small."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
