"""Where the samples that a codec is fitted on come from, and what that released.

>>> Source(Origin.PUBLIC).event == Source(Origin.PROXY).event
True
>>> Source(Origin.CLIENT_UPDATES).event
NonPrivate()
>>> Source(Origin.RELEASED, noise_multiplier=5.0).event
Gaussian(noise_multiplier=5.0)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final

from drdp.errors import InvalidArgumentError
from drdp.privacy.events import Event, NonPrivate
from drdp.privacy.stages import Prior, stage_one

__all__ = ["Origin", "Source"]


class Origin(StrEnum):
    """What a codec may be fitted on.

    - ``PUBLIC``: no data, or samples drawn from a data-independent law.
    - ``PROXY``: public data, or clients who are not among the protected.
    - ``RELEASED``: statistics of the protected clients that were released with
      Gaussian noise, and samples drawn from them.
    - ``AS_PRINTED``: their statistics sent as they are (Algorithm 1 of the
      DR-Encoder paper, arXiv:2412.17053).
    - ``CLIENT_UPDATES``: their updates themselves (FedCG, arXiv:2405.13746).
    """

    PUBLIC = "public"
    PROXY = "proxy"
    RELEASED = "released"
    AS_PRINTED = "as-printed"
    CLIENT_UPDATES = "client-updates"


@final
@dataclass(frozen=True, slots=True)
class Source:
    """The origin of samples, which every fitting has to be told.

    Args:
        origin: Where they come from.
        noise_multiplier: Of the release, for ``RELEASED`` only.

    Guarantees:
        `event` is what the fitting released about the protected clients if the
        samples really come from `origin`; what is made from them afterwards
        (training on them, the weights) is post-processing and costs no more.
    """

    origin: Origin
    noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        try:
            origin = Origin(self.origin)
        except ValueError:
            known = ", ".join(Origin)
            raise InvalidArgumentError(
                f"origin must be one of {known}, got {self.origin!r}"
            ) from None
        object.__setattr__(self, "origin", origin)
        if origin is Origin.CLIENT_UPDATES:
            if self.noise_multiplier is not None:
                raise InvalidArgumentError(
                    "noise_multiplier belongs to origin released, got"
                    f" {self.noise_multiplier!r} with origin {origin}"
                )
        else:
            stage_one(Prior(origin.value), noise_multiplier=self.noise_multiplier)

    @property
    def event(self) -> Event:
        """What the fitting released about the protected clients."""
        if self.origin is Origin.CLIENT_UPDATES:
            return NonPrivate()
        prior = Prior(self.origin.value)
        return stage_one(prior, noise_multiplier=self.noise_multiplier)
