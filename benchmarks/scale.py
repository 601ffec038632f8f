"""Claim: a round's cost per client, and its memory, do not depend on its size.

Run ``python -m benchmarks.scale`` in the repository root; it rewrites its part of
docs/scale.md and docs/scale.svg.  With ``--quick`` it takes smaller rounds, prints
and writes nothing.  It needs the extras `train` and `plot`.

Two series, each size in a process of its own: whole rounds of `tiny` with real
local training, and rounds in which nothing but the privacy step is computed, on
updates of the length that SmolLM2-135M has with the default adapter.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import Section, is_quick, machine, seconds, show, table
from drdp.fedsim.trainer import Trainer, Update

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- benchmarks.scale begins -->", "<!-- benchmarks.scale ends -->"
LENGTH = 921_600  # rank 8 on q, k, v, o of SmolLM2-135M
SIZES = (10, 100, 1000)
STREAMED = (10, 100, 1000)


class Finding(NamedTuple):
    """One round, measured in a process of its own."""

    series: str
    clients: int
    each: float  # processor seconds a client
    peak: float  # MiB, the whole process
    added: float  # MiB that the round added to what was there before it


class Streamed:
    """Clients who send without training: pieces of one long random vector."""

    def __init__(self, clients: int) -> None:
        import numpy as np

        rng = np.random.default_rng(0)
        self.num_clients, self.num_parameters = clients, LENGTH
        self._long = rng.standard_normal(LENGTH + clients, dtype=np.float32)

    def initial(self) -> NDArray[np.float32]:
        """Zeros."""
        import numpy as np

        return np.zeros(LENGTH, dtype=np.float32)

    def updates(
        self, parameters: NDArray[np.float32], clients: Sequence[int], seed: int
    ) -> Iterator[Update]:
        """A copy for each client, as a trainer gives one."""
        for client in clients:
            yield Update(client, self._long[client:][:LENGTH].copy(), 0.0, 1)

    def evaluate(self, parameters: NDArray[np.float32]) -> Mapping[str, float]:
        """Nothing."""
        return {}


class Purse:
    """A payer that forgets: this measures rounds, not ledgers."""

    def charge(
        self, event: object, *, label: str = "", run: str = "", key: str | None = None
    ) -> None:
        """Take the charge."""


def trained() -> Trainer:
    """A thousand clients of `tiny`, eight rows each, up to 64 tokens."""
    import numpy as np
    import torch

    from drdp.fedsim.data import read_rows
    from drdp.fedsim.examples import encode_rows
    from drdp.fedsim.local import LocalSteps
    from drdp.fedsim.lora import StackedTrainer
    from drdp.fedsim.models import load_model

    torch.set_num_threads(1)
    language = load_model("tiny", device="cpu")
    rows = read_rows("dolly-sample").rows[:400]
    examples = encode_rows(rows, language.tokenizer, max_length=64).examples
    rng = np.random.default_rng(0)
    clients = tuple(
        np.sort(rng.choice(len(examples), 8, replace=False)) for _ in range(max(SIZES))
    )
    steps = LocalSteps(steps=1, batch_size=4, precision="float32")
    return StackedTrainer(language, examples, clients, steps=steps, clients_at_once=10)


def measured(series: str, clients: int) -> Finding:
    """One round of so many clients, after a small one that warms up."""
    from drdp.compression.identity import Identity
    from drdp.fedsim.protection import Protection
    from drdp.fedsim.randomness import SeededRandomness
    from drdp.fedsim.simulate import Simulation, simulate
    from drdp.privacy.threat import FixedCohort

    trainer: Trainer = Streamed(clients) if series == "streamed" else trained()
    most = trainer.num_clients

    def round_of(size: int, name: str) -> float:
        protection = Protection(
            FixedCohort(size, most), clip_norm=1.0, noise_multiplier=1.0
        )
        parts = Simulation(
            trainer, Identity(trainer.num_parameters), protection, name=name
        )
        start = time.process_time()
        for _ in simulate(
            parts, rounds=1, randomness=SeededRandomness(1), payer=Purse()
        ):
            pass
        return time.process_time() - start

    round_of(min(10, clients), "warm")
    before = status("VmRSS")
    spent = round_of(clients, "measured")
    peak = status("VmHWM")
    return Finding(series, clients, spent / clients, peak, max(0.0, peak - before))


def status(field: str) -> float:
    """MiB of this process; not a number where the system does not tell."""
    path = Path("/proc/self/status")
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return math.nan


def measure(*, quick: bool) -> list[Finding]:
    """Every size of both series."""
    os.environ["OMP_NUM_THREADS"] = "1"
    spawn = multiprocessing.get_context("spawn")
    found = []
    for series, sizes in (("tiny", SIZES), ("streamed", STREAMED)):
        for size in sizes[:2] if quick else sizes:
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                found.append(pool.submit(measured, series, size).result())
            print(found[-1], file=sys.stderr, flush=True)
    return found


def section(found: Sequence[Finding]) -> Section:
    """The findings as two tables."""
    head = ("clients a round", "a client", "peak of the process", "round adds")

    def lines(series: str) -> str:
        return table(
            head,
            [
                (
                    f"{one.clients:,}",
                    seconds(one.each),
                    f"{one.peak:,.0f} MiB",
                    f"{one.added:,.0f} MiB",
                )
                for one in found
                if one.series == series
            ],
        )

    text = (
        "`tiny` (a million parameters), an AdamW step of four rows of up to 64"
        " tokens a client, ten clients in each pass, then clipped, summed and noised"
        " at full length; processor seconds of one thread:\n\n"
        + lines("tiny")
        + f"\n\nThe privacy step alone on updates of {LENGTH:,} numbers, those of"
        " SmolLM2-135M with the default adapter (the trainer copies a vector for each"
        " client and trains nothing):\n\n" + lines("streamed")
    )
    return Section("Rounds of any size", "python -m benchmarks.scale", text)


def plot(found: Sequence[Finding], path: Path) -> None:
    """Cost per client and peak memory, both axes logarithmic."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "drdp"
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    cost, memory = figure.subplots(1, 2)
    names = {"tiny": "tiny, trained", "streamed": "921,600 numbers, privacy step"}
    for (series, name), marker in zip(names.items(), "os", strict=True):
        own = [one for one in found if one.series == series]
        sizes = [one.clients for one in own]
        cost.plot(sizes, [1e3 * one.each for one in own], f"{marker}-", label=name)
        memory.plot(sizes, [one.peak for one in own], f"{marker}-")
    for axes, label, low, high in (
        (cost, "ms a client", 1.0, 1e3),
        (memory, "peak of the process, MiB", 10.0, 1e4),
    ):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        axes.set_xlabel("clients a round")
        axes.set_ylabel(label)
        axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="small")
    figure.savefig(path, format="svg", metadata={"Date": None})


def written(section_: Section, page: Path) -> None:
    """Put the findings between the marks of the page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{page} lacks the marks {BEGIN} and {END}")
    inner = f"{section_.text}\n\n{machine()}"
    page.write_text(f"{before}{BEGIN}\n\n{inner}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure; write the document unless in a hurry."""
    quick = is_quick(__doc__)
    found = measure(quick=quick)
    show(section(found))
    if not quick:
        written(section(found), DOCS / "scale.md")
        plot(found, DOCS / "scale.svg")


if __name__ == "__main__":
    main()
