"""Releases in words, from their recorded form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drdp.privacy.codec import to_dict
from drdp.privacy.events import Event, NonPrivate, atoms

__all__ = ["in_words", "releases"]


def in_words(event: Event) -> str:
    """One release in words, from its recorded form.

    >>> from drdp.privacy.events import Gaussian, PoissonSampled
    >>> in_words(PoissonSampled(0.05, Gaussian(1.0)))
    'poisson-sampled (rate 0.05, adjacency add-remove) gaussian (noise multiplier 1)'
    """
    if isinstance(event, NonPrivate):
        return "a release without protection"
    return _words(to_dict(event))


def releases(event: Event) -> list[str]:
    """Every release with its count, in words.

    >>> from drdp.privacy.events import Gaussian
    >>> releases(Gaussian(2.0) * 3)
    ['3 x gaussian (noise multiplier 2)']
    """
    return [f"{times} x {in_words(atom)}" for atom, times in atoms(event).items()]


def _words(document: Mapping[str, Any]) -> str:
    values = {
        key: value
        for key, value in document.items()
        if key not in ("kind", "drdp_event") and not isinstance(value, dict)
    }
    inner = [_words(value) for value in document.values() if isinstance(value, dict)]
    told = ", ".join(
        f"{key.replace('_', ' ')} {_plain(value)}" for key, value in values.items()
    )
    return " ".join([document["kind"], *([f"({told})"] if told else []), *inner])


def _plain(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
