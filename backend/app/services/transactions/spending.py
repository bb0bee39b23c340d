"""Counts what the platform's account spends on orders, and refuses what is above a limit.

Each operation that is signed stores an entry in its own row: time, wei and user, with a seal. The entries of an account
are in the order of its nonces, and a nonce is given out once, to the statement that finds it to be the next one. So the
sum over all entries below a nonce is exact when the statement that takes this nonce succeeds, in whichever process; if
it fails, the sum is made anew with the next nonce. No lock is held, and an operation is counted before it can be sent.

A process keeps the entries of the last day in memory, and reads only those of other processes. An operation without a
valid entry, or a nonce without an operation, as after somebody changed rows, counts with the limit of one operation:
that is the most that was signed for it without approval.

The entries of all the platform's accounts are added up. Where several of them send orders, an order also takes the
next number of all signed orders, in the same statement: so no lane signed one since the sum was made. A previous
account signs no order without approval, so its sum does not grow meanwhile.

An approval is used once: an operation that somebody sets back has an entry already, or left a nonce without one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, select
from web3 import Web3

from app.db.statements import Compiled
from app.db.tables import operations as operations_table
from app.db.tables import orphans
from app.services import rpc
from app.services.nonce_queries import CLOCK_TOLERANCE_US, next_nonce
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
_ENTRIES = Compiled(
    select(_o.nonce, _o.key, _o.spending).where(
        _o.chain_id == bindparam("of_chain"),
        _o.sender == bindparam("of_sender"),
        _o.nonce >= bindparam("first"),
        _o.nonce < bindparam("end"),
    )
)
_ATTEMPTS = Compiled(
    select(_o.attempts).where(
        _o.chain_id == bindparam("of_chain"), _o.sender == bindparam("of_sender"), _o.nonce == bindparam("of_nonce")
    )
)
_ORPHANS = Compiled(
    select(orphans.c.tx_hash).where(
        orphans.c.chain_id == bindparam("of_chain"),
        orphans.c.sender == bindparam("of_sender"),
        orphans.c.nonce == bindparam("of_nonce"),
    )
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
        key: Key of the operation; empty if it is not known, as the nonce has no valid entry.
        is_exact: Whether `wei` is what a final transaction has cost.
    """

    nonce: int
    at: int
    wei: int
    person: str
    since: int
    key: str
    is_exact: bool = False

    def to_json(self, chain_id: int, sender: str, sealer: Sealer) -> dict[str, Any]:
        """Returns the entry as the column `spending` stores it."""
        stored = {"at": self.at, "wei": self.wei, "for": self.person, "since": self.since}
        return stored | {"seal": sealer.mac(*_sealed_parts(chain_id, sender, self.nonce, self.key, stored))}


def read_entry(chain_id: int, sender: str, nonce: int, key: str, stored: Any, sealer: Sealer) -> Entry | None:
    """Reads the column `spending` of the operation with a nonce and key; returns None if it has no valid seal."""
    if not isinstance(stored, Mapping) or stored.keys() != {"at", "wei", "for", "since", "seal"}:
        return None
    if not sealer.is_mac(stored["seal"], sender, *_sealed_parts(chain_id, sender, nonce, key, stored)):
        return None
    if stored["wei"] < 0:  # as a previous account's key might seal it after it leaked
        return None
    return Entry(nonce, stored["at"], stored["wei"], stored["for"], stored["since"], key)


def _sealed_parts(chain_id: int, sender: str, nonce: int, key: str, stored: Mapping[str, Any]) -> list[Any]:
    return ["spending", chain_id, sender, nonce, key, *(stored[name] for name in ("at", "wei", "for", "since"))]


class Charge(NamedTuple):
    """What is counted when an operation is signed.

    Attributes:
        amounts: The limits.
        wei: What it costs at most; 0 for exits, and for what a person approved.
        approved_at: When a person approved it, in microseconds since 1970; None if nobody did.
    """

    amounts: Amounts
    wei: int = 0
    approved_at: int | None = None


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
        if known is not None and known.key != entry.key:
            entry = (known if known.wei > entry.wei else entry)._replace(key="")
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

    def has_used(self, approved_at: int, key: str) -> bool:
        """Returns whether an approval of an operation was used, or may have been for an entry that is not known."""
        since = approved_at - CLOCK_TOLERANCE_US
        return any(entry.at >= since and entry.key in ("", key) for entry in self.entries.values())

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
    """What the platform's accounts have spent in the last day.

    Args:
        w3: Connection to the node.
        sealer: Seals the entries.
        accounts: Addresses of the accounts that send orders, and of those that did before a rotation of keys.

    Attributes:
        is_current: Whether all lanes' entries are known, as no other process has signed an order since.
    """

    def __init__(self, w3: Web3, sealer: Sealer, accounts: Sequence[str]) -> None:
        self._w3, self._sealer, self._accounts = w3, sealer, accounts
        self._lock = threading.RLock()  # each lane has a thread of its own
        self.is_current = False
        self._windows: dict[tuple[int, str], _Window] = {}  # by network and account
        self._clock: tuple[int, float] | None = None  # the database's time, and this process's at the same moment

    def entry(self, connection: Connection, operation: Operation, nonce: int, charge: Charge | None) -> Entry | None:
        """Returns the entry with which an operation may be signed with a nonce.

        Args:
            connection: A connection to the database.
            operation: The operation.
            nonce: The nonce that it is to get.
            charge: What is counted; None if nothing is.

        Raises:
            AboveLimit: It is above a limit, or its approval does not hold any more.
        """
        if charge is None or operation.sender not in self._accounts:
            return None
        with self._lock:
            return self._entry(connection, operation, nonce, charge)

    def _entry(self, connection: Connection, operation: Operation, nonce: int, charge: Charge) -> Entry:
        chain_id, now = operation.chain_id, self._now(connection)
        window = self._window(connection, chain_id, operation.sender, nonce, now, charge.amounts)
        entry = Entry(nonce, now, charge.wei, operation.person or "", window.since, operation.key)
        reason = None
        if charge.approved_at is not None:
            if now - charge.approved_at > DAY_US or window.has_used(charge.approved_at, operation.key):
                reason = "its approval is for one signature within 24 hours, and may have been used"
        elif charge.wei:
            others = self._other_windows(connection, operation, now, charge.amounts)
            reason = _reason_against(entry, [window, *others], charge.amounts)
        if reason:
            raise AboveLimit(reason)
        return entry

    def signed(self, operation: Operation, entry: Entry | None) -> None:
        """Counts an entry that was stored with an operation. `updated_at` is the database's time."""
        if entry is None:
            return
        with self._lock:
            window = self._windows[operation.chain_id, operation.sender]
            window.add(entry)
            window.end = entry.nonce + 1
            self._clock = int(operation.updated_at.timestamp() * 1_000_000), time.monotonic()

    def forget_time(self) -> None:
        """Asks the database for the time again, as its clock, or this process's, may have jumped."""
        self._clock = None

    def to_json(self, operation: Operation, entry: Entry | None) -> dict[str, Any] | None:
        """Returns what the column `spending` stores."""
        return entry and entry.to_json(operation.chain_id, operation.sender, self._sealer)

    def covers(self, operation: Operation, attempt: Attempt, amounts: Amounts | None) -> bool:
        """Returns whether a further attempt costs no more than what was counted for the operation's nonce."""
        if amounts is None or operation.kind not in ORDERS or operation.sender not in self._accounts:
            return True
        stored = operation.spending
        entry = read_entry(operation.chain_id, operation.sender, attempt.nonce, operation.key, stored, self._sealer)
        if entry is not None and not entry.wei:  # a person approved it
            return True
        counted = amounts.operation_wei if entry is None else entry.wei
        return attempt.no_effect or operation.value_wei + attempt.gas_limit * attempt.max_fee_per_gas <= counted

    def settle(self, connection: Connection, chain_id: int, final_block: int) -> None:
        """Counts final operations with what they really cost, by the chain.

        Only as many as `MAX_LOOKS` of each account are looked up, oldest first; the next call goes on.
        """
        with self._lock:
            for (network, sender), window in self._windows.items():
                open_entries = [each for each in window.entries.values() if each.wei and not each.is_exact]
                for entry in open_entries[:MAX_LOOKS] if network == chain_id else ():
                    cost = self._cost(connection, chain_id, sender, entry.nonce, final_block)
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

    def _window(
        self, connection: Connection, chain_id: int, sender: str, nonce: int, now: int, amounts: Amounts
    ) -> _Window:
        """Returns an account's entries below a nonce. Reads what other processes added."""
        window = self._windows.get((chain_id, sender))
        if window is None:
            window = self._load(connection, chain_id, sender, nonce, now, amounts)
            self._windows[chain_id, sender] = window
        elif window.end < nonce:
            found = self._read(connection, chain_id, sender, window.end, nonce)
            self._add(window, sender, found, window.end, nonce, now, amounts)
        window.end = nonce  # if the database lost commits, what was counted stays counted
        window.forget_before(now - KEPT_US)
        return window

    def _other_windows(
        self, connection: Connection, operation: Operation, now: int, amounts: Amounts
    ) -> Iterator[_Window]:
        """Yields the entries of the platform's other accounts."""
        chain_id = operation.chain_id
        for account in (each for each in self._accounts if each != operation.sender):
            if self.is_current and (known := self._windows.get((chain_id, account))):
                known.forget_before(now - KEPT_US)
                yield known
            elif (nonce := next_nonce(connection, chain_id, account)) is not None:
                yield self._window(connection, chain_id, account, nonce, now, amounts)

    def _load(
        self, connection: Connection, chain_id: int, sender: str, nonce: int, now: int, amounts: Amounts
    ) -> _Window:
        found: dict[int, Entry | None] = {}
        first = nonce
        while first > 0:
            end, first = first, max(first - CHUNK, 0)
            chunk = self._read(connection, chain_id, sender, first, end)
            found |= chunk
            valid = [entry for entry in chunk.values() if entry]
            if not valid or min(entry.at for entry in valid) < now - KEPT_US or min(e.since for e in valid) >= first:
                break
        known = [entry for entry in found.values() if entry]
        changed = [each for each, entry in found.items() if entry is None]
        since = max(known, key=lambda entry: entry.nonce).since if known else min(changed, default=nonce)
        window = _Window(nonce, since)
        self._add(window, sender, found, max(since, first), nonce, now, amounts)
        return window

    def _read(
        self, connection: Connection, chain_id: int, sender: str, first: int, end: int
    ) -> dict[int, Entry | None]:
        """Returns the entries with nonces from `first` to below `end`; None for those that somebody changed."""
        parameters = {"of_chain": chain_id, "of_sender": sender, "first": first, "end": end}
        return {
            nonce: read_entry(chain_id, sender, nonce, key, stored, self._sealer)
            for nonce, key, stored in connection.execute(_ENTRIES, parameters)
            if stored
        }

    def _add(
        self,
        window: _Window,
        sender: str,
        found: Mapping[int, Entry | None],
        first: int,
        end: int,
        now: int,
        amounts: Amounts,
    ) -> None:
        """Adds entries, and for each nonce without a valid one the limit of one operation."""
        missing, at = list[int](), now
        for nonce in range(end - 1, first - 1, -1):
            entry = found.get(nonce)
            if entry is None:
                missing.append(nonce)
                entry = Entry(nonce, at, amounts.operation_wei, "", window.since, "")
            at = min(entry.at, now)
            if entry.at >= now - KEPT_US:
                window.add(entry)
        window.entries = dict(sorted(window.entries.items()))
        if missing:
            message = "%s nonces of %s from %s on have no valid entry, and count with the limit of one operation"
            log.error(message, len(missing), sender, missing[-1])

    def _cost(self, connection: Connection, chain_id: int, sender: str, nonce: int, final_block: int) -> int | None:
        """Returns what the final transaction with a nonce has cost in wei; None if it is not known.

        The database only says which transactions to look at: nonce, sender and cost are the chain's.
        """
        parameters = {"of_chain": chain_id, "of_sender": sender, "of_nonce": nonce}
        stored: Iterable[Any] = connection.execute(_ATTEMPTS, parameters).scalar_one_or_none() or ()
        hashes = [Attempt.from_json(each).tx_hash for each in stored]
        for tx_hash in hashes or connection.execute(_ORPHANS, parameters).scalars():
            transaction = rpc.transaction(self._w3, tx_hash)
            if transaction is None or (transaction.sender, transaction.nonce) != (sender, nonce):
                continue
            receipt = rpc.receipt(self._w3, tx_hash)
            if receipt is not None and receipt.block_number <= final_block:
                sent = value(transaction) if receipt.succeeded else 0
                return sent + receipt.gas_used * receipt.gas_price
        return None


def _reason_against(entry: Entry, windows: Sequence[_Window], amounts: Amounts) -> str | None:
    """Returns which limit an entry would exceed, together with those of the windows; None if none."""
    if entry.wei > amounts.operation_wei:
        return f"it may cost {entry.wei} wei, above the limit of {amounts.operation_wei} wei for an operation"
    if sum(each.total for each in windows) + entry.wei > amounts.day_wei:
        return f"it would take the last 24 hours above the limit of {amounts.day_wei} wei"
    if sum(each.of_person(entry.person) for each in windows) + entry.wei > amounts.person_day_wei:
        return f"it would take its user's last 24 hours above the limit of {amounts.person_day_wei} wei"
    return None
