"""Claim: paying for each step costs little beside the step itself.

Run ``python -m benchmarks.adapters`` in the repository root.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Section, is_quick, seconds, show, table

BUDGET = (50.0, 1e-5)
RATE, BATCH, EXAMPLES = 1 / 32, 64, 2048


class Finding(NamedTuple):
    """One way to train: the median step, and what paying took of it."""

    name: str
    step: float
    paying: float


class Clock:
    """Adds up the time that the functions it wraps take, call by call."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}
        self._inside = False

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed, unless another timed one has called it."""
        taken = self.taken.setdefault(f"{len(self.taken)} {function!r}", [])

        def measured(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return function(*arguments, **options)
            self._inside, start = True, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._inside = False
                taken.append(time.perf_counter() - start)

        return measured

    def per(self, steps: int) -> float:
        """Seconds a step, without the first call, which compiles and fills caches."""
        return sum(
            statistics.fmean(taken[1:]) * len(taken) / steps
            for taken in self.taken.values()
            if len(taken) > 1
        )


def network() -> Any:
    """26,000 parameters."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 10),
    )


def data() -> Any:
    """Random points with random classes."""
    import torch

    return torch.randn(EXAMPLES, 64), torch.randint(10, (EXAMPLES,))


def opacus_steps(engine: Any, steps: int, clock: Clock) -> float:
    """Train with Opacus; the median seconds of a step."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    model = network()
    model, optimizer, loader = engine.make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        data_loader=DataLoader(TensorDataset(*data()), batch_size=BATCH),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    optimizer.attach_step_hook(clock(optimizer.step_hook))
    taken: list[float] = []
    while len(taken) < steps:
        for x, y in loader:
            start = time.perf_counter()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def pytorch_steps(steps: int, clock: Clock, **options: Any) -> float:
    """Train without a host; the median seconds of a step."""
    import torch

    from drdp.privacy.adapters.poisson import PoissonBatchSampler
    from drdp.privacy.adapters.pytorch import private_steps

    model, (x, y) = network(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sampler = PoissonBatchSampler(EXAMPLES, RATE, steps=steps)

    def loss(model: Any, x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x[None]), y[None])

    taken = []
    with private_steps(
        optimizer, sampler=sampler, clip_norm=1.0, noise_multiplier=1.0, **options
    ) as run:
        pay, payments = run.paid.pay, run.paid.payments
        run.paid.pay = clock(pay)  # type: ignore[method-assign]
        payments.room = clock(payments.room)  # type: ignore[method-assign]
        for batch in sampler:
            start = time.perf_counter()
            if not run.room:
                break
            run.backward(model, loss, x[batch], y[batch])
            optimizer.step()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def trainer_steps(steps: int, clock: Clock, **options: Any) -> float:
    """Train LoRA on a small Llama with the Trainer; the mean seconds of a step."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from drdp.privacy.adapters.huggingface import make_private

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.begun: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begun.append(time.perf_counter())

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    rows, watch = torch.randint(1, 256, (256, 32)), Watch()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        trainer = Trainer(
            model=get_peft_model(LlamaForCausalLM(config), lora),
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=8,
                max_steps=steps,
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=[{"input_ids": r, "labels": r} for r in rows],
            callbacks=[watch],
        )
        private = make_private(
            trainer, clip_norm=1.0, noise_multiplier=1.0, delta=1e-5, **options
        )
        for name in ("_pay", "on_optimizer_step", "on_step_end"):
            setattr(private, name, clock(getattr(private, name)))
        trainer.train()
    return statistics.median(b - a for a, b in itertools.pairwise(watch.begun))


@contextmanager
def ledger() -> Iterator[Any]:
    """A durable ledger without a limit, on this machine's disk."""
    from drdp.privacy.ledger import Ledger

    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        Ledger.create(Path(folder) / "ledger.db") as found,
    ):
        yield found


def measured(steps: int) -> Iterator[Finding]:
    """Every adapter, with and without a budget and a ledger."""
    from opacus import PrivacyEngine

    from drdp import within
    from drdp.privacy.adapters.opacus import CertifiedEngine
    from drdp.privacy.adapters.payments import Prepaid

    budget = within(*BUDGET)

    def found(name: str, train: Callable[[Clock], float]) -> Finding:
        clock = Clock()
        step = train(clock)
        return Finding(name, step, clock.per(steps))

    yield found(
        "Opacus, its own accountant (PRV)",
        lambda clock: opacus_steps(PrivacyEngine(), steps, clock),
    )
    yield found(
        "Opacus, certified",
        lambda clock: opacus_steps(CertifiedEngine(), steps, clock),
    )
    yield found(
        "Opacus, with a budget",
        lambda clock: opacus_steps(CertifiedEngine(budget=budget), steps, clock),
    )
    with ledger() as book:
        yield found(
            "Opacus, durable ledger",
            lambda clock: opacus_steps(CertifiedEngine(ledger=book), steps, clock),
        )
        yield found(
            "Opacus, durable ledger, 20 steps in advance",
            lambda clock: opacus_steps(
                CertifiedEngine(ledger=Prepaid(book, 20)), steps, clock
            ),
        )
    yield found("plain PyTorch", lambda clock: pytorch_steps(steps, clock))
    yield found(
        "plain PyTorch, with a budget",
        lambda clock: pytorch_steps(steps, clock, budget=budget),
    )
    with ledger() as book:
        yield found(
            "plain PyTorch, durable ledger",
            lambda clock: pytorch_steps(steps, clock, ledger=book),
        )
    yield found("Trainer and LoRA", lambda clock: trainer_steps(steps, clock))
    yield found(
        "Trainer and LoRA, with a budget",
        lambda clock: trainer_steps(steps, clock, budget=budget),
    )
    with ledger() as book:
        yield found(
            "Trainer and LoRA, durable ledger",
            lambda clock: trainer_steps(steps, clock, ledger=book),
        )


def section(quick: bool = False) -> Section:
    """The finding, as Markdown."""
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the hosts', about themselves
        rows = [
            [f.name, seconds(f.step), seconds(f.paying), f"{f.paying / f.step:.1%}"]
            for f in measured(64 if quick else 320)
        ]
    text = (
        table(["training", "a step", "of it paying", "share"], rows)
        + "\n\nA step of DP-SGD on 64 examples (a network of 26,000 parameters), for"
        " the Trainer on 8 sequences of 32 tokens (a Llama of four layers). Paying is"
        " everything that the adapter adds to a step: asking whether the next one fits,"
        " the charge, the check that the gradient is finite. A durable charge waits"
        " for the disk."
    )
    return Section("Adapters", "python -m benchmarks.adapters", text)


if __name__ == "__main__":
    show(section(is_quick(__doc__)))
