"""Counts what the platform's account spends on orders, and refuses what is above a limit.

Each operation that is signed stores an entry in its own row: time, wei and user, with a seal. The entries of an account
are in the order of its nonces, and a nonce is given out once, to the statement that finds it to be the next one. So the
sum over all entries below a nonce is exact when the statement that takes this nonce succeeds, in whichever process; if
it fails, the sum is made anew with the next nonce. No lock is held, and an operation is counted before it can be sent.

A process keeps the entries of the last day in memory, and reads only those of other processes. An operation without a
valid entry, or a nonce without an operation, as after somebody changed rows, counts with the limit of one operation:
that is the most that was signed for it without approval.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Uuid, bindparam, func, select, tuple_
from web3 import Web3

from app.db.tables import Wei, event_run_bookings, event_runs
from app.db.tables import operations as operations_table
from app.services import rpc
from app.services.codec import event_stake_codec
from app.services.nonce_queries import CLOCK_TOLERANCE_US
from app.services.operation_types import Attempt, Operation
from app.services.rpc_answers import value
from app.services.transactions.limits import ORDERS, Amounts, Sealer

DAY_US = 86_400_000_000
"""Microseconds of a day."""
KEPT_US = DAY_US + 2 * CLOCK_TOLERANCE_US
"""Microseconds for which an entry counts: its time is that of the database's clock, within the tolerance."""
CHUNK = 10_000
"""Nonces that are read at once, at the start of a process."""
MAX_LOOKS = 50
"""Maximum number of transactions that are looked up at a time to find out what they cost."""

log = logging.getLogger(__name__)
_o = operations_table.c
_ENTRIES = select(_o.nonce, _o.spending).where(
    _o.chain_id == bindparam("of_chain"),
    _o.sender == bindparam("of_sender"),
    _o.nonce >= bindparam("first"),
    _o.nonce < bindparam("end"),
)
_ATTEMPTS = select(_o.attempts).where(
    _o.chain_id == bindparam("of_chain"), _o.sender == bindparam("of_sender"), _o.nonce == bindparam("of_nonce")
)


BOOKINGS = ("bookEvent", "bookEventFor")
_runs, _bookings, _own = event_runs.c, event_run_bookings.c, event_run_bookings.alias("own")
_EARLIER_SEATS = (
    select(func.coalesce(func.sum(_bookings.seats), 0))
    .select_from(event_run_bookings)
    .join(event_runs, event_runs.c.id == _bookings.event_run_id)
    .join(_own, _own.c.id == bindparam("subject", type_=Uuid))
    .where(
        _runs.blockchain_event_run_id == bindparam("run", type_=Wei),
        _bookings.user_id == bindparam("user", type_=Uuid(as_uuid=False)),
    )
    .where(_bookings.status != "cancelled", _bookings.blockchain_status != "failed")
    .where(tuple_(_bookings.created_at, _bookings.id) < tuple_(_own.c.created_at, _own.c.id))
)


class AboveLimit(Exception):
    """An order that is above a limit, and that nobody has approved.

    Attributes:
        reason: Which limit, as the end of a sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Entry(NamedTuple):
    """What is counted for one nonce.

    Attributes:
        nonce: The nonce.
        at: When it was signed, in microseconds since 1970 by the database's clock.
        wei: What it costs at most; 0 for exits, and for what a person approved.
        person: Id of the user for whom it is; empty if it is about nobody.
        since: Nonce from which on every operation of the account has an entry.
        is_exact: Whether `wei` is what a final transaction has cost.
    """

    nonce: int
    at: int
    wei: int
    person: str
    since: int
    is_exact: bool = False

    def to_json(self, chain_id: int, sender: str, sealer: Sealer) -> dict[str, Any]:
        """Returns the entry as the column `spending` stores it."""
        stored = {"at": self.at, "wei": self.wei, "for": self.person, "since": self.since}
        return stored | {"seal": _seal(chain_id, sender, self.nonce, stored, sealer)}


def read_entry(chain_id: int, sender: str, nonce: int, stored: Any, sealer: Sealer) -> Entry | None:
    """Reads the column `spending` of the operation with a nonce; returns None if it has no valid seal."""
    if not isinstance(stored, Mapping) or stored.keys() != {"at", "wei", "for", "since", "seal"}:
        return None
    if stored["seal"] != _seal(chain_id, sender, nonce, stored, sealer):
        return None
    return Entry(nonce, stored["at"], stored["wei"], stored["for"], stored["since"])


def _seal(chain_id: int, sender: str, nonce: int, stored: Mapping[str, Any], sealer: Sealer) -> str:
    return sealer.mac("spending", chain_id, sender, nonce, *(stored[key] for key in ("at", "wei", "for", "since")))


@dataclass
class _Window:
    """The entries of an account's last day, by nonce, oldest first. Nonces below `end` are in it, or older.

    Times go up with the nonces, but for the clocks' tolerance.
    """

    end: int
    since: int
    entries: dict[int, Entry] = field(default_factory=dict)
    total: int = 0
    by_person: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry) -> None:
        """Adds an entry. Of two for one nonce, as after lost commits, one at most is mined: the larger one counts."""
        known = self.remove(entry.nonce)
        entry = known if known is not None and known.wei > entry.wei else entry
        self.entries[entry.nonce] = entry
        self.total += entry.wei
        self.by_person[entry.person] += entry.wei

    def remove(self, nonce: int) -> Entry | None:
        """Removes the entry of a nonce, and returns it."""
        entry = self.entries.pop(nonce, None)
        if entry is not None:
            self.total -= entry.wei
            self.by_person[entry.person] -= entry.wei
            if not self.by_person[entry.person]:
                del self.by_person[entry.person]
        return entry

    def of_person(self, person: str) -> int:
        """Returns the wei of one user. Those of nobody known count for each."""
        return self.by_person[person] + (self.by_person[""] if person else 0)

    def forget_before(self, at: int) -> None:
        """Removes the entries that no longer count."""
        while self.entries:
            first = next(iter(self.entries.values()))
            if first.at >= at:
                return
            self.remove(first.nonce)


class Spending:
    """What one account has spent in the last day. Used by one thread at a time.

    Args:
        w3: Connection to the node.
        sealer: Seals the entries of the platform's account. Others are not counted.
    """

    def __init__(self, w3: Web3, sealer: Sealer) -> None:
        self._w3, self._sealer = w3, sealer
        self._windows: dict[int, _Window] = {}  # by network
        self._clock: tuple[int, float] | None = None  # the database's time, and this process's at the same moment

    def entry(
        self, connection: Connection, operation: Operation, nonce: int, cost_wei: int, amounts: Amounts | None
    ) -> Entry | None:
        """Returns the entry with which an order may be signed with a nonce.

        Args:
            connection: A connection to the database.
            operation: The operation.
            nonce: The nonce that it is to get.
            cost_wei: What it costs at most; 0 if a person approved it.
            amounts: The limits; None if nothing is counted.

        Raises:
            AboveLimit: It is above a limit.
        """
        if amounts is None or operation.sender != self._sealer.address:
            return None
        now = self._now(connection)
        window = self._window(connection, operation.chain_id, nonce, now, amounts)
        window.forget_before(now - KEPT_US)
        wei = cost_wei if operation.kind in ORDERS else 0
        entry = Entry(nonce, now, wei, operation.person or "", window.since)
        if wei and (reason := _reason_against(entry, window, amounts)):
            raise AboveLimit(reason)
        return entry

    def signed(self, operation: Operation, entry: Entry | None) -> None:
        """Counts an entry that was stored with an operation. `updated_at` is the database's time."""
        if entry is None:
            return
        window = self._windows[operation.chain_id]
        window.add(entry)
        window.end = entry.nonce + 1
        self._clock = int(operation.updated_at.timestamp() * 1_000_000), time.monotonic()

    def forget_time(self) -> None:
        """Asks the database for the time again, as its clock, or this process's, may have jumped."""
        self._clock = None

    def to_json(self, operation: Operation, entry: Entry | None) -> dict[str, Any] | None:
        """Returns what the column `spending` stores."""
        return entry and entry.to_json(operation.chain_id, operation.sender, self._sealer)

    def covers(self, operation: Operation, attempt: Attempt) -> bool:
        """Returns whether a further attempt costs no more than what was counted for the operation's nonce."""
        entry = read_entry(operation.chain_id, operation.sender, attempt.nonce, operation.spending, self._sealer)
        cost = operation.value_wei + attempt.gas_limit * attempt.max_fee_per_gas
        return entry is None or not entry.wei or attempt.no_effect or cost <= entry.wei

    def settle(self, connection: Connection, chain_id: int, final_block: int) -> None:
        """Counts final operations with what they really cost, by the chain.

        Only as many as `MAX_LOOKS` are looked up, oldest first; the next call goes on.
        """
        window = self._windows[chain_id]
        open_entries = [each for each in window.entries.values() if each.wei and not each.is_exact]
        for entry in open_entries[:MAX_LOOKS]:
            cost = self._cost(connection, chain_id, entry.nonce, final_block)
            if cost is not None:
                window.remove(entry.nonce)
                window.add(entry._replace(wei=cost, is_exact=True))
        window.entries = dict(sorted(window.entries.items()))

    # ------------------------------------------------------------------------------------------------- helpers

    def _now(self, connection: Connection) -> int:
        """Returns the database's time in microseconds since 1970, without asking it each time."""
        if self._clock is None:
            epoch = connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one()
            self._clock = int(epoch * 1_000_000), time.monotonic()
        database_time, measured_at = self._clock
        return database_time + int((time.monotonic() - measured_at) * 1_000_000)

    def _window(self, connection: Connection, chain_id: int, nonce: int, now: int, amounts: Amounts) -> _Window:
        """Returns the account's entries below a nonce. Reads what other processes added."""
        window = self._windows.get(chain_id)
        if window is None:
            window = self._windows[chain_id] = self._load(connection, chain_id, nonce, now, amounts)
        elif window.end < nonce:
            self._add(window, self._read(connection, chain_id, window.end, nonce), window.end, nonce, now, amounts)
        window.end = nonce  # if the database lost commits, what was counted stays counted
        return window

    def _load(self, connection: Connection, chain_id: int, nonce: int, now: int, amounts: Amounts) -> _Window:
        found: dict[int, Entry | None] = {}
        first = nonce
        while first > 0:
            end, first = first, max(first - CHUNK, 0)
            chunk = self._read(connection, chain_id, first, end)
            found |= chunk
            valid = [entry for entry in chunk.values() if entry]
            if not valid or min(entry.at for entry in valid) < now - KEPT_US or min(e.since for e in valid) >= first:
                break
        known = [entry for entry in found.values() if entry]
        changed = [each for each, entry in found.items() if entry is None]
        since = max(known, key=lambda entry: entry.nonce).since if known else min(changed, default=nonce)
        window = _Window(nonce, since)
        self._add(window, found, max(since, first), nonce, now, amounts)
        return window

    def _read(self, connection: Connection, chain_id: int, first: int, end: int) -> dict[int, Entry | None]:
        """Returns the entries with nonces from `first` to below `end`; None for those that somebody changed."""
        sender = self._sealer.address
        parameters = {"of_chain": chain_id, "of_sender": sender, "first": first, "end": end}
        rows = connection.execute(_ENTRIES, parameters).all()
        return {nonce: read_entry(chain_id, sender, nonce, stored, self._sealer) for nonce, stored in rows if stored}

    def _add(
        self, window: _Window, found: Mapping[int, Entry | None], first: int, end: int, now: int, amounts: Amounts
    ) -> None:
        """Adds entries, and for each nonce without a valid one the limit of one operation."""
        missing, at = list[int](), now
        for nonce in range(end - 1, first - 1, -1):
            entry = found.get(nonce)
            if entry is None:
                missing.append(nonce)
                entry = Entry(nonce, at, amounts.operation_wei, "", window.since)
            at = min(entry.at, now)
            if entry.at >= now - KEPT_US:
                window.add(entry)
        window.entries = dict(sorted(window.entries.items()))
        if missing:
            message = "%s nonces of %s from %s on have no valid entry, and count with the limit of one operation"
            log.error(message, len(missing), self._sealer.address, missing[-1])

    def _cost(self, connection: Connection, chain_id: int, nonce: int, final_block: int) -> int | None:
        """Returns what the final transaction with a nonce has cost in wei; None if it is not known.

        The database only says which transactions to look at: nonce, sender and cost are the chain's.
        """
        sender = self._sealer.address
        parameters = {"of_chain": chain_id, "of_sender": sender, "of_nonce": nonce}
        stored: Iterable[Any] = connection.execute(_ATTEMPTS, parameters).scalar_one_or_none() or ()
        for attempt in map(Attempt.from_json, stored):
            transaction = rpc.transaction(self._w3, attempt.tx_hash)
            if transaction is None or (transaction.sender, transaction.nonce) != (sender, nonce):
                continue
            receipt = rpc.receipt(self._w3, attempt.tx_hash)
            if receipt is not None and receipt.block_number <= final_block:
                sent = value(transaction) if receipt.succeeded else 0
                return sent + receipt.gas_used * receipt.gas_price
        return None


def reason_against_seats(connection: Connection, operation: Operation, amounts: Amounts) -> str | None:
    """Returns why a user may not have so many seats in a run, as the end of a sentence; None if they may.

    The user's earlier bookings count, those that are not sent yet too, but not what was cancelled or failed.
    """
    if operation.kind not in BOOKINGS or operation.person is None:
        return None
    call = event_stake_codec().decode_call(operation.data)
    if call is None:
        return None
    parameters = {"run": call.args["event_run_id"], "user": operation.person, "subject": operation.subject}
    seats = call.args["seat_count"] + int(connection.execute(_EARLIER_SEATS, parameters).scalar_one())
    if amounts.person_run_seats is None or seats <= amounts.person_run_seats:
        return None
    return f"its user would have {seats} seats in one event run, above the limit of {amounts.person_run_seats}"


def _reason_against(entry: Entry, window: _Window, amounts: Amounts) -> str | None:
    """Returns which limit an entry would exceed; None if none."""
    if entry.wei > amounts.operation_wei:
        return f"it may cost {entry.wei} wei, above the limit of {amounts.operation_wei} wei for an operation"
    if window.total + entry.wei > amounts.day_wei:
        return f"it would take the last 24 hours above the limit of {amounts.day_wei} wei"
    if window.of_person(entry.person) + entry.wei > amounts.person_day_wei:
        return f"it would take its user's last 24 hours above the limit of {amounts.person_day_wei} wei"
    return None
