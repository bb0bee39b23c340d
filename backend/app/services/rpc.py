"""The JSON-RPC requests of the services, with web3's provider, middleware and exceptions.

The methods of `w3.eth` validate and convert every field of a request and its response. That takes about 0.4 ms, more
than a fast node needs for its response. This module converts only the fields that the services use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3Exception, Web3RPCError
from web3.types import LogReceipt, RPCEndpoint, TxReceipt

from app.services.codec import checksummed

BlockId = int | str
"""A block number, or a tag such as "latest" or "pending"."""


class BlockHeader(NamedTuple):
    """A block's header.

    Attributes:
        number: Number of the block.
        hash: Its hash.
        parent_hash: Hash of the block before it.
        timestamp: Its time, in seconds since 1970.
        base_fee: Base fee in wei per gas.
        transactions: Hashes of its transactions.
    """

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    base_fee: int
    transactions: Sequence[str]


def chain_id(w3: Web3) -> int:
    """Returns the id of the node's network (EIP-155)."""
    return int(_request(w3, "eth_chainId"), 16)


def block_number(w3: Web3) -> int:
    """Returns the number of the latest block."""
    return int(_request(w3, "eth_blockNumber"), 16)


def block_header(w3: Web3, block: BlockId = "latest") -> BlockHeader | None:
    """Returns the header of a block; None if the node has no such block."""
    header = _request(w3, "eth_getBlockByNumber", _block_param(block), False)
    return header and BlockHeader(
        int(header["number"], 16),
        header["hash"],
        header["parentHash"],
        int(header["timestamp"], 16),
        int(header["baseFeePerGas"], 16),
        header["transactions"],
    )


def latest_header(w3: Web3) -> BlockHeader:
    """Returns the header of the latest block.

    Raises:
        Web3Exception: The node has no block.
    """
    header = block_header(w3)
    if header is None:
        raise Web3Exception("it has no latest block")
    return header


def transaction_count(w3: Web3, account: str, block: BlockId) -> int:
    """Returns the number of nonces that the account had used by the end of a block."""
    return int(_request(w3, "eth_getTransactionCount", account, _block_param(block)), 16)


def call(
    w3: Web3,
    to: str,
    data: bytes,
    block: BlockId = "latest",
    *,
    sender: str | None = None,
    value: int = 0,
    gas: int | None = None,
) -> bytes:
    """Calls a contract without a transaction, and returns its output.

    Args:
        w3: Connection to the node.
        to: Address of the contract.
        data: Call data.
        block: The block on whose state the call runs.
        sender: Address that the call comes from.
        value: Wei that the call sends.
        gas: Gas limit in units of gas.

    Raises:
        ContractLogicError: The contract reverted. The error has the revert's data.
    """
    return bytes(HexBytes(_execute(w3, "eth_call", to, data, block, sender, value, gas)))


def estimate_gas(w3: Web3, to: str, data: bytes, block: BlockId, *, sender: str | None = None, value: int = 0) -> int:
    """Returns how many units of gas a transaction takes. Arguments and errors as for `call`."""
    return int(_execute(w3, "eth_estimateGas", to, data, block, sender, value), 16)


def send_raw(w3: Web3, raw_transaction: str) -> None:
    """Sends a signed transaction, given in hex."""
    _request(w3, "eth_sendRawTransaction", raw_transaction)


def receipt(w3: Web3, tx_hash: str) -> TxReceipt | None:
    """Returns the receipt of a transaction, as `read_receipt` does; None if the node has none."""
    raw_receipt = _request(w3, "eth_getTransactionReceipt", tx_hash)
    return None if raw_receipt is None else read_receipt(raw_receipt)


def read_receipt(raw_receipt: Mapping[str, Any]) -> TxReceipt:
    """Converts the JSON of a receipt to those fields of web3's `TxReceipt` that the services use."""
    contract = raw_receipt.get("contractAddress")
    fields = {
        "transactionHash": HexBytes(raw_receipt["transactionHash"]),
        "blockHash": HexBytes(raw_receipt["blockHash"]),
        "blockNumber": int(raw_receipt["blockNumber"], 16),
        "from": checksummed(raw_receipt["from"]),
        "contractAddress": checksummed(contract) if contract else None,
        "status": int(raw_receipt["status"], 16),
        "gasUsed": int(raw_receipt["gasUsed"], 16),
        "effectiveGasPrice": int(raw_receipt["effectiveGasPrice"], 16),
        "logs": [_read_log(log) for log in raw_receipt["logs"]],
    }
    return cast(TxReceipt, fields)


def _read_log(raw_log: Mapping[str, Any]) -> LogReceipt:
    topics = [HexBytes(topic) for topic in raw_log["topics"]]
    fields = {"address": checksummed(raw_log["address"]), "topics": topics, "data": HexBytes(raw_log["data"])}
    return cast(LogReceipt, fields)


def _execute(
    w3: Web3,
    method: str,
    to: str,
    data: bytes,
    block: BlockId,
    sender: str | None = None,
    value: int = 0,
    gas: int | None = None,
) -> Any:
    transaction = {"to": to, "data": "0x" + data.hex()}
    transaction |= {"from": sender} if sender else {}
    transaction |= {"value": hex(value)} if value else {}
    transaction |= {"gas": hex(gas)} if gas else {}
    try:
        return _request(w3, method, transaction, _block_param(block))
    except Web3RPCError as error:
        node_error: Any = (error.rpc_response or {}).get("error")
        if node_error and (node_error.get("data") or "revert" in node_error["message"].lower()):
            raise ContractLogicError(node_error["message"], data=cast(Any, node_error.get("data"))) from error
        raise


def _request(w3: Web3, method: str, *params: Any) -> Any:
    return w3.manager.request_blocking(RPCEndpoint(method), list(params))


def _block_param(block: BlockId) -> str:
    return hex(block) if isinstance(block, int) else block
