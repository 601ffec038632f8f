"""A run's plan as it is written down and shown, before the first round."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

from drdp.compression.protocol import Compressor
from drdp.fedsim.cohort import expected_size
from drdp.fedsim.config import Config, written
from drdp.fedsim.federation import EXAMPLE_LEVEL, Federation
from drdp.fedsim.forecast import Forecast, population_needed
from drdp.fedsim.simulate import Simulation
from drdp.fedsim.spending import certified
from drdp.privacy.curves import Interval
from drdp.privacy.events import NonPrivate, atoms

__all__ = ["plan_of"]


def plan_of(
    config: Config,
    people: Federation,
    simulation: Simulation,
    rounds: int,
    delta: float,
    alignment: float | None,
    ahead: Forecast | None,
) -> dict[str, Any]:
    """The plan as it is written down and shown."""
    protection, codec = simulation.protection, simulation.compressor
    event = simulation.event(rounds)
    exposed = NonPrivate() in atoms(event)
    cost = certified(event, delta) if atoms(event) and not exposed else None
    upper = math.inf if exposed else 0.0 if cost is None else cost.upper
    clients = simulation.trainer.num_clients
    size = expected_size(protection.cohort, clients)
    what = "examples" if config.run.method in EXAMPLE_LEVEL else "clients"
    what = "public clients" if config.run.method == "public" else what
    clip = "inf" if protection.clip_norm == math.inf else protection.clip_norm
    told: dict[str, list[str]] = {
        "Plan": [
            (
                f"method {config.run.method}, {rounds} rounds, {clients:,} {what},"
                f" about {size:.4g} a round"
            ),
            (
                f"{people.examples:,} private examples; a guarantee protects each"
                f" {people.unit} of {people.population:,}"
            ),
            f"update {codec.update_length:,} numbers, code {codec.code_length:,}",
            (
                f"clip norm {clip if clip == 'inf' else format(clip, '.4g')}, noise"
                f" multiplier {protection.noise_multiplier:.6g}"
                f" ({protection.placement}, {protection.mechanism})"
            ),
            _cost(exposed, cost, delta),
        ]
    }
    if ahead is not None:
        told["Forecast"] = ahead.sentences()
        if ahead.verdict in ("weak", "hopeless") and cost is not None:
            needed = population_needed(
                protection,
                num_clients=clients,
                rounds=rounds,
                epsilon=upper,
                delta=delta,
            )
            if needed is not None:
                told["Forecast"].append(
                    f"With {needed:,} clients at the same rate any code would do."
                )
    return {
        "settings": written(config),
        "rounds": rounds,
        "clients": clients,
        "expected_cohort": size,
        "population": people.population,
        "unit": people.unit,
        "examples": people.examples,
        "update_length": codec.update_length,
        "code_length": codec.code_length,
        "message_bytes": _message_bytes(codec),
        "clip_norm": clip,
        "noise_multiplier": protection.noise_multiplier,
        "server_learning_rate": simulation.server.learning_rate,
        "alignment": alignment,
        "delta": delta,
        "epsilon": "inf" if exposed else upper,
        "forecast": None if ahead is None else ahead.verdict,
        "told": told,
    }


def _up(value: float) -> str:
    """Six digits, rounded up: what is printed holds."""
    exact = Context(prec=6, rounding=ROUND_CEILING).plus(Decimal(repr(value)))
    return f"{exact.normalize():f}"


def _cost(exposed: bool, cost: Interval | None, delta: float) -> str:
    if exposed:
        return "cost: NOT PRIVATE, epsilon is infinite"
    if cost is None:
        return "cost: none; no private data is used"
    return f"cost: epsilon {_up(cost.upper)} at delta {delta:.4g}, certified"


def _message_bytes(codec: Compressor) -> int:
    """What a client sends in a round."""
    return -(-int(getattr(codec, "message_bits", 32 * codec.code_length)) // 8)
