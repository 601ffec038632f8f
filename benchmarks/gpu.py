"""Claim: on a GPU, many clients at once run at the rate of plain fine-tuning.

Run ``python -m benchmarks.gpu`` in the repository root on a machine with a CUDA
device; ``--device cpu --shape tiny`` tries the same code anywhere.  Shapes:

- ``smollm2-135m``: the real weights (extra `demo`), 50 clients a round;
- ``llama-7b``: LLaMA-7B's shape with seeded random weights (13.5 GB, and as much
  again for the packed copy), 5 of 100 clients a round;
- ``tiny``: a million parameters, to try the script.

Every client takes 4 steps of 4 rows of 128 tokens, rank 8 on q, k, v and o.  All
rows are full, so that every client has the same number of tokens; half of each
predicts.  Times are wall-clock, the device synchronised, medians over rounds after
one that warms up.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from benchmarks.measure import Section, seconds, show, table
from drdp.compression.identity import Identity
from drdp.fedsim.examples import IGNORED, Example
from drdp.fedsim.local import LocalSteps, LoraShape
from drdp.fedsim.lora import StackedTrainer
from drdp.fedsim.lora.scoring import store_bfloat16
from drdp.fedsim.models import LanguageModel, load_model
from drdp.fedsim.protection import Protection
from drdp.fedsim.randomness import SeededRandomness
from drdp.fedsim.simulate import Simulation, simulate
from drdp.privacy.threat import FixedCohort

STEPS, ROWS = 4, 4
SHAPE = LoraShape()


class Work(NamedTuple):
    """What one shape is asked to do."""

    clients: int  # in a round
    population: int
    length: int  # tokens of a row that are read
    precision: Any


WORK = {
    "smollm2-135m": Work(50, 100, 128, "bfloat16"),
    "llama-7b": Work(5, 100, 128, "bfloat16"),
    "tiny": Work(4, 8, 16, "float32"),
}


class Finding(NamedTuple):
    """One variant of one shape."""

    name: str
    each: float  # seconds of a round, or of as many tokens
    tokens: float  # a second
    share: float  # of the measured matrix rate
    memory: float  # MiB at the peak


class Purse:
    """A payer that forgets: this measures rounds, not ledgers."""

    def charge(
        self, event: object, *, label: str = "", run: str = "", key: str | None = None
    ) -> None:
        """Take the charge."""


def language_of(shape: str, device: torch.device) -> LanguageModel:
    """The model of a shape on the device; LLaMA-7B's is drawn there, in bfloat16."""
    if shape != "llama-7b":
        return load_model(shape, device=str(device))
    from transformers import LlamaConfig, LlamaForCausalLM

    from drdp.fedsim.lora.tiny import byte_tokenizer

    config = LlamaConfig(  # the defaults are LLaMA-7B's: Touvron et al. 2023
        vocab_size=32_000,
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
    )
    torch.manual_seed(0)
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model: Any = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(kept)
    model.eval().requires_grad_(requires_grad=False)
    return LanguageModel(shape, model, byte_tokenizer())


def examples_of(work: Work, vocabulary: int) -> list[Example]:
    """Rows of random tokens for everybody, of one length, half of it response."""
    rng = np.random.default_rng(0)
    count = work.population * STEPS * ROWS
    most = min(vocabulary, 30_000)
    tokens = rng.integers(3, most, (count, work.length + 1)).astype(np.int32)
    return [Example(row, work.length // 2 + 1) for row in tokens]


def synchronise(device: torch.device) -> None:
    """Wait for what was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clocked(call: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median wall-clock seconds of a call, after one that warms up."""
    taken = []
    for _ in range(rounds + 1):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def peak(device: torch.device) -> float:
    """MiB: of the device's memory, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / (1 << 20)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def rate(device: torch.device, dtype: torch.dtype, rounds: int) -> float:
    """FLOP a second of a large square matrix product."""
    size = 8192 if device.type == "cuda" else 512
    left = torch.randn(size, size, device=device, dtype=torch.float32).to(dtype)
    out = torch.empty_like(left)
    taken = clocked(lambda: torch.mm(left, left, out=out), device, max(rounds, 5))
    return 2.0 * size**3 / taken


def flop(model: torch.nn.Module, tokens: int, response: int) -> float:
    """FLOP of the products with frozen weights, there and back."""
    named = dict(model.named_parameters())
    table_ = named["model.embed_tokens.weight"].numel()
    matrices = sum(p.numel() for p in named.values() if p.ndim == 2)
    tied = "lm_head.weight" not in named
    body = matrices - table_ * (1 if tied else 2)
    return 4.0 * (body * tokens + table_ * response)


def plain(
    model: Any, rows: Sequence[Example], batch: int, device: torch.device, half: bool
) -> Callable[[], None]:
    """Ordinary LoRA fine-tuning by peft: one adapter, one AdamW, padded batches."""
    config = LoraConfig(
        r=SHAPE.rank,
        lora_alpha=int(SHAPE.alpha),
        target_modules=list(SHAPE.targets),
        task_type="CAUSAL_LM",
    )
    tuned: Any = get_peft_model(model, config)
    if half:
        store_bfloat16(tuned)
    factors = [p for p in tuned.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(factors, lr=1e-4)
    ids = torch.from_numpy(np.stack([row.tokens for row in rows])).long()
    labels = ids.clone()
    labels[:, : rows[0].start] = IGNORED
    ids, labels = ids.to(device), labels.to(device)

    def run() -> None:
        for first in range(0, len(ids), batch):
            part = slice(first, first + batch)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = tuned(input_ids=ids[part], labels=labels[part]).loss
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    return run


def measured(shape: str, device: torch.device, rounds: int) -> list[Finding]:
    """A round of clients, its training alone, and plain fine-tuning."""
    work = WORK[shape]
    half = work.precision == "bfloat16"
    language = language_of(shape, device)
    examples = examples_of(work, language.model.config.vocab_size)
    rows = examples[: work.clients * STEPS * ROWS]
    tokens = len(rows) * work.length
    total = flop(language.model, tokens, len(rows) * examples[0].response_length)
    best = rate(device, torch.bfloat16 if half else torch.float32, rounds)

    def taken(name: str, call: Callable[[], object]) -> Finding:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        spent = clocked(call, device, rounds)
        return Finding(name, spent, tokens / spent, total / spent / best, peak(device))

    found = [
        taken(name, call) for name, call in private(work, language, examples).items()
    ]
    for batch in (ROWS, work.clients * ROWS):
        del language
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        language = language_of(shape, device)
        tuned = plain(language.model, rows, batch, device, half)
        found.append(taken(f"plain LoRA, batches of {batch}", tuned))
        del tuned
    return found


def private(
    work: Work, language: LanguageModel, examples: Sequence[Example]
) -> dict[str, Callable[[], object]]:
    """The training of one round's clients, and the whole round."""
    own = STEPS * ROWS
    trainer = StackedTrainer(
        language,
        examples,
        tuple(np.arange(work.population * own).reshape(work.population, own)),
        shape=SHAPE,
        steps=LocalSteps(steps=STEPS, batch_size=ROWS, precision=work.precision),
        clients_at_once=work.clients,
    )
    begin = trainer.initial()
    parts = Simulation(
        trainer,
        Identity(trainer.num_parameters),
        Protection(
            FixedCohort(work.clients, work.population),
            clip_norm=1.0,
            noise_multiplier=1.0,
        ),
    )

    def training() -> None:
        for _ in trainer.updates(begin, range(work.clients), seed=0):
            pass

    def whole() -> None:
        for _ in simulate(
            parts, rounds=1, randomness=SeededRandomness(0), payer=Purse()
        ):
            pass

    return {
        f"training of {work.clients} clients": training,
        "the whole private round": whole,
    }


def section(shape: str, found: Sequence[Finding], device: torch.device) -> Section:
    """The findings as a table."""
    name = "CPU"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    reference = max(one.tokens for one in found if one.name.startswith("plain"))
    lines = [
        (
            one.name,
            seconds(one.each),
            f"{one.tokens:,.0f}",
            f"{one.tokens / reference:.0%}",
            f"{one.share:.0%}",
            f"{one.memory:,.0f} MiB",
        )
        for one in found
    ]
    head = (
        "variant",
        "time",
        "tokens/s",
        "of plain LoRA",
        "of the matrix rate",
        "memory",
    )
    work = WORK[shape]
    text = (
        f"{shape} on {name}: {work.clients} clients a round, {STEPS} steps of {ROWS}"
        f" rows of {work.length} tokens, {work.precision} products; plain LoRA on the"
        " same tokens.\n\n" + table(head, lines)
    )
    return Section(f"GPU, {shape}", f"python -m benchmarks.gpu --shape {shape}", text)


def main() -> None:
    """Measure the shapes that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", action="append", choices=tuple(WORK))
    parser.add_argument("--rounds", type=int, default=5, help="after the first")
    chosen = parser.parse_args()
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --shape tiny tries this")
    warnings.simplefilter("ignore")  # of the host libraries, about their own names
    device = torch.device(chosen.device)
    for shape in chosen.shape or ["smollm2-135m", "llama-7b"]:
        found = measured(shape, device, chosen.rounds)
        show(section(shape, found, device))


if __name__ == "__main__":
    main()
