"""Every way to draw clients, as typed."""

import pytest

from drdp.privacy.events import Gaussian, adjacency_of
from drdp.privacy.pld import epsilon_interval
from drdp.privacy.sampling import (
    FixedSizeZeroOut,
    RandomlyAllocated,
    Scheduled,
    Shuffled,
    TruncatedPoissonSampled,
)

RUN = "epsilon --sigma 1.5 --delta 1e-4 --compare none --json"
G = Gaussian(1.5)
TYPED = {
    "--steps 10 --rate 1/5 --sampling allocation": RandomlyAllocated(5, G) * 2,
    "--steps 20 --rate 3/20 --sampling allocation --adjacency zero-out": (
        RandomlyAllocated(20, G, 3, "zero-out")
    ),
    "--steps 40 --rate 1/20 --sampling shuffle": Shuffled(20, G) * 2,
    "--steps 20 --rate 0.05 --sampling shuffle --adjacency replace-one": (
        Shuffled(20, G, "replace-one")
    ),
    "--steps 4 --rate 1 --sampling all": Scheduled(4, G),
    "--steps 4 --rate 1 --sampling all --adjacency replace-one": (
        Scheduled(4, G, "replace-one")
    ),
    "--steps 20 --rate 1/20 --sampling fixed --adjacency zero-out": (
        FixedSizeZeroOut(1, 20, G) * 20
    ),
    "--steps 10 --rate 0.05 --sampling truncated --population 200 --max-batch 40": (
        TruncatedPoissonSampled(0.05, 200, 40, G) * 10
    ),
}


@pytest.mark.parametrize(("line", "event"), TYPED.items(), ids=TYPED)
def test_a_draw_is_the_event_it_says(drdp, line, event):
    answer = drdp(f"{RUN} {line}").json
    low, high, _ = epsilon_interval(event, 1e-4)
    assert answer["certified"] == {"lower": low, "upper": high}
    assert answer["adjacency"] == str(adjacency_of(event))
    assert answer["noise_multiplier_divisor"] == "clip_norm"
    knows = line.partition("--sampling ")[2].split()[0] in ("shuffle", "all")
    assert ("and who takes part" in answer["adversary"]) == knows


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--steps 20 --rate 1/20 --sampling allocation", "in 1 of every 20 rounds"),
        ("--steps 20 --rate 1/20 --sampling shuffle", "no amplification is claimed"),
        ("--steps 4 --rate 1 --sampling all", "every client takes part in every"),
        (
            (
                "--steps 9 --rate 0.05 --sampling truncated --population 200"
                " --max-batch 40"
            ),
            "at most 40 stay",
        ),
    ],
)
def test_the_guarantee_says_how_clients_are_drawn(drdp, line, words):
    session = drdp(f"epsilon --sigma 1.5 --compare none {line}")
    assert session.code == 0
    assert words in session.out


def test_noise_is_found_for_an_allocation(drdp):
    answer = drdp(
        "calibrate --epsilon 2 --steps 20 --rate 1/20 --sampling allocation"
        " --compare none --json"
    ).json
    noise = answer["noise_multiplier"]
    assert epsilon_interval(RandomlyAllocated(20, Gaussian(noise)), 1e-5).upper <= 2
    assert 0.8 < noise < 0.997  # what Poisson sampling at the same rate needs


def test_rounds_bought_are_whole_epochs(drdp):
    answer = drdp(
        "steps --epsilon 3 --sigma 2 --rate 1/10 --sampling allocation"
        " --compare none --json"
    ).json
    assert answer["steps"] % 10 == 0
    assert answer["steps"] > 0


@pytest.mark.parametrize(
    ("line", "culprits"),
    [
        ("--steps 30 --rate 1/20 --sampling allocation", ("--steps 30", "20 rounds")),
        ("--steps 30 --rate 3/20 --sampling shuffle", ("--rate", "3/20")),
        ("--steps 4 --rate 0.5 --sampling all", ("--rate", "0.5")),
        ("--steps 4 --rate 0.5 --sampling truncated", ("--max-batch", "--population")),
        ("--steps 4 --rate 0.5 --max-batch 5", ("--max-batch", "--sampling poisson")),
        (
            "--steps 4 --rate 0.5 --sampling shuffle --adjacency add-remove",
            ("zero-out or replace-one", "add-remove"),
        ),
        (
            "--steps 4 --rate 0.5 --sampling allocation --adjacency replace-one",
            ("add-remove or zero-out", "replace-one"),
        ),
        ("--steps 4 --rate 0.5 --sampling balls", ("--sampling", "balls")),
    ],
)
def test_draws_that_make_no_sense_are_refused(drdp, line, culprits):
    session = drdp(f"epsilon --sigma 1 {line}")
    assert session.code == 2
    assert session.err.count("\n") == 1
    for culprit in culprits:
        assert culprit in session.err


def test_a_rate_is_not_looked_for_where_it_is_fixed(drdp):
    session = drdp("rate --epsilon 2 --sigma 1 --steps 20 --sampling allocation")
    assert session.code == 2
    assert "--sampling poisson or fixed" in session.err
