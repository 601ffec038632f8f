"""Cohorts are drawn as the accounting says."""

import math

import numpy as np
import pytest
from scipy import stats

from drdp.errors import InvalidArgumentError
from drdp.fedsim.cohort import AllocatedCohort, Cohorts, draw, expected_size
from drdp.fedsim.randomness import SecretRandomness, SeededRandomness
from drdp.privacy.threat import EveryClient, FixedCohort, PoissonCohort

SEEDED = SeededRandomness(11)
KEYED = SecretRandomness(bytes(range(32)))
COHORTS: list[Cohorts] = [
    PoissonCohort(0.1),
    FixedCohort(5, 50),
    EveryClient(50),
    AllocatedCohort(10),
]


@pytest.mark.parametrize("cohort", COHORTS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("randomness", [SEEDED, KEYED], ids=["seeded", "keyed"])
def test_a_round_always_gets_the_same_cohort_and_another_round_another(
    cohort: Cohorts, randomness: SeededRandomness | SecretRandomness
) -> None:
    once = [draw(cohort, 50, number, randomness) for number in range(8)]
    assert once == [draw(cohort, 50, number, randomness) for number in range(8)]
    assert all(found == sorted(set(found)) for found in once)
    if not isinstance(cohort, EveryClient):
        assert len({tuple(found) for found in once}) == 8


def test_every_poisson_client_joins_independently_at_the_rate() -> None:
    rounds, clients, rate = 4000, 30, 0.07
    joined = np.zeros((rounds, clients))
    for number in range(rounds):
        joined[number, draw(PoissonCohort(rate), clients, number, SEEDED)] = 1
    # False-alarm rate 1e-4 for the rates (chi-square) and for the sizes.
    expected = rounds * rate
    statistic = ((joined.sum(axis=0) - expected) ** 2 / (expected * (1 - rate))).sum()
    assert statistic < stats.chi2.isf(1e-4, clients)
    sizes = np.bincount(joined.sum(axis=1).astype(int), minlength=clients + 1)
    law = stats.binom.pmf(np.arange(clients + 1), clients, rate) * rounds
    whole = law >= 5
    seen = [*sizes[whole], sizes[~whole].sum()]
    wanted = [*law[whole], law[~whole].sum()]
    assert stats.chisquare(seen, wanted).pvalue > 1e-4


def test_fixed_cohorts_are_uniform_over_pairs() -> None:
    rounds, clients, size = 6000, 8, 3
    together = np.zeros((clients, clients))
    for number in range(rounds):
        found = draw(FixedCohort(size, clients), clients, number, SEEDED)
        assert len(found) == size
        together[np.ix_(found, found)] += 1
    pairs = together[np.triu_indices(clients, 1)]
    share = size * (size - 1) / (clients * (clients - 1))
    deviation = (pairs - rounds * share) / math.sqrt(rounds * share * (1 - share))
    # 28 pairs; false-alarm rate 1e-4 in all.
    assert np.abs(deviation).max() < stats.norm.isf(1e-4 / 2 / len(pairs))


def test_allocation_uses_every_client_once_per_pass() -> None:
    cohort = AllocatedCohort(6)
    for start in (0, 6, 12):
        joined = [
            c for r in range(start, start + 6) for c in draw(cohort, 40, r, SEEDED)
        ]
        assert sorted(joined) == list(range(40))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_ends_of_the_rate(rate: float) -> None:
    assert len(draw(PoissonCohort(rate), 20, 0, SEEDED)) == round(20 * rate)


@pytest.mark.parametrize(
    ("cohort", "size"), list(zip(COHORTS, [5.0, 5.0, 50.0, 5.0], strict=True))
)
def test_the_denominator_is_public(cohort: Cohorts, size: float) -> None:
    assert expected_size(cohort, 50) == pytest.approx(size)


@pytest.mark.parametrize("cohort", [FixedCohort(5, 49), EveryClient(49)])
def test_a_cohort_described_for_other_clients_is_refused(cohort: Cohorts) -> None:
    with pytest.raises(InvalidArgumentError, match="described for 49 clients"):
        draw(cohort, 50, 0, SEEDED)
