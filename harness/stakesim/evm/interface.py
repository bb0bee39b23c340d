"""What a contract's ABI says that it can do, and how it is created."""

from __future__ import annotations

import functools
from typing import Any

from stakesim.evm.abi import ContractAbi, abi_type
from stakesim.evm.compiler import Artifact, compile_contracts

CONSTRUCTORS = ((), ("address",), ("address", "(uint16,uint16,uint16,uint32,uint32)"))
"""Arguments that a contract's constructor may take: none, its owner, or its owner and the terms."""


@functools.cache
def stake_abi() -> ContractAbi:
    """The ABI of `EventStake`, which has all of the interface that the contract deployed on Sepolia shares with it."""
    return ContractAbi(compile_contracts()["EventStake"].abi)


def init_code(artifact: Artifact, args: tuple[Any, ...] = ()) -> bytes:
    """What creates the contract: its bytecode and the constructor's encoded arguments."""
    from eth_abi.abi import encode

    return bytes.fromhex(artifact.bytecode[2:]) + encode(constructor_types(artifact), args)


def constructor_types(artifact: Artifact) -> tuple[str, ...]:
    """Types of the constructor's arguments."""
    constructor = next((item for item in artifact.abi if item["type"] == "constructor"), None)
    return tuple(map(abi_type, constructor["inputs"])) if constructor else ()
