"""Claim: many clients' adapters at once cost a fraction of one at a time.

Run ``python -m benchmarks.clients_at_once`` in the repository root; with
``--quick`` for a rough answer, with ``--data FILE`` for instruction rows of your
own.  The first table needs the package's extra ``demo``.

Times are processor seconds of one thread, medians over rounds in which every
variant has its turn, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from benchmarks.measure import Section, show, table
from drdp.fedsim.data import read_rows
from drdp.fedsim.examples import IGNORED, Example, encode_rows
from drdp.fedsim.local import LocalSteps, LoraShape, Precision
from drdp.fedsim.lora.adapter import Adapter
from drdp.fedsim.lora.per_example import per_example_gradients
from drdp.fedsim.lora.stack import over_same_weights
from drdp.fedsim.lora.tiers import Tier, gradients_of
from drdp.fedsim.lora.together import StackedTrainer
from drdp.fedsim.lora.trainer import LoraTrainer
from drdp.fedsim.models import LanguageModel, load_model

STEPS, ROWS = 4, 4  # of each client
SHAPE = LoraShape()
Variant = tuple[str, int, Callable[[], None]]  # name, client-steps, what to time


def sharing(language: LanguageModel) -> LanguageModel:
    """Modules of its own for peft to change, over the same weights."""
    model: Any = over_same_weights(language.model)
    return LanguageModel(language.name, model, language.tokenizer)


def peft_loop(
    language: LanguageModel, clients: Sequence[Sequence[Example]], *, bf16: bool
) -> Callable[[], None]:
    """The loop that everybody writes: transformers' loss, padded batches, AdamW."""
    adapter = Adapter(sharing(language), SHAPE)
    factors = [p.detach() for p in adapter.model.parameters() if p.requires_grad]
    begin = [factor.clone() for factor in factors]

    def run() -> None:
        for rows in clients:
            trained = [p for p in adapter.model.parameters() if p.requires_grad]
            for factor, value in zip(trained, begin, strict=True):
                factor.data.copy_(value)
            optimiser = torch.optim.AdamW(trained, lr=1.5e-4, weight_decay=0.0)
            for first in range(0, len(rows), ROWS):
                batch = rows[first : first + ROWS]
                longest = max(map(len, batch))
                ids = torch.zeros(len(batch), longest, dtype=torch.int64)
                labels = torch.full_like(ids, IGNORED)
                for i, row in enumerate(batch):
                    ids[i, : len(row)] = torch.from_numpy(row.tokens)
                    labels[i, : len(row)] = torch.from_numpy(row.labels)
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = adapter.model(input_ids=ids, labels=labels).loss
                for factor in trained:
                    factor.grad.zero_()
                loss.backward()
                optimiser.step()

    return run


def trained(trainer: LoraTrainer | StackedTrainer, clients: int) -> Callable[[], None]:
    """One round of a trainer."""
    begin = trainer.initial()

    def run() -> None:
        for _ in trainer.updates(begin, range(clients), seed=0):
            pass

    return run


def measured(variants: Sequence[Variant], rounds: int) -> dict[str, float]:
    """The median seconds of a client-step of each variant."""
    taken: dict[str, list[float]] = {name: [] for name, _, _ in variants}
    for _ in range(rounds):
        for name, count, call in variants:
            start = time.process_time()
            call()
            taken[name].append((time.process_time() - start) / count)
    return {name: statistics.median(times) for name, times in taken.items()}


def rate(dtype: torch.dtype) -> float:
    """FLOP a second of this core's matrix products, at a size of the model's."""
    x, weight = torch.randn(512, 576).to(dtype), torch.randn(1536, 576).to(dtype)
    times = []
    for _ in range(7):
        start = time.process_time()
        for _ in range(8):
            torch.mm(x, weight.T)
        times.append(time.process_time() - start)
    return 8 * 2 * 512 * 576 * 1536 / statistics.median(times)


def work(model: torch.nn.Module, rows: Sequence[Example]) -> float:
    """FLOP of a step's products with frozen weights, there and back."""
    named = dict(model.named_parameters())
    head = named["model.embed_tokens.weight"].numel()
    body = sum(p.numel() for p in named.values() if p.ndim == 2) - head
    tokens = sum(len(row) - 1 for row in rows)
    response = sum(row.response_length for row in rows)
    return 4.0 * (body * tokens + head * response)


def stacked(
    language: LanguageModel,
    examples: Sequence[Example],
    rows: int,
    most: int,
    tier: Tier,
    precision: Precision,
) -> StackedTrainer:
    """A trainer whose clients hold the examples in turn."""
    count = len(examples) // rows
    clients = tuple(np.arange(count * rows).reshape(count, rows))
    steps = LocalSteps(steps=STEPS, batch_size=ROWS, precision=precision)
    return StackedTrainer(
        sharing(language),
        examples,
        clients,
        steps=steps,
        clients_at_once=most,
        tier=tier,
    )


def large(
    language: LanguageModel, examples: Sequence[Example], *, quick: bool, rounds: int
) -> str:
    """Clients of 4 steps of 4 rows of up to 128 tokens, real weights."""
    most = 5 if quick else 10
    own = examples[: most * STEPS * ROWS]
    share = STEPS * ROWS
    parted = [own[i : i + share] for i in range(0, len(own), share)]
    clients = tuple(np.arange(len(own)).reshape(most, share))
    steps = LocalSteps(steps=STEPS, batch_size=ROWS, precision="bfloat16")
    single = LoraTrainer(sharing(language), own, clients, steps=steps)
    any_half = stacked(language, own, share, most, "any", "bfloat16")
    packed = stacked(language, own, share, most, "packed", "float32")
    packed_half = stacked(language, own, share, most, "packed", "bfloat16")
    variants: list[Variant] = [
        ("peft loop, float32", STEPS, peft_loop(language, parted[:1], bf16=False)),
        ("peft loop, bfloat16", STEPS, peft_loop(language, parted[:1], bf16=True)),
        ("LoraTrainer, bfloat16", STEPS, trained(single, 1)),
        ("any tier, bfloat16, 5", 5 * STEPS, trained(any_half, 5)),
        ("packed, float32, 1", STEPS, trained(packed, 1)),
    ]
    variants += [
        (f"packed, bfloat16, {k}", k * STEPS, trained(packed_half, k))
        for k in (1, 5, 10)
        if k <= most
    ]
    found = measured(variants, rounds=1 if quick else rounds)
    flop = statistics.fmean(work(language.model, rows) for rows in parted) / STEPS
    rates = {kind: rate(kind) for kind in (torch.float32, torch.bfloat16)}
    full, half = found["peft loop, float32"], found["peft loop, bfloat16"]
    lines = []
    for name, seconds in found.items():
        kind = torch.float32 if "float32" in name else torch.bfloat16
        floor = flop / rates[kind]
        lines.append(
            (
                name,
                f"{seconds:.3f}",
                f"{full / seconds:.2f}",
                f"{half / seconds:.2f}",
                f"{floor / seconds:.0%}",
            )
        )
    tokens = sum(len(row) - 1 for row in own) / most / STEPS
    response = sum(row.response_length for row in own) / most / STEPS
    return (
        f"{language.name}, {tokens:.0f} tokens a client-step, {response:.0f} of them"
        f" predict; {flop / 1e9:.0f} GFLOP with frozen weights, of which this core"
        f" does {rates[torch.float32] / 1e9:.0f} a second in float32 and"
        f" {rates[torch.bfloat16] / 1e9:.0f} in bfloat16.  A floor is the time these"
        " products alone take; shared beginnings of a client's rows are counted in"
        " it and not computed twice.\n\n"
        + table(
            (
                "variant, clients at once",
                "s a client-step",
                "x float32 loop",
                "x bfloat16 loop",
                "of the floor",
            ),
            lines,
        )
    )


def tiny(quick: bool) -> str:
    """A million parameters, short steps."""
    language = load_model("tiny", device="cpu")
    rng = np.random.default_rng(0)
    lines = []
    for length in (8, 32):
        most = 100
        share = STEPS * ROWS
        rows = [
            Example(rng.integers(2, 258, length + 1).astype(np.int32), length // 2 + 1)
            for _ in range(most * share)
        ]
        parted = [rows[i : i + share] for i in range(0, len(rows), share)]
        base = peft_loop(language, parted[:10], bf16=False)
        variants: list[Variant] = [("peft loop", 10 * STEPS, base)]
        for tier in ("any", "packed"):
            trainer = stacked(language, rows, share, most, tier, "float32")
            variants += [
                (f"{tier} tier, {k}", k * STEPS, trained(trainer, k))
                for k in (1, 10, 100)
            ]
        for _, _, call in variants:
            call()
        found = measured(variants, rounds=3 if quick else 7)
        lines += [
            (f"4x{length}", name, f"{s * 1e3:.2f}", f"{found['peft loop'] / s:.2f}")
            for name, s in found.items()
        ]
    return table(
        ("tokens", "variant, clients at once", "ms a client-step", "x peft loop"), lines
    )


def per_example(language: LanguageModel, rows: Sequence[Example], quick: bool) -> str:
    """Per-example gradients beside one summed gradient of the same rows."""
    model = gradients_of(language.model, SHAPE, tier="packed", precision="bfloat16")
    flat, _ = model.layout.drawn(0)
    own = torch.from_numpy(flat)[None]
    out = torch.empty_like(own)
    variants: list[Variant] = []
    for count in (4, 16):
        some = list(rows[:count])

        def plain(some: list[Example] = some) -> None:
            model.gradients(own, [some], out)

        def each(some: list[Example] = some) -> None:
            for _ in per_example_gradients(model, flat, some, memory=8e9):
                pass

        variants += [
            (f"packed, summed, {count}", 1, plain),
            (f"packed, per example, {count}", 1, each),
        ]
        for call in (plain, each):
            call()
    found = measured(variants, rounds=3 if quick else 7)
    lines = [
        (
            str(count),
            f"{found[f'packed, summed, {count}']:.3f}",
            f"{found[f'packed, per example, {count}']:.3f}",
            f"{found[f'packed, per example, {count}'] / plain_time:.2f}",
        )
        for count in (4, 16)
        if (plain_time := found[f"packed, summed, {count}"])
    ]
    return table(("rows", "summed, s", "per example, s", "ratio"), lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short, rough run")
    parser.add_argument("--data", default="dolly-sample", help="rows as JSON lines")
    parser.add_argument("--template", default="plain", help="words around a prompt")
    parser.add_argument("--rounds", type=int, default=3, help="of the large model")
    parser.add_argument("--only", choices=("large", "tiny", "per-example"))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # of the host libraries, about their own names
    torch.set_num_threads(1)
    parts = []
    if chosen.only in {None, "tiny"}:
        parts.append("## A million parameters, float32\n\n" + tiny(chosen.quick))
    if chosen.only != "tiny":
        language = load_model("smollm2-135m", device="cpu")
        rows = read_rows(chosen.data).rows[:400]
        encoded = encode_rows(
            rows, language.tokenizer, max_length=128, template=chosen.template
        )
        if chosen.only in {None, "per-example"}:
            text = per_example(language, encoded.examples, chosen.quick)
            parts.append("## Per-example gradients, bfloat16\n\n" + text)
        if chosen.only in {None, "large"}:
            text = large(
                language, encoded.examples, quick=chosen.quick, rounds=chosen.rounds
            )
            parts.append("## A language model\n\n" + text)
    command = "python -m benchmarks.clients_at_once"
    show(Section("Many clients at once", command, "\n\n".join(parts)))


if __name__ == "__main__":
    main()
