"""Texts that are made to be found: tokens that clients' own texts hardly use.

A text of rare tokens moves the adapter in a direction of its own, so that a model
that has seen it shows it.  It is trained on by the very code that trains on all
other texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.fedsim.examples import Example

__all__ = ["Casting", "Who", "rare_text"]

Who = Literal["client", "text", "example"]
"""A real client; a client who has nothing but a made text; a client with one more."""

_SHARE = 8  # one in so many tokens of the vocabulary counts as rare
_LENGTH = 32
_MOST_TEXTS = 8  # of a client with many, those whose loss is looked at


def rare_text(
    examples: Sequence[Example], tokenizer: Any, *, length: int = _LENGTH, seed: int = 0
) -> Example:
    """A text in the tokens that occur least.

    Args:
        examples: The texts that it is to differ from.
        tokenizer: As transformers gives it.
        length: In tokens, at least 2; the second half is the response.
        seed: Public.
    """
    import numpy as np

    length = _check.count(least=2, length=length)
    counts = np.zeros(len(tokenizer), dtype=np.int64)
    for one in examples:
        counts += np.bincount(one.tokens, minlength=len(counts))
    counts[list(tokenizer.all_special_ids)] = np.iinfo(np.int64).max
    rare = np.argsort(counts, kind="stable")[: max(2, len(counts) // _SHARE)]
    drawn = np.random.default_rng((seed, 7)).choice(rare, size=length)
    return Example(drawn.astype(np.int32), length // 2, category="canary")


@final
class Casting:
    """Chooses the suspect when it is known what each client has.

    Args:
        who: What kind of suspect.
        number: Which client it is, or whose seat it takes.
        length: Of a made text, in tokens.
        seed: Public, of a made text.
    """

    def __init__(
        self, who: Who, number: int = 0, *, length: int = _LENGTH, seed: int = 0
    ) -> None:
        self.who, self.number = who, _check.count(number=number)
        self._length, self._seed = min(length, _LENGTH), seed
        self.texts: tuple[Example, ...] = ()

    def __call__(
        self, tokenizer: Any, clients: Sequence[Sequence[Example]]
    ) -> list[list[Example]]:
        """What further clients have: the suspect, then who stands in for it.

        Raises:
            InvalidArgumentError: If there is no such client.
        """
        if self.number >= len(clients):
            raise InvalidArgumentError(
                f"member must be one of the {len(clients)} clients, from 0, got"
                f" {self.number}"
            )
        own = list(clients[self.number])
        if self.who == "client":
            self.texts = tuple(own[:_MOST_TEXTS])
            return []
        everything = [one for part in clients for one in part]
        made = rare_text(everything, tokenizer, length=self._length, seed=self._seed)
        self.texts = (made,)
        return [[made]] if self.who == "text" else [[*own, made], own]
