"""Records of a file, one per line, with the line each came from."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drdp.errors import DataError

__all__ = ["json_lines", "table_rows"]


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Each line of a JSONL file with its number; blank lines are passed over.

    Args:
        path: The file; ``.gz`` is unpacked.

    Raises:
        DataError: The file cannot be read, or a line is not JSON; names the line.
    """
    for number, line in _lines(path):
        if line.isspace():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from None


def table_rows(
    path: Path, fields: tuple[str, ...], *, tabs: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row of a CSV or TSV file with a header, with its number.

    Args:
        path: The file; ``.gz`` is unpacked.
        fields: The columns that must be there.
        tabs: Whether tabs separate columns; quotes then mean themselves.

    Raises:
        DataError: The file cannot be read, a column is missing or a row is short.
    """
    text = io.StringIO("".join(line for _, line in _lines(path)), newline="")
    reader = (
        csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
        if tabs
        else csv.DictReader(text)
    )
    try:
        names = reader.fieldnames or ()
        missing = [field for field in fields if field not in names]
        if missing:
            raise DataError(f"{path}: no column {', '.join(missing)} in the first line")
        for row in reader:
            if any(row[field] is None for field in fields):
                raise DataError(f"{path}, line {reader.line_num}: too few columns")
            yield reader.line_num, {field: row[field] for field in fields}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number}: not UTF-8 ({error.reason})") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot read {path}: {reason}") from None
