"""A fitted codec in one file: tensors, facts and a checksum.

The format is safetensors.  The checksum finds damage and mix-ups; it does not
vouch for who wrote the file, and neither do the facts in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drdp.compression.source import Origin, Source
from drdp.errors import InvalidArgumentError, MissingPackageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["digest", "load", "save", "source_from", "source_to"]

_FORMAT = "drdp-codec-1"


def digest(tensors: Mapping[str, NDArray[np.float32]], facts: Mapping[str, Any]) -> str:
    """SHA-256 over names, shapes, types, bytes and facts; order is immaterial."""
    import numpy as np

    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def save(
    path: str | os.PathLike[str],
    kind: str,
    tensors: Mapping[str, NDArray[np.float32]],
    facts: Mapping[str, Any],
) -> str:
    """Write a codec; the file appears whole or not at all.

    Args:
        path: Where to.
        kind: What kind of codec it is.
        tensors: Its arrays, float32.
        facts: Whatever else it needs, as JSON values.

    Returns:
        The checksum.
    """
    import numpy as np

    saved = _safetensors().save
    check = digest(tensors, facts)
    metadata = {
        "format": _FORMAT,
        "kind": kind,
        "facts": json.dumps(facts, sort_keys=True),
        "checksum": check,
    }
    whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(saved(whole, metadata=metadata))
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return check


def load(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Tensors and facts of a codec that `save` wrote.

    Raises:
        InvalidArgumentError: If there is no such file, if it holds something
            else, or if its checksum does not fit.
    """
    read = _safetensors().load
    from safetensors import SafetensorError

    target = Path(path)
    if not target.is_file():
        raise InvalidArgumentError(f"there is no codec at {target}: no such file")
    content = target.read_bytes()
    try:
        tensors = dict(read(content))
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise InvalidArgumentError(f"{target} holds no codec: {error}") from error
    if metadata.get("format") != _FORMAT or metadata.get("kind") != kind:
        raise InvalidArgumentError(
            f"{target} holds {metadata.get('kind', 'something else')!r} of format"
            f" {metadata.get('format')!r}, expected {kind!r} of {_FORMAT!r}"
        )
    facts: dict[str, Any] = json.loads(metadata["facts"])
    if digest(tensors, facts) != metadata.get("checksum"):
        raise InvalidArgumentError(
            f"{target} is damaged: its checksum does not fit; fit the codec again"
        )
    return tensors, facts


def source_to(source: Source) -> dict[str, Any]:
    """A source as JSON values."""
    return {"origin": str(source.origin), "noise_multiplier": source.noise_multiplier}


def source_from(values: Mapping[str, Any]) -> Source:
    """A source from JSON values."""
    return Source(Origin(values["origin"]), values["noise_multiplier"])


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingPackageError(
            "storing a codec needs safetensors: pip install 'drdp[train]'"
        ) from error
    return safetensors.numpy
