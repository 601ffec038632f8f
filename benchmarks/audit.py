"""Claim: attacks on the running simulator stay below what is certified, and near it.

Run ``python -m benchmarks.audit`` in the repository root; it takes a minute or two,
prints the tables of docs/audit.md and draws its pictures.  With ``--quick`` it is
shorter and draws nothing.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import Section, is_quick, show, table
from drdp.cli import plot_audit
from drdp.cli.numbers import down, up
from drdp.compression.autoencoder import fit_autoencoder, fit_on_prior
from drdp.compression.designs import BlockDesign
from drdp.compression.identity import Identity
from drdp.compression.layout import Layout
from drdp.compression.projection import RandomProjection
from drdp.compression.random_prior import public_prior
from drdp.compression.source import Origin, Source
from drdp.fedsim.auditing import audit_simulation
from drdp.fedsim.canaries import Crowd
from drdp.fedsim.cohort import AllocatedCohort, Cohorts
from drdp.fedsim.data import read_rows
from drdp.fedsim.examples import Example, encode_rows
from drdp.fedsim.local import LocalSteps, LoraShape
from drdp.fedsim.lora import LoraTrainer
from drdp.fedsim.models import LanguageModel, load_model
from drdp.fedsim.protection import Protection
from drdp.fedsim.simulate import Simulation
from drdp.fedsim.spans import decoder_rows, distances, telling
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.noise import SeededNoise
from drdp.privacy.audit import gaussian_epsilon
from drdp.privacy.events import Event, Gaussian, NonPrivate
from drdp.privacy.findings import Finding
from drdp.privacy.threat import EveryClient, FixedCohort, Placement, PoissonCohort, View

DOCS = Path(__file__).parent.parent / "docs"
DELTA = 1e-5
SIGMA = 0.748028  # the paper's noise for epsilon 1
LENGTH = 8
RANK = 48
TEXTS = 20
CLIENTS = 24
CODE = 16


class Row(NamedTuple):
    """One audit."""

    name: str
    found: Finding


def simulation(
    cohort: Cohorts, clients: int, length: int = LENGTH, **plan: Any
) -> Simulation:
    """Clients who send zeros through the codec Identity."""
    crowd = Crowd(clients, np.zeros(length, dtype=np.float32))
    return Simulation(
        crowd, Identity(length), Protection(cohort, **({"clip_norm": 1.0} | plan))
    )


def five(share: float, view: View = View.SUM, **more: int) -> Simulation:
    """The paper's five clients, each with noise of its own."""
    return simulation(
        EveryClient(5),
        5,
        noise_multiplier=share,
        placement=Placement.DISTRIBUTED,
        view=view,
        **more,
    )


def paper(runs: int) -> list[Row]:
    """The noise as printed, and as it has to be, at the claim that is printed."""
    shares = {"as printed": 2 * SIGMA / 5, "repaired": 2 * SIGMA / math.sqrt(5)}
    return [
        Row(
            name,
            audit_simulation(
                five(share), delta=DELTA, runs=runs, claimed=Gaussian(SIGMA), seed=1
            ),
        )
        for name, share in shares.items()
    ]


def views(runs: int) -> list[Row]:
    """One amount of noise, seen by different adversaries; each against its claim."""
    share = 2 * SIGMA / math.sqrt(5)
    plans: list[tuple[str, Simulation, Any]] = [
        ("each message", five(share, View.MESSAGES), None),
        ("the sum", five(share), None),
        ("the models", five(share), "models"),
        ("3 of 5 collude", five(share, View.COLLUDING, colluding=3), None),
    ]
    return [
        Row(name, audit_simulation(plan, delta=DELTA, runs=runs, seen=seen, seed=2))
        for name, plan, seen in plans
    ]


def sampled(runs: int) -> list[Row]:
    """Four rounds with little noise and sampled cohorts."""
    cohorts: dict[str, Cohorts] = {
        "Poisson 1/4": PoissonCohort(0.25),
        "fixed 2 of 8": FixedCohort(2, 8),
        "allocated, 1 round of 4": AllocatedCohort(4),
    }
    return [
        Row(
            name,
            audit_simulation(
                simulation(cohort, 8, noise_multiplier=0.5),
                delta=DELTA,
                runs=runs,
                rounds=4,
                seed=3,
            ),
        )
        for name, cohort in cohorts.items()
    ]


def shared(canaries: int) -> list[Row]:
    """Many canaries in one round, at two levels of noise."""
    return [
        Row(
            f"{canaries} in one round, noise {noise}",
            audit_simulation(
                simulation(
                    PoissonCohort(1.0), canaries, canaries, noise_multiplier=noise
                ),
                delta=DELTA,
                runs=1,
                canaries=canaries,
                kind="dirac",
                seed=4,
            ),
        )
        for noise in (1.0, 0.5)
    ]


def audits(rows: list[Row]) -> str:
    """A table of audits."""
    return table(
        (
            "audited",
            "epsilon >=",
            "mu >=",
            "that is, if Gaussian",
            "certified epsilon",
            "verdict",
        ),
        (
            (
                row.name,
                down(row.found.epsilon, 4),
                down(row.found.mu, 4),
                down(gaussian_epsilon(row.found.mu, DELTA), 4),
                up(row.found.certified.upper, 5) if row.found.certified else "",
                str(row.found.verdict),
            )
            for row in rows
        ),
    )


def texts(language: LanguageModel, count: int) -> tuple[Example, ...]:
    """Examples of at most 40 tokens."""
    rows = read_rows("dolly-sample").rows[:count]
    return encode_rows(rows, language.tokenizer, max_length=40).examples


def tokens() -> str:
    """DAGER's span test on the first layer's gradient, before and after each step."""
    import torch

    language = load_model("tiny")
    found = texts(language, TEXTS)
    trainer = LoraTrainer(
        language,
        found,
        tuple(np.array([k]) for k in range(len(found))),
        shape=LoraShape(rank=RANK, targets=("v_proj",)),
        steps=LocalSteps(optimiser="gradient", steps=1, batch_size=1),
    )
    slots = {slot.key: slot for slot in trainer.slots}
    key = next(name for name in slots if "layers.0." in name and "lora_B" in name)

    def part(flat: np.ndarray, name: str) -> np.ndarray:
        slot = slots[name]
        return flat[slot.offset : slot.offset + slot.size].reshape(slot.shape)

    model = language.model.model
    with torch.no_grad():
        inputs = model.layers[0].input_layernorm(model.get_input_embeddings().weight)
    first = part(trainer.initial(), key.replace("lora_B", "lora_A"))
    candidates = inputs.numpy() @ first.T
    updates = [
        one.delta for one in trainer.updates(trainer.initial(), range(len(found)), 0)
    ]
    length = trainer.num_parameters
    median = float(np.median([np.linalg.norm(one) for one in updates]))
    clip = GaussianMechanism(noise_multiplier=0.0, clip_norm=median / 2)
    stages: list[tuple[str, Any]] = [
        ("the update itself", lambda one: one),
        ("clipped to half the median norm", clip.bound),
    ]
    for size in (length // 4, length // 64):
        codec = RandomProjection(length, size, seed=1)
        stages.append(
            (
                f"decoded from a random code of 1/{length // size}",
                lambda one, codec=codec: codec.decode(codec.encode(one)),
            )
        )
    for noise in (0.001, 0.01, 0.1, 1.0):
        loud = GaussianMechanism(noise_multiplier=noise, clip_norm=median)
        stages.append(
            (
                f"clipped, noise multiplier {noise}",
                lambda one, loud=loud: loud.release(
                    loud.bound(one), SeededNoise(1, f"{np.linalg.norm(one):.6e}")
                ),
            )
        )
    rows = []
    for name, change in stages:
        scores, exact = [], 0
        for example, update in zip(found, updates, strict=True):
            there = np.zeros(len(candidates), dtype=bool)
            there[example.tokens[:-1]] = True
            # The attacker is told how many different tokens there are.
            few = int(there.sum())
            far = distances(part(change(update), key), candidates, rank=few)
            scores.append(telling(far, there))
            exact += set(np.argsort(far)[:few]) == set(np.flatnonzero(there))
        rows.append((name, f"{np.mean(scores):.3f}", f"{exact} of {len(found)}"))
    return table(("message", "area under ROC", "all tokens read"), rows)


def decoders(steps: int) -> str:
    """Whether a decoder's span tells the updates that it was fitted on."""
    language = load_model("tiny")
    found = texts(language, 2 * CLIENTS)
    count = len(found) // 2
    trainer = LoraTrainer(
        language,
        found,
        tuple(np.array([k]) for k in range(2 * count)),
        shape=LoraShape(rank=2, targets=("v_proj",)),
        steps=LocalSteps(optimiser="gradient", steps=1, batch_size=1),
    )
    updates = np.stack(
        [one.delta for one in trainer.updates(trainer.initial(), range(2 * count), 0)]
    )
    there = np.arange(len(updates)) < count
    design = BlockDesign(CODE, blocks=1)
    layout = Layout.of((s.key, s.offset, s.shape) for s in trainer.slots)
    real = fit_autoencoder(
        updates[there],
        design,
        source=Source(Origin.CLIENT_UPDATES),
        steps=steps,
        batch_size=count,
    )
    prior = fit_on_prior(public_prior(layout), design, steps=steps)
    rows = []
    for name, codec in (("clients' updates (FedCG)", real), ("random prior", prior)):
        far = distances(decoder_rows(codec), updates)
        inside, outside = 1.0 - far[there] ** 2, 1.0 - far[~there] ** 2
        rows.append(
            (
                name,
                "NonPrivate" if codec.event == NonPrivate() else "nothing",
                f"{inside.mean():.3f}",
                f"{outside.mean():.3f}",
                f"{telling(far, there):.3f}",
            )
        )
    return table(
        ("fitted on", "event", "energy, training", "energy, others", "area under ROC"),
        rows,
    )


def measure(*, quick: bool) -> Section:
    """All tables; the pictures as well unless quick."""
    runs = 100 if quick else 1000
    printed, seen = paper(runs), views(runs)
    drawn, many = sampled(runs), shared(200 if quick else 1000)
    if not quick:
        claim: Event = Gaussian(SIGMA)
        lines = [(f"noise {one.name}", one.found.rates) for one in printed]
        plot_audit.save(lines, claim, DOCS / "audit-paper.svg")
        plan = simulation(PoissonCohort(0.25), 8, noise_multiplier=0.5).protection
        plot_audit.save(
            [("likelihood ratio on the sums", drawn[0].found.rates)],
            plan.run_event(4),
            DOCS / "audit-sampled.svg",
        )
    text = "\n\n".join(
        [
            f"The paper's noise, {runs} + {runs} runs of one round:",
            audits(printed),
            f"The same noise and different adversaries, {runs} + {runs} runs:",
            audits(seen),
            f"Sampled cohorts, four rounds at noise 0.5, {runs} + {runs} runs:",
            audits(drawn),
            "Canaries that share a run:",
            audits(many),
            f"Tokens of {TEXTS} texts from a LoRA gradient of rank {RANK}, tiny model:",
            tokens(),
            f"Updates in the span of a linear decoder, code length {CODE}:",
            decoders(40 if quick else 400),
        ]
    )
    return Section("Audit", "python -m benchmarks.audit", text)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    show(measure(quick=is_quick(__doc__)))
