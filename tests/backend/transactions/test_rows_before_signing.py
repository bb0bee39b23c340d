"""Rows that decide about an operation: its own as it changes, approvals, and its user's seats. On a database."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from app.core.errors import Superseded
from app.db.database import Database
from app.db.tables import approvals, event_run_bookings, event_runs, experiences, operations, users
from app.services.codec import event_stake_codec
from app.services.operation_types import HeldCause, NoEffect, Operation, UsedNonce
from app.services.rpc_answers import checksummed
from app.services.transactions import states
from app.services.transactions.approvals import Approval, approve, find_approval
from app.services.transactions.fees import Fees
from app.services.transactions.limits import Amounts, Sealer
from app.services.transactions.seats import reason_against_seats
from app.services.transactions.signer import Signer
from app.services.transactions.signing import Content, sign_attempt
from eth_account import Account
from sqlalchemy import func, insert, select, update
from test_operations import find, prepared, signed

PLATFORM = Account.from_key(f"0x{0x9C0883A6:064x}")
CONTRACT = checksummed("0x" + "c0" * 20)


def stored(database: Database, key: str = "k") -> Operation:
    found = find(database, key)
    assert found is not None
    return found


def set_row(database: Database, key: str = "k", **values: Any) -> Operation:
    with database.autocommit() as connection:
        connection.execute(update(operations).where(operations.c.key == key).values(**values))
    return stored(database, key)


# ----------------------------------------------------------------------------------------------------- its own row


@pytest.mark.parametrize(
    "values", [{"state": "submitted"}, {"nonce": 5}, {"attempts": []}, {"abandoned_at": func.clock_timestamp()}]
)
def test_what_another_process_changed_is_seen(database: Database, values: dict[str, Any]) -> None:
    before = signed(database, "k", 4)
    assert states.changed_meanwhile(database, before) is None
    set_row(database, held="why", held_cause="refused", held_at=func.clock_timestamp())
    assert states.changed_meanwhile(database, before) is None, "it may be sent all the same"
    after = set_row(database, **values)
    assert states.changed_meanwhile(database, before) == after
    assert states.change(database, before, ("signed",), reorged=True) == after
    assert not stored(database).reorged


def test_a_row_changes_from_the_states_that_are_named(database: Database) -> None:
    before = signed(database, "k", 4)
    assert states.change(database, before, ("submitted", "mined"), reorged=True) == before
    assert states.change(database, before, ("submitted", "signed"), reorged=True).reorged


def test_an_operation_is_held_since_the_first_reason(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = states.hold(database, signed(database, "k", 4), HeldCause.REFUSED, "first")
    assert (first.held, first.held_cause, first.state, first) == ("first", "refused", "signed", stored(database))
    assert states.hold(database, first, HeldCause.REFUSED, "first") is first
    second = states.hold(database, first, HeldCause.REFUSED, "second")
    third = states.hold(database, second, HeldCause.REORG, "second")
    assert (third.held_cause, third.held_at) == ("reorg", first.held_at)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "ERROR"]
    abandoned = set_row(database, abandoned_at=func.clock_timestamp())
    assert states.hold(database, abandoned, HeldCause.REFUSED, "third") is abandoned
    assert stored(database) == abandoned


@pytest.mark.parametrize("counts", [True, False])
def test_an_operation_starts_over_without_what_was(database: Database, counts: bool) -> None:
    signed(database, "k", 4)
    mined = {
        "tx_hash": "0x1",
        "block_number": 7,
        "block_hash": "0x2",
        "requeued": 2,
        "held": "x",
        "held_cause": "reorg",
    }
    before = set_row(database, state="mined", held_at=func.clock_timestamp(), **mined)
    after = states.requeue(database, NoEffect(before, UsedNonce("0x9", 7)), "why", counts_as_retry=counts)
    assert (after.state, after.nonce, after.requeued) == ("prepared", None, 2 + counts)
    assert (after.tx_hash, after.block_number, after.block_hash) == (None, None, None)
    assert (after.held, after.held_cause, after.held_at) == (None, None, None)
    assert (after.attempts, after) == (before.attempts, stored(database))
    assert states.requeue(database, NoEffect(before, UsedNonce("0x9", 7)), "again") == after


def test_only_what_was_never_sent_is_rejected_and_only_what_was_fails(database: Database) -> None:
    error = Superseded("over")
    waiting, sent = prepared(database, "waiting"), signed(database, "k", 4)
    assert states.reject(database, sent, error) == sent
    assert states.fail(database, NoEffect(waiting, UsedNonce("0x9", 7)), error) == waiting
    rejected = states.reject(database, waiting, error)
    failed = states.fail(database, NoEffect(sent, UsedNonce("0x9", 7)), error, gas_used=9)
    assert (rejected.state, failed.state, failed.gas_used) == ("rejected", "failed", 9)
    assert (rejected.error, failed.error) == ({"code": "superseded", "message": "over"},) * 2
    assert [stored(database, key) for key in ("waiting", "k")] == [rejected, failed]


# ------------------------------------------------------------------------------------------------------- approvals


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(PLATFORM.address, [b"key of the platform"])


def test_an_approval_is_for_one_operation_by_one_person_at_one_time(database: Database, sealer: Sealer) -> None:
    operation, other = prepared(database, "k"), prepared(database, "other")
    with database.autocommit() as connection:
        assert find_approval(connection, operation, sealer) is None
        before = connection.execute(select(func.clock_timestamp())).scalar_one()
        approval = approve(connection, operation, "Asha", sealer)
        assert before <= approval.approved_at <= connection.execute(select(func.clock_timestamp())).scalar_one()
        assert find_approval(connection, operation, sealer) == approval
        assert find_approval(connection, other, sealer) is None
        assert find_approval(connection, operation, Sealer(PLATFORM.address, [b"another key"])) is None
        assert find_approval(connection, replace(operation, seal="another"), sealer) is None
        again = approve(connection, operation, "Bina", sealer)
        assert find_approval(connection, operation, sealer) == again
        assert (again.approved_by, again.approved_at > approval.approved_at) == ("Bina", True)
        for change in (
            {"approved_by": "Asha"},
            {"approved_at": again.approved_at + timedelta(microseconds=1)},
            {"operation_key": "other"},
        ):
            connection.execute(update(approvals).values(approved_by="Bina", approved_at=again.approved_at))
            connection.execute(update(approvals).values(**change))
            assert find_approval(connection, operation, sealer) is None
        assert find_approval(connection, other, sealer) is None


def test_a_previous_accounts_key_approves_its_own_operations_only(database: Database, sealer: Sealer) -> None:
    old = Sealer(PLATFORM.address, [b"old key"])
    operation = prepared(database, "k")
    by_old = {operation.sender: b"old key"}
    with database.autocommit() as connection:
        approve(connection, operation, "Asha", old)
        assert find_approval(connection, operation, Sealer(PLATFORM.address, [b"new key"], by_old)) is not None
        assert find_approval(connection, operation, Sealer(PLATFORM.address, [b"new key"], {"0x": b"old key"})) is None


def test_the_time_of_an_approval_is_exact() -> None:
    at = datetime(2026, 11, 30, 4, 5, 6, 700_001, tzinfo=UTC)
    assert Approval("Asha", at).microseconds == 1_796_011_506_700_001


# ---------------------------------------------------------------------------------------------- who stored it


def test_an_operation_from_before_there_were_seals_is_known_by_a_signed_attempt(sealer: Sealer) -> None:
    limits: Any = SimpleNamespace(chain_id=1, contracts=frozenset({CONTRACT}), functions=frozenset({"cancelEvent"}))
    data = event_stake_codec().call(CONTRACT, "cancelEvent", 7).data  # type: ignore[arg-type]
    content = Content(1, PLATFORM.address, CONTRACT, 0, data)
    columns: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
    columns |= {"key": "k", "kind": "cancelEvent", "chain_id": 1, "sender": PLATFORM.address, "to_address": CONTRACT}
    own = sign_attempt(content, PLATFORM, 4, 60_000, Fees(2, 1), 9)
    other = sign_attempt(content._replace(chain_id=2), PLATFORM, 4, 60_000, Fees(2, 1), 9)
    signer: Any = SimpleNamespace(_sealer=sealer)

    def fault(**values: Any) -> str | None:
        given = Operation(**columns | {"data": data, "value_wei": 0, "request": "", "attempts": []} | values)
        return Signer._find_fault(signer, given, limits)

    unknown = "it was not stored by this service, as its seal is missing or of other values"
    assert [fault(attempts=each) for each in ([], [other])] == [unknown] * 2
    assert [fault(attempts=each) for each in ([own], [own, other], [other, own])] == [None] * 3


# ------------------------------------------------------------------------------------------------------------- seats


class Seats:
    """Bookings of a user, in a run with the number 7 and in another."""

    def __init__(self, database: Database) -> None:
        self.database, self.runs = database, {7: uuid4(), 8: uuid4()}
        with database.autocommit() as connection:
            ids = [connection.execute(insert(users).values(name="u").returning(users.c.id)).scalar_one() for _ in "ab"]
            self.user, self.other = ids
            title = {"host_id": self.user, "title": "t"}
            experience = connection.execute(insert(experiences).returning(experiences.c.id), title).scalar_one()
            for number, run in self.runs.items():
                row = {"id": run, "experience_id": experience, "host_id": self.user, "starts_at": func.now()}
                row |= {"max_seats": 99, "seats_booked": 0, "price_inr": 1, "status": "active"}
                on_chain = {"blockchain_status": "confirmed", "blockchain_event_run_id": number}
                connection.execute(insert(event_runs).values(**row, **on_chain))

    def book(self, seats: int, user: UUID | None = None, run: int = 7, **values: Any) -> UUID:
        row: dict[str, Any] = {"event_run_id": self.runs[run], "user_id": user or self.user, "seats": seats}
        row |= {"total_inr": 1, "status": "active", "blockchain_status": "pending", "blockchain_booking_id": None}
        with self.database.autocommit() as connection:
            statement = insert(event_run_bookings).values(**row | values).returning(event_run_bookings.c.id)
            return connection.execute(statement).scalar_one()

    def reason(self, seats: int, limit: int | None, subject: UUID, kind: str = "bookEventFor", **values: Any) -> Any:
        arguments = {"bookEventFor": (PLATFORM.address, 7, seats), "bookEvent": (7, seats), "cancelEvent": (7,)}
        data = event_stake_codec().call(CONTRACT, kind, *arguments[kind]).data  # type: ignore[arg-type]
        row = {"kind": kind, "person": str(self.user), "data": data, "subject": subject}
        operation: Any = SimpleNamespace(**row | values)
        with self.database.autocommit() as connection:
            return reason_against_seats(connection, operation, Amounts(1, 1, 1, limit))


@pytest.fixture
def seats(database: Database) -> Seats:
    return Seats(database)


@pytest.mark.parametrize("kind", ["bookEvent", "bookEventFor"])
def test_a_user_has_so_many_seats_in_a_run(seats: Seats, kind: str) -> None:
    seats.book(2)
    seats.book(1, blockchain_status="confirmed", status="completed")
    seats.book(10, status="cancelled")
    seats.book(20, blockchain_status="failed")
    seats.book(40, seats.other)
    seats.book(80, run=8)
    new = seats.book(3)
    seats.book(160)  # later ones wait for this one
    assert seats.reason(3, 6, new, kind) is None
    assert seats.reason(3, None, new, kind) is None
    assert seats.reason(3, 5, new, kind) == "its user would have 6 seats in one event run, above the limit of 5"
    assert seats.reason(4, 6, new, kind) == "its user would have 7 seats in one event run, above the limit of 6"


def test_what_is_no_booking_of_somebody_has_no_seats(seats: Seats) -> None:
    new = seats.book(3)
    assert seats.reason(3, 2, new) is not None
    assert seats.reason(3, 2, new, person=None) is None
    assert seats.reason(3, 2, new, "cancelEvent") is None
    assert seats.reason(3, 2, new, data=b"what?") is None


def test_of_two_bookings_at_one_time_one_is_the_earlier(seats: Seats) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    both = sorted(seats.book(3, created_at=at) for _ in range(2))
    assert [seats.reason(3, 5, each) is None for each in both] == [True, False]
