"""What the services ask of a node, as plain JSON-RPC through web3: its provider, its middleware, its exceptions.

The methods of `w3.eth` check and convert every field of every request and answer, which takes about 0.4 ms a request:
longer than a fast node does. Here only what is used is converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3RPCError
from web3.types import LogReceipt, RPCEndpoint, TxReceipt

from app.services.codec import checksummed

Block = int | str
"""A height, or "latest", "pending" and the like."""


class Head(NamedTuple):
    """Of a block: its height, its hash, and its base fee in wei per gas."""

    number: int
    hash: str
    base_fee: int


def chain_id(w3: Web3) -> int:
    return int(_ask(w3, "eth_chainId"), 16)


def block_number(w3: Web3) -> int:
    """Of the latest block."""
    return int(_ask(w3, "eth_blockNumber"), 16)


def head(w3: Web3, block: Block = "latest") -> Head | None:
    """None where the node has no such block."""
    found = _ask(w3, "eth_getBlockByNumber", _block(block), False)
    return found and Head(int(found["number"], 16), found["hash"], int(found["baseFeePerGas"], 16))


def transaction_count(w3: Web3, account: str, block: Block) -> int:
    """Nonces that the account had used up at that block."""
    return int(_ask(w3, "eth_getTransactionCount", account, _block(block)), 16)


def call(w3: Web3, to: str, data: bytes, block: Block = "latest", **more: Any) -> bytes:
    """What the contract returns. more: `sender`, and in wei and gas, `value` and `gas`.

    Raises `ContractLogicError` with the data of a revert.
    """
    return bytes(HexBytes(_run(w3, "eth_call", to, data, block, **more)))


def estimate_gas(w3: Web3, to: str, data: bytes, block: Block, **more: Any) -> int:
    """Units of gas. more, and errors: as `call` has them."""
    return int(_run(w3, "eth_estimateGas", to, data, block, **more), 16)


def send_raw(w3: Web3, raw: str) -> None:
    """A signed transaction, in hex."""
    _ask(w3, "eth_sendRawTransaction", raw)


def receipt(w3: Web3, tx_hash: str) -> TxReceipt | None:
    """As `w3.eth` has it, with the fields that are used here. None where the node knows of none."""
    found = _ask(w3, "eth_getTransactionReceipt", tx_hash)
    return None if found is None else read_receipt(found)


def read_receipt(found: Mapping[str, Any]) -> TxReceipt:
    """A receipt, out of its JSON."""
    plain = {
        "transactionHash": HexBytes(found["transactionHash"]),
        "blockHash": HexBytes(found["blockHash"]),
        "blockNumber": int(found["blockNumber"], 16),
        "from": checksummed(found["from"]),
        "contractAddress": checksummed(found["contractAddress"]) if found.get("contractAddress") else None,
        "status": int(found["status"], 16),
        "gasUsed": int(found["gasUsed"], 16),
        "effectiveGasPrice": int(found["effectiveGasPrice"], 16),
        "logs": [_read_log(log) for log in found["logs"]],
    }
    return cast(TxReceipt, plain)


def _read_log(log: Mapping[str, Any]) -> LogReceipt:
    topics = [HexBytes(topic) for topic in log["topics"]]
    plain = {"address": checksummed(log["address"]), "topics": topics, "data": HexBytes(log["data"])}
    return cast(LogReceipt, plain)


def _run(
    w3: Web3,
    method: str,
    to: str,
    data: bytes,
    block: Block,
    sender: str | None = None,
    value: int = 0,
    gas: int | None = None,
) -> Any:
    request = {"to": to, "data": "0x" + data.hex()}
    request |= {"from": sender} if sender else {}
    request |= {"value": hex(value)} if value else {}
    request |= {"gas": hex(gas)} if gas else {}
    try:
        return _ask(w3, method, request, _block(block))
    except Web3RPCError as error:
        told: Any = (error.rpc_response or {}).get("error")
        if told and (told.get("data") or "revert" in told["message"].lower()):
            raise ContractLogicError(told["message"], data=cast(Any, told.get("data"))) from error
        raise


def _ask(w3: Web3, method: str, *params: Any) -> Any:
    return w3.manager.request_blocking(RPCEndpoint(method), list(params))


def _block(block: Block) -> str:
    return hex(block) if isinstance(block, int) else block
