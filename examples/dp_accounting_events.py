"""Code that builds dp-accounting events, with drdp's certified curves behind it.

Run ``python examples/dp_accounting_events.py``.
"""

import dp_accounting as dp
from dp_accounting.pld import PLDAccountant

from drdp import epsilon_interval
from drdp.privacy.adapters.dp_accounting import (
    CertifiedAccountant,
    from_dp_event,
    to_dp_event,
)

REPLACE = dp.NeighboringRelation.REPLACE_ONE


def main():
    """Convert, account, calibrate, and where the two differ."""
    step = dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(1.0))
    run = dp.SelfComposedDpEvent(step, 20)

    event = from_dp_event(run)
    low, high, method = epsilon_interval(event, 1e-5)
    print(f"event       {event}")
    print(
        f"certified   epsilon {high:.7f}, and no proof gets below {low:.7f} ({method})"
    )
    print(f"and back    {to_dp_event(event)}")

    accountant = CertifiedAccountant()
    accountant.compose(step, 20)
    print(f"accountant  epsilon {accountant.get_epsilon(1e-5):.7f}")

    noise = dp.calibrate_dp_mechanism(
        CertifiedAccountant,
        lambda z: dp.SelfComposedDpEvent(
            dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(z)), 20
        ),
        target_epsilon=2.0,
        target_delta=1e-5,
        bracket_interval=dp.ExplicitBracketInterval(0.3, 20.0),
    )
    print(f"calibrated  noise multiplier {noise:.5f} for epsilon 2")

    answers = dp.SelfComposedDpEvent(dp.RandomizedResponseDpEvent(0.5, 2), 10)
    theirs = PLDAccountant(REPLACE).compose(answers).get_epsilon(1e-9)
    ours = CertifiedAccountant(REPLACE).compose(answers).get_epsilon(1e-9)
    print(f"ten random answers: {ours:.3f}; dp-accounting 0.6 says {theirs:.3f}")


if __name__ == "__main__":
    main()
