"""Claim: a client's local step is its forward and backward pass, and little else.

Run ``python -m benchmarks.local_training`` in the repository root; it needs the
extra `demo`.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple
from unittest.mock import patch

from benchmarks.measure import Section, is_quick, seconds, show, table

_LENGTH, _BATCH, _STEPS = 128, 4, 4


class Finding(NamedTuple):
    """One setting, measured in a process of its own."""

    step: float  # processor seconds of one local step, everything included
    outside: float  # the share of it that is not the model's forward and backward
    load: float  # seconds to load the model from the cache
    peak: float  # MiB, the whole process
    loss: float  # mean training loss of the clients


def measured(setting: tuple[str, str, bool], clients: int) -> Finding:
    """What one client's steps cost, as the median over clients."""
    import numpy as np
    import torch

    from drdp.fedsim.data import read_rows
    from drdp.fedsim.examples import encode_rows
    from drdp.fedsim.local import LocalSteps, LoraShape
    from drdp.fedsim.lora import LoraTrainer
    from drdp.fedsim.lora.scoring import Scorer
    from drdp.fedsim.models import load_model

    model, precision, freeze_a = setting
    torch.set_num_threads(1)
    load_model(model)  # built now, if it was not
    start = time.perf_counter()
    language = load_model(model)
    load = time.perf_counter() - start
    rows = read_rows("dolly-sample").rows
    encoded = encode_rows(rows, language.tokenizer, max_length=_LENGTH).examples
    full = [example for example in encoded if len(example) == _LENGTH]
    own = np.arange(_BATCH * _STEPS)
    trainer = LoraTrainer(
        language,
        full,
        tuple(own + client * len(own) for client in range(clients + 1)),
        shape=LoraShape(freeze_a=freeze_a),
        steps=LocalSteps(steps=_STEPS, batch_size=_BATCH, precision=precision),
    )
    parameters = trainer.initial()
    list(trainer.updates(parameters, [clients], seed=0))  # warm
    inside = 0.0

    def clocked(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal inside
            start = time.process_time()
            try:
                return call(*arguments, **options)
            finally:
                inside += time.process_time() - start

        return run

    steps, shares, losses = [], [], []
    with (
        patch.object(Scorer, "losses", clocked(Scorer.losses)),
        patch.object(torch.Tensor, "backward", clocked(torch.Tensor.backward)),
    ):
        for client in range(clients):
            inside, start = 0.0, time.process_time()
            (update,) = trainer.updates(parameters, [client], seed=0)
            whole = time.process_time() - start
            steps.append(whole / _STEPS)
            shares.append(1.0 - inside / whole)
            losses.append(update.loss)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Finding(
        statistics.median(steps),
        statistics.median(shares),
        load,
        peak / (1 << 20 if sys.platform == "darwin" else 1 << 10),
        statistics.fmean(losses),
    )


def run(*, quick: bool) -> Section:
    """Measure every setting, each in a fresh process."""
    os.environ["OMP_NUM_THREADS"] = "1"
    settings = [
        ("smollm2-135m", "float32", False),
        ("smollm2-135m", "bfloat16", False),
        ("smollm2-135m", "float32", True),
        ("smollm2-135m", "bfloat16", True),
        ("tiny", "float32", False),
    ]
    spawn = multiprocessing.get_context("spawn")
    found = []
    for setting in settings:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            found.append(pool.submit(measured, setting, 1 if quick else 5).result())
    rows = [
        (
            model,
            precision,
            "B" if freeze_a else "A and B",
            seconds(f.step),
            f"{100 * f.outside:.1f} %",
            seconds(f.load),
            f"{f.peak:,.0f} MiB",
            f"{f.loss:.4f}",
        )
        for (model, precision, freeze_a), f in zip(settings, found, strict=True)
    ]
    head = ("model", "products", "trained", "step", "outside", "load", "peak", "loss")
    text = (
        f"A local AdamW step on {_BATCH} rows of {_LENGTH} tokens of dolly-sample, LoRA"
        " of rank 8 on q, k, v, o by peft, in processor seconds of one thread: medians"
        " over clients of four steps. `outside` is the share of a step that is not the"
        " model's forward and backward pass: loading and reading the adapter,"
        " drawing batches, the optimiser. `load` is from the cache, `peak` the whole"
        " process.\n\n" + table(head, rows)
    )
    return Section("Local training", "python -m benchmarks.local_training", text)


if __name__ == "__main__":
    show(run(quick=is_quick(__doc__)))
