"""What the guarantee of a run rests on and leaves open, beside its event."""

from __future__ import annotations

from drdp.privacy.events import Adjacency
from drdp.privacy.statement import Circumstances

__all__ = ["circumstances"]


def circumstances(
    *,
    unit: str,
    population: int,
    adjacency: Adjacency,
    clip_norm: float,
    placement: str,
    view: str,
    seeded: bool,
    mechanism: str = "gaussian",
    examples_per_user: int | None = None,
    assumed: tuple[str, ...] = (),
) -> Circumstances:
    """What a run's event does not know about the run.

    Args:
        unit: Whom the guarantee protects.
        population: How many of them there are.
        adjacency: The neighbouring relation.
        clip_norm: The largest L2 norm of one contribution.
        examples_per_user: The most examples of one unit, where examples are drawn
            and clipped one by one.
        assumed: What else the guarantee rests on.
        placement: Who adds the noise.
        view: What the adversary sees.
        mechanism: The law of the noise.
        seeded: Whether the noise can be replayed from a seed.
    """
    noted = [
        *assumed,
        "Sums are divided by the public expected size of a cohort.",
        (
            "How many examples there are in all is public: it is in plan.json, and"
            " public clients are as large as an average one."
        ),
        _precision(mechanism),
    ]
    if examples_per_user is not None:
        noted.insert(
            0,
            f"Each {unit} has at most {examples_per_user} examples.  Each of them joins"
            " a round by chance, independently, and is clipped alone to"
            f" {clip_norm:g}; the adversary does not learn which took part.",
        )
        clip_norm *= examples_per_user
    missing = [
        (
            "Everything marked private in metrics.jsonl: cohort sizes, training losses,"
            " norms, times, how many contributions counted as zero because training"
            " diverged.  Keep it, and the folder's secret.key while the run lasts, from"
            " others."
        ),
        (
            "When things happen: how long a round takes, the times of files and of"
            " ledger entries.  They tell how many clients took part."
        ),
    ]
    if seeded:
        missing.insert(
            0,
            "THIS RUN: its noise and cohorts come from a seed that is written down, so"
            " it is a simulation; the figures are what the same run with secret noise"
            " would guarantee.",
        )
    return Circumstances(
        unit=unit,
        population=population,
        adjacency=adjacency,
        clip_norm=clip_norm,
        placement=placement,
        adversary=f"view {view}",
        output="the parameters after every round",
        data_accesses="this run alone",
        delta_source="given, or the default for the population",
        assumptions=tuple(noted),
        not_covered=tuple(missing),
    )


def _precision(mechanism: str) -> str:
    if mechanism == "gaussian":
        return (
            "Noise is drawn in double precision, which does not hold against attacks on"
            " the last bits of released numbers."
        )
    return (
        f"Noise is {mechanism}, drawn exactly on the integers; every round counts as if"
        " whoever is protected took part in it."
    )
