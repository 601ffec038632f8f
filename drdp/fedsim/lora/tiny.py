"""A random Llama of a million parameters with a byte tokenizer, for tests."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ["byte_tokenizer", "tiny_model"]

_START, _END = "<s>", "</s>"


def tiny_model(
    seed: int, attention: str | None = None
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model, a function of the seed alone, and its tokenizer.

    >>> model, tokenizer = tiny_model(seed=0)
    >>> sum(weight.numel() for weight in model.parameters())
    1017216
    """
    tokenizer = byte_tokenizer()
    options: dict[str, Any] = {}
    if attention is not None:
        options["attn_implementation"] = attention
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )
    with torch.random.fork_rng(devices=[]):  # leave the caller's generator alone
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model, tokenizer


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte of UTF-8, a start and an end token.

    >>> tokenizer = byte_tokenizer()
    >>> len(tokenizer), tokenizer("né")["input_ids"]
    (258, [79, 129, 104])
    >>> tokenizer.decode(tokenizer("né")["input_ids"])
    'né'
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {letter: place for place, letter in enumerate([_START, _END, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=_START,
        eos_token=_END,
        pad_token=_END,
        clean_up_tokenization_spaces=False,
    )
