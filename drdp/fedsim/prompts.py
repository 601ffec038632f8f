"""How an instruction becomes a prompt that ends where the response begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from drdp.errors import InvalidArgumentError

__all__ = ["TEMPLATES", "Template", "template_named"]


@final
@dataclass(frozen=True, slots=True)
class Template:
    """The words around an instruction, its context and its response.

    Args:
        with_context: Holds ``{instruction}`` and ``{context}``.
        without_context: Holds ``{instruction}``; used where the context is empty.
        response: What stands between these words and the response.  It survives
            any truncation of the prompt.

    >>> prompt = TEMPLATES["plain"].head("Name the capital.", "France")
    >>> print(prompt + TEMPLATES["plain"].response + "Paris")
    ### Instruction:
    Name the capital.
    <BLANKLINE>
    ### Context:
    France
    <BLANKLINE>
    ### Response:
    Paris
    """

    with_context: str
    without_context: str
    response: str

    def head(self, instruction: str, context: str = "") -> str:
        """The prompt without what announces the response."""
        chosen = self.with_context if context else self.without_context
        return chosen.format(instruction=instruction, context=context)


TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        # As short as three marked parts can be: many rows fit 128 tokens.
        "plain": Template(
            "### Instruction:\n{instruction}\n\n### Context:\n{context}",
            "### Instruction:\n{instruction}",
            "\n\n### Response:\n",
        ),
        # The words of Stanford Alpaca, which FederatedGPT-Shepherd trains with.
        "alpaca": Template(
            "Below is an instruction that describes a task, paired with an input that"
            " provides further context. Write a response that appropriately completes"
            " the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{context}",
            "Below is an instruction that describes a task. Write a response that"
            " appropriately completes the request.\n\n"
            "### Instruction:\n{instruction}",
            "\n\n### Response:\n",
        ),
    }
)


def template_named(name: str) -> Template:
    """The template of this name.

    Raises:
        InvalidArgumentError: There is none; the message lists those there are.
    """
    if name not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise InvalidArgumentError(f"template must be one of {known}, got {name!r}")
    return TEMPLATES[name]
