"""Settings as TOML text, and numbers in the form that JSON has for them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from drdp.errors import InvalidArgumentError

__all__ = ["finite", "toml"]


def toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values as TOML.

    >>> print(toml({"run": {"rounds": 20, "method": "pca"}}), end="")
    [run]
    rounds = 20
    method = "pca"
    """
    blocks = [
        "\n".join(
            [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
        )
        for name, table in tables.items()
    ]
    return "\n\n".join(blocks) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    raise InvalidArgumentError(f"no setting can be {value!r:.60}")


def finite(value: Any) -> Any:
    """Numbers that JSON lacks as text."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
