"""Deploys a contract: the arguments that its constructor takes, its init code, and the transaction."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from stakesim.evm.abi import abi_type
from stakesim.evm.client import ChainClient
from stakesim.evm.compiler import Artifact
from stakesim.evm.errors import EngineError

TERMS_TYPE = "(uint16,uint16,uint16,uint32,uint32)"
"""ABI type of the terms: stakeBps, feeBps, forfeitToHostBps (basis points), cutoff and grace (seconds)."""
CONSTRUCTORS = ((), ("address",), ("address", TERMS_TYPE))
"""Argument types that a stake contract's constructor may take: none, its owner, or its owner and the terms."""


def constructor_types(artifact: Artifact) -> tuple[str, ...]:
    """Returns the ABI types of the constructor's arguments."""
    constructor = next((item for item in artifact.abi if item["type"] == "constructor"), None)
    return tuple(map(abi_type, constructor["inputs"])) if constructor else ()


def init_code(artifact: Artifact, args: tuple[Any, ...] = ()) -> bytes:
    """Returns the contract's bytecode followed by the constructor's encoded arguments."""
    return bytes.fromhex(artifact.bytecode[2:]) + encode(constructor_types(artifact), args)


def deploy(client: ChainClient, sender: LocalAccount, code: bytes, *, name: str, value: int = 0) -> str:
    """Deploys a contract and returns its checksummed address.

    Args:
        client: Sends the transaction.
        sender: Pays for it.
        code: Init code, as `init_code` returns it.
        name: The contract's name, for the error message.
        value: Wei for the constructor.

    Raises:
        EngineError: The transaction ran out of gas, or the constructor reverted.
    """
    receipt = client.transact(sender, None, code, value)
    if not receipt.ok or receipt.contract_address is None:
        raise EngineError(f"{name} could not be deployed: out of gas, or its constructor reverted")
    return receipt.contract_address
