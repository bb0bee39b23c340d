"""What a node answers when it can't do what it was asked, and how a failed execution is told."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from stakesim.evm.chain import Execution


class RpcError(Exception):
    """An error as a node answers it."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.error: dict[str, Any] = {"code": code, "message": message} | ({} if data is None else {"data": data})


def raise_if_failed(run: Execution) -> None:
    """A revert is code 3 with its data, the reason in words in the message; any other failure has no data."""
    if run.error is None:
        return
    if run.error != "Revert":
        raise RpcError(-32003, f"EVM error {run.error}")
    raise RpcError(3, f"execution reverted{_reason(run.output)}", "0x" + run.output.hex())


def _reason(data: bytes) -> str:
    """`: ` and what a revert says, for the two errors that Solidity itself defines."""
    selector, arguments = data[:4].hex(), data[4:]
    try:
        if selector == "08c379a0":  # Error(string)
            return f": {decode(['string'], arguments)[0]}"
        if selector == "4e487b71":  # Panic(uint256)
            return f": panic 0x{decode(['uint256'], arguments)[0]:02x}"
    except (DecodingError, UnicodeDecodeError):
        return ""  # the selector of an error, but not its arguments
    return f": custom error 0x{selector}" if selector else ""
