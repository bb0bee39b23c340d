"""Errors of the commands that deploy, verify and administer a contract."""

from stakesim.errors import StakesimError


class ReleaseError(StakesimError):
    """The contract is not deployed, verified or called; the message says why."""
