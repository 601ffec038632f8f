"""Tokens of a prompt and its response, cut to a length, labelled on the response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from drdp import _check
from drdp.errors import DataError, InvalidArgumentError, ModelError
from drdp.fedsim.data import Row
from drdp.fedsim.prompts import template_named

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["IGNORED", "Encoded", "Example", "encode_rows"]

IGNORED = -100
"""The label of a token that no loss is taken on."""

_PROMPT_SHARE = 4  # the prompt keeps at least a quarter of the length, if it needs it


@final
@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One prompt with its response, as tokens.

    Args:
        tokens: int32, the prompt's tokens and then the response's.
        start: Where the response begins; at least 1, below ``len(tokens)``.
        category: The row's category.
        key: Whose row it is.
        line: Where the row stands in its source.
    """

    tokens: NDArray[np.int32]
    start: int
    category: str = ""
    key: str = ""
    line: int = 0

    @property
    def labels(self) -> NDArray[np.int32]:
        """The tokens with everything before the response replaced by `IGNORED`."""
        labels = self.tokens.copy()
        labels[: self.start] = IGNORED
        return labels

    @property
    def response_length(self) -> int:
        """How many tokens the loss is taken on."""
        return len(self.tokens) - self.start

    def __len__(self) -> int:
        return len(self.tokens)


@final
@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as tokens.

    Args:
        examples: In the order of the rows.
        truncated: How many of them were cut to fit.
        dropped: How many rows were left out because they do not fit.
    """

    examples: tuple[Example, ...]
    truncated: int = 0
    dropped: int = 0


def encode_rows(
    rows: Sequence[Row],
    tokenizer: Any,
    *,
    max_length: int = 128,
    template: str = "plain",
    overlong: Literal["truncate", "drop"] = "truncate",
) -> Encoded:
    """The tokens of each row, the response closed by the tokenizer's end token.

    A row that is too long is cut in its prompt first, at the end of the context,
    so that the instruction's beginning and the words that announce the response
    remain.  Only where the response alone takes more than three quarters of
    `max_length` is its end cut as well; it then has no end token.

    Args:
        rows: What to encode.
        tokenizer: As transformers gives it.
        max_length: The most tokens of an example, at least 16.
        template: A name in `drdp.fedsim.prompts.TEMPLATES`.
        overlong: Cut rows that are too long, or leave them out.

    Raises:
        DataError: No row is left.
        ModelError: The tokenizer has no end token.
    """
    import numpy as np

    max_length = _check.count(max_length=max_length, least=16)
    words = template_named(template)
    if overlong not in {"truncate", "drop"}:
        raise InvalidArgumentError(
            f"overlong must be 'truncate' or 'drop', got {overlong!r}"
        )
    if not rows:
        raise DataError("there is no row to encode")
    end = tokenizer.eos_token_id
    if end is None:
        raise ModelError("the tokenizer has no end token, so responses cannot end")
    first = _opening(tokenizer)
    closing = _plain(tokenizer, [words.response])[0]
    heads = _plain(
        tokenizer, [words.head(row.instruction, row.context) for row in rows]
    )
    responses = _plain(tokenizer, [row.response for row in rows])
    examples, truncated, dropped = [], 0, 0
    for row, head, body in zip(rows, heads, responses, strict=True):
        frame = len(first) + len(closing)
        prompt, response = [*head], [*body, end]
        if frame + len(prompt) + len(response) > max_length:
            if overlong == "drop":
                dropped += 1
                continue
            truncated += 1
            kept = min(frame + len(prompt), max_length // _PROMPT_SHARE)
            response = response[: max_length - max(kept, frame)]
            prompt = prompt[: max_length - frame - len(response)]
        tokens = np.array([*first, *prompt, *closing, *response], dtype=np.int32)
        start = len(tokens) - len(response)
        examples.append(Example(tokens, start, row.category, row.key, row.line))
    if not examples:
        raise DataError(f"none of {len(rows)} rows fits {max_length} tokens")
    return Encoded(tuple(examples), truncated, dropped)


def _plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, with nothing added; long texts give no warning."""
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    return list(encoded["input_ids"])


def _opening(tokenizer: Any) -> list[int]:
    """The start token, for a model whose tokenizer puts one."""
    first = tokenizer.bos_token_id
    return [first] if first is not None and first in tokenizer("")["input_ids"] else []
