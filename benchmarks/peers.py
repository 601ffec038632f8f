"""The peers, each asked the same two questions in its own words.

Each is imported when it is first asked, and left out where it is missing.
"""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

from benchmarks.settings import Setting

__all__ = ["EPSILON", "NOISE", "prepared"]

Question = Callable[[Setting], float]

_WARM = Setting("warm", 0.1, 2, 2.0, 1e-3, 1.0)


def _event(setting: Setting, noise: float) -> Any:
    import dp_accounting as dp

    one = dp.GaussianDpEvent(noise)
    if setting.rate < 1.0:
        one = dp.PoissonSampledDpEvent(setting.rate, one)
    return dp.SelfComposedDpEvent(one, setting.steps)


def _dpa(kind: str) -> Callable[[], Any]:
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    return PLDAccountant if kind == "PLD" else RdpAccountant


def _dpa_epsilon(kind: str) -> Question:
    def ask(setting: Setting) -> float:
        accountant = _dpa(kind)()
        accountant.compose(_event(setting, setting.noise_multiplier))
        return float(accountant.get_epsilon(setting.delta))

    return ask


def _dpa_noise(kind: str) -> Question:
    def ask(setting: Setting) -> float:
        import dp_accounting as dp

        return float(
            dp.calibrate_dp_mechanism(
                _dpa(kind),
                lambda noise: _event(setting, noise),
                setting.epsilon,
                setting.delta,
            )
        )

    return ask


def _prv_epsilon(eps_error: float) -> Question:
    def ask(setting: Setting) -> float:
        from prv_accountant.dpsgd import DPSGDAccountant

        accountant = DPSGDAccountant(
            noise_multiplier=setting.noise_multiplier,
            sampling_probability=setting.rate,
            max_steps=setting.steps,
            eps_error=eps_error,
            delta_error=setting.delta / 1000,
        )
        return float(accountant.compute_epsilon(setting.delta, setting.steps)[2])

    return ask


def _prv_noise(setting: Setting) -> float:
    from prv_accountant.dpsgd import find_noise_multiplier

    return float(
        find_noise_multiplier(
            sampling_probability=setting.rate,
            num_steps=setting.steps,
            target_epsilon=setting.epsilon,
            target_delta=setting.delta,
        )
    )


def _opacus_epsilon(kind: str) -> Question:
    def ask(setting: Setting) -> float:
        from opacus.accountants import create_accountant

        accountant = create_accountant(kind)
        accountant.history = [(setting.noise_multiplier, setting.rate, setting.steps)]
        return float(accountant.get_epsilon(delta=setting.delta))

    return ask


def _opacus_noise(kind: str) -> Question:
    def ask(setting: Setting) -> float:
        from opacus.accountants.utils import get_noise_multiplier

        return float(
            get_noise_multiplier(
                target_epsilon=setting.epsilon,
                target_delta=setting.delta,
                sample_rate=setting.rate,
                steps=setting.steps,
                accountant=kind,
            )
        )

    return ask


def _riskcal_epsilon(setting: Setting) -> float:
    from riskcal.accountants import CTDAccountant

    accountant = CTDAccountant()
    accountant.history = [(setting.noise_multiplier, setting.rate, setting.steps)]
    return float(accountant.get_epsilon(delta=setting.delta))


def _jax_privacy_epsilon(setting: Setting) -> float:
    from jax_privacy import accounting

    rate = Fraction(setting.rate).limit_denominator(10_000_000)
    parameters = accounting.DpParams(
        noise_multipliers=setting.noise_multiplier,
        num_samples=rate.denominator,
        delta=setting.delta,
        batch_size=rate.numerator,
    )
    accountant = accounting.DpsgdTrainingAccountant(accounting.PldAccountantConfig())
    return float(accountant.compute_epsilon(setting.steps, parameters))


def _autodp_epsilon(setting: Setting) -> float:
    from autodp.mechanism_zoo import SubsampleGaussianMechanism

    parameters = {
        "prob": setting.rate,
        "sigma": setting.noise_multiplier,
        "coeff": setting.steps,
    }
    return float(SubsampleGaussianMechanism(parameters).get_approxDP(setting.delta))


# name: (module, question); the first three are those that drdp is held against
EPSILON: dict[str, tuple[str, Question]] = {
    "dp-accounting PLD": ("dp_accounting", _dpa_epsilon("PLD")),
    "prv-accountant 0.1": ("prv_accountant", _prv_epsilon(0.1)),
    "Opacus PRV": ("opacus", _opacus_epsilon("prv")),
    "prv-accountant 0.01": ("prv_accountant", _prv_epsilon(0.01)),
    "dp-accounting RDP": ("dp_accounting", _dpa_epsilon("RDP")),
    "Opacus RDP": ("opacus", _opacus_epsilon("rdp")),
    "jax-privacy PLD": ("jax_privacy", _jax_privacy_epsilon),
    "riskcal PLD": ("riskcal", _riskcal_epsilon),
    "autodp RDP": ("autodp", _autodp_epsilon),
}

NOISE: dict[str, tuple[str, Question]] = {
    "dp-accounting PLD": ("dp_accounting", _dpa_noise("PLD")),
    "prv-accountant 0.1": ("prv_accountant", _prv_noise),
    "Opacus PRV": ("opacus", _opacus_noise("prv")),
    "dp-accounting RDP": ("dp_accounting", _dpa_noise("RDP")),
    "Opacus RDP": ("opacus", _opacus_noise("rdp")),
}


def prepared(
    questions: dict[str, tuple[str, Question]],
) -> dict[str, Question]:
    """The peers that can be asked here, each after a small question.

    That imports them, fills their caches and compiles what they compile.
    """
    found = {name: ask for name, (home, ask) in questions.items() if find_spec(home)}
    logging.disable()  # some warn about every order of a Renyi divergence
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for ask in found.values():
            ask(_WARM)
    logging.disable(logging.NOTSET)
    return found


if __name__ == "__main__":  # one cold answer, for `start_up`
    value = EPSILON[sys.argv[1]][1](Setting("S1", 0.05, 20, 0.99675, 1e-5))
    print(value)
    if not math.isfinite(value):
        sys.exit(1)
