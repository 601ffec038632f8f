"""Tokens and labels: the loss is taken on exactly the response."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drdp.errors import DataError, InvalidArgumentError, ModelError
from drdp.fedsim.data import Row
from drdp.fedsim.examples import IGNORED, Example, encode_rows
from drdp.fedsim.lora.tiny import byte_tokenizer
from drdp.fedsim.prompts import TEMPLATES, template_named

TOKENIZER = byte_tokenizer()
END = TOKENIZER.eos_token_id
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=80)


def one(row: Row, **options: object) -> Example:
    (example,) = encode_rows([row], TOKENIZER, **options).examples
    return example


@pytest.mark.parametrize("template", TEMPLATES)
@given(TEXTS, TEXTS, TEXTS.filter(bool))
def test_labels_are_exactly_the_response_and_its_end(
    template: str, instruction: str, context: str, response: str
) -> None:
    row = Row(instruction, context, response)
    example = one(row, max_length=4096, template=template)
    words = TEMPLATES[template]
    prompt = words.head(instruction, context) + words.response
    assert TOKENIZER.decode(example.tokens[: example.start]) == prompt
    labels = example.labels
    assert (labels[: example.start] == IGNORED).all()
    assert TOKENIZER.decode(labels[example.start : -1]) == response
    assert labels[-1] == END
    assert example.response_length == len(response.encode()) + 1
    assert np.array_equal(labels[example.start :], example.tokens[example.start :])


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 300))
def test_truncation_keeps_the_response_and_what_announces_it(
    asked: int, given_: int, answered: int
) -> None:
    length = 100
    row = Row("i" * asked, "c" * given_, "r" * answered)
    example = one(row, max_length=length)
    marker = TEMPLATES["plain"].response
    prompt = TOKENIZER.decode(example.tokens[: example.start])
    assert len(example) <= length
    assert prompt.endswith(marker)
    assert (
        TEMPLATES["plain"]
        .head(row.instruction, row.context)
        .startswith(prompt.removesuffix(marker))
    )
    if answered + 1 <= length - length // 4:
        assert example.response_length == answered + 1, "a short response stays whole"
        assert example.tokens[-1] == END
    else:
        assert example.response_length >= length - length // 4
    whole = len(TEMPLATES["plain"].head(row.instruction, row.context) + marker)
    if whole + answered + 1 > length:
        assert len(example) == length, "no room is given away"


def test_rows_that_are_too_long_are_counted() -> None:
    rows = [Row("short", "", "yes", line=1), Row("l" * 200, "", "no", line=2)]
    cut = encode_rows(rows, TOKENIZER, max_length=64)
    assert (len(cut.examples), cut.truncated, cut.dropped) == (2, 1, 0)
    dropped = encode_rows(rows, TOKENIZER, max_length=64, overlong="drop")
    assert (len(dropped.examples), dropped.truncated, dropped.dropped) == (1, 0, 1)
    assert dropped.examples[0].line == 1
    with pytest.raises(DataError, match="none of 1 rows fits 64 tokens"):
        encode_rows(rows[1:], TOKENIZER, max_length=64, overlong="drop")


def test_a_start_token_stands_first_where_the_tokenizer_puts_one() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    (example,) = encode_rows([Row("a", "", "b")], tokenizer).examples
    assert example.tokens.tolist().count(tokenizer.bos_token_id) == 1
    assert example.tokens[0] == tokenizer.bos_token_id


def test_arguments_are_named() -> None:
    rows = [Row("a", "", "b")]
    with pytest.raises(InvalidArgumentError, match="template must be one of plain"):
        template_named("chat")
    with pytest.raises(InvalidArgumentError, match="max_length must be"):
        encode_rows(rows, TOKENIZER, max_length=8)
    with pytest.raises(InvalidArgumentError, match="overlong must be"):
        encode_rows(rows, TOKENIZER, overlong="skip")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no row to encode"):
        encode_rows([], TOKENIZER)
    endless = byte_tokenizer()
    endless.eos_token = None
    with pytest.raises(ModelError, match="no end token"):
        encode_rows(rows, endless)
