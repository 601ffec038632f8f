"""What the simulator's tests share."""

import pytest

from tests.fedsim.linear import LinearTrainer, Purse


@pytest.fixture
def trainer() -> LinearTrainer:
    return LinearTrainer()


@pytest.fixture
def purse() -> Purse:
    return Purse()
