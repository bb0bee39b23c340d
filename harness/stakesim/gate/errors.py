"""Errors of the gate's report, and of the commands that deploy, verify and administer a contract."""

from stakesim.errors import StakesimError


class ReleaseError(StakesimError):
    """The contract is not deployed, verified or called; the message says why."""


class ReportError(StakesimError):
    """The gate's report can't be written where it must be."""
