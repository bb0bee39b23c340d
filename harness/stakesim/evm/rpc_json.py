"""Blocks, transactions, receipts and logs of a chain in this process, as JSON-RPC writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from eth_bloom.bloom import BloomFilter
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from rlp import encode  # type: ignore[import-untyped]

from stakesim.evm.chain import Block, Log, Receipt

Json = dict[str, Any]


def data(value: bytes) -> str:
    return "0x" + value.hex()


def word(value: int) -> str:
    """32 bytes."""
    return f"0x{value:064x}"


@lru_cache(maxsize=10_000)
def checksummed(address: bytes) -> str:
    return to_checksum_address(address)


def block(of: Block, full: bool) -> Json:
    header = of.header
    return {
        "number": hex(header.block_number),
        "hash": of.hash and data(of.hash),
        "parentHash": data(header.parent_hash),
        "sha3Uncles": data(header.uncles_hash),
        "logsBloom": bloom(of.receipts),
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
        "transactions": [transaction(of, index) if full else data(tx.hash) for index, tx in enumerate(of.transactions)],
    }


def bloom(receipts: Iterable[Receipt]) -> str:
    bits = BloomFilter()
    for receipt in receipts:
        for log in receipt.logs:
            bits.extend(bytes.fromhex(entry[2:]) for entry in (log.address, *log.topics))
    return f"0x{int(bits):0512x}"


def transaction(of: Block, index: int) -> Json:
    tx = of.transactions[index]
    fields: Json = {
        "type": hex(_type(tx)),
        "hash": data(tx.hash),
        "blockHash": of.hash and data(of.hash),
        "blockNumber": hex(of.number),
        "transactionIndex": hex(index),
        "from": checksummed(tx.sender),
        "to": checksummed(tx.to) if tx.to else None,
        "nonce": hex(tx.nonce),
        "value": hex(tx.value),
        "gas": hex(tx.gas),
        "gasPrice": hex(_gas_price(of, tx)),
        "input": data(tx.data),
        "chainId": hex(tx.chain_id) if tx.chain_id is not None else None,
        "r": hex(tx.r),
        "s": hex(tx.s),
        "v": hex(tx.y_parity if _type(tx) else tx.v),
    }
    if _type(tx):
        fields["accessList"] = [
            {"address": checksummed(address), "storageKeys": [word(slot) for slot in slots]}
            for address, slots in tx.access_list
        ]
    if _type(tx) > 1:
        fields["maxFeePerGas"] = hex(tx.max_fee_per_gas)
        fields["maxPriorityFeePerGas"] = hex(tx.max_priority_fee_per_gas)
    return fields


def receipt(of: Block, index: int) -> Json:
    tx, result = of.transactions[index], of.receipts[index]
    return {
        "type": hex(_type(tx)),
        "status": hex(result.ok),
        "transactionHash": data(tx.hash),
        "transactionIndex": hex(index),
        "blockHash": of.hash and data(of.hash),
        "blockNumber": hex(of.number),
        "from": checksummed(tx.sender),
        "to": checksummed(tx.to) if tx.to else None,
        "contractAddress": None if tx.to else checksummed(created(tx.sender, tx.nonce)),
        "gasUsed": hex(result.gas_used),
        "cumulativeGasUsed": hex(sum(each.gas_used for each in of.receipts[: index + 1])),
        "effectiveGasPrice": hex(_gas_price(of, tx)),
        "logsBloom": bloom([result]),
        "logs": _logs(of, index),
    }


def created(sender: bytes, nonce: int) -> bytes:
    """The address of a contract that this account creates."""
    return keccak(encode([sender, nonce]))[12:]


def logs(of: Block, criteria: Mapping[str, Any]) -> list[Json]:
    """The logs of a block that an `eth_getLogs` filter's `address` and `topics` let through."""
    wanted = criteria.get("address") or []
    addresses = {address.lower() for address in ([wanted] if isinstance(wanted, str) else wanted)}
    return [
        log
        for index in range(len(of.receipts))
        for log in _logs(of, index)
        if (not addresses or log["address"].lower() in addresses)
        and _topics_match(log["topics"], criteria.get("topics") or [])
    ]


def _topics_match(topics: Sequence[str], wanted: Sequence[Any]) -> bool:
    """Position by position: None is anything, a list is any of them."""
    return len(topics) >= len(wanted) and all(
        want is None or topic in ([want] if isinstance(want, str) else want)
        for topic, want in zip(topics, wanted, strict=False)
    )


def _logs(of: Block, index: int) -> list[Json]:
    first = sum(len(result.logs) for result in of.receipts[:index])
    return [_log(of, index, first + at, log) for at, log in enumerate(of.receipts[index].logs)]


def _log(of: Block, index: int, log_index: int, log: Log) -> Json:
    return {
        "address": log.address,
        "topics": list(log.topics),
        "data": log.data,
        "blockHash": of.hash and data(of.hash),
        "blockNumber": hex(of.number),
        "transactionHash": data(of.transactions[index].hash),
        "transactionIndex": hex(index),
        "logIndex": hex(log_index),
        "removed": False,
    }


def _type(tx: Any) -> int:
    return getattr(tx, "type_id", None) or 0


def _gas_price(of: Block, tx: Any) -> int:
    """Wei a unit of gas cost; for a legacy transaction both fee fields are its gas price."""
    price: int = min(tx.max_fee_per_gas, tx.max_priority_fee_per_gas + of.header.base_fee_per_gas)
    return price
