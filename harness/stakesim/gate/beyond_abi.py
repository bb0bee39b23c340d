"""What a contract's code does beyond its ABI, or may do later: nothing tries it before it is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stakesim.evm.abi import selector_of
from stakesim.evm.compiler import Artifact
from stakesim.evm.dispatcher import read_dispatch
from stakesim.evm.instructions import CALLCODE, CHAINID, DELEGATECALL, SELFDESTRUCT, runnable_opcodes

_UNTRIED: Mapping[int, str] = {
    CALLCODE: "code at other addresses that it can run (CALLCODE)",
    DELEGATECALL: "code at other addresses that it can run (DELEGATECALL)",
    SELFDESTRUCT: "what may be in its place after its SELFDESTRUCT",
    CHAINID: "what it does on other chains (it reads CHAINID)",
}
"""By opcode, what is not tried of code that has it."""


def beyond_abi(artifact: Artifact, deployed: bytes | None = None) -> list[str]:
    """Returns what is not tried of a contract, as its ABI does not name it; empty if the ABI names all that it does.

    Args:
        artifact: The contract.
        deployed: The code that its constructor has deployed; None reads the artifact's runtime code.
    """
    return list(_untried(artifact, _bytes(artifact.deployed_bytecode) if deployed is None else deployed))


def _untried(artifact: Artifact, code: bytes) -> Iterator[str]:
    dispatch, kinds = read_dispatch(code), {item["type"] for item in artifact.abi}
    named = {selector_of(item) for item in artifact.abi if item["type"] == "function"}
    if unnamed := sorted(dispatch.selectors - named):
        yield "functions that the ABI does not name: " + ", ".join(f"0x{selector.hex()}" for selector in unnamed)
    if not artifact.deployed_bytecode.removeprefix("0x") or _bytes(artifact.deployed_bytecode) not in _bytes(
        artifact.bytecode
    ):  # an artifact can name any runtime code
        yield "functions that the ABI may not name (the artifact has no runtime code of its bytecode)"
    elif not dispatch.is_complete or named - dispatch.selectors:
        yield "functions that the ABI may not name (its dispatch can't be read)"
    if dispatch.takes_other_data or "fallback" in kinds:
        yield "calls of no function (it may take them)"
    elif dispatch.takes_no_data and "receive" not in kinds:
        yield "calls without data (it may take them)"
    opcodes = runnable_opcodes(code) | runnable_opcodes(_bytes(artifact.bytecode))
    yield from (text for opcode, text in _UNTRIED.items() if opcode in opcodes)


def _bytes(code: str) -> bytes:
    return bytes.fromhex(code.removeprefix("0x"))
