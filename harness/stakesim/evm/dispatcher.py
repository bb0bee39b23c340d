"""What a contract's code answers to, whatever its ABI says: the selectors that it compares, and what it takes besides.

The code is followed from its start with the call data as a symbol, along both ways of each branch that depends on
something unknown. What is compared with the call's selector is a function; what then runs is not followed. Each other
way must end in a revert, or the code takes calls of no function.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from stakesim.evm.instructions import (
    ENDS,
    INVALID,
    JUMPDEST,
    REVERT,
    STOP,
    immutable_places,
    instructions,
)

MAX_STATES = 5_000
"""States that are followed at most. Those of the dispatcher come first: a few for each function."""
_MAX_STACK = 1024
_WORD = 2**256
ADD, SUB, DIV, LT, GT, EQ, AND, XOR, SHR = 0x01, 0x03, 0x04, 0x10, 0x11, 0x14, 0x16, 0x18, 0x1C
_MASKS: Mapping[str, int] = {"word": 0xFFFFFFFF << 224, "selector": 0xFFFFFFFF}
"""The bits that have the selector, by kind of symbol."""


class Dispatch(NamedTuple):
    """What code does with a call, before a function runs.

    Attributes:
        selectors: Those that it compares with the call's. Exact for code of the Solidity compiler, legacy or via IR.
        is_complete: Whether all ways were followed. If not, there may be other functions.
        takes_other_data: Whether some way ends without a revert, and has found none of these selectors in the call.
        takes_no_data: Whether this may be so for a call without data, such as a transfer of ether.
    """

    selectors: frozenset[bytes]
    is_complete: bool
    takes_other_data: bool
    takes_no_data: bool


def read_dispatch(code: bytes) -> Dispatch:
    """Reads what runtime code answers to.

    A selector that code reads from memory or storage, computes, or finds in a table, as Vyper's does, is not found: the
    way to such a function is one that takes other data, or can't be followed.

    Args:
        code: Runtime code. Immutables may be zero: they are unknown then.
    """
    with_data, without = _Dispatcher(code, has_data=True), _Dispatcher(code, has_data=False)
    with_data.follow()
    without.follow()
    takes_no_data = without.ends or not without.is_complete
    return Dispatch(frozenset(with_data.found), with_data.is_complete, with_data.ends, takes_no_data)


class _Symbol(NamedTuple):
    """A value that depends on the call's data.

    Attributes:
        kind: "word": the first word of the call data, or its first four bytes. "selector": these four as a number.
            "same": not 0 if the call has the selector `value`, else 0. "other": not 0 if the call has another one.
            "less or more": whether the selector is above or below a number, by which the compiler halves long lists.
            "size": the length of the data, which is not 0.
        value: The selector.
    """

    kind: str
    value: int = 0


_WORD_SYMBOL = _Symbol("word")
_Value: TypeAlias = int | _Symbol | None
"""A number, something that depends on the call's data, or None: unknown."""
_Stack: TypeAlias = tuple[_Value, ...]


class _Dispatcher:
    """Follows code.

    Attributes:
        found: Selectors that it compared with the call's.
        is_complete: Whether all ways were followed.
        ends: Whether one of them ended without a revert.
    """

    def __init__(self, code: bytes, *, has_data: bool) -> None:
        self._code, self._has_data = code, has_data
        self._targets = {at for at, opcode, _ in instructions(code) if opcode == JUMPDEST}
        self._pushed: dict[int, _Value] = {at: pushed for at, _, pushed in instructions(code)}
        self._pushed |= dict.fromkeys(immutable_places(code))
        self._open: deque[tuple[int, _Stack]] = deque([(0, ())])
        self.found: set[bytes] = set()
        self.is_complete, self.ends = True, False

    def follow(self) -> None:
        seen: set[tuple[int, _Stack]] = set()
        while self._open and len(seen) < MAX_STATES and (self._has_data or not self.ends):
            state = self._open.popleft()
            if state not in seen:
                seen.add(state)
                self._run(*state)
        if any(state not in seen for state in self._open):
            self.is_complete = False

    def _run(self, at: int, stack: _Stack) -> None:
        """Runs the code up to the next jump, and notes where it may go on."""
        values = list(stack)
        while len(values) <= _MAX_STACK:
            opcode = self._code[at] if at < len(self._code) else STOP
            try:
                if opcode == 0x56:  # JUMP
                    self._jump(values.pop(), values)
                    return
                if opcode == 0x57:  # JUMPI
                    target, condition = values.pop(), values.pop()
                    self._branch(at, target, condition, values)
                    return
                if not self._step(at, opcode, values):
                    return
            except IndexError:
                return  # the stack is empty: such code reverts
            at += 1 + (opcode - 0x5F if 0x60 <= opcode <= 0x7F else 0)
            if at in self._targets:  # where ways join
                self._follow_later(at, values)
                return

    def _jump(self, target: _Value, values: list[_Value], *, first: bool = False) -> None:
        if not isinstance(target, int):
            self.is_complete = False
        elif target in self._targets:
            self._follow_later(target, values, first=first)

    def _branch(self, at: int, target: _Value, condition: _Value, values: list[_Value]) -> None:
        """Follows a conditional jump: both ways, but not into a function."""
        kind = condition.kind if isinstance(condition, _Symbol) else ""
        first = kind in ("same", "other", "less or more")
        if kind != "same" and condition != 0:
            self._jump(target, values, first=first)
        if kind not in ("other", "size") and (kind or not isinstance(condition, int) or condition == 0):
            self._follow_later(at + 1, values, first=first)

    def _follow_later(self, at: int, values: list[_Value], *, first: bool = False) -> None:
        if first:
            self._open.appendleft((at, tuple(values)))
        else:
            self._open.append((at, tuple(values)))

    def _step(self, at: int, opcode: int, values: list[_Value]) -> bool:
        """Runs one instruction. Returns whether the code goes on after it."""
        if 0x5F <= opcode <= 0x7F:
            values.append(self._pushed[at])
        elif 0x80 <= opcode <= 0x8F:  # DUP
            values.append(values[0x7F - opcode])
        elif 0x90 <= opcode <= 0x9F:  # SWAP
            other = 0x8E - opcode
            values[-1], values[other] = values[other], values[-1]
        elif opcode == 0x35:  # CALLDATALOAD
            start = values.pop()
            values.append(0 if not self._has_data else _WORD_SYMBOL if start == 0 else None)
        elif opcode == 0x36:  # CALLDATASIZE
            values.append(_Symbol("size") if self._has_data else 0)
        elif opcode == 0x15:  # ISZERO
            values.append(self._is_zero(values.pop()))
        elif opcode == 0x19:  # NOT
            number = values.pop()
            values.append(_WORD - 1 - number if isinstance(number, int) else None)
        elif operation := _BINARY.get(opcode):
            left, right = values.pop(), values.pop()
            values.append(self._binary(opcode, operation, left, right))
        elif opcode in _EFFECTS:
            popped, pushed = _EFFECTS[opcode]
            for _ in range(popped):
                values.pop()
            values.extend([None] * pushed)
        else:
            self._end(opcode)
            return False
        return True

    def _end(self, opcode: int) -> None:
        if opcode not in ENDS:  # a chain may have instructions that are not known here
            self.is_complete = False
        elif opcode not in (REVERT, INVALID):
            self.ends = True

    def _is_zero(self, value: _Value) -> _Value:
        match value:
            case int():
                return int(value == 0)
            case _Symbol("same", selector):
                return _Symbol("other", selector)
            case _Symbol("other", selector):
                return _Symbol("same", selector)
            case _Symbol("less or more", _):
                return value
            case _Symbol("size", _):
                return 0
            case _Symbol("selector" | "word", _):
                return self._compared(EQ, 0)
        return None

    def _binary(self, opcode: int, operation: Callable[[int, int], int], left: _Value, right: _Value) -> _Value:
        if isinstance(left, int) and isinstance(right, int):
            return operation(left, right) % _WORD
        if opcode in (SHR, DIV):
            is_selector = (left, right) == (224, _WORD_SYMBOL) or (left, right) == (_WORD_SYMBOL, 1 << 224)
            return _Symbol("selector") if is_selector else None
        symbol, number = (left, right) if isinstance(left, _Symbol) else (right, left)
        if not isinstance(symbol, _Symbol) or not isinstance(number, int):
            return None
        if opcode == EQ and number == 0:
            return self._is_zero(symbol)
        if symbol.kind not in _MASKS:
            return None
        if opcode == AND:
            return symbol if number == _MASKS[symbol.kind] else None
        if opcode in (LT, GT) and symbol.kind == "selector":
            return _Symbol("less or more")
        if opcode == ADD:  # the compiler subtracts a constant in this way
            number = -number % _WORD
        if opcode in (EQ, XOR, SUB, ADD) and number & _MASKS[symbol.kind] == number:
            return self._compared(opcode, number >> 224 if symbol.kind == "word" else number)
        return None

    def _compared(self, opcode: int, selector: int) -> _Value:
        self.found.add(selector.to_bytes(4, "big"))
        return _Symbol("same" if opcode == EQ else "other", selector)


_BINARY: Mapping[int, Callable[[int, int], int]] = {
    0x01: lambda a, b: a + b,
    0x02: lambda a, b: a * b,
    0x03: lambda a, b: a - b,
    0x04: lambda a, b: a // b if b else 0,
    0x0A: lambda a, b: pow(a, b, _WORD),
    0x10: lambda a, b: int(a < b),
    0x11: lambda a, b: int(a > b),
    0x14: lambda a, b: int(a == b),
    0x16: lambda a, b: a & b,
    0x17: lambda a, b: a | b,
    0x18: lambda a, b: a ^ b,
    0x1B: lambda a, b: b << a if a < 256 else 0,
    0x1C: lambda a, b: b >> a if a < 256 else 0,
}
"""By opcode, what an instruction computes from the first and the second value of the stack."""
_EFFECTS: Mapping[int, tuple[int, int]] = {
    **dict.fromkeys((0x05, 0x06, 0x07, 0x0B, 0x12, 0x13, 0x1A, 0x1D, 0x20), (2, 1)),
    **dict.fromkeys((0x08, 0x09), (3, 1)),
    **dict.fromkeys((0x1E, 0x31, 0x3B, 0x3F, 0x40, 0x49, 0x51, 0x54, 0x5C), (1, 1)),
    **dict.fromkeys((0x30, 0x32, 0x33, 0x34, 0x38, 0x3A, 0x3D, 0x58, 0x59, 0x5A), (0, 1)),
    **dict.fromkeys((0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x4A), (0, 1)),
    **dict.fromkeys((0x37, 0x39, 0x3E, 0x5E), (3, 0)),
    0x3C: (4, 0),
    0x50: (1, 0),
    **dict.fromkeys((0x52, 0x53, 0x55, 0x5D), (2, 0)),
    0x5B: (0, 0),
    **{0xA0 + topics: (2 + topics, 0) for topics in range(5)},
    0xF0: (3, 1),
    0xF5: (4, 1),
    **dict.fromkeys((0xF1, 0xF2), (7, 1)),
    **dict.fromkeys((0xF4, 0xFA), (6, 1)),
}
"""By opcode, how many values an instruction takes from the stack and puts there, unless it ends the code."""
