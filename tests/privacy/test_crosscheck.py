"""Crosschecks: honest methods agree, and each way to be wrong is caught."""

import math
import subprocess

import pytest

from drdp.errors import InvalidArgumentError
from drdp.privacy import crosscheck as module
from drdp.privacy.crosscheck import FAST, PEERS, crosscheck, simulated_delta
from drdp.privacy.curves import Interval
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    FixedSizeSampled,
    Gaussian,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.pld import delta_interval, epsilon_interval

RUN = PoissonSampled(0.05, Gaussian(0.747)) * 20
DELTA = 1e-5


def finding(report, method):
    (found,) = (one for one in report.findings if one.method == method)
    return found


@pytest.mark.parametrize(
    ("event", "delta"),
    [
        (RUN, 1e-5),
        (RUN, 1e-30),
        (PoissonSampled(0.05, Gaussian(0.05)) * 20, 1e-5),
        (PoissonSampled(0.9, Gaussian(2.0)), 1e-3),
        (PoissonSampled(0.05, Gaussian(1.0), Adjacency.REPLACE_ONE) * 20, 1e-5),
        (FixedSizeSampled(1, 20, Gaussian(1.0)) * 20, 1e-5),
        (Gaussian(3.0) * 100, 1e-8),
        (Gaussian(100.0), 0.3),
    ],
    ids=repr,
)
def test_own_methods_and_a_simulation_agree(event, delta):
    report = crosscheck(event, delta, peers=(), samples=20_000)
    assert report.against == ()
    assert finding(report, "grid").status == "answered"
    assert finding(report, "Monte Carlo").position == "agrees"
    assert finding(report, "prv-accountant").status == "not asked"


@pytest.mark.parametrize(
    ("event", "status"), [(NOTHING, 0.0), (NonPrivate(), math.inf)]
)
def test_nothing_to_compute(event, status):
    report = crosscheck(event, DELTA, peers=())
    assert report.certified.upper == status
    assert report.against == ()
    assert finding(report, "contour").status == "no formula"
    assert finding(report, "Monte Carlo").status == "no formula"


def test_a_closed_form_for_one_round_and_without_sampling():
    for event in (Gaussian(2.0) * 5, PoissonSampled(0.1, Gaussian(1.0))):
        found = finding(crosscheck(event, DELTA, peers=()), "closed form")
        low, high, _ = epsilon_interval(event, DELTA)
        assert found.lower == pytest.approx(low, rel=1e-9)
        assert found.upper == pytest.approx(high, rel=1e-9)
    assert finding(crosscheck(RUN, DELTA, peers=()), "closed form").status == (
        "no formula"
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_simulation_covers_the_truth(seed):
    """Twenty seeds at 99.9 %: one miss in fifty such tests, and none in this."""
    low, high, _ = delta_interval(RUN, 4.0)
    lows, highs = simulated_delta(RUN, (4.0, 4.0), samples=4000, seed=seed)
    assert lows[0] <= high
    assert highs[0] >= low
    assert highs[0] < 3 * lows[0]


def test_the_simulation_is_a_function_of_its_seed():
    first = simulated_delta(RUN, (3.0, 4.0), samples=500, seed=7)
    assert simulated_delta(RUN, (3.0, 4.0), samples=500, seed=7) == first
    assert simulated_delta(RUN, (3.0, 4.0), samples=500, seed=8) != first


def test_both_directions_are_simulated():
    """Where adding costs more than removing, delta of removing is not enough."""
    event = PoissonSampled(0.9, Gaussian(2.0))
    low, high, _ = delta_interval(event, 0.3)
    lows, highs = simulated_delta(event, (0.3, 0.3), samples=20_000, seed=1)
    assert lows[0] <= high
    assert highs[0] >= low


def test_few_runs_are_too_coarse_to_tell(monkeypatch):
    wrong = Interval(3.0, 3.1, "planted")
    monkeypatch.setattr(module, "epsilon_interval", lambda *_: wrong)
    report = crosscheck(RUN, DELTA, peers=(), samples=3)
    assert finding(report, "Monte Carlo").position == "too coarse to tell"


def test_many_rounds_are_left_to_who_asks_for_them():
    long = PoissonSampled(0.01, Gaussian(100.0)) * 10**6
    found = finding(crosscheck(long, DELTA, peers=()), "Monte Carlo")
    assert found.status == "no formula"
    assert "1000000 rounds" in found.detail


def test_noise_outside_the_numerics_is_not_asked_of_them():
    event = PoissonSampled(0.05, Gaussian(1e-4)) * 20
    report = crosscheck(event, DELTA, peers=())
    assert report.against == ()
    assert finding(report, "grid").status == "no formula"


# --- planted contradictions ------------------------------------------------------


@pytest.mark.parametrize("method", ["exact_interval", "grid_interval"])
def test_a_wrong_path_is_caught(monkeypatch, method):
    wrong = Interval(3.0, 3.1, "planted")
    monkeypatch.setattr(module, method, lambda *_: wrong)
    (found,) = crosscheck(RUN, DELTA, peers=()).against
    assert found.method == method.removesuffix("_interval").replace("exact", "contour")
    assert found.position == "below"


@pytest.mark.parametrize(
    ("wrong", "position"), [((3.8, 3.81), "above"), ((4.1, 4.11), "below")]
)
def test_a_wrong_certificate_is_caught_by_everyone(monkeypatch, wrong, position):
    planted = Interval(*wrong, "planted")
    monkeypatch.setattr(module, "epsilon_interval", lambda *_: planted)
    report = crosscheck(RUN, DELTA, peers=())
    found = {one.method: one.position for one in report.against}
    assert found == dict.fromkeys(("contour", "grid", "Monte Carlo"), position)


def test_an_upper_bound_below_the_certificate_is_caught(monkeypatch):
    class Curve:
        def epsilon(self, _):
            return 3.0

    monkeypatch.setattr(module, "rdp_curve", lambda _: Curve())
    (found,) = crosscheck(RUN, DELTA, peers=()).against
    assert (found.method, found.position) == ("rdp", "below")


def test_a_path_that_fails_is_reported(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(module, "grid_interval", fail)
    found = finding(crosscheck(RUN, DELTA, peers=()), "grid")
    assert (found.status, found.detail) == ("failed", "ZeroDivisionError: planted")


# --- other packages --------------------------------------------------------------


def answering(monkeypatch, **result):
    def run(line, **_):
        return subprocess.CompletedProcess(line, **result)

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module, "find_spec", lambda _: True)
    return finding(crosscheck(RUN, DELTA, peers=FAST[:1], samples=2), FAST[0])


def test_a_peer_that_answers(monkeypatch):
    noise = "a line that the package prints\n[3.9, 4.0]"
    found = answering(monkeypatch, returncode=0, stdout=noise, stderr="")
    assert (found.status, found.lower, found.upper) == ("answered", 3.9, 4.0)
    assert found.position == "agrees"


@pytest.mark.parametrize(
    ("answer", "position"), [("[1, 3.98]", "below"), ("[3.99, 5]", "above")]
)
def test_a_peer_that_lies(monkeypatch, answer, position):
    found = answering(monkeypatch, returncode=0, stdout=answer, stderr="")
    assert found.position == position


@pytest.mark.parametrize(
    ("stderr", "status", "detail"),
    [
        ("", "failed", "its process ended with code -9"),
        ("Traceback\nMemoryError: 95 GB", "failed", "MemoryError: 95 GB"),
        (
            "x\ndrdp.errors.UnsupportedEventError: it has no formula for this release",
            "no formula",
            "it has no formula for this release",
        ),
    ],
)
def test_a_peer_that_dies(monkeypatch, stderr, status, detail):
    found = answering(monkeypatch, returncode=-9, stdout="", stderr=stderr)
    assert (found.status, found.detail) == (status, detail)


def test_a_peer_that_hangs(monkeypatch):
    monkeypatch.setattr(module, "_TIME_LIMIT", 0.01)
    found = finding(crosscheck(RUN, DELTA, peers=FAST[:1], samples=2), FAST[0])
    assert (found.status, found.detail) == ("failed", "no answer within 0.01 seconds")


def test_a_peer_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    report = crosscheck(RUN, DELTA, peers=tuple(PEERS), samples=2)
    assert {finding(report, name).status for name in PEERS} == {"not installed"}


def test_real_peers_agree():
    pytest.importorskip("dp_accounting")
    report = crosscheck(RUN, DELTA, samples=2)
    assert report.against == ()
    for name in FAST:
        found = finding(report, name)
        assert found.status == "answered"
        assert 3.9 < found.lower < found.upper < 4.1


def test_a_lower_bound_that_dp_accounting_has_wrong():
    """At delta 1e-15 its optimistic answer is 10 where the truth is 4.85."""
    pytest.importorskip("dp_accounting")
    event = PoissonSampled(0.01, Gaussian(1.0)) * 1000
    (found,) = crosscheck(event, 1e-15, peers=FAST[1:], samples=2).against
    assert (found.method, found.position) == (FAST[1], "above")


@pytest.mark.parametrize(
    "wrong", [{"peers": ("numpy",)}, {"samples": 1}, {"seed": -1}, {"samples": 2.5}]
)
def test_bad_arguments(wrong):
    with pytest.raises(InvalidArgumentError):
        crosscheck(RUN, DELTA, **wrong)
