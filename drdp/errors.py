"""Every exception that drdp raises on purpose, on one page.

All of them derive from `DrdpError`, so a caller can catch the family; the ones
that report a bad argument also derive from `ValueError`, as Python users
expect.  The command line turns each of them into one line and exit code 2, or 3
where a budget refuses a charge.
"""

from __future__ import annotations

__all__ = [
    "BudgetExceededError",
    "CalibrationError",
    "ChargeRefusedError",
    "CodecError",
    "DrdpError",
    "EstimateRefusedError",
    "InvalidArgumentError",
    "LedgerError",
    "MissingPackageError",
    "UnplannedChargeError",
    "UnsoundThreatModelError",
    "UnsupportedEventError",
    "UntrainedWeightsError",
]


class DrdpError(Exception):
    """Base of every error that drdp raises on purpose."""


class InvalidArgumentError(DrdpError, ValueError):
    """An argument is outside its domain; the message names it and its value."""


class UnsupportedEventError(DrdpError):
    """An accountant has no formula for an event; the message says which has."""


class UnsoundThreatModelError(DrdpError, ValueError):
    """No guarantee follows from a threat model; the message says why."""


class EstimateRefusedError(DrdpError):
    """An approximation was asked to stand as a guarantee.

    Pass ``allow_estimate=True`` where an approximation is really wanted.
    """


class CalibrationError(DrdpError):
    """No parameter value meets the target, or every value does."""


class UntrainedWeightsError(DrdpError):
    """Training runs, but weights that it is about do not learn."""


class CodecError(DrdpError, ValueError):
    """A document does not describe an event that this version can read."""


class MissingPackageError(DrdpError, ImportError):
    """An optional package is needed here; the message says how to install it."""


class LedgerError(DrdpError):
    """A ledger cannot be read, written or trusted: nothing may be released."""


class ChargeRefusedError(DrdpError):
    """A budget does not allow a release; nothing was charged."""


class BudgetExceededError(ChargeRefusedError):
    """With this release, what has been released would exceed the budget."""


class UnplannedChargeError(ChargeRefusedError):
    """A release is not one of those that a fixed plan declared beforehand."""
