"""Whether a contract's ABI is the interface that the service, and the chain's history, know."""

from __future__ import annotations

from stakesim.evm import required_abi
from stakesim.evm.compiler import Artifact


def differences(artifact: Artifact) -> list[str]:
    """A sentence for each function or event that is not as `contracts/abi/deployed.json` has it; of what `EventStake`
    adds to that, only where the contract has it."""
    found = [*required_abi.missing(artifact.abi), *(one.text for one in required_abi.differences(artifact.abi))]
    return [f"{said}." for said in found]
