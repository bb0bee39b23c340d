"""The data of `BatchReader.sol`, which answers many views of one contract, and balances, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stakesim.evm.errors import CallReverted

_WORD = 32
"""Bytes."""
_REVERTED = 1 << 255
"""Set in the length of an answer if the view reverts."""


class ViewAnswer(NamedTuple):
    """What a call of a view returned, or the data of its revert."""

    data: bytes
    reverted: bool

    def returned(self) -> bytes:
        """Returns what the view returned.

        Raises:
            CallReverted: The view reverts.
        """
        if self.reverted:
            raise CallReverted("execution reverted", self.data)
        return self.data


def encode_head(contract: str, accounts: Sequence[str]) -> bytes:
    """Encodes what stands before the calls.

    Args:
        contract: Address of the contract that has the views.
        accounts: Addresses whose balances are asked for, at most 255.
    """
    return b"".join([_bytes20(contract), bytes([len(accounts)]), *map(_bytes20, accounts)])


def encode_calls(calls: Sequence[bytes]) -> bytes:
    """Encodes the call data of each view."""
    return b"".join([len(call).to_bytes(2, "big") + call for call in calls])


def encode_answer(data: bytes, reverted: bool) -> bytes:
    """Encodes the answer to a call as the contract returns it."""
    return (len(data) | _REVERTED * reverted).to_bytes(_WORD, "big") + data


def decode(answer: bytes, accounts: int) -> tuple[list[int], list[ViewAnswer]]:
    """Decodes what the contract returned.

    Args:
        answer: The return data.
        accounts: How many balances were asked for.

    Returns:
        The balances in wei, and the answer to each call.
    """
    size = accounts * _WORD
    balances = [int.from_bytes(answer[i : i + _WORD], "big") for i in range(0, size, _WORD)]
    return balances, list(_answers(answer, size))


def _answers(data: bytes, start: int) -> Iterator[ViewAnswer]:
    """Splits the answers, each of which follows its length as a word."""
    while start < len(data):
        word = int.from_bytes(data[start : start + _WORD], "big")
        end = start + _WORD + (word & ~_REVERTED)
        yield ViewAnswer(data[start + _WORD : end], reverted=word >= _REVERTED)
        start = end


def _bytes20(address: str) -> bytes:
    return bytes.fromhex(address[2:])
