"""Buffers that are allocated once and used again in every pass.

Fresh memory costs a page fault per 4 KiB, which for a pass over a language
model is as much time as a good part of its matrix products.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

__all__ = ["Room"]


@final
class Room:
    """Named buffers on one device; asking for a name again gives the same memory.

    >>> room = Room(torch.device("cpu"))
    >>> first = room.take("x", 2, 3, dtype=torch.float32)
    >>> room.take("x", 3, dtype=torch.float32).data_ptr() == first.data_ptr()
    True
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype) -> Tensor:
        """A buffer of this shape, with whatever was left in it."""
        size = math.prod(shape)
        held = self._buffers.get((name, dtype))
        if held is None or held.numel() < size:
            # A tenth more: the next batch is of about this size.
            held = torch.empty(size + size // 10, dtype=dtype, device=self._device)
            self._buffers[name, dtype] = held
        return held[:size].view(shape)

    def clear(self) -> None:
        """Give the memory back."""
        self._buffers.clear()
