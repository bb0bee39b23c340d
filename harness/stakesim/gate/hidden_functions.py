"""Functions that a contract's code has and its ABI does not name: nothing calls them before it is deployed."""

from __future__ import annotations

from stakesim.evm.compiler import Artifact
from stakesim.evm.dispatcher import unnamed_selectors


def hidden_functions(artifact: Artifact) -> list[str]:
    """Returns what is not tried of a contract as its ABI does not name it; empty if the ABI names all functions."""
    code = artifact.deployed_bytecode.removeprefix("0x").lower()
    hidden = []
    if unnamed := unnamed_selectors(bytes.fromhex(code), artifact.abi):
        hidden.append(
            "functions that the ABI does not name: " + ", ".join(f"0x{selector.hex()}" for selector in unnamed)
        )
    if not code or code not in artifact.bytecode.lower():  # an artifact can name any runtime code
        hidden.append("functions that the ABI may not name (the artifact has no runtime code of its bytecode)")
    return hidden
