"""The top of a run's page: warnings, then the guarantee with all that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from drdp.fedsim.digits import about, up
from drdp.fedsim.findings import Document
from drdp.fedsim.markup import (
    banner,
    bullets,
    details,
    facts,
    headline,
    paragraph,
    section,
    table,
)

__all__ = ["banners", "guarantee_part"]

_VIEWS = {
    "messages": "a server that sees each client's message and draws the cohort",
    "sum": "a server that draws the cohort and sees the noised sum alone",
    "colluding": "clients who see each noised sum and know their own messages and"
    " noise, but not who else takes part",
    "outsider": "someone who sees the released models and nothing else",
}
_PLACEMENTS = {
    "central": "once to the sum of a round, by a party trusted to do so",
    "distributed": "a share at each client; the sum alone is protected",
    "local": "at each client, whose message is protected by itself",
}
_DRAWN = {
    "poisson": "each joins a round by chance, with probability {}",
    "fixed": "a share of {} of all, drawn anew in each round",
    "allocation": "each takes part in one round of a pass, drawn by chance; a round"
    " has a share of {}",
    "every": "none: all take part in every round",
}
_RISKS = {
    "advantage": "advantage of the best membership attack",
    "true_positive_rate": "true positive rate of a membership attack",
    "bayes_success": "chance to guess membership right",
    "positive_predictive_value": "chance that a member it names is one",
    "reconstruction": "chance to reconstruct a record",
}


def banners(found: Document) -> list[str]:
    """What has to be read before anything else.

    Args:
        found: From `drdp.fedsim.findings.run_findings`.
    """
    told, done = [], found["rounds_done"]
    statement, planned = found["statement"], found["rounds_planned"]
    if "private" in found:
        told.append(
            banner(
                "For the operator alone: do not share this page.",
                "Its last section shows cohort sizes, training losses and norms that"
                " the guarantee does not cover.",
                alarm=True,
            )
        )
    if statement is not None and statement["epsilon"] == math.inf:
        told.append(
            banner(
                "Not private.",
                "No finite epsilon is guaranteed for anybody whose data were used.",
                alarm=True,
            )
        )
    if found["simulation"]:
        told.append(
            banner(
                "Simulation, not private.",
                "Noise and cohorts come from a seed that is written down: whoever knows"
                " it can subtract the noise. The figures are what the same run with"
                " secret noise would guarantee.",
                alarm=True,
            )
        )
    if not found["finished"]:
        of = "" if planned is None else f" of {planned}"
        told.append(
            banner(
                "Unfinished.",
                f"{done}{of} rounds are done. What is stated holds for what was paid"
                " for so far; secret.key in the run's folder must stay secret.",
                alarm=False,
            )
        )
    told += [banner("Check this.", text, alarm=True) for text in found["warnings"]]
    return told


def guarantee_part(found: Document) -> str:
    """The statement: epsilon, whom it protects from whom, and what it leaves out.

    Args:
        found: From `drdp.fedsim.findings.run_findings`.
    """
    told = found["statement"]
    if told is None:
        text = "The run has not come to its plan yet; no round has been released."
        return section("statement", "The guarantee", [paragraph(text)])
    epsilon = told["epsilon"]
    if not told["releases"] and epsilon == 0.0:
        big = "ε = 0"
        words = "Nothing was released about private data" + (
            "." if found["finished"] else " so far."
        )
    elif epsilon == math.inf:
        big, words = "ε = ∞", told["sentence"]
    else:
        big = f"ε ≤ {up(epsilon)}"
        words = told["sentence"]
        if found["simulation"]:
            big += " if its noise were secret"
            words = f"With secret noise: {words}"
    delta = up(told["delta"])
    drawn, sampling = "none", told["sampling"]
    if told["releases"] and found["method"] != "cent":
        cohort = told["cohort"]
        drawn = _DRAWN[cohort["kind"]].format(about(cohort["rate"]))
        if sampling != "none":
            drawn = f"{sampling}: {drawn}"
    noise = (
        "none"
        if told["noise_multiplier"] == 0.0
        else f"{about(told['noise_multiplier'], 6)} times the clip norm,"
        f" {_PLACEMENTS[told['placement']]}"
    )
    clip = told["clip_norm"]
    moved = found["signal"]["clip_norms"]
    if moved and told["noise_multiplier"] > 0.0:
        noise += ", codes and the count of clipped ones together"
    values = {
        "Epsilon": "∞" if epsilon == math.inf else f"at most {up(epsilon, 6)}",
        "Delta": delta,
        "Protected unit": f"{told['unit']}, of {told['population']:,}",
        "Adjacency": f"{told['adjacency']}: {told['neighbours']}",
        "Sampling": drawn,
        "Threat model": f"{told['view']}: {_VIEWS[told['view']]}",
        "Noise": noise,
        "Clip norm": "none"
        if math.isinf(clip)
        else f"adaptive, {about(clip)} to {about(moved[-1][1])}"
        if moved
        else about(clip),
    }
    return section(
        "statement",
        "The guarantee",
        [
            headline(big, words),
            facts(values),
            *_terms(told),
            _risk(told["risk"]),
            details("What was released", bullets(told["releases"] or ["nothing"])),
        ],
    )


def _terms(told: Document) -> list[str]:
    """What goes with a guarantee, where there is one."""
    if told["epsilon"] == math.inf:
        return []
    parts = ["<h3>Not covered</h3>", bullets(told["not_covered"])]
    if told["releases"]:
        parts += ["<h3>Assumed</h3>", bullets(told["assumptions"])]
    return parts


def _risk(risk: Sequence[Document]) -> str:
    if not risk:
        return ""
    rows = []
    for one in risk:
        at = []
        if isinstance(one.get("fpr"), float):
            at.append(f"false positive rate {about(one['fpr'])}")
        if isinstance(one.get("prior"), float):
            at.append(f"chance beforehand {about(one['prior'])}")
        name = _RISKS.get(str(one["name"]), str(one["name"]))
        rows.append((name, ", ".join(at), up(one["upper"])))
    header = ("what an attacker can reach", "at", "at most")
    return details(
        "What this means for attacks",
        table("Bounds on attacks against one unit", header, rows, numbers=(2,)),
    )
