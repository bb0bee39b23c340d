"""Writes values as Solidity, to be read by people: parties by name, times from the beginning on, amounts in ether."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from stakesim.evm.abi import AbiItem, checksummed
from stakesim.lane.moves import PUPPETS, SIGNERS
from stakesim.model.rules import CONTRACT, NOBODY
from stakesim.units import DAY

_LARGEST = 2**256 - 1
_POWERS = (32, 40, 64, 88, 96, 110, 128, 160, 256)
_GWEI = 10**9
_LEAST_ETHER = 10**12
_FEW = 8
"""A longer list of ids without a gap is written as a range."""
_SPAN = 200 * 365 * DAY
"""Seconds from the beginning on in which a number is taken for a time."""


class Writer:
    """Writes the values of one file.

    Attributes:
        lengths: Lengths of the lists that were written, for each of which the file needs a function `_ids`.
        scopes: What the file has to import for the types that were written.
    """

    def __init__(self, begin: int) -> None:
        """Has written nothing.

        Args:
            begin: The world's time, which is `BEGIN` in the file, in seconds since 1970.
        """
        self._begin = begin
        self.lengths: set[int] = set()
        self.scopes: set[str] = set()

    def values(self, items: Iterable[AbiItem], values: Sequence[Any]) -> list[str]:
        """Values of these types, each as an expression."""
        return [self.value(item, value) for item, value in zip(items, values, strict=True)]

    def value(self, item: AbiItem, value: Any) -> str:
        """A value of an ABI type as an expression."""
        kind: str = item["type"]
        if kind == "address":
            party = self.party(value)
            return f"payable({party})" if item.get("internalType") == "address payable" else party
        if kind == "bool":
            return str(bool(value)).lower()
        if kind == "string":
            return text(value)
        if kind == "tuple":
            fields = zip(item["components"], value, strict=True)
            named = ", ".join(f"{field['name']}: {self.value(field, each)}" for field, each in fields)
            return f"{self._type(item['internalType'])}({{{named}}})"
        if kind.endswith("[]"):
            return self._ids(value)
        enum: str = item.get("internalType", "")
        written = self.time(value)
        return f"{self._type(enum)}({written})" if enum.startswith("enum ") else written

    def _type(self, internal: str) -> str:
        """The name of a struct or enum, as the file can write it: "struct IEventStake.Terms" is `IEventStake.Terms`."""
        name = internal.partition(" ")[2]
        self.scopes.add(name.partition(".")[0])
        return name

    def _ids(self, ids: Sequence[int]) -> str:
        if not ids:
            return "new uint256[](0)"
        if len(ids) > _FEW and list(ids) == list(range(ids[0], ids[0] + len(ids))):
            return f"_range({number(ids[0])}, {number(ids[-1])})"
        self.lengths.add(len(ids))
        first, *others = map(number, ids)
        return f"_ids([uint256({first}){''.join(f', {each}' for each in others)}])"

    def time(self, value: int) -> str:
        """A number, which is a time if it can be one."""
        seconds = value - self._begin
        if not 0 <= seconds < _SPAN:
            return number(value)
        return f"BEGIN + {duration(seconds)}" if seconds else "BEGIN"

    def party(self, party: str) -> str:
        """The address of a party, or of a hexadecimal text."""
        if party in SIGNERS:
            return party.upper()
        if party in PUPPETS:
            return f"address({party})"
        return {NOBODY: "address(0)", CONTRACT: "address(stake)"}.get(party) or checksummed(party)


def duration(seconds: int) -> str:
    """Seconds as days and the rest."""
    days, rest = divmod(seconds, DAY)
    return " + ".join([f"{days} days"] * bool(days) + [f"{rest:_}"] * bool(rest or not days))


def number(value: int) -> str:
    """A number as people write it; one below 0 as 256 bits hold it."""
    value &= _LARGEST
    if value == _LARGEST:
        return "type(uint256).max"
    if value >= _LEAST_ETHER and value % _GWEI == 0:
        return f"{Decimal(value) / 10**18:f} ether"
    for bits in _POWERS:
        if abs(off := value - 2**bits) <= bits:
            return f"2 ** {bits}" + (f" {'+' if off > 0 else '-'} {abs(off)}" if off else "")
    return f"{value:_}"


def text(value: str) -> str:
    """A string; as bytes if it has what a literal of Solidity can't have."""
    if value.isascii() and value.isprintable() and not set(value) & set('"\\'):
        return f'"{value}"'
    data = value.encode("utf-8", "surrogateescape")
    return f'string(abi.encodePacked(hex"{data.hex()}"))'
