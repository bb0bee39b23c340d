"""Reads what pyrevm 0.3.7 gives only as text: its journal, as Rust prints it for debugging, and why a run failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from eth_utils.exceptions import ValidationError

_ACCOUNT = ": Account { info: AccountInfo { "
_STORAGE = " }, storage: {"
_STATUS = "}, status: AccountStatus("
_INFO = re.compile(_ACCOUNT + r"balance: (?P<balance>\d+), nonce: (?P<nonce>\d+), ")
_CODE_LENGTH = re.compile(r"Analysed \{ len: (\d+)")
_SLOT = re.compile(
    r"(?P<key>\d+): StorageSlot \{ previous_or_original_value: (?P<before>\d+), present_value: (?P<after>\d+) \}"
)
_FAILURE = re.compile(r"(?:Revert \{ gas_used: \d+, output: 0x(?P<output>[0-9a-f]*)|Halt \{ reason: (?P<halt>\w+))")


class JournalAccount(NamedTuple):
    """An account that a run touched, as it is afterwards.

    Attributes:
        address: Address in hex.
        nonce: Nonce.
        balance: Balance in wei.
        status: Flags that revm gives it, such as "Created" and "SelfDestructed".
        code_length: Bytes of a new contract's code without padding; None if the journal has no code.
        slots: Values of the slots that changed, by number.
    """

    address: str
    nonce: int
    balance: int
    status: str
    code_length: int | None
    slots: dict[int, int]


def read_journal(journal: str) -> Iterator[JournalAccount]:
    """Reads the accounts of a journal (`EVM.journal_str`)."""
    end = journal.index("}, transient_storage: ")
    position = journal.find(_ACCOUNT)
    while 0 <= position < end:
        address = journal[position - 42 : position]
        info = _INFO.match(journal, position)
        assert info is not None
        storage = journal.index(_STORAGE, position)
        flags = journal.index(_STATUS, storage)
        length = _CODE_LENGTH.search(journal, info.end(), storage)
        slots = {
            int(slot["key"]): int(slot["after"])
            for slot in _SLOT.finditer(journal, storage, flags)
            if slot["before"] != slot["after"]
        }
        status = journal[flags + len(_STATUS) : journal.index(")", flags)]
        code_length = int(length[1]) if length else None
        yield JournalAccount(address, int(info["nonce"]), int(info["balance"]), status, code_length, slots)
        position = journal.find(_ACCOUNT, flags)


def read_accesses(journal: str) -> dict[bytes, set[int]]:
    """Returns the accounts of a journal, each with the slots that the run read or wrote."""
    found: dict[bytes, set[int]] = {}
    end = journal.index("}, transient_storage: ")
    position = journal.find(_ACCOUNT)
    while 0 <= position < end:
        storage = journal.index(_STORAGE, position)
        flags = journal.index(_STATUS, storage)
        slots = {int(slot["key"]) for slot in _SLOT.finditer(journal, storage, flags)}
        found[bytes.fromhex(journal[position - 40 : position])] = slots
        position = journal.find(_ACCOUNT, flags)
    return found


def parse_failure(failure: RuntimeError) -> tuple[str, bytes]:
    """Returns the name of the error, "Revert" for a revert, and the data of a revert.

    Raises:
        ValidationError: The message is not about a failed run.
    """
    match = _FAILURE.match(str(failure))
    if match is None:
        raise ValidationError(str(failure)) from failure
    return match["halt"] or "Revert", bytes.fromhex(match["output"] or "")
