"""A contract's ABI: call data, return values, events and revert reasons, on eth-abi.

The library has this of its own: what a backend encodes and decodes is judged with code that it does not share.
Selectors, topics and types are worked out once per ABI; web3's contract objects do so for every call, which takes
longer than the EVM does in process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from stakesim.evm.errors import AbiError

PANIC_CODES = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "value is not in the enum",
    0x22: "storage byte array is badly encoded",
    0x31: "pop from an empty array",
    0x32: "array index out of bounds",
    0x41: "out of memory",
    0x51: "call to an uninitialised function pointer",
}
"""https://docs.soliditylang.org/en/latest/control-structures.html#panic-via-assert-and-error-via-require"""

_Shape: TypeAlias = "str | tuple[_Shape, ...] | list[_Shape]"
"""A type as it is walked after decoding: a name, the shapes of a struct's fields, or a list with an array's element."""


class Log(NamedTuple):
    """One log of a receipt. address: checksummed."""

    address: str
    topics: Sequence[bytes]
    data: bytes


class Event(NamedTuple):
    """A decoded log. args: by the ABI's parameter names in snake case; addresses are checksummed."""

    name: str
    args: dict[str, Any]


class RevertReason(NamedTuple):
    """Why a call reverted.

    name: of the custom error; "Error" for a string, "Panic" for a panic, "Unknown" where no known error explains the
    data. args: the error's arguments in order. text: both as a phrase.
    """

    name: str
    args: tuple[Any, ...]
    text: str


class _Parameters(NamedTuple):
    """decoded_types: with bytes for strings, as what is on chain need not be UTF-8."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    decoded_types: tuple[str, ...]
    shapes: tuple[_Shape, ...]

    @classmethod
    def of(cls, items: Sequence[Mapping[str, Any]]) -> _Parameters:
        names = tuple(_distinct(snake_case(item["name"]) for item in items))
        types = tuple(map(abi_type, items))
        decoded = tuple(re.sub(r"\bstring\b", "bytes", kind) for kind in types)
        return cls(names, types, decoded, tuple(map(_shape, items)))

    def decode(self, data: bytes) -> tuple[Any, ...]:
        values = decode(self.decoded_types, data)
        return tuple(_python(shape, value) for shape, value in zip(self.shapes, values, strict=True))


class _Function(NamedTuple):
    selector: bytes
    inputs: _Parameters
    outputs: _Parameters


class _EventType(NamedTuple):
    name: str
    indexed: _Parameters
    data: _Parameters


class ContractAbi:
    """Encodes and decodes for one ABI. Of overloaded functions the last one counts."""

    def __init__(self, abi: Sequence[Mapping[str, Any]]) -> None:
        def of_kind(kind: str) -> list[Mapping[str, Any]]:
            return [item for item in abi if item["type"] == kind]

        self._functions = {
            item["name"]: _Function(_selector(item), _Parameters.of(item["inputs"]), _Parameters.of(item["outputs"]))
            for item in of_kind("function")
        }
        self._errors = {
            _selector(item): (item["name"], _Parameters.of(item["inputs"])) for item in (*_BUILT_IN, *of_kind("error"))
        }
        self._events = {
            keccak(text=signature(item)): _EventType(
                item["name"],
                _Parameters.of([_as_topic(i) for i in item["inputs"] if i["indexed"]]),
                _Parameters.of([i for i in item["inputs"] if not i["indexed"]]),
            )
            for item in of_kind("event")
            if not item.get("anonymous")
        }

    def __contains__(self, function: str) -> bool:
        return function in self._functions

    def encode(self, function: str, *args: Any) -> bytes:
        """Call data: selector and arguments.

        Raises:
            AbiError: The ABI has no such function, or an argument does not fit its type.
        """
        if function not in self._functions:
            raise AbiError(f"The contract has no function {function}.")
        selector, inputs, _ = self._functions[function]
        try:
            return selector + encode(inputs.types, args)
        except (EncodingError, OverflowError, TypeError, ValueError) as error:
            raise AbiError(f"{function} can't be called with {list(args)}: {error}") from error

    def decode(self, function: str, data: bytes) -> tuple[Any, ...]:
        """Return values, one a declared output; a struct is a tuple of its fields.

        Raises:
            AbiError: The ABI has no such function, or the data is no encoding of its outputs.
        """
        if function not in self._functions:
            raise AbiError(f"The contract has no function {function}.")
        try:
            return self._functions[function].outputs.decode(data)
        except (DecodingError, OverflowError) as error:
            raise AbiError(f"{function} returned {len(data)} bytes that its ABI does not describe: {error}") from error

    def events(self, logs: Iterable[Log], address: str) -> list[Event]:
        """The events among the logs that `address` emitted and the ABI knows, in order."""
        return [event for log in logs if log.address == address and (event := self._event(log))]

    def _event(self, log: Log) -> Event | None:
        kind = self._events.get(log.topics[0]) if log.topics else None
        if kind is None or len(log.topics) != 1 + len(kind.indexed.names):
            return None
        try:
            indexed = kind.indexed.decode(b"".join(log.topics[1:]))
            values = (*indexed, *kind.data.decode(log.data))
        except (DecodingError, OverflowError):
            return None
        return Event(kind.name, dict(zip((*kind.indexed.names, *kind.data.names), values, strict=True)))

    def revert_reason(self, data: bytes) -> RevertReason:
        """The reason in the data that came with a revert: a custom error, a string or a panic."""
        text = "0x" + data.hex()
        unknown = RevertReason("Unknown", (text,), f"unknown error {text}" if data else "no reason given")
        if data[:4] not in self._errors:
            return unknown
        name, inputs = self._errors[data[:4]]
        try:
            args = inputs.decode(data[4:])
        except (DecodingError, OverflowError):
            return unknown
        if inputs.types == ("string",) and name == "Error":
            return RevertReason(name, args, str(args[0]))
        if inputs.types == ("uint256",) and name == "Panic":
            return RevertReason(name, args, f"panic 0x{args[0]:02x}, {PANIC_CODES.get(args[0], 'of an unknown kind')}")
        fields = ", ".join(f"{field} {value}" for field, value in zip(inputs.names, args, strict=True))
        return RevertReason(name, args, f"{name} ({fields})" if fields else name)


_BUILT_IN: list[dict[str, Any]] = [
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
]


def abi_type(item: Mapping[str, Any]) -> str:
    """The canonical type of a parameter: a struct is written as the tuple of its fields' types."""
    kind: str = item["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(map(abi_type, item['components']))}){kind.removeprefix('tuple')}"


def signature(item: Mapping[str, Any]) -> str:
    """Name and parameter types of a function, event or error, as selectors and topics are hashed from."""
    return f"{item['name']}({','.join(map(abi_type, item['inputs']))})"


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@lru_cache(maxsize=10_000)
def checksummed(address: str | bytes) -> str:
    """Cached, as few addresses occur and each is hashed for its checksum."""
    return str(to_checksum_address(address))


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """Parameters without a name, or with one that is taken, are called by their place."""
    taken: set[str] = set()
    for place, name in enumerate(names):
        distinct = name if name and name not in taken else f"{name or 'arg'}_{place}"
        taken.add(distinct)
        yield distinct


def _selector(item: Mapping[str, Any]) -> bytes:
    return keccak(text=signature(item))[:4]


def _as_topic(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a topic holds of an indexed parameter: the value where it is one word, else its hash."""
    kind: str = item["type"]
    hashed = kind in ("string", "bytes") or kind.endswith("]") or kind.startswith("tuple")
    return {**item, "type": "bytes32"} if hashed else item


def _shape(item: Mapping[str, Any]) -> _Shape:
    kind: str = item["type"]
    if kind.endswith("]"):
        return [_shape({**item, "type": kind.rpartition("[")[0]})]
    return tuple(map(_shape, item["components"])) if kind == "tuple" else kind


def _python(shape: _Shape, value: Any) -> Any:
    """Addresses checksummed and strings decoded, wherever they are inside structs and arrays."""
    match shape:
        case tuple():
            return tuple(_python(inner, part) for inner, part in zip(shape, value, strict=True))
        case [inner]:
            return tuple(_python(inner, part) for part in value)
        case "address":
            return checksummed(value)
        case "string":
            return value.decode("utf-8", "replace")
        case _:
            return value
