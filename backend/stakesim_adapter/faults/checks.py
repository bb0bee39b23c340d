"""What must hold of the operations table, the rows and the chain whatever goes wrong: I1 to I7.

`OperationsWatch` looks between the requests of a service, `check` when all is quiet. Both ask the chain past every
fault, and decode its events with the library's code, not with the backend's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.bootstrap.container import Services
from app.db.tables import event_run_bookings, event_runs, operations, users
from app.services.operations import CLOSED
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from sqlalchemy import select
from stakesim.evm.abi import Event, Log
from stakesim.faults.protocol import Violation
from stakesim.faults.testbed import service_account, stranger
from stakesim.model.reference import BookingStatus, RunStatus
from stakesim.runner.event_replay import EventReplay
from web3.types import TxReceipt

from stakesim_adapter.faults.testbed import BackendTestbed

STATEMENTS = {
    "I1": "at most one effect on chain per key (INV-17)",
    "I2": "when all is quiet every operation is confirmed with exactly one effect, or closed with none",
    "I3": "the network never sees a hash that the database does not hold",
    "I4": "nonces are unique and without gaps",
    "I5": "no final state before the confirmation depth, and final is final",
    "I6": "the database equals a replay of the canonical logs (INV-16)",
    "I7": "gas paid is within the cap",
    "TOLD": "what a client was told is what happened, and trouble is told as such",
}

_o = operations.c
_LOOK = select(_o.key, _o.state, _o.nonce, _o.requeued, _o.tx_hash, _o.block_number, _o.block_hash, _o.attempts)


@dataclass
class OperationsWatch:
    """Looks at the operations while they are worked on: before each request, and so before each block."""

    testbed: BackendTestbed
    confirmations: int
    violations: list[Violation] = field(default_factory=list)
    _seen: dict[str, Any] = field(default_factory=dict)
    _said: set[Violation] = field(default_factory=set)

    def look(self) -> None:
        with self.testbed.observer.connect() as connection:
            rows = connection.execute(_LOOK).all()
        for row in rows:
            last = self._seen.get(row.key)
            if last is not None and last[:-1] == row[:-1]:
                continue
            self._seen[row.key] = row
            if last is not None and last.state in CLOSED and row.state != last.state:
                self._find("I5", f"{row.key} was {last.state}, which is final, and then {row.state}")
            if last is not None and row.requeued > last.requeued:
                self._used_up(row.key, last.nonce, "was given a new nonce")
            if row.state in ("confirmed", "failed") and (last is None or last.state not in CLOSED):
                self._final(row)

    def sending(self, raw: str) -> None:
        """A service is about to send this."""
        tx_hash = HexBytes(keccak(HexBytes(raw))).to_0x_hex()
        with self.testbed.observer.connect() as connection:
            holds = select(_o.key).where(_o.attempts.contains([{"hash": tx_hash}]))
            if connection.execute(holds).first() is None:
                self._find("I3", f"{tx_hash} was sent, and no operation in the database has it")

    def _final(self, row: Any) -> None:
        if row.tx_hash is None:
            self._used_up(row.key, row.nonce, "failed for good")
            return
        depth = self.testbed.head() - row.block_number + 1
        if depth < self.confirmations:
            self._find("I5", f"{row.key} was {row.state} at depth {depth}; {self.confirmations} are wanted")
        there = self.testbed.w3.eth.get_block(row.block_number)["hash"].to_0x_hex() if depth > 0 else None
        if there != row.block_hash:
            self._find(
                "I5", f"{row.key} was {row.state} in block {row.block_number} {row.block_hash}; there is {there}"
            )

    def _used_up(self, key: str, nonce: int, what: str) -> None:
        block = self.testbed.head() - self.confirmations + 1
        with self.testbed.observer.connect() as connection:
            sender = connection.execute(select(_o.sender).where(_o.key == key)).scalar_one()
        if self.testbed.w3.eth.get_transaction_count(sender, block) <= nonce:
            self._find("I5", f"{key} {what} while its nonce {nonce} was not used up in final block {block}")

    def _find(self, invariant: str, message: str) -> None:
        violation = Violation(invariant, message)
        if violation not in self._said:
            self._said.add(violation)
            self.violations.append(violation)


class Canonical(NamedTuple):
    """What the chain holds since the episode began, in order: receipts, and events of the contract, by hash."""

    receipts: dict[str, TxReceipt]
    events: dict[str, list[Event]]


def read_chain(testbed: BackendTestbed) -> Canonical:
    receipts: dict[str, TxReceipt] = {}
    events: dict[str, list[Event]] = {}
    for number in range(testbed.first_block, testbed.head() + 1):
        for tx in testbed.w3.eth.get_block(number, full_transactions=True)["transactions"]:
            of: Any = tx
            tx_hash = of["hash"].to_0x_hex()
            receipts[tx_hash] = testbed.w3.eth.get_transaction_receipt(of["hash"])
            logs = (Log(log["address"], log["topics"], log["data"]) for log in receipts[tx_hash]["logs"])
            if found := testbed.abi.events(logs, testbed.contract):
                events[tx_hash] = found
    return Canonical(receipts, events)


def check(testbed: BackendTestbed, services: Services, told: Mapping[str, str], confirmations: int) -> list[Violation]:
    """Checks everything that must hold when all is quiet.

    Args:
        told: What clients were answered, by key: "done", "refused" or "begun".
        confirmations: Depth at which the services take a block for final.
    """
    chain = read_chain(testbed)
    with testbed.observer.connect() as connection:
        rows = connection.execute(select(operations).order_by(_o.created_at)).all()
    found = [Violation("I6", said) for said in services.reconciler.look().differences]
    for row in rows:
        found += _one_effect(row, chain, services.sender.policy.max_fee_per_gas)
    found += _nonces(testbed, rows)
    found += _books(testbed, chain, services.chain.platform)
    found += _told(rows, told)
    ours = {attempt["hash"] for row in rows for attempt in row.attempts}
    found += [
        Violation("I3", f"{tx_hash} of the platform had an effect, and no operation has it")
        for tx_hash in chain.events
        if tx_hash not in ours and chain.receipts[tx_hash]["from"] == service_account().address
    ]
    return found


def _one_effect(row: Any, chain: Canonical, cap: int) -> list[Violation]:
    effects = [a["hash"] for a in row.attempts if a["hash"] in chain.events]
    mined = [a["hash"] for a in row.attempts if a["hash"] in chain.receipts]
    wanted = [row.tx_hash] if row.state == "confirmed" else []
    found = []
    if len(effects) > 1:
        found.append(Violation("I1", f"{row.key} ({row.kind}) has {len(effects)} effects: {', '.join(effects)}"))
    if row.state not in CLOSED:
        found.append(Violation("I2", f"{row.key} ({row.kind}) is still {row.state}, held: {row.held}"))
    elif effects != wanted:
        found.append(Violation("I2", f"{row.key} ({row.kind}) is {row.state} with {wanted}; effects are {effects}"))
    for tx_hash in mined:
        price = chain.receipts[tx_hash]["effectiveGasPrice"]
        if price > cap:
            found.append(Violation("I7", f"{row.key} paid {price} wei per gas; the cap is {cap}"))
        if tx_hash == row.tx_hash and (row.gas_used, row.gas_price_wei) != (
            chain.receipts[tx_hash]["gasUsed"],
            price,
        ):
            found.append(
                Violation("I6", f"{row.key} has gas {row.gas_used} at {row.gas_price_wei}, not as its receipt")
            )
    found += [
        Violation("I7", f"{row.key} signed {a['max_fee']} wei per gas; the cap is {cap}")
        for a in row.attempts
        if a["max_fee"] > cap
    ]
    return found


def _nonces(testbed: BackendTestbed, rows: Sequence[Any]) -> list[Violation]:
    """Each nonce belongs to one operation; what was given out is used up, and nothing was left out."""
    found = []
    given: dict[tuple[str, int], set[str]] = {}
    for row in rows:
        for attempt in row.attempts:
            given.setdefault((row.sender, attempt["nonce"]), set()).add(row.key)
    for (sender, nonce), keys in given.items():
        if len(keys) > 1:
            found.append(Violation("I4", f"nonce {nonce} of {sender} was given to {', '.join(sorted(keys))}"))
    for sender in {row.sender for row in rows}:
        count = testbed.w3.eth.get_transaction_count(sender)
        highest = max((nonce for of, nonce in given if of == sender), default=-1)
        if highest >= count:
            found.append(Violation("I4", f"nonce {highest} of {sender} was given out; the chain has used {count}"))
    return found


def _books(testbed: BackendTestbed, chain: Canonical, platform_address: str) -> list[Violation]:
    """Rows against a replay of all events."""
    books, made = EventReplay(), dict[tuple[str, int], str]()
    for tx_hash, events in chain.events.items():
        books.replay(events)
        for event in events:
            if event.name == "EventRunCreated":
                made["run", event.args["event_run_id"]] = tx_hash
            elif event.name == "BookingCreated":
                made["booking", event.args["booking_id"]] = tx_hash
    with testbed.observer.connect() as connection:
        runs = connection.execute(select(event_runs, users.c.wallet_address).join(users)).all()
        bookings = connection.execute(
            select(event_run_bookings, users.c.wallet_address, event_runs.c.blockchain_event_run_id.label("run"))
            .join(users, users.c.id == event_run_bookings.c.user_id)
            .join(event_runs, event_runs.c.id == event_run_bookings.c.event_run_id)
        ).all()
    found: list[Violation] = []

    def compare(what: str, row: Any, expected: Mapping[str, Any]) -> None:
        for name, value in expected.items():
            if (has := getattr(row, name)) != value:
                found.append(Violation("I6", f"{what}: {name} is {has} in the database, {value} by the canonical logs"))

    for row in (*runs, *bookings):
        if row.blockchain_status == "pending":
            found.append(Violation("I6", f"row {row.id} is pending while all is quiet"))
    for row in runs:
        if row.blockchain_status != "confirmed":
            continue
        id = row.blockchain_event_run_id
        if id not in books.runs:
            found.append(Violation("I6", f"run {row.id} is confirmed as {id}, which the canonical logs don't have"))
            continue
        host, price, seats, stake, status_number = books.runs[id]
        status = RunStatus(status_number)
        expected = {
            "status": status.name.lower(),
            "max_seats": seats,
            "blockchain_price_per_seat_wei": price,
            "blockchain_stake_amount_wei": stake,
            "blockchain_tx_hash": made["run", id],
        }
        if status in (RunStatus.ACTIVE, RunStatus.FULL):
            expected["seats_booked"] = books.seats_booked(id)
        compare(f"run {id}", row, expected)
        if host != (row.wallet_address or platform_address):
            found.append(
                Violation("I6", f"run {id}: the host on chain is {host}, the user's wallet {row.wallet_address}")
            )
    for row in bookings:
        if row.blockchain_status != "confirmed":
            continue
        id = row.blockchain_booking_id
        if id not in books.bookings:
            found.append(Violation("I6", f"booking {row.id} is confirmed as {id}, which the canonical logs don't have"))
            continue
        run, user, seats, payment, stake, status_number = books.bookings[id]
        compare(
            f"booking {id}",
            row,
            {
                "status": BookingStatus(status_number).name.lower(),
                "run": run,
                "seats": seats,
                "blockchain_payment_wei": payment,
                "blockchain_stake_amount_wei": stake,
                "blockchain_tx_hash": made["booking", id],
            },
        )
        if user != (row.wallet_address or platform_address):
            found.append(Violation("I6", f"booking {id}: {user} on chain, the user's wallet is {row.wallet_address}"))
    for table, kind in ((runs, "run"), (bookings, "booking")):
        ids = Counter(getattr(row, f"blockchain_{'event_run' if kind == 'run' else 'booking'}_id") for row in table)
        missing = [(id, tx) for (of, id), tx in made.items() if of == kind and ids[id] != 1 and _by_us(chain, tx)]
        found += [Violation("I6", f"{kind} {id} was created by {tx}, and {ids[id]} rows have it") for id, tx in missing]
    return found


def _by_us(chain: Canonical, tx_hash: str) -> bool:
    return chain.receipts[tx_hash]["from"] != stranger().address


def _told(rows: Sequence[Any], told: Mapping[str, str]) -> list[Violation]:
    states = {row.key: row.state for row in rows}
    expected = {"done": ("confirmed",), "refused": ("failed", "rejected", None), "begun": (*CLOSED,)}
    return [
        Violation("TOLD", f"the client of {key} was told {heard!r}; the operation is {states.get(key)}")
        for key, heard in told.items()
        if heard in expected and states.get(key) not in expected[heard]
    ]
