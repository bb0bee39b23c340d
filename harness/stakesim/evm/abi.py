"""Encodes and decodes for a contract's ABI: call data, return values, events and revert reasons.

The library has its own codec on eth-abi, so that it judges a backend's encoding by code that the backend does not
share. It computes selectors, topics and types once per ABI. web3's contract objects compute them for every call, which
takes longer than the EVM does in this process.
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

from stakesim.evm.abi_words import Decoder, Shape, encode_words
from stakesim.evm.errors import AbiError

AbiItem: TypeAlias = Mapping[str, Any]
"""One entry of an ABI, or one parameter of an entry, as the compiler writes it in JSON."""
Abi: TypeAlias = Sequence[AbiItem]
"""An ABI as the compiler writes it in JSON."""

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


class Log(NamedTuple):
    """A log of a receipt. The address is checksummed."""

    address: str
    topics: Sequence[bytes]
    data: bytes


class Event(NamedTuple):
    """A decoded log.

    Attributes:
        name: The event's name.
        args: Its arguments by parameter name in snake case. Addresses are checksummed.
    """

    name: str
    args: dict[str, Any]


class RevertReason(NamedTuple):
    """Why a call reverted.

    Attributes:
        name: Name of the custom error; "Error" for a string, "Panic" for a panic, "Unknown" if the ABI has no error for
            the data.
        args: The error's arguments in order.
        text: Both as a phrase.
    """

    name: str
    args: tuple[Any, ...]
    text: str


class _Parameters(NamedTuple):
    """The parameters of a function, event or error.

    Attributes:
        names: In snake case.
        types: Canonical ABI types.
        decoded_types: The same with `bytes` for `string`, as a string on chain need not be UTF-8.
        shapes: Structures of the decoded values.
        words: Decodes what is plainly well-formed; None if there are arrays of a fixed length.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    decoded_types: tuple[str, ...]
    shapes: tuple[Shape, ...]
    words: Decoder | None

    @classmethod
    def of(cls, items: Abi) -> _Parameters:
        names = tuple(_distinct(snake_case(item["name"]) for item in items))
        types = tuple(map(abi_type, items))
        decoded_types = tuple(re.sub(r"\bstring\b", "bytes", type_name) for type_name in types)
        shapes = tuple(map(_shape, items))
        has_fixed_arrays = any(re.search(r"\[\d", type_name) for type_name in types)
        words = None if has_fixed_arrays else Decoder(shapes, checksummed)
        return cls(names, types, decoded_types, shapes, words)

    def decode(self, data: bytes) -> tuple[Any, ...]:
        if self.words and (plain := self.words.decode(data)) is not None:
            return plain
        values = decode(self.decoded_types, data)
        return tuple(_to_python(shape, value) for shape, value in zip(self.shapes, values, strict=True))


class _Function(NamedTuple):
    selector: bytes
    inputs: _Parameters
    outputs: _Parameters


class _EventType(NamedTuple):
    name: str
    indexed: _Parameters
    data: _Parameters


class ContractAbi:
    """A codec for one ABI. Functions go by name or signature; of overloaded ones the last goes by the name."""

    def __init__(self, abi: Abi) -> None:
        def items_of(item_type: str) -> list[AbiItem]:
            return [item for item in abi if item["type"] == item_type]

        functions = [
            (item, _Function(selector_of(item), _Parameters.of(item["inputs"]), _Parameters.of(item["outputs"])))
            for item in items_of("function")
        ]
        self._functions = {item["name"]: function for item, function in functions}
        self._functions |= {signature(item): function for item, function in functions}
        self._errors = {
            selector_of(item): (item["name"], _Parameters.of(item["inputs"]))
            for item in (*_BUILT_IN_ERRORS, *items_of("error"))
        }
        self._events = {
            keccak(text=signature(item)): _EventType(
                item["name"],
                _Parameters.of([_as_topic(parameter) for parameter in item["inputs"] if parameter["indexed"]]),
                _Parameters.of([parameter for parameter in item["inputs"] if not parameter["indexed"]]),
            )
            for item in items_of("event")
            if not item.get("anonymous")
        }

    def __contains__(self, function: str) -> bool:
        return function in self._functions

    def function_of(self, data: bytes) -> str | None:
        """Returns the function that call data calls, by name or else by signature; None if the ABI has no such one."""
        return next((name for name, each in self._functions.items() if each.selector == bytes(data[:4])), None)

    def input_types(self, function: str) -> tuple[str, ...]:
        """Returns the types of a function's arguments; none if the ABI has no such function."""
        return self._functions[function].inputs.types if function in self._functions else ()

    def encode(self, function: str, *args: Any) -> bytes:
        """Returns the call data of a call: selector and arguments.

        Raises:
            AbiError: The ABI has no such function, or an argument does not fit its type.
        """
        if function not in self._functions:
            raise AbiError(f"The contract has no function {function}.")
        selector, inputs, _ = self._functions[function]
        try:
            if (words := encode_words(inputs.types, args)) is not None:
                return selector + words
            values = [_encodable(kind, arg) for kind, arg in zip(inputs.types, args, strict=True)]
            return selector + encode(inputs.decoded_types, values)
        except (EncodingError, OverflowError, TypeError, ValueError) as error:
            raise AbiError(f"{function} can't be called with {list(args)}: {error}") from error

    def decode(self, function: str, data: bytes) -> tuple[Any, ...]:
        """Returns a function's return values, one for each declared output. A struct is a tuple of its fields.

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
        """Decodes the logs that `address` emitted, in order. Logs that the ABI does not describe are left out."""
        return [event for log in logs if log.address == address and (event := self._event(log))]

    def _event(self, log: Log) -> Event | None:
        event_type = self._events.get(log.topics[0]) if log.topics else None
        if event_type is None or len(log.topics) != 1 + len(event_type.indexed.names):
            return None
        try:
            indexed = event_type.indexed.decode(b"".join(log.topics[1:]))
            values = (*indexed, *event_type.data.decode(log.data))
        except (DecodingError, OverflowError):
            return None
        names = (*event_type.indexed.names, *event_type.data.names)
        return Event(event_type.name, dict(zip(names, values, strict=True)))

    def revert_reason(self, data: bytes) -> RevertReason:
        """Decodes the data of a revert: a custom error, a string or a panic."""
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
            return RevertReason(name, args, printable(args[0]))
        if inputs.types == ("uint256",) and name == "Panic":
            return RevertReason(name, args, f"panic 0x{args[0]:02x}, {PANIC_CODES.get(args[0], 'of an unknown kind')}")
        fields = ", ".join(f"{field} {printable(value)}" for field, value in zip(inputs.names, args, strict=True))
        return RevertReason(name, args, f"{name} ({fields})" if fields else name)


def printable(value: object) -> str:
    """Returns a value as text without control characters: a contract's words are shown in terminals and reports."""
    return ascii(value) if isinstance(value, str) and not value.isprintable() else str(value)


_BUILT_IN_ERRORS: Abi = [
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
]


def abi_type(parameter: AbiItem) -> str:
    """Returns a parameter's canonical type. A struct is the tuple of its fields' types."""
    type_name: str = parameter["type"]
    if not type_name.startswith("tuple"):
        return type_name
    return f"({','.join(map(abi_type, parameter['components']))}){type_name.removeprefix('tuple')}"


def signature(item: AbiItem) -> str:
    """Returns name and parameter types of a function, event or error: the text that selectors and topics hash."""
    return f"{item['name']}({','.join(map(abi_type, item['inputs']))})"


def snake_case(name: str) -> str:
    """Converts a camelCase name."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@lru_cache(maxsize=10_000)
def checksummed(address: str | bytes) -> str:
    """Returns a checksummed address. Cached, as the checksum takes a hash and few addresses occur."""
    return str(to_checksum_address(address))


def _encodable(type_name: str, value: Any) -> Any:
    """Returns a text as bytes, which are encoded alike: on chain a text need not be UTF-8."""
    is_text = type_name == "string" and isinstance(value, str)
    return value.encode("utf-8", "surrogateescape") if is_text else value


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """Yields the names, with the position appended to a name that is empty or already taken."""
    taken: set[str] = set()
    for position, name in enumerate(names):
        distinct = name if name and name not in taken else f"{name or 'arg'}_{position}"
        taken.add(distinct)
        yield distinct


def selector_of(item: AbiItem) -> bytes:
    """Returns the first four bytes of the hash of a function's or an error's signature."""
    return keccak(text=signature(item))[:4]


def _as_topic(parameter: AbiItem) -> AbiItem:
    """Returns an indexed parameter as its topic holds it: the value if it is one word, else its hash."""
    type_name: str = parameter["type"]
    is_hashed = type_name in ("string", "bytes") or type_name.endswith("]") or type_name.startswith("tuple")
    return {**parameter, "type": "bytes32"} if is_hashed else parameter


def _shape(parameter: AbiItem) -> Shape:
    type_name: str = parameter["type"]
    if type_name.endswith("]"):
        return [_shape({**parameter, "type": type_name.rpartition("[")[0]})]
    return tuple(map(_shape, parameter["components"])) if type_name == "tuple" else type_name


def _to_python(shape: Shape, value: Any) -> Any:
    """Checksums addresses and decodes strings, also inside structs and arrays."""
    match shape:
        case tuple():
            return tuple(_to_python(inner, part) for inner, part in zip(shape, value, strict=True))
        case [inner]:
            return tuple(_to_python(inner, part) for part in value)
        case "address":
            return checksummed(value)
        case "string":
            return value.decode("utf-8", "replace")
        case _:
            return value
