"""Typed values of what nodes say: the only place that parses JSON-RPC answers.

`parse` turns the result of a method into a typed value, or raises `MalformedAnswer`, which is that node's trouble: a
missing or wrong field, a number that is absurdly large, another transaction's receipt, another block than asked for.
Nothing else leaves this module, whatever a node says. Fields that the services do not use are not looked at.

Hashes and addresses of an answer are compared without regard to case; hashes come out in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from eth_hash.auto import keccak
from eth_typing import ChecksumAddress
from web3 import Web3

from app.services.rpc_types import BlockHeader, Log, MalformedAnswer, NodeError, Receipt, Transaction

MAX_INT64 = 2**63 - 1
"""Largest number of a block, a nonce or gas: what a column of the database holds."""
MAX_UINT256 = 2**256 - 1
MAX_TIMESTAMP = 253_402_300_799
"""The last second of the year 9999."""
MAX_WORDS = 500
"""Characters of a node's message that are kept."""

_QUANTITY = re.compile("0x[0-9a-fA-F]{1,64}").fullmatch
_HASH = re.compile("0x[0-9a-fA-F]{64}").fullmatch
_ADDRESS = re.compile("0x[0-9a-fA-F]{40}").fullmatch
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_URL = re.compile(r"\b(?:https?|wss?)://\S+", re.IGNORECASE)


def call_data(transaction: Transaction) -> bytes:
    """Returns the transaction's call data. Raises `MalformedAnswer`."""
    return bytes(parse("eth_call", (), transaction.fields.get("input")))


def value(transaction: Transaction) -> int:
    """Returns the wei that the transaction sends. Raises `MalformedAnswer`."""
    return int(parse("eth_getBalance", (), transaction.fields.get("value")))


def result_of(response: Any) -> Any:
    """Returns the result of a JSON-RPC response.

    Raises:
        NodeError: The response is an error.
        MalformedAnswer: It is no response.
    """
    if not isinstance(response, dict):
        raise MalformedAnswer("the answer is no JSON-RPC response")
    error = response.get("error")
    if error is not None:
        raise node_error(error)
    if "result" not in response:
        raise MalformedAnswer("the answer has neither a result nor an error")
    return response["result"]


def node_error(error: Any) -> NodeError | MalformedAnswer:
    """Returns the field `error` of a response as an exception. Some proxies give only its message."""
    fields = error if isinstance(error, Mapping) else {"message": error}
    words, code = fields.get("message"), fields.get("code")
    if not isinstance(words, str):
        return MalformedAnswer("the answer is an error without a message")
    return NodeError(printable(words), code if type(code) is int else 0, fields.get("data"))


def printable(words: str) -> str:
    """Returns a node's words as they may be logged and stored: no control characters, no URLs, not too long."""
    text = words[: 2 * MAX_WORDS].encode("utf-8", "replace").decode()
    return _URL.sub("<url>", _CONTROL.sub(" ", text)).strip()[:MAX_WORDS]


def parse(method: str, params: Sequence[Any], result: Any) -> Any:
    """Returns the result of a request as a typed value.

    Args:
        method: Name of the JSON-RPC method. The result of one that the services do not use is returned as it is.
        params: Parameters of the request. What they name is compared with the result.
        result: The field `result` of the response.

    Raises:
        MalformedAnswer: The result is not what this request must have.
    """
    parser = _PARSERS.get(method)
    if parser is None:
        return result
    try:
        return parser(result, params)
    except KeyError as error:
        raise MalformedAnswer(f"the answer to {method} lacks {error}") from None
    except _Wrong as error:
        raise MalformedAnswer(f"the answer to {method} has {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError):
        raise MalformedAnswer(f"the answer to {method} is of another type") from None


class _Wrong(ValueError):
    """A value is not what it must be; the text says which, after "the answer has"."""


# -------------------------------------------------------------------------------------------------------- values


def _number(value: str, limit: int = MAX_INT64) -> int:
    if not _QUANTITY(value):
        raise _Wrong("a number that is none")
    number = int(value, 16)
    if number > limit:
        raise _Wrong("a number that is too large")
    return number


def _hash(value: str) -> str:
    if not _HASH(value):
        raise _Wrong("a hash that is none")
    return value.lower()


def _address(value: str) -> ChecksumAddress:
    if not _ADDRESS(value):
        raise _Wrong("an address that is none")
    return checksummed(value)


@lru_cache(maxsize=10_000)
def checksummed(address: str) -> ChecksumAddress:
    """Returns the address with a checksum. Cached, as each checksum takes a hash and addresses recur."""
    return Web3.to_checksum_address(address)


def _optional_address(value: str | None) -> ChecksumAddress | None:
    return None if value is None else _address(value)


def _data(value: str) -> bytes:
    data = bytes.fromhex(value[2:])
    if value[:2] != "0x" or 2 * len(data) != len(value) - 2:  # `fromhex` ignores spaces
        raise _Wrong("data that is no hex")
    return data


def _log(
    raw: Any, raw_tx: str | None = None, tx_hash: str = "", raw_block: str | None = None, block_hash: str = ""
) -> Log:
    """Parses a log; those of a receipt must have its transaction and block, whose texts need no second look."""
    log_tx, log_block = raw["transactionHash"], raw["blockHash"]
    log_tx = tx_hash if log_tx == raw_tx else _hash(log_tx)
    log_block = block_hash if log_block == raw_block else _hash(log_block)
    if tx_hash and (log_tx != tx_hash or log_block != block_hash):
        raise _Wrong("a log of another transaction or block")
    removed = raw.get("removed", False)
    if type(removed) is not bool:
        raise _Wrong("a field removed that is no boolean")
    topics = tuple([_topic(topic) for topic in _list(raw["topics"])])
    if len(topics) > 4:
        raise _Wrong("more topics than a log can have")
    number = _number(raw["blockNumber"])
    return Log(_address(raw["address"]), topics, _data(raw["data"]), number, log_block, log_tx, removed)


def _topic(value: str) -> bytes:
    if not _HASH(value):
        raise _Wrong("a topic that is none")
    return bytes.fromhex(value[2:])


def _list(values: Any) -> Any:
    if not isinstance(values, list | tuple):
        raise _Wrong("no list where one must be")
    return values


def _receipt(raw: Any, params: Sequence[Any]) -> Receipt | None:
    if raw is None:
        return None
    raw_tx, raw_block = raw["transactionHash"], raw["blockHash"]
    tx_hash, block_hash = _hash(raw_tx), _hash(raw_block)
    if tx_hash != params[0].lower():
        raise _Wrong("the hash of another transaction")
    number, status = _number(raw["blockNumber"]), _number(raw["status"])
    if status > 1:
        raise _Wrong("a status that is neither 0 nor 1")
    logs = tuple([_log(log, raw_tx, tx_hash, raw_block, block_hash) for log in _list(raw["logs"])])
    for log in logs:
        if log.block_number != number or log.removed:
            raise _Wrong("a log of another block")
    _check_bloom(raw.get("logsBloom"), logs)
    return Receipt(
        tx_hash,
        number,
        block_hash,
        _address(raw["from"]),
        _optional_address(raw.get("to")),
        _optional_address(raw.get("contractAddress")),
        status == 1,
        _number(raw["gasUsed"]),
        _number(raw["effectiveGasPrice"], MAX_UINT256),
        logs,
    )


def _check_bloom(raw_bloom: Any, logs: Sequence[Log]) -> None:
    """Compares a receipt's logs with its Bloom filter, if the node gives one.

    A missing log is found unless all of its topics are topics of other logs, too. Some networks give a filter of zeros
    for every receipt, which says nothing.
    """
    bloom = int.from_bytes(_data(raw_bloom)) if raw_bloom is not None else 0
    expected = 0
    for log in logs if bloom else ():
        expected |= _bloom_bits(bytes.fromhex(log.address[2:]))
        for topic in log.topics:
            expected |= _bloom_bits(topic)
    if bloom != expected:
        raise _Wrong("not the logs that its Bloom filter has")


@lru_cache(4096)
def _bloom_bits(value: bytes) -> int:
    """Returns the three bits of 2,048 that stand for an address or a topic (Ethereum's Yellow Paper, 4.3.1)."""
    digest = keccak(value)
    return sum({1 << (int.from_bytes(digest[at : at + 2]) & 2047) for at in (0, 2, 4)})


def _block(raw: Any, params: Sequence[Any]) -> BlockHeader | tuple[Transaction, ...] | None:
    """Parses a header, or all transactions if the request asks for them."""
    if raw is None:
        return None
    block, with_transactions = params
    number = _number(raw["number"])
    if block[:2] == "0x" and int(block, 16) != number:
        raise _Wrong("the number of another block")
    raw_transactions = _list(raw["transactions"])
    if with_transactions:
        block_hash = _hash(raw["hash"])
        return tuple([_mined_transaction(transaction, number, block_hash) for transaction in raw_transactions])
    raw_hash = raw["hash"]
    return BlockHeader(
        number,
        "" if raw_hash is None and block == "pending" else _hash(raw_hash),
        _hash(raw["parentHash"]),
        _number(raw["timestamp"], MAX_TIMESTAMP),
        _number(raw["baseFeePerGas"], MAX_UINT256) if "baseFeePerGas" in raw else None,
        tuple([_hash(transaction) for transaction in raw_transactions]),
    )


def _transaction(raw: Any, params: Sequence[Any]) -> Transaction | None:
    if raw is None:
        return None
    transaction = _read_transaction(raw)
    if transaction.hash != params[0].lower():
        raise _Wrong("the hash of another transaction")
    return transaction


def _mined_transaction(raw: Any, block_number: int, block_hash: str) -> Transaction:
    transaction = _read_transaction(raw)
    if (transaction.block_number, transaction.block_hash) != (block_number, block_hash):
        raise _Wrong("a transaction of another block")
    return transaction


def _read_transaction(raw: Any) -> Transaction:
    number, block_hash = raw["blockNumber"], raw["blockHash"]
    if (number is None) != (block_hash is None):
        raise _Wrong("half a block")
    return Transaction(
        _hash(raw["hash"]),
        _address(raw["from"]),
        _optional_address(raw["to"]),
        _number(raw["nonce"]),
        None if number is None else _number(number),
        None if block_hash is None else _hash(block_hash),
        raw,
    )


def _filtered_logs(raw: Any, params: Sequence[Any]) -> tuple[Log, ...]:
    log_filter = params[0]
    address, first, last = log_filter["address"], int(log_filter["fromBlock"], 16), int(log_filter["toBlock"], 16)
    logs = tuple([_log(log) for log in _list(raw)])
    for log in logs:
        if log.address != address or not first <= log.block_number <= last:
            raise _Wrong("a log that was not asked for")
    return logs


def _sent_hash(raw: Any, params: Sequence[Any]) -> str:
    tx_hash = _hash(raw)
    if tx_hash[2:] != keccak(bytes.fromhex(params[0][2:])).hex():
        raise _Wrong("the hash of another transaction")
    return tx_hash


def _positive(raw: Any) -> int:
    number = _number(raw)
    if number == 0:
        raise _Wrong("the number 0")
    return number


_PARSERS: Mapping[str, Callable[[Any, Sequence[Any]], Any]] = {
    "eth_chainId": lambda raw, params: _positive(raw),
    "eth_blockNumber": lambda raw, params: _number(raw),
    "eth_getTransactionCount": lambda raw, params: _number(raw),
    "eth_estimateGas": lambda raw, params: _positive(raw),
    "eth_getBalance": lambda raw, params: _number(raw, MAX_UINT256),
    "eth_getCode": lambda raw, params: _data(raw),
    "eth_getStorageAt": lambda raw, params: _data(raw),
    "eth_call": lambda raw, params: _data(raw),
    "eth_sendRawTransaction": _sent_hash,
    "eth_getTransactionReceipt": _receipt,
    "eth_getTransactionByHash": _transaction,
    "eth_getBlockByNumber": _block,
    "eth_getLogs": _filtered_logs,
}
