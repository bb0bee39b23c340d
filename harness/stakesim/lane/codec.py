"""Encodes calls and expectations of the stake contract as bytes, and decodes its logs, without eth-abi's overhead.

Parties stand for addresses. What the model expects is encoded and compared as bytes, so that nothing of what the
contract returns is decoded unless it differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from eth_utils.crypto import keccak

from stakesim.evm.abi import AbiItem, abi_type, signature
from stakesim.evm.batch_reader import ViewAnswer
from stakesim.model.rules import CALLS_OF_NOTHING
from stakesim.model.state import ExpectedEvent
from stakesim.model.views import ExpectedView

Encoder: TypeAlias = Callable[[Any], bytes]
_WORD = 32
_LARGEST = 2**256 - 1


def word(value: int) -> bytes:
    """A number as the EVM holds it. Values beyond 256 bits are cut, as they can't occur on chain."""
    return (int(value) & _LARGEST).to_bytes(_WORD, "big")


def _text(value: str) -> bytes:
    return _bytes(value.encode("utf-8", "surrogateescape"))


def _bytes(data: bytes) -> bytes:
    return word(len(data)) + data + bytes(-len(data) % _WORD)


class _Type(NamedTuple):
    """How values of a type are encoded.

    Attributes:
        encode: Encodes a value.
        dynamic: Whether an offset stands for it, and the value comes after all others.
    """

    encode: Encoder
    dynamic: bool


class _EventType(NamedTuple):
    """An event as it is logged.

    Attributes:
        name: Its name.
        topics: How many arguments are indexed.
        types: Types of the arguments that are not.
    """

    name: str
    topics: int
    types: tuple[str, ...]


class LaneCodec:
    """Encodes and decodes for one contract ABI and the parties of a world."""

    def __init__(self, abi: Sequence[AbiItem], addresses: Mapping[str, int]) -> None:
        """Prepares all functions, errors and events.

        Args:
            abi: The ABI. Functions go by name or signature; of overloaded ones the last goes by the name.
            addresses: Address of each party, as a number.
        """
        self._addresses = addresses
        self._inputs: dict[str, tuple[bytes, Encoder]] = {}
        self._outputs: dict[str, Encoder] = {}
        self._errors: dict[str, tuple[bytes, Encoder]] = {}
        self._events: dict[str, _EventType] = {}
        self._text_positions: dict[str, set[int]] = {}
        for item in abi:
            kind, name = item["type"], item.get("name", "")
            digest = keccak(text=signature(item)) if name else b""
            if kind == "function":
                for called in (name, signature(item)):
                    self._inputs[called] = digest[:4], self._tuple(item["inputs"]).encode
                    self._outputs[called] = self._tuple(item["outputs"]).encode
            elif kind == "error":
                self._errors[name] = digest[:4], self._tuple(item["inputs"]).encode
            elif kind == "event" and not item.get("anonymous"):
                plain = tuple(abi_type(parameter) for parameter in item["inputs"] if not parameter["indexed"])
                indexed = sum(parameter["indexed"] for parameter in item["inputs"])
                self._events["0x" + digest.hex()] = _EventType(name, indexed, plain)
                self._text_positions[name] = {indexed + i for i, kind in enumerate(plain) if kind == "string"}
        self._errors["Panic"] = bytes.fromhex("4e487b71"), lambda values: word(values[0])

    def address(self, party: str) -> int:
        """The address of a party, or of a hexadecimal text."""
        known = self._addresses.get(party)
        return int(party, 16) if known is None else known

    def call(self, function: str, args: Sequence[Any]) -> bytes:
        """Call data of a function, or of a call of nothing."""
        if function in CALLS_OF_NOTHING:
            return CALLS_OF_NOTHING[function]
        selector, encode = self._inputs[function]
        return selector + encode(args)

    def result(self, function: str, results: Sequence[Any]) -> bytes:
        """What a function that returns these values returns."""
        return self._outputs[function](results)

    def error(self, name: str, args: Sequence[Any]) -> bytes | None:
        """Data of a revert; None for an error that the contract does not have."""
        if name not in self._errors:
            return None
        selector, encode = self._errors[name]
        return selector + encode(args)

    def answer(self, view: ExpectedView) -> ViewAnswer:
        """What a view must answer; no data for an error that the contract does not have."""
        if view.error is None:
            return ViewAnswer(self.result(view.function, view.results or ()), reverted=False)
        return ViewAnswer(self.error(*view.error) or b"", reverted=True)

    def has_function(self, name: str) -> bool:
        """Whether the contract has a function of this name or signature; nothing can always be called."""
        return name in CALLS_OF_NOTHING or name in self._inputs

    def has_event(self, name: str) -> bool:
        """Whether the contract has an event of this name."""
        return name in self._text_positions

    def event(self, event: ExpectedEvent) -> ExpectedEvent:
        """An expected event with numbers for parties, as `logged` returns it."""
        name, *values = event
        texts = self._text_positions.get(name, ())
        return (
            name,
            *(
                value if position in texts else self.address(value) if isinstance(value, str) else int(value)
                for position, value in enumerate(values)
            ),
        )

    def logged(self, topics: Sequence[str], data: bytes) -> ExpectedEvent | None:
        """An event of the contract: its name and its arguments as numbers, texts as such; None for any other log.

        The arguments are the indexed ones first. In `EventStake` no other comes before an indexed one.
        """
        event = self._events.get(topics[0]) if topics else None
        if event is None or len(topics) != 1 + event.topics:
            return None
        values: list[Any] = [int(topic, 16) for topic in topics[1:]]
        for position, kind in enumerate(event.types):
            value = int.from_bytes(data[position * _WORD : (position + 1) * _WORD], "big")
            if kind == "string":
                length = int.from_bytes(data[value : value + _WORD], "big")
                values.append(data[value + _WORD : value + _WORD + length].decode("utf-8", "surrogateescape"))
            else:
                values.append(value)
        return (event.name, *values)

    def _type(self, parameter: AbiItem) -> _Type:
        kind: str = parameter["type"]
        if kind == "address":
            return _Type(lambda party: word(self.address(party)), dynamic=False)
        if kind == "string":
            return _Type(_text, dynamic=True)
        if kind == "bytes":
            return _Type(_bytes, dynamic=True)
        if kind == "tuple":
            return self._tuple(parameter["components"])
        if kind.endswith("[]"):
            return _Type(lambda values: word(len(values)) + b"".join(map(word, values)), dynamic=True)
        return _Type(word, dynamic=False)

    def _tuple(self, parameters: Sequence[AbiItem]) -> _Type:
        types = [self._type(parameter) for parameter in parameters]
        if any(each.dynamic for each in types):
            return _Type(lambda values: _encode_dynamic(types, values), dynamic=True)
        encoders = [each.encode for each in types]
        return _Type(
            lambda values: b"".join([encode(value) for encode, value in zip(encoders, values, strict=True)]),
            dynamic=False,
        )


def _encode_dynamic(types: Sequence[_Type], values: Iterable[Any]) -> bytes:
    head: list[bytes] = []
    tail: list[bytes] = []
    encoded = [(each.encode(value), each.dynamic) for each, value in zip(types, values, strict=True)]
    offset = sum(_WORD if dynamic else len(data) for data, dynamic in encoded)
    for data, dynamic in encoded:
        if dynamic:
            head.append(word(offset))
            tail.append(data)
            offset += len(data)
        else:
            head.append(data)
    return b"".join(head + tail)
