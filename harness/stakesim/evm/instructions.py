"""The instructions of EVM code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

STOP, CHAINID, JUMP, JUMPDEST, PUSH32 = 0x00, 0x46, 0x56, 0x5B, 0x7F
CALLCODE, RETURN, DELEGATECALL, REVERT, INVALID, SELFDESTRUCT = 0xF2, 0xF3, 0xF4, 0xFD, 0xFE, 0xFF
ENDS = frozenset((STOP, RETURN, REVERT, INVALID, SELFDESTRUCT))
"""Instructions that end a call."""
_CBOR_MAPS = range(0xA1, 0xA8)
"""First bytes of a map in CBOR, which the compiler's metadata is."""


def instructions(code: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields position, opcode and pushed number of each instruction."""
    at = 0
    while at < len(code):
        opcode = code[at]
        length = opcode - 0x5F if 0x60 <= opcode <= 0x7F else 0
        data = code[at + 1 : at + 1 + length]
        yield at, opcode, int.from_bytes(data.ljust(length, b"\0"), "big")
        at += 1 + length


def immutable_places(code: bytes) -> list[int]:
    """Positions of the instructions that push an immutable, in code in which they are zero.

    The compiler leaves 32 bytes of zeros for the constructor to write, and pushes any other zero by a shorter way.
    """
    return [at for at, opcode, pushed in instructions(code) if opcode == PUSH32 and not pushed]


def mask_immutables(code: bytes, immutables: Mapping[str, Sequence[Mapping[str, int]]]) -> bytes:
    """Sets the bytes to zero that the constructor writes.

    Args:
        code: Runtime code.
        immutables: Start and length, in bytes, of the places of each immutable, as the compiler lists them.
    """
    masked = bytearray(code)
    for places in immutables.values():
        for place in places:
            end = place["start"] + place["length"]
            masked[place["start"] : end] = bytes(len(masked[place["start"] : end]))
    return bytes(masked)


def runnable_opcodes(code: bytes) -> set[int]:
    """Opcodes of the instructions that may run: those from the start, or from a JUMPDEST, to what ends them.

    In the compiler's metadata, which end the code, only a JUMPDEST counts whose position is pushed somewhere.
    """
    found, runs, metadata = set(), True, _metadata_start(code)
    pushed = {number for _, _, number in instructions(code)}
    for at, opcode, _ in instructions(code):
        if opcode == JUMPDEST:
            runs = at < metadata or at in pushed
        if runs:
            found.add(opcode)
        if opcode in ENDS or opcode == JUMP:
            runs = False
    return found


def _metadata_start(code: bytes) -> int:
    """Position of the compiler's metadata, whose length is in the last two bytes; the code's length without any."""
    start = len(code) - 2 - int.from_bytes(code[-2:], "big")
    return start if start > 0 and code[start] in _CBOR_MAPS else len(code)
