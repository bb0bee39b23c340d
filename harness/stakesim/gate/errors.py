"""Errors of the gate and its report, and of the commands that deploy, verify and administer a contract."""

from __future__ import annotations

from collections.abc import Sequence

from stakesim.errors import StakesimError
from stakesim.evm.errors import EngineError
from stakesim.runner.findings import Finding


class ReleaseError(StakesimError):
    """The contract is not deployed, verified or called; the message says why."""


class ReportError(StakesimError):
    """The gate's report can't be written where it must be."""


class UnsoundContract(EngineError):
    """The contract itself has findings, or fails a test, where it has to be sound for a measurement.

    Attributes:
        findings: What was found; empty if a test fails.
    """

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        """Takes the sentence to show, and the findings."""
        super().__init__(message)
        self.findings = list(findings)


class MalformedList(EngineError):
    """A reviewed list can't be read; the message says which one, and what it has to have."""
