"""The errors of a JSON-RPC node, with the codes and words of anvil."""

from __future__ import annotations

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from stakesim.evm.in_process.evm import CallResult

METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INVALID_INPUT = -32000
EXECUTION_FAILED = -32003
REVERTED = 3


class RpcError(Exception):
    """An error that the node answers with. It never leaves the node: web3 raises `Web3RPCError` for the answer.

    Attributes:
        error: The `error` object of the JSON-RPC response.
    """

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.error: dict[str, int | str] = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


def raise_if_failed(result: CallResult) -> None:
    """Raises `RpcError` for a failed execution.

    A revert has its data, and its reason in the message; other failures have no data.
    """
    if result.error is None:
        return
    if result.error != "Revert":
        raise RpcError(EXECUTION_FAILED, f"EVM error {result.error}")
    raise RpcError(REVERTED, f"execution reverted{_reason(result.output)}", "0x" + result.output.hex())


def _reason(data: bytes) -> str:
    """Returns `: ` and the reason of a revert, decoded for Solidity's two built-in errors."""
    selector, arguments = data[:4].hex(), data[4:]
    try:
        if selector == "08c379a0":  # Error(string)
            return f": {decode(['string'], arguments)[0]}"
        if selector == "4e487b71":  # Panic(uint256)
            return f": panic 0x{decode(['uint256'], arguments)[0]:02x}"
    except (DecodingError, UnicodeDecodeError):
        return ""  # the selector of a built-in error with arguments of another type
    return f": custom error 0x{selector}" if selector else ""
