"""Decodes and encodes well-formed ABI data word by word, several times as fast as eth-abi.

What is not plainly well-formed (other offsets than an encoder writes, dirty padding, arguments of other types) is not
judged here: `None` sends the caller to eth-abi, which has the last word on what is valid. The layout is that of
https://docs.soliditylang.org/en/latest/abi-spec.html#formal-specification-of-the-encoding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

WORD = 32
"""Bytes of a word."""
Shape: TypeAlias = "str | tuple[Shape, ...] | list[Shape]"
"""The structure of a decoded value: a type's name, the shapes of a struct's fields, or a list with the shape of an
array's elements."""
_Word: TypeAlias = Callable[[bytes, int], Any]
"""Decodes the word at an offset; raises `_Unusual`."""


class _Unusual(Exception):
    """The data are not as an encoder writes them."""


class Decoder:
    """Decodes data with the given shapes.

    Args:
        shapes: The shape of each value.
        to_address: Returns an address from its 20 bytes.
    """

    def __init__(self, shapes: Sequence[Shape], to_address: Callable[[bytes], str]) -> None:
        self._to_address = to_address
        try:
            self._read: _Tuple | None = self._tuple(shapes)
        except KeyError:
            self._read = None

    def decode(self, data: bytes) -> tuple[Any, ...] | None:
        """Returns the values; None if eth-abi has to judge them, as they are not of plain types, or unusual."""
        if self._read is None:
            return None
        try:
            values, end = self._read(data, 0)
        except _Unusual:
            return None
        return values if end == len(data) else None

    def _tuple(self, shapes: Sequence[Shape]) -> _Tuple:
        return _Tuple([self._part(shape) for shape in shapes])

    def _part(self, shape: Shape) -> tuple[int, Any]:
        """Returns the number of bytes in the head, and what decodes the value; 0 bytes if it has a tail."""
        match shape:
            case tuple():
                inner = self._tuple(shape)
                return (0 if inner.is_dynamic else inner.size), inner
            case [element]:
                size, read = self._part(element)
                if not size:
                    raise KeyError("array of values with tails")
                return 0, _array(size, read)
            case "string":
                return 0, _string
            case str():
                return WORD, self._word(shape)
        raise KeyError(str(shape))

    def _word(self, type_name: str) -> _Word:
        """Returns what decodes a type of one word. Raises `KeyError` for others."""
        if type_name == "address":
            to_address = self._to_address

            def address(data: bytes, at: int) -> str:
                if any(data[at : at + 12]):
                    raise _Unusual
                return to_address(data[at + 12 : at + 32])

            return address
        if type_name == "bool":
            return _bool
        if type_name == "bytes32":
            return lambda data, at: data[at : at + WORD]
        found = re.fullmatch(r"uint(\d+)", type_name)
        if found is None:
            raise KeyError(type_name)
        limit = 1 << int(found[1])

        def unsigned(data: bytes, at: int) -> int:
            value = int.from_bytes(data[at : at + WORD], "big")
            if value >= limit:
                raise _Unusual
            return value

        return unsigned


class _Tuple:
    """Decodes a tuple, whose tails must follow its head without gaps.

    Attributes:
        size: Bytes of the head.
        is_dynamic: Whether it has tails.
    """

    def __init__(self, parts: Sequence[tuple[int, Any]]) -> None:
        self._parts = parts
        self.size = sum(size or WORD for size, _ in parts)
        self.is_dynamic = any(not size for size, _ in parts)

    def __call__(self, data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        """Returns the values, and the offset after them."""
        start, end = at, at + self.size
        if end > len(data):
            raise _Unusual
        values = []
        for size, read in self._parts:
            if not size:
                if int.from_bytes(data[at : at + WORD], "big") != end - start:
                    raise _Unusual
                value, end = read(data, end)
                at += WORD
            elif isinstance(read, _Tuple):
                value, at = read(data, at)
            else:
                value = read(data, at)
                at += WORD
            values.append(value)
        return tuple(values), end


def _length(data: bytes, at: int, size: int) -> int:
    """Reads the number of elements of so many bytes; raises `_Unusual` if the data do not hold them."""
    length = int.from_bytes(data[at : at + WORD], "big")
    if at + WORD + length * size > len(data):
        raise _Unusual
    return length


def _string(data: bytes, at: int) -> tuple[str, int]:
    length = _length(data, at, 1)
    begin = at + WORD
    end = begin + -(-length // WORD) * WORD
    if end > len(data) or any(data[begin + length : end]):
        raise _Unusual
    return data[begin : begin + length].decode("utf-8", "replace"), end


def _array(size: int, read: Any) -> Callable[[bytes, int], tuple[tuple[Any, ...], int]]:
    is_tuple = isinstance(read, _Tuple)

    def array(data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        begin = at + WORD
        end = begin + _length(data, at, size) * size
        elements = (read(data, each) for each in range(begin, end, size))
        return tuple(element[0] for element in elements) if is_tuple else tuple(elements), end

    return array


def _bool(data: bytes, at: int) -> bool:
    value = int.from_bytes(data[at : at + WORD], "big")
    if value > 1:
        raise _Unusual
    return value == 1


def encode_words(types: Sequence[str], values: Sequence[Any]) -> bytes | None:
    """Returns the encoding of numbers and addresses; None if eth-abi has to judge them."""
    words = []
    for type_name, value in zip(types, values, strict=True):
        if type_name == "uint256" and type(value) is int and 0 <= value < 1 << 256:
            words.append(value.to_bytes(WORD, "big"))
        elif type_name == "address" and type(value) is str and _ADDRESS.fullmatch(value):
            words.append(bytes.fromhex(value[2:]).rjust(WORD, b"\0"))
        else:
            return None
    return b"".join(words)


_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
