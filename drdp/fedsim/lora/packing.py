"""Where each token of a batch lies when rows are packed end to end.

Nothing is padded but the rows inside attention, which are sorted into
rectangles of rows of similar length.  Tokens that all rows of one client begin
with are packed once: up to the first token that differs or predicts, their
states are the same in each of these rows, so computing them once and adding up
what flows back is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drdp.fedsim.examples import Example

__all__ = ["Batch", "Packing", "Rectangle", "Shape", "Split"]

# The examples of one step, client by client.
Batch: TypeAlias = Sequence[Sequence[Example]]

_STEP: Final = 16  # lengths that fill vector registers: softmax is twice as fast


@final
@dataclass(frozen=True, slots=True)
class Shape:
    """The heads of one attention layer.

    Args:
        groups: Key-value heads.
        queries: Query heads for each of them.
        width: Values per head.
    """

    groups: int
    queries: int
    width: int

    @property
    def members(self) -> int:
        """Heads of one group: its queries, its key and its value."""
        return self.queries + 2


@final
@dataclass(frozen=True, slots=True)
class Split:
    """How many of a packed sequence's tokens belong to each client, in order."""

    counts: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether all clients have the same number."""
        return len(set(self.counts)) == 1

    def spans(self) -> list[tuple[int, int]]:
        """First token and the one after the last, for each client."""
        ends = np.cumsum(self.counts).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Rectangle:
    """Rows of similar length, padded for attention.

    Args:
        rows: How many.
        length: Tokens of the longest.
        heads: Which packed head each padded one is, shape (rows * groups *
            members * length,); the packed sequence ends with a token of zeros,
            which the padding is.
        outputs: The same for the gradient of attention's output, where a shared
            token counts in one row only.
    """

    rows: int
    length: int
    heads: Tensor
    outputs: Tensor


@final
@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """A batch of clients' rows as one sequence.

    Args:
        tokens: Token ids, client by client.
        positions: Each token's position in its row.
        split: Tokens of each client.
        rectangles: The rows as attention sees them.
        padded: Padded tokens in all rectangles together.
        heads_home: Where each packed head lies among the padded ones.
        outputs_home: Where each packed output head lies among the padded ones.
        again: Further padded heads of shared tokens, and
        again_home: the packed heads they belong to.
        response: The tokens that predict, and
        targets: what; grouped by client as
        response_split: says.
        owners: The client of each predicting token.
        weights: One over the number of its client's predicting tokens.
    """

    tokens: Tensor
    positions: Tensor
    split: Split
    rectangles: tuple[Rectangle, ...]
    padded: int
    heads_home: Tensor
    outputs_home: Tensor
    again: Tensor
    again_home: Tensor
    response: Tensor
    targets: Tensor
    response_split: Split
    owners: Tensor
    weights: Tensor

    @staticmethod
    def of(
        batch: Batch, shape: Shape, device: torch.device, *, share: bool = True
    ) -> Packing:
        """Pack a batch; `share` packs common beginnings once."""
        tokens: list[NDArray[np.int64]] = []
        positions: list[NDArray[np.int64]] = []
        places: list[NDArray[np.int64]] = []  # packed places of each row's tokens
        firsts: list[int] = []  # the first token that is the row's own
        response: list[NDArray[np.int64]] = []
        targets: list[NDArray[np.int64]] = []
        counts: list[int] = []
        predicted: list[int] = []
        total = 0
        for rows in batch:
            common = _common(rows) if share else 0
            start, before = total, sum(map(len, response))
            for i, row in enumerate(rows):
                first = common if i else 0
                own = row.tokens[first:-1].astype(np.int64)
                place = np.arange(total - first, total + len(own))
                place[:first] = np.arange(start, start + first)
                tokens.append(own)
                positions.append(np.arange(first, first + len(own)))
                places.append(place)
                firsts.append(first)
                # The token before a response's is the one that predicts it.
                response.append(place[row.start - 1 :])
                targets.append(row.tokens[row.start :].astype(np.int64))
                total += len(own)
            counts.append(total - start)
            predicted.append(sum(map(len, response)) - before)
        owners = np.repeat(np.arange(len(batch)), predicted)
        rectangles = _rectangles(places)
        padded = [_Padded.of(rows, places, firsts, total) for rows in rectangles]
        return Packing(
            tokens=_to(np.concatenate(tokens), device),
            positions=_to(np.concatenate(positions), device),
            split=Split(tuple(counts)),
            rectangles=tuple(one.rectangle(shape, device) for one in padded),
            padded=sum(one.places.size for one in padded),
            heads_home=_home(padded, total, shape.groups, shape.members, device),
            outputs_home=_home(padded, total, shape.groups, shape.queries, device),
            **_again(padded, shape, device),
            response=_to(np.concatenate(response), device),
            targets=_to(np.concatenate(targets), device),
            response_split=Split(tuple(predicted)),
            owners=_to(owners, device),
            weights=_to(1.0 / np.asarray(predicted, dtype=np.float64)[owners], device),
        )


def _to(array: NDArray[np.int64] | NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _common(rows: Sequence[Example]) -> int:
    """How many tokens all rows begin with, before any of them predicts."""
    if len(rows) == 1:
        return 0
    most = min(row.start - 1 for row in rows)
    first = rows[0].tokens[:most]
    for row in rows[1:]:
        differs = np.nonzero(row.tokens[: len(first)] != first)[0]
        first = first[: differs[0]] if len(differs) else first
    return len(first)


def _rectangles(places: Sequence[NDArray[np.int64]]) -> list[list[int]]:
    """Rows in groups in which the longest is at most a quarter longer."""
    order = sorted(range(len(places)), key=lambda row: -len(places[row]))
    groups: list[list[int]] = []
    longest = 0
    for row in order:
        length = len(places[row])
        if not groups or length < longest - max(16, longest // 4):
            groups.append([])
            longest = length
        groups[-1].append(row)
    return groups


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Padded:
    """A rectangle's tokens: all, those that are the row's own, and the rest."""

    places: NDArray[np.int64]  # (rows, length); past a row's end, the zero token
    own: NDArray[np.int64]  # the same, with shared tokens in their first row only
    end: int  # the zero token

    @staticmethod
    def of(
        rows: Sequence[int],
        places: Sequence[NDArray[np.int64]],
        firsts: Sequence[int],
        end: int,
    ) -> _Padded:
        length = max(len(places[row]) for row in rows)
        if length > _STEP:
            length = -(-length // _STEP) * _STEP
        every = np.full((len(rows), length), end)
        own = every.copy()
        for i, row in enumerate(rows):
            place, first = places[row], firsts[row]
            every[i, : len(place)] = place
            own[i, first : len(place)] = place[first:]
        return _Padded(every, own, end)

    def rectangle(self, shape: Shape, device: torch.device) -> Rectangle:
        rows, length = self.places.shape
        return Rectangle(
            rows,
            length,
            _to(_heads(self.places, shape.groups, shape.members), device),
            _to(_heads(self.own, shape.groups, shape.queries), device),
        )


def _heads(places: NDArray[np.int64], groups: int, members: int) -> NDArray[np.int64]:
    """Packed heads in the order (row, group, member, token)."""
    head = np.arange(groups)[:, None, None] * members + np.arange(members)[:, None]
    every = places[:, None, None, :] * (groups * members) + head
    return every.reshape(-1)


def _spread(
    padded: Sequence[_Padded],
    chosen: Sequence[NDArray[np.bool_]],
    groups: int,
    members: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The chosen tokens and where their heads lie among the padded ones.

    Returns:
        Packed tokens (n,) and padded heads (n, groups * members).
    """
    tokens, heads, offset = [], [], 0
    head = np.arange(groups * members)
    for one, wanted in zip(padded, chosen, strict=True):
        length = one.places.shape[1]
        row, token = np.nonzero(wanted)
        tokens.append(one.places[row, token])
        start = offset + row * (groups * members * length) + token
        heads.append(start[:, None] + head * length)
        offset += one.places.size * groups * members
    return np.concatenate(tokens), np.concatenate(heads)


def _home(
    padded: Sequence[_Padded],
    total: int,
    groups: int,
    members: int,
    device: torch.device,
) -> Tensor:
    chosen = [one.own < one.end for one in padded]
    tokens, heads = _spread(padded, chosen, groups, members)
    home = np.empty((total, groups * members), dtype=np.int64)
    home[tokens] = heads
    return _to(home.reshape(-1), device)


def _again(
    padded: Sequence[_Padded], shape: Shape, device: torch.device
) -> dict[str, Tensor]:
    chosen = [(one.own == one.end) & (one.places < one.end) for one in padded]
    tokens, heads = _spread(padded, chosen, shape.groups, shape.members)
    size = shape.groups * shape.members
    home = tokens[:, None] * size + np.arange(size)
    return {
        "again": _to(heads.reshape(-1), device),
        "again_home": _to(home.reshape(-1), device),
    }
