"""Instruction data: rows of a file, and their split without overlap."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from drdp import _check
from drdp.errors import DataError, MissingPackageError
from drdp.fedsim.records import json_lines

__all__ = ["SAMPLE", "Row", "Rows", "Split", "attribution", "read_rows", "split_rows"]

SAMPLE = "dolly-sample"
"""The name of the sample of databricks-dolly-15k that the package carries."""

_NAMES = {  # a field, and what other data sets call it
    "instruction": ("instruction",),
    "context": ("context", "input"),
    "response": ("response", "output"),
    "category": ("category",),
}


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One instruction with its response.

    Args:
        instruction: What is asked; not empty.
        context: A text that the question is about; often empty.
        response: The answer; not empty.
        category: What kind of task it is, such as ``"open_qa"``.
        key: Whose row it is, for a partition by natural key.
        line: Line number in the source, from 1.
    """

    instruction: str
    context: str
    response: str
    category: str = ""
    key: str = ""
    line: int = 0


@final
@dataclass(frozen=True, slots=True)
class Rows:
    """What a source held.

    Args:
        rows: The rows that can be used, in the order of the source.
        source: The name or path they came from.
        empty: How many rows were left out because instruction or response is empty.
    """

    rows: tuple[Row, ...]
    source: str
    empty: int = 0

    def __len__(self) -> int:
        return len(self.rows)


@final
@dataclass(frozen=True, slots=True)
class Split:
    """Three parts of the data; no question is in two of them.

    Args:
        public: Open to the server: priors, subspaces and tuning may use it.
        private: What the clients hold.
        held_out: What models are measured on; used for nothing else.
        removed: How many rows were left out because another part has their question.
    """

    public: tuple[Row, ...]
    private: tuple[Row, ...]
    held_out: tuple[Row, ...]
    removed: int


def read_rows(source: str | Path, *, key: str | None = None) -> Rows:
    """The instruction rows of a JSONL file, a built-in sample or a hub data set.

    Each row has an `instruction` and a `response`; `context` and `category` may be
    missing.  ``input`` and ``output`` are understood as context and response.
    Rows whose instruction or response is empty are counted and left out; a row
    that cannot be read is refused.

    Args:
        source: A path (``.gz`` is unpacked), ``"dolly-sample"``, or the name of a
            data set on the Hugging Face hub.
        key: The field that says whose row it is, for a partition by natural key.

    Raises:
        DataError: No such file, or a line is not a row; names file and line.
        MissingPackageError: A hub name was given and `datasets` is not there.

    >>> sample = read_rows("dolly-sample")
    >>> len(sample), sample.rows[0].category
    (2000, 'open_qa')
    """
    path = Path(source)
    if str(source) == SAMPLE:
        return _parse(json_lines(_shipped("dolly-sample.jsonl.gz")), SAMPLE, key)
    if path.is_file():
        return _parse(json_lines(path), str(source), key)
    if path.is_dir():
        raise DataError(f"{source} is a folder; data is a JSONL file")
    if path.suffix or len(path.parts) > 2 or str(source).startswith((".", os.sep)):
        raise DataError(f"there is no file {source}")
    return _parse(_from_hub(str(source)), str(source), key)


def split_rows(
    rows: Sequence[Row], *, public: int, held_out: int, seed: int = 0
) -> Split:
    """Public, private and held-out parts, drawn by a seed.

    Two rows ask the same question where instruction and context agree up to case
    and spaces.  The public and held-out parts hold each question once, and the
    private part none of theirs.

    Args:
        rows: The data.
        public: How many rows the public part gets.
        held_out: How many rows the held-out part gets.
        seed: Decides which.

    Raises:
        DataError: Too few different questions for the sizes asked for.

    >>> split = split_rows(read_rows("dolly-sample").rows, public=200, held_out=100)
    >>> len(split.public), len(split.held_out), len(split.private), split.removed
    (200, 100, 1700, 0)
    """
    import numpy as np

    public = _check.count(public=public)
    held_out = _check.count(held_out=held_out)
    seed = _check.count(seed=seed)
    questions = [_question(row) for row in rows]
    distinct = len(set(questions))
    if public + held_out >= distinct:
        raise DataError(
            f"{distinct} different questions cannot give {public} public and {held_out}"
            " held-out rows and leave private ones; lower public or held_out"
        )
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    taken: set[str] = set()
    parts: tuple[list[Row], list[Row]] = ([], [])
    rest: list[int] = []
    for place in order:
        filling = 0 if len(parts[0]) < held_out else 1
        if filling == 1 and len(parts[1]) >= public:
            rest.append(place)
        elif questions[place] not in taken:
            taken.add(questions[place])
            parts[filling].append(rows[place])
    private = tuple(rows[place] for place in rest if questions[place] not in taken)
    used = len(private) + len(parts[0]) + len(parts[1])
    return Split(tuple(parts[1]), private, tuple(parts[0]), len(rows) - used)


def attribution() -> str:
    """Who wrote the sample that the package carries, and its licence."""
    return _shipped("ATTRIBUTION.md").read_text(encoding="utf-8").strip()


def _shipped(name: str) -> Path:
    return Path(str(files("drdp.fedsim") / "datasets" / name))


def _question(row: Row) -> str:
    return "\n".join(
        " ".join(text.casefold().split()) for text in (row.instruction, row.context)
    )


def _from_hub(name: str) -> Iterator[tuple[int, Any]]:
    if find_spec("datasets") is None:
        raise MissingPackageError(
            f"there is no file {name}; to read it as a data set of the Hugging Face"
            " hub, install the package datasets, or give the path of a JSONL file"
        )
    datasets: Any = import_module("datasets")
    try:
        table = datasets.load_dataset(name, split="train")
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"cannot load the data set {name}: {first}") from None
    yield from enumerate(table, 1)


def _parse(records: Iterator[tuple[int, Any]], source: str, key: str | None) -> Rows:
    rows, empty = [], 0
    for number, record in records:
        row = _row(record, f"{source}, line {number}", number, key)
        if row.instruction and row.response:
            rows.append(row)
        else:
            empty += 1
    if not rows:
        raise DataError(f"{source} holds no row that can be used ({empty} are empty)")
    return Rows(tuple(rows), source, empty)


def _row(record: Any, where: str, number: int, key: str | None) -> Row:
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: not a JSON object, but {type(record).__name__}")
    values = {}
    for field, names in _NAMES.items():
        given = next((name for name in names if record.get(name) is not None), None)
        if given is None:
            if field in {"instruction", "response"}:
                raise DataError(f"{where}: no field {field!r}")
            values[field] = ""
        elif isinstance(record[given], str):
            values[field] = record[given].strip()
        else:
            kind = type(record[given]).__name__
            raise DataError(f"{where}: field {given!r} is {kind}, not a string")
    if key is not None:
        if not isinstance(record.get(key), str | int) or record[key] == "":
            raise DataError(f"{where}: no field {key!r} to tell clients apart")
        values["key"] = str(record[key])
    return Row(**values, line=number)
