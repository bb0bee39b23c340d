"""A mutant, and the source that it is made of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Node: TypeAlias = Mapping[str, Any]
"""A node of the compiler's syntax tree."""


class Span(NamedTuple):
    """Part of the source, in bytes."""

    start: int
    end: int


class Replacement(NamedTuple):
    """Code that takes the place of a span."""

    span: Span
    new: str


class Edit(NamedTuple):
    """What an operator does to the source.

    Attributes:
        operator: Kind of the fault.
        span: What is replaced.
        new: Code in its place.
        also: Further replacements without which it would not compile.
    """

    operator: str
    span: Span
    new: str
    also: tuple[Replacement, ...] = ()


@dataclass(frozen=True)
class Mutant:
    """A contract with one fault.

    Attributes:
        operator: Kind of the fault.
        start: First byte of the source that is replaced.
        end: Byte after the last one that is replaced.
        old: Replaced code.
        new: Code in its place.
        function: Function that it is in, or the contract's name.
        line: From 1.
        column: From 1.
        text: The line, without its indent.
        occurrence: How often the function has had this line up to here.
        also: Further replacements without which it would not compile.
        file: Name of its file among the sources; empty for the contract's.
        unit: The base, library or file of free functions that it is in; empty for the contract itself.
        moves_money: Whether a line that it changes computes or moves money, see `money_lines`.
    """

    operator: str
    start: int
    end: int
    old: str
    new: str
    function: str
    line: int
    column: int
    text: str
    occurrence: int = 1
    also: tuple[Replacement, ...] = ()
    file: str = ""
    unit: str = ""
    moves_money: bool = False

    @property
    def key(self) -> str:
        """Name in the list of equivalent mutants. Stable while the line stays the same, and unique for the contract."""
        again = f" #{self.occurrence}" if self.occurrence > 1 else ""
        unit = f"{self.unit}." if self.unit else ""
        file = f"{self.file}:" if self.file else ""
        return (
            f"{file}{unit}{self.function}: {self.text}{again} [{self.column}: {_short(self.old)} -> {_short(self.new)}]"
        )

    @property
    def lines(self) -> range:
        """Numbers of the lines that it changes."""
        return range(self.line, self.line + self.old.count("\n") + 1)

    def apply(self, source: str) -> str:
        """Returns the source of its file with this fault."""
        raw = source.encode()
        for (start, end), new in sorted([Replacement(Span(self.start, self.end), self.new), *self.also], reverse=True):
            raw = raw[:start] + new.encode() + raw[end:]
        return raw.decode()


class Source:
    """Source code of a file, by nodes of its tree."""

    def __init__(self, text: str) -> None:
        """Takes the file's text."""
        self.raw, self._lines = text.encode(), text.splitlines()

    def code(self, node: Node) -> str:
        """Code of a node."""
        return self.between(*span_of(node))

    def between(self, start: int, end: int) -> str:
        """Code from one byte to another."""
        return self.raw[start:end].decode()

    def statement(self, node: Node) -> Span:
        """Span of a statement with its semicolon, which the tree leaves out."""
        start, end = span_of(node)
        semicolon = re.match(rb"\s*;", self.raw[end:])
        return Span(start, end + semicolon.end() if semicolon and self.raw[end - 1 : end] != b"}" else end)

    def mutant(self, edit: Edit, function: str, function_span: Span) -> Mutant:
        """The mutant that an edit makes.

        Args:
            edit: The edit.
            function: Name of the function, or of the contract.
            function_span: Where that is.
        """
        start, end = edit.span
        line = self._line(start)
        text = self._lines[line - 1].strip()
        before = self._lines[self._line(function_span.start) - 1 : line]
        return Mutant(
            operator=edit.operator,
            start=start,
            end=end,
            old=self.between(start, end),
            new=edit.new,
            function=function,
            line=line,
            column=start - self.raw.rfind(b"\n", 0, start),
            text=text,
            occurrence=sum(each.strip() == text for each in before),
            also=edit.also,
        )

    def _line(self, position: int) -> int:
        return self.raw.count(b"\n", 0, position) + 1


def span_of(node: Node) -> Span:
    """Where a node is in the source."""
    start, length, _ = map(int, node["src"].split(":"))
    return Span(start, start + length)


_LONGEST = 110
_HEAD = 70


def _short(code: str) -> str:
    """Code in one line; of much code its beginning, and a hash, as an argument about it holds for all of it."""
    line = re.sub(r"\s+", " ", code).strip()
    if len(line) <= _LONGEST:
        return line
    return f"{line[:_HEAD]}... {hashlib.sha256(line.encode()).hexdigest()[:8]}"
