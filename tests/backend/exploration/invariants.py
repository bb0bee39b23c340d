"""What must hold in every state of an exploration, and what must hold once all is quiet."""

from __future__ import annotations

import json
from typing import Any

from .chain import CONTRACT, Chain, Mined
from .process import CONFIRMATIONS, MAX_FEE

CLOSED = ("confirmed", "failed", "rejected")
BOOKING_STATUS = {"confirmed": "confirmed", "failed": "failed", "rejected": "failed"}
"""Of a booking's row, by its operation's state; pending for all others."""

Tables = dict[str, list[dict[str, Any]]]


class Violation(AssertionError):
    """Something that must hold does not.

    Attributes:
        details: Rows and chain.
    """

    def __init__(self, what: str, details: str = "") -> None:
        super().__init__(what)
        self.details = details


class _Checker:
    def __init__(self, chain: Chain, tables: Tables) -> None:
        self.chain, self.tables = chain, tables
        self.final = chain.height - CONFIRMATIONS + 1
        mined = chain.mined()
        self.by_hash = {each.transaction.hash: each for each in mined}
        self.by_nonce = {each.transaction.nonce: each for each in mined}
        self.bookings = chain.bookings()

    def must(self, holds: bool, what: str) -> None:
        if not holds:
            raise Violation(what, details(self.chain, self.tables))

    def effects(self, row: dict[str, Any]) -> list[Mined]:
        """What the operation has booked on the canonical chain, whichever attempt did so."""
        data = row["data"].removeprefix("\\x")
        return [mined for mined in self.bookings if mined.transaction.data.hex() == data]

    def is_used_without_effect(self, row: dict[str, Any], nonce: int | None) -> bool:
        """Whether the nonce is used at final depth, and the operation got nothing for it."""
        mined = self.by_nonce.get(-1 if nonce is None else nonce)
        return mined is not None and mined.height <= self.final and mined not in self.effects(row)


def check(chain: Chain, tables: Tables, *, is_relaxed: bool) -> None:
    """What must hold in every state.

    Args:
        chain: The chain.
        tables: The rows of the database.
        is_relaxed: Whether blocks deeper than the confirmations were dropped, or commits were lost: then it holds once
            all is quiet, and until then only that no operation has two effects.
    """
    checker = _Checker(chain, tables)
    rows = tables["operations"]
    for row in rows:
        checker.must(len(checker.effects(row)) <= 1, f"{row['key']} has {len(checker.effects(row))} effects")
        checker.must(all(attempt["max_fee"] <= MAX_FEE for attempt in row["attempts"]), "a fee is above the cap")
    if is_relaxed:
        return
    stored = {attempt["hash"] for row in rows for attempt in row["attempts"]}
    sent = [*chain.mempool, *(each.transaction for each in checker.by_hash.values())]
    checker.must(all(tx.hash in stored or tx.is_foreign for tx in sent), "a transaction was sent before it was stored")
    taken = [row["nonce"] for row in rows if row["nonce"] is not None]
    checker.must(len(set(taken)) == len(taken), "two operations have one nonce")
    given = {attempt["nonce"] for row in rows for attempt in row["attempts"]} | set(checker.by_nonce)
    checker.must(given == set(range(len(given))), f"the nonces {sorted(given)} have a gap")
    for row in rows:
        _check_row(checker, row)
    _check_bookings(checker)


def _check_row(checker: _Checker, row: dict[str, Any]) -> None:
    key, state = row["key"], row["state"]
    for nonce in sorted({attempt["nonce"] for attempt in row["attempts"]} - {row["nonce"]}):
        checker.must(checker.is_used_without_effect(row, nonce), f"{key} left nonce {nonce}, which may be its own yet")
    if state == "confirmed":
        mined = checker.by_hash.get(row["tx_hash"])
        is_final = mined is not None and mined.height <= checker.final and mined.is_booking
        checker.must(is_final, f"{key} is confirmed, and has no final effect")
    if state == "failed":
        is_used = checker.is_used_without_effect(row, row["nonce"])
        checker.must(is_used, f"{key} has failed, and its transaction may be mined yet")
    is_cancelled = (row["error"] or {}).get("code") == "cancelled"
    checker.must(state != "rejected" or is_cancelled, f"{key} was rejected for no reason")
    given_up = [attempt["nonce"] for attempt in row["attempts"] if attempt.get("no_effect")]
    later = [attempt for attempt in row["attempts"] if given_up and attempt["nonce"] > given_up[0]]
    checker.must(not later, f"{key} was given up, and started over")


def _check_bookings(checker: _Checker) -> None:
    """Rows of bookings and the run say what the operations say."""
    of_subject = {row["subject"]: row for row in checker.tables["operations"] if row["subject"]}
    seats = 0
    for booking in checker.tables["event_run_bookings"]:
        expected = BOOKING_STATUS.get(of_subject[booking["id"]]["state"], "pending")
        checker.must(booking["blockchain_status"] == expected, f"a booking is not {expected}")
        seats += booking["seats"] if expected == "confirmed" else 0
    run = checker.tables["event_runs"][0]
    booked = sum(each.transaction.seats for each in checker.chain.bookings(run["refreshed_block"]))
    checker.must(run["seats_booked"] in (seats, max(seats, booked)), f"the run has {run['seats_booked']} seats booked")


def is_quiet(chain: Chain, tables: Tables) -> bool:
    """Whether every operation is closed, or abandoned with an unused nonce, and all transactions are finalized."""
    is_final = not chain.mempool and chain.count() == chain.count(chain.finalized)
    return is_final and all(
        row["state"] in CLOSED or (row["abandoned_at"] is not None and chain.count() <= row["nonce"])
        for row in tables["operations"]
    )


def check_quiet(chain: Chain, tables: Tables) -> None:
    """What must hold once nothing changes any more."""
    checker = _Checker(chain, tables)
    check(chain, tables, is_relaxed=False)
    for state in CLOSED:
        counted = sum(total["operations"] for total in tables["operation_totals"] if total["state"] == state)
        rows = sum(row["state"] == state for row in tables["operations"])
        checker.must(counted == rows, f"{counted} operations are counted as {state}, and {rows} are")
    for row in tables["operations"]:
        effects = len(checker.effects(row))
        is_contract = row["to_address"] == CONTRACT.address
        expected = 1 if row["state"] == "confirmed" and is_contract else 0
        checker.must(effects == expected, f"{row['key']} is {row['state']} with {effects} effects")


def open_ones(tables: Tables) -> str:
    """The operations that are not closed, in words."""
    rows = [row for row in tables["operations"] if row["state"] not in CLOSED]
    return ", ".join(f"{row['key']} is {row['state']}, held: {row['held']}" for row in rows)


def details(chain: Chain, tables: Tables) -> str:
    """Rows and chain, for a person."""
    blocks = "\n".join(
        f"{at}: {', '.join(f'{tx.nonce} {tx.hash[:10]}' for tx in block.transactions)} {block.failure or ''}"
        for at, block in enumerate(chain.blocks)
    )
    mempool = ", ".join(f"{tx.nonce} {tx.hash[:10]}" for tx in chain.mempool)
    return f"{json.dumps(tables, indent=1)}\nblocks\n{blocks}\nmempool: {mempool}"
