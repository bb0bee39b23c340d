"""Calls, results, events and errors of a contract's ABI, with selectors, topics and types worked out once.

web3's contract objects look all of that up anew for every call, which costs more than the EVM takes in process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_typing import ChecksumAddress, HexStr
from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic, function_abi_to_4byte_selector
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.types import LogReceipt

from app.core.errors import InvalidRequest, UnsupportedByContract

ARTIFACT = Path(__file__).parents[1] / "contracts" / "EventStake.json"

PANICS = {
    0x01: "an assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "no such value of an enum",
    0x22: "badly encoded storage",
    0x31: "pop of an empty array",
    0x32: "array index out of bounds",
    0x41: "out of memory",
    0x51: "call of an uninitialised function",
}


class Revert(NamedTuple):
    """Why a contract reverted: its error's name, the arguments in order, and both as a phrase."""

    name: str
    args: tuple[Any, ...]
    reason: str


class Event(NamedTuple):
    """A decoded log. Arguments have the ABI's names in snake case; addresses are checksummed."""

    name: str
    args: dict[str, Any]


class Call(NamedTuple):
    """A call to be sent: to which contract, the function's name, call data, what explains a revert, and wei with it."""

    to: ChecksumAddress
    name: str
    data: bytes
    codec: Codec
    value: int = 0


class _Fields(NamedTuple):
    """kinds: types, of a struct those of its fields."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    kinds: tuple[Any, ...]

    def decode(self, data: bytes) -> tuple[Any, ...]:
        decoded: tuple[Any, ...] = _checksummed(self.kinds, decode(self.types, data))
        return decoded


class _EventFields(NamedTuple):
    name: str
    topics: tuple[tuple[str, str], ...]
    data: _Fields


class Codec:
    """What one ABI can say."""

    def __init__(self, abi: Sequence[Mapping[str, Any]]) -> None:
        functions = [item for item in abi if item["type"] == "function"]
        self._selectors = {f["name"]: _selector(f) for f in functions}
        self._inputs = {f["name"]: _fields(f["inputs"]) for f in functions}
        self._outputs = {f["name"]: _fields(f["outputs"]) for f in functions}
        errors = [item for item in (*_BUILT_IN, *abi) if item["type"] == "error"]
        self._errors = {_selector(e): (e["name"], _fields(e["inputs"])) for e in errors}
        self._events = {
            event_abi_to_log_topic(e): _EventFields(  # type: ignore[arg-type]
                e["name"],
                tuple((_snake(i["name"]), i["type"]) for i in e["inputs"] if i["indexed"]),
                _fields([i | {"name": _snake(i["name"])} for i in e["inputs"] if not i["indexed"]]),
            )
            for e in abi
            if e["type"] == "event"
        }

    def has(self, function: str) -> bool:
        """Whether the ABI has a function of this name."""
        return function in self._selectors

    def call(self, to: ChecksumAddress, function: str, *args: Any, value: int = 0) -> Call:
        """Raises `InvalidRequest` when an argument does not fit its type."""
        try:
            data = self._selectors[function] + encode(self._inputs[function].types, args)
        except (EncodingError, OverflowError) as error:
            raise InvalidRequest(f"{function} can't be called with these arguments: {error}") from error
        return Call(to, function, data, self, value)

    def result(self, function: str, data: bytes) -> tuple[Any, ...]:
        """What the function returned. Raises `UnsupportedByContract` when the data is not that."""
        try:
            return self._outputs[function].decode(data)
        except (DecodingError, UnicodeDecodeError, OverflowError) as error:  # offsets may lead anywhere
            raise UnsupportedByContract(f"The contract has no {function}, or another one.") from error

    def events(self, logs: Iterable[LogReceipt], address: ChecksumAddress) -> list[Event]:
        """The events among the logs that `address` emitted and the ABI knows, in order."""
        return [event for log in logs if log["address"] == address and (event := self._event(log))]

    def _event(self, log: LogReceipt) -> Event | None:
        topics = log["topics"]
        fields = self._events.get(bytes(topics[0])) if topics else None
        if fields is None or len(topics) != 1 + len(fields.topics):
            return None
        args = {name: _topic(kind, bytes(topic)) for (name, kind), topic in zip(fields.topics, topics[1:], strict=True)}
        return Event(fields.name, args | dict(zip(fields.data.names, fields.data.decode(log["data"]), strict=True)))

    def revert(self, data: bytes) -> Revert:
        """Why, out of the data that came with a revert: a custom error, a string or a panic."""
        said = "0x" + data.hex()
        unknown = Revert("Unknown", (said,), f"unknown error {said}" if data else "no reason given")
        if data[:4] not in self._errors:
            return unknown
        name, fields = self._errors[data[:4]]
        try:
            args = fields.decode(data[4:])
        except (DecodingError, UnicodeDecodeError):
            return unknown
        if name == "Error":
            return Revert(name, args, str(args[0]))
        if name == "Panic":
            return Revert(name, args, f"panic 0x{args[0]:02x}, {PANICS.get(args[0], 'of an unknown kind')}")
        told = ", ".join(f"{field} {value}" for field, value in zip(fields.names, args, strict=True))
        return Revert(name, args, f"{name} ({told})" if told else name)


_BUILT_IN: list[dict[str, Any]] = [
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
]


@cache
def event_stake() -> Codec:
    """The codec of `EventStake`, which has all of the interface that the deployed contract shares with it."""
    return Codec(json.loads(ARTIFACT.read_text())["abi"])


def revert_data(error: ContractLogicError) -> bytes:
    """The bytes a contract reverted with, out of web3's exception; empty where the node did not hand them on."""
    data: Any = error.data
    while isinstance(data, Mapping):  # some nodes wrap it
        inner = next((v for v in data.values() if isinstance(v, Mapping)), None)
        data = data.get("data") or data.get("result") or inner
    text = str(data).removeprefix("Reverted ").strip()
    return Web3.to_bytes(hexstr=HexStr(text)) if text.startswith("0x") else b""


def _selector(item: Mapping[str, Any]) -> bytes:
    """Of a function or an error."""
    return function_abi_to_4byte_selector(item)  # type: ignore[arg-type]


def _fields(inputs: Sequence[Mapping[str, Any]]) -> _Fields:
    types = tuple(collapse_if_tuple(dict(i)) for i in inputs)
    return _Fields(tuple(i["name"] for i in inputs), types, tuple(_kind(i) for i in inputs))


def _kind(item: Mapping[str, Any]) -> Any:
    return tuple(_kind(c) for c in item["components"]) if item["type"] == "tuple" else item["type"]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


@lru_cache(maxsize=10_000)
def checksummed(address: str) -> ChecksumAddress:
    """Kept, as there are few addresses and each is hashed for its checksum."""
    return Web3.to_checksum_address(address)


def _checksummed(kind: Any, value: Any) -> Any:
    if isinstance(kind, tuple):
        return tuple(_checksummed(k, v) for k, v in zip(kind, value, strict=True))
    return checksummed(value) if kind == "address" else value


def _topic(kind: str, topic: bytes) -> Any:
    """An indexed argument: a number or an address, which is most of them, without eth_abi's machinery."""
    if kind == "uint256":
        return int.from_bytes(topic)
    return _checksummed(kind, decode([kind], topic)[0])
