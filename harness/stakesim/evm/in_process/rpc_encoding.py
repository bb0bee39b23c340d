"""Encodes blocks, transactions, receipts and logs of a chain in this process as JSON-RPC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias, TypedDict

from eth_bloom.bloom import BloomFilter

from stakesim.evm.abi import checksummed
from stakesim.evm.in_process.chain import Block
from stakesim.evm.in_process.evm import Receipt, RpcLog, Transaction, contract_address

JsonValue: TypeAlias = "str | int | bool | Sequence[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]
_SETS_CODE = 4
"""Type of a transaction that sets the code of accounts (EIP-7702)."""


class LogFilter(TypedDict, total=False):
    """The filter of `eth_getLogs`. Blocks are numbers in hex or names; without `blockHash` the range is inclusive."""

    address: str | list[str] | None
    topics: list[str | list[str] | None] | None
    fromBlock: str
    toBlock: str
    blockHash: str


def data(value: bytes) -> str:
    """Encodes bytes of any length in hex."""
    return "0x" + value.hex()


def word(value: int) -> str:
    """Encodes a number in hex, padded to 32 bytes."""
    return f"0x{value:064x}"


def block(source: Block, *, full_transactions: bool) -> JsonObject:
    """Encodes a block. Without `full_transactions` it lists only the transactions' hashes."""
    header = source.header
    transactions = [
        transaction(source, index) if full_transactions else data(tx.hash)
        for index, tx in enumerate(source.transactions)
    ]
    return {
        "number": hex(header.block_number),
        "hash": source.hash and data(source.hash),
        "parentHash": data(header.parent_hash),
        "sha3Uncles": data(header.uncles_hash),
        "logsBloom": _bloom(source.receipts),
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": checksummed(header.coinbase),
        "mixHash": data(header.mix_hash),
        "nonce": data(header.nonce),
        "difficulty": hex(header.difficulty),
        "extraData": data(header.extra_data),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "timestamp": hex(header.timestamp),
        "uncles": [],
        "transactions": transactions,
    }


def transaction(source: Block, index: int) -> JsonObject:
    """Encodes a block's transaction at this index."""
    tx = source.transactions[index]
    return _transaction(
        tx,
        _gas_price(source, tx),
        {
            "blockHash": source.hash and data(source.hash),
            "blockNumber": hex(source.number),
            "transactionIndex": hex(index),
        },
    )


def waiting_transaction(tx: Transaction) -> JsonObject:
    """Encodes a transaction that is in no block."""
    return _transaction(tx, tx.max_fee_per_gas, {"blockHash": None, "blockNumber": None, "transactionIndex": None})


def _transaction(tx: Transaction, gas_price: int, place: JsonObject) -> JsonObject:
    fields: JsonObject = {
        "type": hex(_type(tx)),
        "hash": data(tx.hash),
        **place,
        "from": checksummed(tx.sender),
        "to": checksummed(tx.to) if tx.to else None,
        "nonce": hex(tx.nonce),
        "value": hex(tx.value),
        "gas": hex(tx.gas),
        "gasPrice": hex(gas_price),
        "input": data(tx.data),
        "chainId": hex(tx.chain_id) if tx.chain_id is not None else None,
        "r": hex(tx.r),
        "s": hex(tx.s),
        "v": hex(tx.y_parity if _type(tx) else tx.v),
    }
    if _type(tx):
        fields["accessList"] = access_list(tx.access_list)
    if _type(tx) > 1:
        fields["maxFeePerGas"] = hex(tx.max_fee_per_gas)
        fields["maxPriorityFeePerGas"] = hex(tx.max_priority_fee_per_gas)
    if _type(tx) == _SETS_CODE:
        fields["authorizationList"] = [
            {
                "chainId": hex(authorization.chain_id),
                "address": checksummed(authorization.address),
                "nonce": hex(authorization.nonce),
                "yParity": hex(authorization.y_parity),
                "r": hex(authorization.r),
                "s": hex(authorization.s),
            }
            for authorization in tx.authorization_list
        ]
    return fields


def access_list(entries: Iterable[tuple[bytes, Iterable[int]]]) -> list[JsonValue]:
    """Encodes an access list: addresses, each with storage slots."""
    return [
        {"address": checksummed(address), "storageKeys": [word(slot) for slot in slots]} for address, slots in entries
    ]


def receipt(source: Block, index: int) -> JsonObject:
    """Encodes the receipt of a block's transaction at this index."""
    tx, result = source.transactions[index], source.receipts[index]
    return {
        "type": hex(_type(tx)),
        "status": hex(result.ok),
        "transactionHash": data(tx.hash),
        "transactionIndex": hex(index),
        "blockHash": source.hash and data(source.hash),
        "blockNumber": hex(source.number),
        "from": checksummed(tx.sender),
        "to": checksummed(tx.to) if tx.to else None,
        "contractAddress": None if tx.to else checksummed(contract_address(tx.sender, tx.nonce)),
        "gasUsed": hex(result.gas_used),
        "cumulativeGasUsed": hex(sum(each.gas_used for each in source.receipts[: index + 1])),
        "effectiveGasPrice": hex(_gas_price(source, tx)),
        "logsBloom": _bloom([result]),
        "logs": [_log(source, index, log_index, log) for log_index, log in _numbered_logs(source, index)],
    }


def effective_tip(source: Block, tx: Transaction) -> int:
    """Returns what a transaction of a block pays above the base fee, in wei per gas."""
    return _gas_price(source, tx) - int(source.header.base_fee_per_gas)


def logs(source: Block, log_filter: LogFilter) -> list[JsonObject]:
    """Encodes the logs of a block that match the filter's `address` and `topics`."""
    address = log_filter.get("address") or []
    addresses = {each.lower() for each in ([address] if isinstance(address, str) else address)}
    topics = log_filter.get("topics") or []
    return [
        _log(source, index, log_index, log)
        for index in range(len(source.receipts))
        for log_index, log in _numbered_logs(source, index)
        if (not addresses or log.address.lower() in addresses) and _topics_match(log.topics, topics)
    ]


def _topics_match(topics: Sequence[str], pattern: Sequence[str | list[str] | None]) -> bool:
    """Compares position by position: None matches anything, a list matches any of its items."""
    return len(topics) >= len(pattern) and all(
        expected is None or topic in ([expected] if isinstance(expected, str) else expected)
        for topic, expected in zip(topics, pattern, strict=False)
    )


def _numbered_logs(source: Block, index: int) -> Iterator[tuple[int, RpcLog]]:
    """Yields a transaction's logs with their indexes in the block."""
    first = sum(len(receipt.logs) for receipt in source.receipts[:index])
    yield from enumerate(source.receipts[index].logs, first)


def _log(source: Block, index: int, log_index: int, log: RpcLog) -> JsonObject:
    return {
        "address": log.address,
        "topics": list(log.topics),
        "data": log.data,
        "blockHash": source.hash and data(source.hash),
        "blockNumber": hex(source.number),
        "transactionHash": data(source.transactions[index].hash),
        "transactionIndex": hex(index),
        "logIndex": hex(log_index),
        "removed": False,
    }


def _bloom(receipts: Iterable[Receipt]) -> str:
    bits = 0
    for result in receipts:
        for log in result.logs:
            for entry in (log.address, *log.topics):
                bits |= _bloom_bits(entry)
    return f"0x{bits:0512x}"


@lru_cache(4096)
def _bloom_bits(entry: str) -> int:
    """Returns the bits that stand for an address or a topic. Cached, as addresses and kinds of events recur."""
    return int(BloomFilter.from_iterable([bytes.fromhex(entry[2:])]))


def _type(tx: Transaction) -> int:
    """Returns the EIP-2718 type; 0 for a legacy transaction, which has no such attribute."""
    return getattr(tx, "type_id", None) or 0


def _gas_price(source: Block, tx: Transaction) -> int:
    """Returns the price paid, in wei per gas. In a legacy transaction both fee fields are its gas price."""
    price: int = min(tx.max_fee_per_gas, tx.max_priority_fee_per_gas + source.header.base_fee_per_gas)
    return price
