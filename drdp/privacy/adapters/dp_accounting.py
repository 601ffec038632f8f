"""An accountant of dp-accounting with certified curves behind it.

Whatever takes a `PrivacyAccountant` of dp-accounting takes this one, such as
`dp_accounting.calibrate_dp_mechanism`.

>>> import dp_accounting as dp
>>> round_ = dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(1.0))
>>> accountant = CertifiedAccountant()
>>> round(accountant.compose(round_, 20).get_epsilon(1e-5), 4)
1.9847
"""

from __future__ import annotations

from typing import Any, final

import dp_accounting as dp

from drdp.errors import InvalidArgumentError, UnsupportedEventError
from drdp.privacy.adapters.dp_events import (
    NoisePer,
    from_dp_event,
    neighboring_relation,
    to_dp_event,
)
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.events import NOTHING, Event
from drdp.privacy.pld import pld_curve
from drdp.privacy.rdp import rdp_curve

__all__ = [
    "CertifiedAccountant",
    "from_dp_event",
    "neighboring_relation",
    "to_dp_event",
]


@final
class CertifiedAccountant(dp.PrivacyAccountant):  # type: ignore[misc]
    """A `PrivacyAccountant` of dp-accounting with drdp behind it.

    Args:
        relation: Which data sets are neighbours.
        noise_per: As for `from_dp_event`.

    Guarantees:
        Every epsilon and delta is an upper bound of the true one.  By privacy
        losses where the events have them, else by Renyi divergences.

    >>> accountant = CertifiedAccountant(dp.NeighboringRelation.REPLACE_ONE)
    >>> answers = dp.RandomizedResponseDpEvent(0.5, 2)
    >>> round(accountant.compose(answers, 10).get_epsilon(1e-9), 3)
    10.986
    """

    def __init__(
        self,
        relation: dp.NeighboringRelation = dp.NeighboringRelation.ADD_OR_REMOVE_ONE,
        *,
        noise_per: NoisePer = "clip-norm",
    ) -> None:
        from_dp_event(dp.NoOpDpEvent(), relation, noise_per=noise_per)
        super().__init__(relation)
        self._noise_per = noise_per
        self._event: Event = NOTHING

    @property
    def event(self) -> Event:
        """Everything that was composed, in drdp's algebra."""
        return self._event

    def get_epsilon(self, target_delta: float) -> float:
        """The certified epsilon of everything so far."""
        return _curve(self._event).epsilon(target_delta)

    def get_delta(self, target_epsilon: float) -> float:
        """The certified delta of everything so far."""
        return _curve(self._event).delta(target_epsilon)

    def _maybe_compose(self, event: dp.DpEvent, count: int, do_compose: bool) -> Any:
        try:
            found = from_dp_event(
                event, self.neighboring_relation, noise_per=self._noise_per
            )
            together = self._event + found * count
            if not do_compose:
                _curve(self._event + found)
        except (InvalidArgumentError, UnsupportedEventError) as error:
            return self.CompositionErrorDetails(
                invalid_event=event, error_message=str(error)
            )
        if do_compose:
            self._event = together
        return None


def _curve(event: Event) -> PrivacyCurve:
    try:
        return pld_curve(event)
    except UnsupportedEventError:
        return rdp_curve(event)
