"""Encodes calls, and decodes results, events and errors, by a contract's ABI.

Selectors, topics and types are computed once. web3's contract objects look them up in each call, which takes longer
than executing the call on an EVM in the same process. Numbers and addresses, which are most of it, are written and read
word by word; eth_abi does the rest, and whatever is not plainly well-formed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from eth_abi.abi import encode
from eth_abi.codec import ABIDecoder
from eth_abi.decoding import StringDecoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import BaseEquals, registry
from eth_typing import ChecksumAddress
from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic, function_abi_to_4byte_selector
from web3.exceptions import ContractLogicError

from app.core.errors import InvalidRequest, UnsupportedByContract
from app.services.rpc_answers import checksummed
from app.services.rpc_types import Log

ARTIFACT = Path(__file__).parents[1] / "contracts" / "EventStake.json"

PANIC_REASONS = {
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


WORD = 32
"""Bytes of a word, in which the ABI encodes a number or an address."""
_ADDRESS_PADDING = bytes(WORD - 20)
_IS_ADDRESS = re.compile("0x[0-9a-fA-F]{40}").fullmatch
DECODING_ERRORS = (DecodingError, OverflowError, ValueError)
"""What decoding of malformed data raises: it may contain any offset, length or byte."""

_logger = logging.getLogger(__name__)


class _AnyStringDecoder(StringDecoder):
    """Decodes a string that is no UTF-8, as anybody may have stored one, with replacement characters."""

    def __init__(self) -> None:
        super().__init__("replace")  # type: ignore[no-untyped-call]


def _decoder() -> ABIDecoder:
    is_string = BaseEquals("string", with_sub=False)  # type: ignore[no-untyped-call]
    lenient = registry.copy()  # type: ignore[no-untyped-call]
    lenient.unregister_decoder("string")
    lenient.register_decoder(is_string, _AnyStringDecoder, label="string")
    return ABIDecoder(lenient)


_decode = _decoder().decode


class Revert(NamedTuple):
    """Why a contract reverted: the error's name and arguments, and `reason`, both in words."""

    name: str
    args: tuple[Any, ...]
    reason: str


class Event(NamedTuple):
    """A decoded log: the event's name, and its arguments by the ABI's names in snake case."""

    name: str
    args: dict[str, Any]


class Call(NamedTuple):
    """A call of a contract's function: the contract's address, the function's name, call data, and value in wei."""

    to: ChecksumAddress
    name: str
    data: bytes
    value: int = 0


class _Fields(NamedTuple):
    """Inputs or outputs of a function, event or error.

    Attributes:
        names: Their names.
        types: Their types as `eth_abi` takes them.
        nested_types: Their types, with a tuple of types for each struct.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    nested_types: tuple[Any, ...]

    def encode(self, values: Sequence[Any]) -> bytes:
        """Returns the encoding of values. Raises `EncodingError` and `OverflowError`."""
        if len(values) == len(self.types):
            words = [_to_word(*each) for each in zip(self.types, values, strict=True)]
            if None not in words:
                return b"".join(words)  # type: ignore[arg-type]
        return encode(self.types, values)

    def decode(self, data: bytes) -> tuple[Any, ...]:
        """Decodes data. Raises one of `DECODING_ERRORS`."""
        if len(data) == WORD * len(self.types):
            words = [data[at : at + WORD] for at in range(0, len(data), WORD)]
            values = [_from_word(*each) for each in zip(self.types, words, strict=True)]
            if None not in values:
                return tuple(values)
        decoded: tuple[Any, ...] = _with_checksums(self.nested_types, _decode(self.types, data))
        return decoded


class _EventFields(NamedTuple):
    """An event: its name, name and type of each indexed argument, and the other arguments."""

    name: str
    topics: tuple[tuple[str, str], ...]
    data: _Fields


class Codec:
    """Encodes and decodes by one ABI. Decoded addresses have a checksum.

    Attributes:
        functions: Name of each function, and whether it takes wei, by its selector.
    """

    def __init__(self, abi: Sequence[Mapping[str, Any]]) -> None:
        functions = [item for item in abi if item["type"] == "function"]
        self._selectors = {f["name"]: _selector(f) for f in functions}
        self.functions = {_selector(f): (str(f["name"]), f.get("stateMutability") == "payable") for f in functions}
        self._inputs = {f["name"]: _fields(f["inputs"]) for f in functions}
        self._outputs = {f["name"]: _fields(f["outputs"]) for f in functions}
        errors = [item for item in (*_BUILT_IN, *abi) if item["type"] == "error"]
        self._errors = {_selector(e): (e["name"], _fields(e["inputs"])) for e in errors}
        self._events = {
            event_abi_to_log_topic(e): _EventFields(  # type: ignore[arg-type]
                e["name"],
                tuple((_snake_case(i["name"]), i["type"]) for i in e["inputs"] if i["indexed"]),
                _fields([i | {"name": _snake_case(i["name"])} for i in e["inputs"] if not i["indexed"]]),
            )
            for e in abi
            if e["type"] == "event"
        }

    def call(self, to: ChecksumAddress, function: str, *args: Any, value: int = 0) -> Call:
        """Returns a call of a function.

        Args:
            to: Address of the contract.
            function: Name of the function.
            args: Its arguments.
            value: Wei that the call sends.

        Raises:
            InvalidRequest: An argument does not fit its type.
        """
        try:
            data = self._selectors[function] + self._inputs[function].encode(args)
        except (EncodingError, OverflowError) as error:
            raise InvalidRequest(f"{function} can't be called with these arguments: {error}") from error
        return Call(to, function, data, value)

    def decode_call(self, data: bytes) -> Event | None:
        """Returns a call's function and its arguments, named in snake case as an event's; None if it is unknown."""
        if data[:4] not in self.functions:
            return None
        function, _ = self.functions[data[:4]]
        fields = self._inputs[function]
        try:
            values = fields.decode(data[4:])
        except (DecodingError, UnicodeDecodeError, OverflowError):
            return None
        return Event(function, dict(zip(map(_snake_case, fields.names), values, strict=True)))

    def result(self, function: str, data: bytes) -> tuple[Any, ...]:
        """Decodes what a function returned.

        Raises:
            UnsupportedByContract: The data is not of the function's return types.
        """
        try:
            return self._outputs[function].decode(data)
        except DECODING_ERRORS as error:
            raise UnsupportedByContract(f"The contract has no {function}, or another one.") from error

    def events(self, logs: Iterable[Log], address: ChecksumAddress) -> list[Event]:
        """Decodes the logs that `address` emitted and whose events the ABI has, in order.

        Ignores a log whose data do not fit its event, as another contract than expected may emit it.
        """
        return [event for log in logs if log.address == address and (event := self._event(log))]

    def _event(self, log: Log) -> Event | None:
        topics = log.topics
        fields = self._events.get(topics[0]) if topics else None
        if fields is None or len(topics) != 1 + len(fields.topics):
            return None
        try:
            args = {
                name: _decode_topic(abi_type, topic)
                for (name, abi_type), topic in zip(fields.topics, topics[1:], strict=True)
            }
            args |= dict(zip(fields.data.names, fields.data.decode(log.data), strict=True))
        except DECODING_ERRORS:
            _logger.warning("an event %s in %s has malformed data", fields.name, log.tx_hash)
            return None
        return Event(fields.name, args)

    def revert(self, data: bytes) -> Revert:
        """Decodes the data of a revert: a custom error, a string or a panic."""
        hex_data = "0x" + data.hex()
        unknown = Revert("Unknown", (hex_data,), f"unknown error {hex_data}" if data else "no reason given")
        if data[:4] not in self._errors:
            return unknown
        name, fields = self._errors[data[:4]]
        try:
            args = tuple(map(_storable, fields.decode(data[4:])))
        except DECODING_ERRORS:
            return unknown
        if name == "Error":
            return Revert(name, args, str(args[0]))
        if name == "Panic":
            return Revert(name, args, f"panic 0x{args[0]:02x}, {PANIC_REASONS.get(args[0], 'of an unknown kind')}")
        arguments = ", ".join(f"{field} {value}" for field, value in zip(fields.names, args, strict=True))
        return Revert(name, args, f"{name} ({arguments})" if arguments else name)


_BUILT_IN: list[dict[str, Any]] = [
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
]


@cache
def event_stake_codec() -> Codec:
    """Returns the codec of `EventStake`. Its ABI includes the interface of the contract deployed on Sepolia."""
    return Codec(json.loads(ARTIFACT.read_text())["abi"])


def revert_data(error: ContractLogicError) -> bytes:
    """Returns the data of a revert from web3's exception; empty if the node did not return it."""
    data: Any = error.data
    while isinstance(data, Mapping):  # some nodes nest it
        inner = next((value for value in data.values() if isinstance(value, Mapping)), None)
        data = data.get("data") or data.get("result") or inner
    text = str(data).removeprefix("Reverted ").strip()
    try:
        return bytes.fromhex(text[2:]) if text.startswith("0x") else b""
    except ValueError:
        return b""


def _storable(value: Any) -> Any:
    """Returns an argument of an error as columns of the database can hold it: text without NUL."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _selector(function_or_error: Mapping[str, Any]) -> bytes:
    return function_abi_to_4byte_selector(function_or_error)  # type: ignore[arg-type]


def _fields(inputs: Sequence[Mapping[str, Any]]) -> _Fields:
    types = tuple(collapse_if_tuple(dict(item)) for item in inputs)
    return _Fields(tuple(item["name"] for item in inputs), types, tuple(_nested_type(item) for item in inputs))


def _nested_type(item: Mapping[str, Any]) -> Any:
    """Returns the type of an ABI item; of a struct, the tuple of its fields' types."""
    return tuple(_nested_type(field) for field in item["components"]) if item["type"] == "tuple" else item["type"]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _with_checksums(nested_type: Any, value: Any) -> Any:
    """Returns a decoded value whose addresses have a checksum."""
    if isinstance(nested_type, tuple):
        return tuple(_with_checksums(t, v) for t, v in zip(nested_type, value, strict=True))
    return checksummed(value) if nested_type == "address" else value


def _decode_topic(abi_type: str, topic: bytes) -> Any:
    """Decodes an indexed argument."""
    value = _from_word(abi_type, topic)
    return _with_checksums(abi_type, _decode([abi_type], topic)[0]) if value is None else value


def _to_word(abi_type: str, value: Any) -> bytes | None:
    """Returns the word of a number, or of an address in hex; None if eth_abi has to encode or refuse it.

    Raises:
        OverflowError: The number has no word.
    """
    if abi_type == "uint256" and type(value) is int:
        return value.to_bytes(WORD)
    if abi_type == "address" and type(value) is str and _IS_ADDRESS(value):
        return bytes.fromhex(value[2:]).rjust(WORD, b"\0")
    return None


def _from_word(abi_type: str, word: bytes) -> Any:
    """Returns the number or address of a word; None if eth_abi has to decode it, or refuse it."""
    if abi_type == "uint256":
        return int.from_bytes(word)
    if abi_type == "address" and word.startswith(_ADDRESS_PADDING):
        return checksummed("0x" + word[len(_ADDRESS_PADDING) :].hex())
    return None
