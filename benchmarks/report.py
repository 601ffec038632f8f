"""All benchmarks in one run: docs/performance.md and docs/performance.svg.

Run ``python -m benchmarks.report`` in the repository root; it takes about ten
minutes. With ``--quick`` it takes two, gives up on peers early, prints what it
found and writes nothing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks import accountants, accuracy, batch, calibration, start_up
from benchmarks.accountants import KERNEL, PUBLIC, Finding
from benchmarks.measure import Section, is_quick, machine

DOCS = Path(__file__).parent.parent / "docs"
SHOWN = (
    (KERNEL, "o", "C0"),
    (PUBLIC, "s", "C1"),
    ("dp-accounting PLD", "^", "C2"),
    ("prv-accountant 0.1", "v", "C3"),
    ("Opacus PRV", "D", "C4"),
    ("dp-accounting RDP", "x", "C5"),
)


def page(sections: list[Section]) -> str:
    """The whole document."""
    parts = [
        "# Performance",
        (
            "Written by `python -m benchmarks.report`. Every section names the command"
            " that measures it alone. Times are medians over repeats in one thread, the"
            " peers' and drdp's taken in the same run on a shared machine: trust the"
            " ratios more than the times. Compilation and imports come before the clock"
            " starts, except under a cold start. Every peer is optional."
        ),
        machine(),
        "![Time to answer, by setting](performance.svg)",
    ]
    for section in sections:
        parts += [f"## {section.title}", f"`{section.command}`", section.text]
    return "\n\n".join(parts) + "\n"


def plot(found: list[Finding], path: Path) -> None:
    """Time per setting, on a logarithmic axis, drdp and the peers."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "drdp"
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, marker, colour in SHOWN:
        points = [
            (at, f.answers[name].seconds)
            for at, f in enumerate(found)
            if name in f.answers and f.answers[name].answered
        ]
        if points:
            at, taken = zip(*points, strict=True)
            axes.plot(at, taken, marker, color=colour, label=name, markersize=5)
    axes.set_yscale("log")
    axes.set_ylim(1e-6, 1e2)
    axes.set_yticks([10.0**k for k in range(-6, 3)])
    axes.set_xticks(range(len(found)), [f.setting.name for f in found])
    axes.set_xlabel("setting")
    axes.set_ylabel("seconds for one epsilon")
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Measure everything; write the documents unless in a hurry."""
    quick = is_quick(__doc__)
    start = time.perf_counter()

    def done(name: str) -> None:
        spent = time.perf_counter() - start
        print(f"{name}: done after {spent:.0f} s", file=sys.stderr, flush=True)

    found = accountants.measure(quick=quick)
    done("accountants")
    sections = [accountants.section(found)]
    for benchmark in (calibration, batch, start_up, accuracy):
        sections.append(benchmark.section(benchmark.measure(quick=quick)))
        done(benchmark.__name__)
    if quick:
        print(page(sections))
        return
    DOCS.mkdir(exist_ok=True)
    (DOCS / "performance.md").write_text(page(sections), encoding="utf-8")
    plot(found, DOCS / "performance.svg")


if __name__ == "__main__":
    main()
