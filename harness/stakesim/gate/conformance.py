"""Whether a contract's ABI is the interface that services and the history of the chain use."""

from __future__ import annotations

from stakesim.evm import required_abi
from stakesim.evm.compiler import Artifact


def interface_problems(artifact: Artifact) -> list[str]:
    """One sentence for each function or event that differs from `contracts/abi/deployed.json`.

    Functions that only `EventStake` has may be missing, and are compared if they are there.
    """
    problems = [
        *required_abi.missing(artifact.abi),
        *(difference.text for difference in required_abi.differences(artifact.abi)),
    ]
    return [f"{problem}." for problem in problems]
