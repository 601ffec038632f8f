"""Events to JSON and back, by a closed and versioned table.

A document is self-describing and never re-meant: a kind that was written once
keeps its name and its fields for ever, and a new meaning gets a new kind.

>>> text = dumps(PoissonSampled(0.05, Gaussian(1.0)) * 20)
>>> loads(text) == PoissonSampled(0.05, Gaussian(1.0)) * 20
True
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from drdp.errors import CodecError, InvalidArgumentError
from drdp.privacy.events import (
    Adjacency,
    ApproxDP,
    Composed,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    Repeated,
)
from drdp.privacy.outside import DominatingPair
from drdp.privacy.releases import (
    DiscreteGaussian,
    MixtureOfGaussians,
    RandomisedResponse,
    Skellam,
    ZeroConcentrated,
)
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)

__all__ = ["VERSION", "dumps", "from_dict", "loads", "to_dict"]

VERSION = 1

_KINDS: dict[str, type[Event]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "approx-dp": ApproxDP,
    "non-private": NonPrivate,
    "poisson-sampled": PoissonSampled,
    "fixed-size-sampled": FixedSizeSampled,
    "fixed-size-zero-out": FixedSizeZeroOut,
    "randomly-allocated": RandomlyAllocated,
    "truncated-poisson-sampled": TruncatedPoissonSampled,
    "shuffled": Shuffled,
    "scheduled": Scheduled,
    "repeated": Repeated,
    "composed": Composed,
    "discrete-gaussian": DiscreteGaussian,
    "skellam": Skellam,
    "zero-concentrated": ZeroConcentrated,
    "randomised-response": RandomisedResponse,
    "mixture-of-gaussians": MixtureOfGaussians,
    "dominating-pair": DominatingPair,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_DEEPEST = 200


def to_dict(event: Event) -> dict[str, Any]:
    """An event as a JSON-ready dictionary that names its format version."""
    if not isinstance(event, Event):
        raise CodecError(f"only events have a document, got {event!r:.80}")
    return {"drdp_event": VERSION, **_encode(event, 0)}


def from_dict(document: object) -> Event:
    """The event that a dictionary from `to_dict` describes.

    Raises:
        CodecError: If the document is of another version, has an unknown kind,
            lacks a field, has one too many, or holds a value out of range.
    """
    if not isinstance(document, dict):
        raise CodecError(f"an event document must be an object, got {document!r:.80}")
    body = dict(document)
    version = body.pop("drdp_event", None)
    if version != VERSION or isinstance(version, bool):
        raise CodecError(f"drdp_event must be {VERSION}, got {version!r:.80}")
    event = _decode(body, 0)
    if not isinstance(event, Event):
        raise CodecError("the document does not describe an event")
    return event


def dumps(event: Event) -> str:
    """An event as one line of JSON; equal events give equal text."""
    return json.dumps(to_dict(event), sort_keys=True, allow_nan=False)


def loads(text: str | bytes) -> Event:
    """The event that a line of JSON describes."""
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}") from None
    return from_dict(document)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that names each of its fields once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is named twice in one object")
    return found


def _encode(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise CodecError(f"an event nested more than {_DEEPEST} deep is refused")
    if isinstance(value, Adjacency):
        return str(value)
    if isinstance(value, tuple):
        return [_encode(part, depth + 1) for part in value]
    if not isinstance(value, Event):
        return value
    kind = _NAMES.get(type(value))
    if kind is None:
        raise CodecError(
            f"no document kind for {type(value).__name__}: only events made of"
            f" numbers have one ({', '.join(_KINDS)})"
        )
    body = {"kind": kind}
    for item in fields(value):  # type: ignore[arg-type]
        body[item.name] = _encode(getattr(value, item.name), depth + 1)
    return body


def _decode(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise CodecError(f"an event nested more than {_DEEPEST} deep is refused")
    if isinstance(value, list):
        return tuple(_decode(part, depth + 1) for part in value)
    if not isinstance(value, dict):
        return value
    body = dict(value)
    name = body.pop("kind", None)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        known = ", ".join(_KINDS)
        raise CodecError(f"kind must be one of {known}; got {name!r:.80}")
    wanted = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if wanted != set(body):
        raise CodecError(
            f"kind {name!r} must have exactly the fields {sorted(wanted)},"
            f" got {sorted(body)}"
        )
    try:
        return kind(**{key: _decode(item, depth + 1) for key, item in body.items()})
    except (InvalidArgumentError, TypeError) as error:
        raise CodecError(f"kind {name!r}: {error}") from None
