"""How many numbers and bytes travel, in a round and before the first one.

>>> figures = table_five()
>>> figures.updates, figures.statistics, figures.ratio
(167772160, 10240, 6.103515625e-05)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from drdp import _check
from drdp.compression.layout import Layout
from drdp.compression.moments import Detail, Mean
from drdp.compression.protocol import Codec

__all__ = [
    "TableFive",
    "collected_statistics",
    "collected_updates",
    "lora_layout",
    "mebibytes",
    "message_bytes",
    "message_ratio",
    "table_five",
]


def lora_layout(
    *,
    layers: int,
    width: int,
    rank: int,
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj"),
) -> Layout:
    """The LoRA matrices of attention modules that are all width by width.

    >>> paper = lora_layout(layers=32, width=4096, rank=8)
    >>> len(paper.slots), paper.slots[0].size, paper.length
    (256, 32768, 8388608)
    """
    return Layout.of_shapes(
        (f"model.layers.{layer}.self_attn.{module}.lora_{part}.weight", shape)
        for layer in range(_check.count(least=1, layers=layers))
        for module in modules
        for part, shape in (("A", (rank, width)), ("B", (width, rank)))
    )


def collected_updates(layout: Layout, epochs: int) -> int:
    """Numbers that one client sends if it sends its update of each epoch."""
    return layout.length * _check.count(least=1, epochs=epochs)


def collected_statistics(
    layout: Layout,
    epochs: int,
    *,
    detail: Detail = Detail.MEAN_STD,
    mean: Mean = Mean.SCALAR,
) -> int:
    """Numbers that one client sends if it sends the moments of each epoch."""
    epochs = _check.count(least=1, epochs=epochs)
    means = layout.length if Mean(mean) is Mean.MATRIX else len(layout.slots)
    others = {Detail.MEAN: 0, Detail.MEAN_STD: 1, Detail.HIGHER: 3}[Detail(detail)]
    return epochs * (means + others * len(layout.slots))


def mebibytes(numbers: int, bytes_each: int = 4) -> float:
    """The size of so many numbers, by default float32, in 2^20 bytes.

    >>> mebibytes(167_772_160), mebibytes(10_240), mebibytes(10_240, 8)
    (640.0, 0.0390625, 0.078125)
    """
    return numbers * bytes_each / 2**20


def message_bytes(codec: Codec) -> int:
    """Size of one client's message in one round."""
    return -(-codec.message_bits // 8)


def message_ratio(codec: Codec) -> float:
    """That over the size of the update in float32.

    >>> from drdp.compression.projection import RandomProjection
    >>> message_ratio(RandomProjection(4096, 64))
    0.015625
    """
    return codec.message_bits / (32 * codec.update_length)


@final
@dataclass(frozen=True, slots=True)
class TableFive:
    """What one client sends before training: FedCG's updates or the moments.

    Args:
        updates: Numbers, if it sends the updates of all epochs.
        statistics: Numbers, if it sends mean and standard deviation of each
            matrix and epoch.
    """

    updates: int
    statistics: int

    @property
    def ratio(self) -> float:
        """Moments over updates; the paper's communication efficiency gain."""
        return self.statistics / self.updates


def table_five(layout: Layout | None = None, epochs: int = 20) -> TableFive:
    """Table 5 of arXiv:2412.17053, by default for its LLaMA-7B of rank 8.

    The paper gives 167,772,160 numbers as 160 MB, which is one byte for each,
    and 10,240 numbers as 0.078 MB, which is eight bytes for each.  In float32
    they are 640 and 0.0390625 MiB; the ratio is the same.  Both are for one
    client.
    """
    where = layout or lora_layout(layers=32, width=4096, rank=8)
    return TableFive(
        collected_updates(where, epochs), collected_statistics(where, epochs)
    )
