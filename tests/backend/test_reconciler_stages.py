"""The parts of a reconciler's round: what each is told, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from app.core.errors import ChainUnavailable, ContractRejected
from app.db.tables import event_runs, operations
from app.services import reconciler as module
from app.services.finality import FinalizedBlockChanged
from app.services.reconciler import Reconciler
from backend_environment import BackendEnvironment, too_many_requests, transact
from sqlalchemy import update


@pytest.fixture
def reconciler(backend: BackendEnvironment) -> Reconciler:
    return Reconciler(backend.database, backend.chain, backend.runs, quiet_for=0)


def raising(error: Exception) -> Any:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    return fails


def watch(look: Any, lost_lanes: str | None) -> Any:
    return SimpleNamespace(look=look, lost_lanes=lost_lanes)


def test_a_round_looks_at_everything(
    backend: BackendEnvironment, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    sender = backend.sender
    monkeypatch.setattr(sender._signer.unsigned, "contract_watch", watch(lambda: looked.append("contract"), None))
    monkeypatch.setattr(sender.nonces, "find_unknown", lambda *arguments: looked.append(arguments))
    monkeypatch.setattr(module, "tidy", lambda database, keep: looked.append(keep))
    monkeypatch.setattr(reconciler.health, "head_seen", lambda head: looked.append(("head", head)))
    head = backend.chain.block_number()
    for confirmations, final in ((1, head), (head + 2, 0)):  # before the first block nothing is final
        sender.policy = replace(sender.policy, confirmations=confirmations)
        looked.clear()
        assert reconciler.run_once().failure is None
        assert looked == ["contract", ("head", head), (sender.chain_id, final), module.KEEP_ANSWERS]
        assert reconciler.health.cursor_lag == 0


def test_nothing_is_behind_before_the_first_final_block(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    backend.sender.policy = replace(backend.sender.policy, confirmations=10_000)
    report = reconciler.run_once()
    assert (report.failure, report.block, reconciler.health.cursor_lag) == (None, 0, 0)
    assert reconciler._max_block_range == 1_000, "as many blocks as public nodes return"


@pytest.mark.parametrize(
    ("problem", "lost", "found"),
    [(None, None, None), ("code", None, ("code", True)), (None, "a lane", ("a lane", False)), ("c", "l", ("c", True))],
)
def test_what_is_wrong_with_the_contract_blocks_and_a_lost_lane_does_not(
    backend: BackendEnvironment,
    reconciler: Reconciler,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    problem: str | None,
    lost: str | None,
    found: tuple[str, bool] | None,
) -> None:
    monkeypatch.setattr(backend.sender._signer.unsigned, "contract_watch", watch(lambda: problem, lost))
    for _ in range(2):
        reconciler._look_at_contract()
    assert [record.getMessage() for record in caplog.records] == ([] if found is None else [found[0]])  # said once
    problems = [each for each in reconciler.health.problems() if each.check == "contract"]
    assert [(each.message, each.blocks) for each in problems] == ([] if found is None else [found])


@pytest.mark.parametrize("quiet_for", [timedelta(0), timedelta(microseconds=1)])
@pytest.mark.parametrize("is_skipped", [False, True])
def test_what_somebody_waits_for_is_left_to_them_but_for_a_full_round(
    backend: BackendEnvironment, quiet_for: timedelta, is_skipped: bool
) -> None:
    operation = backend.bookings.prepare_book(backend.open_run().id, backend.ids["attendee"], 1)
    reconciler = Reconciler(backend.database, backend.chain, backend.runs, skip=lambda key: is_skipped)
    advanced = [each.key for _, each in reconciler.run_once(quiet_for).advanced]
    assert advanced == ([] if is_skipped and quiet_for else [operation.key])


def test_a_silent_node_ends_the_round_at_the_first_operation(
    backend: BackendEnvironment, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = backend.open_run()
    first, _ = (backend.bookings.prepare_book(run.id, backend.ids[role], 1) for role in ("attendee", "no_show"))
    take_steps = module.take_steps
    silent, fails = ChainUnavailable("No block."), raising(ChainUnavailable("The node is silent."))
    monkeypatch.setattr(backend.chain, "block_number", raising(silent))
    monkeypatch.setattr(
        module, "take_steps", lambda sender, it: fails() if it.key == first.key else take_steps(sender, it)
    )
    report = reconciler.run_once(timedelta(0))
    assert (report.failure, report.problems, report.advanced) == ("No block.", ["The node is silent."], [])


def test_a_silent_node_ends_the_round_at_the_first_run(
    backend: BackendEnvironment, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.open_run(), backend.open_run()
    with backend.database.transaction() as connection:
        connection.execute(update(event_runs).values(refresh_due=True))

    def refresh(run_id: Any, block: int | None = None) -> Any:
        monkeypatch.setattr(backend.chain, "block_number", raising(ChainUnavailable("No block.")))
        raise ChainUnavailable("The node is silent.")

    monkeypatch.setattr(backend.runs, "refresh", refresh)
    report = reconciler.run_once()
    assert (report.failure, report.problems) == ("No block.", ["The node is silent."])


@pytest.mark.parametrize("of_row", [0, 1_000])
def test_a_run_that_others_changed_waits_for_a_view_of_the_last_block(
    backend: BackendEnvironment, reconciler: Reconciler, of_row: int
) -> None:
    run = backend.open_run()
    reconciler.run_once()
    transact(backend, "host", "cancelEvent", 1)
    if of_row:
        with backend.database.transaction() as connection:
            connection.execute(update(event_runs).values(blockchain_block=of_row))
    with too_many_requests(backend.engine.w3, "eth_call"):
        reconciler.run_once()
    row = backend.runs.get(run.id)
    assert (row.refresh_due, row.blockchain_block) == (True, of_row or backend.chain.block_number())


def test_the_blocks_behind_an_open_operation_are_counted(backend: BackendEnvironment, reconciler: Reconciler) -> None:
    run = backend.open_run()
    reconciler.run_once()
    operation = backend.bookings.prepare_book(run.id, backend.ids["attendee"], 1)
    for _ in range(5):
        backend.engine.mine()
    mined: dict[str, Any] = {"state": "mined", "nonce": 99, "tx_hash": "0xab"}
    mined |= {"block_number": backend.chain.block_number() - 1}
    with backend.database.transaction() as connection:
        connection.execute(update(operations).where(operations.c.key == operation.key).values(mined))
    reconciler = Reconciler(backend.database, backend.chain, backend.runs, quiet_for=3_600)
    assert reconciler.run_once().failure is None
    assert reconciler.health.cursor_lag == 2


def test_what_a_deep_reorganisation_leaves_in_report_and_health(
    backend: BackendEnvironment, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = reconciler.health
    changed = FinalizedBlockChanged("block 3 was final and is another one now.")
    monkeypatch.setattr(reconciler._finality, "undo_reorganised", raising(changed))
    assert reconciler.run_once().failure == changed.message
    assert health.has_found("finality")
    monkeypatch.setattr(reconciler._finality, "undo_reorganised", lambda head: ["a", "b"])
    report = reconciler.run_once()
    assert (report.failure, report.problems) == (None, ["a deep reorganisation: 2 operations were reopened"])
    assert (health.has_found("finality"), health.reorganisations, health.reopened) == (False, 1, 2)


@pytest.mark.parametrize("is_followed", [False, True])
def test_payments_have_their_round_as_of_the_finalized_block(
    backend: BackendEnvironment, monkeypatch: pytest.MonkeyPatch, is_followed: bool
) -> None:
    rounds: list[int] = []
    payments: Any = SimpleNamespace(run_round=lambda finalized: rounds.append(finalized) or ["a refund failed"])
    reconciler = Reconciler(backend.database, backend.chain, backend.runs, finality_blocks=1, payments=payments)
    for _ in range(3):
        backend.engine.mine()
    if not is_followed:
        monkeypatch.setattr(reconciler, "_follow_events", lambda report, head: 0)
    report = reconciler.run_once()
    assert (report.failure, report.problems) == (None, ["a refund failed"])
    assert rounds == [backend.chain.block_number() - 1 if is_followed else 0]


def test_a_booking_that_can_not_be_compared_hides_no_other(
    backend: BackendEnvironment, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = backend.open_run()
    first, second = (backend.bookings.book(run.id, backend.ids[role], 1) for role in ("attendee", "no_show"))
    read = backend.chain.get_booking_from_chain

    def booking(number: int, block: int) -> Any:
        if number == first.blockchain_booking_id:
            raise ContractRejected("Nothing", (), "The contract refuses.")
        return replace(read(number, block), seat_count=9)

    monkeypatch.setattr(backend.chain, "get_booking_from_chain", booking)
    assert reconciler.dry_run().differences == [
        f"booking {first.id} (1 on chain): The contract refuses.",
        f"booking {second.id} (2 on chain): seats is 1 in the database, 9 on chain",
    ]
