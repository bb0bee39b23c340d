"""What fits an operation, and what is said of each outcome: commands of an operator on a sender that does as told."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from app.core.errors import Cancelled, ChainUnavailable, InterventionRefused, NotFound, NothingToApprove
from app.db.database import Database
from app.db.tables import interventions as interventions_table
from app.db.tables import operations as table
from app.db.tables import orphans
from app.services import interventions as module
from app.services import operations
from app.services.interventions import TRIES, Interventions, Outcome, approve_operation, dismiss_orphan, recorded
from app.services.operation_types import FILL_NONCE_GAP, Attempt, HeldCause, Operation
from app.services.rpc_refusals import RefusalKind
from app.services.transactions.limits import Sealer
from app.services.transactions.mempool import SendRefusal
from app.services.transactions.policy import TransactionPolicy
from sqlalchemy import insert, select, update

ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
NOW = datetime(2030, 1, 1, tzinfo=UTC)
ATTEMPT = Attempt("0xab", "0xcd", 7, 21_000, 20, 2, 5)
EMPTY = replace(ATTEMPT, tx_hash="0xff", no_effect=True)


def operation(**values: Any) -> Operation:
    row: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
    row |= {"key": "k", "kind": "bookEvent", "chain_id": 1, "sender": ALICE, "state": "submitted", "nonce": 7}
    return Operation(**row | {"attempts": [ATTEMPT], "value_wei": 0} | values)


class Sender:
    """A sender that returns what a test sets, and notes what it is asked."""

    def __init__(self) -> None:
        self.accounts = (SimpleNamespace(address=ALICE), None)
        self.sealer = SimpleNamespace(has_sealed=lambda operation: operation.seal is not None)
        self.policy, self.limits, self.contract_watch = TransactionPolicy(), None, None
        self.unmined: Any = SimpleNamespace(has_sent=lambda operation: False)
        self.after: Any = None
        self.asked: list[Any] = []
        self.head: Any = SimpleNamespace(number=lambda max_age: 4)
        self.nonces: Any = SimpleNamespace(find_unknown=lambda *arguments: self.asked.append(arguments))

    def step(self, operation: Operation) -> Operation:
        self.asked.append(operation)
        return self.after


@pytest.fixture
def sender() -> Sender:
    return Sender()


def commands(sender: Sender, database: Any = None) -> Interventions:
    return Interventions(None, database, sender, "alice")  # type: ignore[arg-type]


CLOSED = {state: {"state": state} for state in ("confirmed", "failed", "rejected")}
MINED = {"state": "mined", "block_number": 9}
STRANGE = {"sender": BOB}
PREPARED: dict[str, Any] = {"state": "prepared", "nonce": None, "attempts": []}
BEHIND = ", and abandoning it would stop everything behind nonce 7"


@pytest.mark.parametrize(
    ("values", "retry", "cancel", "abandon"),
    [
        *((row, f"it is {state}, which is final", *["it is"] * 2) for state, row in CLOSED.items()),
        (MINED, None, "it is mined in block 9, and counts", "it is mined in block 9, and counts"),
        ({"kind": FILL_NONCE_GAP}, None, "it has no effect anyway", "it has no effect anyway"),
        ({}, None, None, f"it can be cancelled{BEHIND}: use `stakesim operations cancel`"),
        ({"abandoned_at": NOW}, None, None, "it is abandoned already"),
        (STRANGE, None, f"its sender {BOB} is not the platform's account", None),
        (STRANGE | {"abandoned_at": NOW}, None, f"its sender {BOB} is not", "it is abandoned already"),
        (PREPARED | {"seal": "s"}, None, None, "it can be cancelled: use `stakesim operations cancel`"),
        (PREPARED, None, "it was not stored by this service, as its seal is missing", None),
        (PREPARED | STRANGE, None, f"its sender {BOB} is not", None),
        *(
            (PREPARED | {"seal": "s", "held_cause": cause, "held": "so"}, None, "it is held, as so: abandoning", None)
            for cause in (HeldCause.LIMIT, HeldCause.ORPHAN)
        ),
        (
            PREPARED | {"seal": "s", "held_cause": HeldCause.ABOVE_LIMIT, "held": "so"},
            None,
            None,
            "it can be cancelled:",
        ),
        ({"held_cause": HeldCause.LIMIT, "held": "so"}, None, None, f"it can be cancelled{BEHIND}"),
    ],
)
def test_which_command_fits_an_operation(
    sender: Sender, values: dict[str, Any], retry: str | None, cancel: str | None, abandon: str | None
) -> None:
    it = operation(**values)
    for command, reason in (("retry", retry), ("cancel", cancel), ("abandon", abandon)):
        found = commands(sender).reason_against(command, it)
        assert (found is None) == (reason is None), command
        assert (found or "").startswith(reason or "")
        if reason is not None:
            word = {"retry": "taken up", "cancel": "cancelled", "abandon": "abandoned"}[command]
            with pytest.raises(InterventionRefused, match=f"^bookEvent k can't be {word}: |^fillNonceGap k can't be"):
                commands(sender)._require(command, it)


@pytest.mark.parametrize("times", [1, TRIES, TRIES + 1])
def test_a_command_starts_again_if_the_operation_changed_meanwhile(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    it, seen = commands(sender), list[Operation]()
    reloaded = iter([operation(requeued=number) for number in range(1, 9)])

    def retry(given: Operation) -> Outcome | None:
        seen.append(given)
        return Outcome("done") if len(seen) == times else None

    monkeypatch.setattr(it, "_retry", retry)
    monkeypatch.setattr(module.states, "reload", lambda database, operation: next(reloaded))
    first = operation()
    if times <= TRIES:
        assert it.intervene("retry", first) == Outcome("done")
    else:
        with pytest.raises(ChainUnavailable, match="bookEvent k keeps changing: try again") as error:
            it.intervene("retry", first)
        assert error.value.operation == "k"
    assert [given.requeued for given in seen] == [None, 1, 2, 3, 4][:times]


def test_a_command_that_does_not_fit_does_nothing(sender: Sender) -> None:
    with pytest.raises(InterventionRefused, match="can't be taken up: it is confirmed, which is final"):
        commands(sender).intervene("retry", operation(state="confirmed"))


def test_only_an_operation_that_a_command_fits_is_returned(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"open": operation(), "closed": operation(state="confirmed")}
    monkeypatch.setattr(module, "find_operation", lambda database, key: found[key])
    assert commands(sender).require("retry", "open") == found["open"]
    with pytest.raises(InterventionRefused, match="it is confirmed, which is final"):
        commands(sender).require("retry", "closed")


def test_a_silent_node_is_said(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    it = commands(sender)

    def fail(given: Operation) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(it, "_retry", fail)
    with pytest.raises(ChainUnavailable, match=r"^bookEvent: the node can't be reached") as error:
        it.intervene("retry", operation())
    assert error.value.operation == "k"


# ------------------------------------------------------------------------------------------------------------- cancel


@pytest.mark.parametrize(
    ("after", "done", "sentence"),
    [
        ({"state": "mined", "tx_hash": None}, False, "is not cancelled: its nonce is used, and the next rounds find"),
        (
            {"state": "failed", "tx_hash": "0xff", "error": {"message": "It was cancelled."}},
            True,
            "had no effect: It was",
        ),
        (MINED | {"tx_hash": "0xab"}, False, "is not cancelled: 0xab was mined first, in block 9."),
        ({"state": "confirmed", "tx_hash": "0xab", "block_number": 9}, False, "is not cancelled: 0xab was mined first"),
    ],
)
@pytest.mark.parametrize("how", ["its receipt", "the node's refusal"])
def test_what_was_mined_before_it_was_cancelled(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, how: str, after: dict[str, Any], done: bool, sentence: str
) -> None:
    sender.after = operation(**after)
    replaced = operation(attempts=[ATTEMPT, EMPTY])
    refusal = SendRefusal(RefusalKind.NONCE_TOO_LOW, "nonce too low")
    sender.unmined.cancel = lambda *_: (replaced, refusal)
    receipt = object() if how == "its receipt" else None
    monkeypatch.setattr(module, "find_receipt", lambda w3, operation: receipt)
    outcome = commands(sender)._cancel(operation())
    assert outcome is not None
    assert (outcome.done, outcome.sentence.startswith(f"bookEvent k {sentence}")) == (done, True)
    assert sender.asked == [operation() if receipt else replaced]


REPLACEMENT = "0xff without effect, with nonce 7 and fees of 20 and 2 wei per gas"


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (None, f"{REPLACEMENT}, was sent. If the transaction that it replaces is mined first, that one counts."),
        (SendRefusal(RefusalKind.KNOWN, "already known"), f"{REPLACEMENT}, was sent. If"),
        (
            SendRefusal(RefusalKind.NONCE_TOO_HIGH, "no"),
            f"{REPLACEMENT}, is stored, and the node refuses it at present",
        ),
        (SendRefusal(None, "busy"), f"{REPLACEMENT}, is stored, and the node refuses it at present: busy. The service"),
    ],
)
def test_what_replaces_a_cancelled_transaction(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, refusal: SendRefusal | None, sentence: str
) -> None:
    asked: list[Any] = []

    def cancel(*arguments: Any) -> Any:
        asked.append(arguments)
        return operation(attempts=[ATTEMPT, EMPTY]), refusal

    monkeypatch.setattr(module, "find_receipt", lambda w3, operation: None)
    sender.unmined.cancel = cancel
    outcome = commands(sender)._cancel(operation())
    assert outcome is not None
    assert outcome.done
    assert outcome.sentence.startswith(f"bookEvent k: {sentence}")
    [(given, account, policy, error)] = asked
    assert (given, account, policy) == (operation(), sender.accounts[0], sender.policy)
    assert isinstance(error, Cancelled)
    assert "was cancelled by an operator" in error.message


def test_what_is_being_cancelled_is_not_cancelled_again(sender: Sender) -> None:
    outcome = commands(sender)._cancel(operation(attempts=[ATTEMPT, EMPTY]))
    assert outcome == Outcome("bookEvent k is being cancelled already: 0xff is to use nonce 7.")


@pytest.mark.parametrize("after", [{"state": "signed"}, {"attempts": [ATTEMPT] * 2}, {}])
def test_a_base_fee_above_the_cap_is_told_from_a_change(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, after: dict[str, Any]
) -> None:
    monkeypatch.setattr(module, "find_receipt", lambda w3, operation: None)
    sender.unmined.cancel = lambda *_: (operation(**after), None)
    if after:
        assert commands(sender)._cancel(operation()) is None
    else:
        with pytest.raises(InterventionRefused, match="can't be cancelled now: the base fee is above MAX_FEE_GWEI"):
            commands(sender)._cancel(operation())


@pytest.mark.parametrize(("command", "word"), [("_cancel", "cancelled"), ("_abandon", "abandoned")])
@pytest.mark.parametrize("state", ["rejected", "signed"])
def test_what_has_no_nonce_is_rejected(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, command: str, word: str, state: str
) -> None:
    errors: list[Any] = []

    def reject(database: Any, given: Operation, error: Any) -> Operation:
        errors.append(error)
        return replace(given, state=state)

    monkeypatch.setattr(module.states, "reject", reject)
    outcome = getattr(commands(sender), command)(operation(**PREPARED))
    said = Outcome(f"bookEvent k is {word}: nothing was sent, and nothing will be.")
    assert outcome == (said if state == "rejected" else None)
    assert [error.message for error in errors] == [f"bookEvent was {word} by an operator; nothing was sent."]


@pytest.mark.parametrize("command", ["retry", "cancel", "abandon"])
def test_each_command_is_carried_out_and_stored(
    sender: Sender, database: Database, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    it, found = commands(sender, database), operation(sender=BOB if command == "abandon" else ALICE)
    monkeypatch.setattr(module, "find_operation", lambda database, key: found)
    monkeypatch.setattr(it, f"_{command}", lambda given: Outcome(f"{command} of {given.key}", done=given is not found))
    assert getattr(it, command)("k") == Outcome(f"{command} of k", done=False)
    [row] = history(database)
    assert (row.operator, row.command, row.target, row.outcome) == ("alice", command, "k", f"{command} of k")


def test_an_operator_approves_under_a_name(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(module, "approve_operation", lambda *arguments: asked.append(arguments) or operation())
    outcome = commands(sender, "the database").approve("k")
    assert outcome == Outcome("bookEvent k is approved: the service sends it from its next round on.")
    assert asked == [("the database", sender.sealer, "k", "alice")]


@pytest.mark.parametrize("is_resumed", [False, True])
def test_an_abandoned_operation_is_carried_on_by_a_retry(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, is_resumed: bool
) -> None:
    it, stepped = commands(sender), list[Operation]()
    resumed = operation(state="mined", block_number=9) if is_resumed else None
    monkeypatch.setattr(it, "_set_abandoned", lambda given, at: resumed if at is None else given)
    monkeypatch.setattr(module, "take_steps", lambda sender, given: stepped.append(given) or [])
    outcome = it._retry(operation(abandoned_at=NOW))
    assert (outcome is not None, stepped) == (is_resumed, [resumed] if is_resumed else [])


# ------------------------------------------------------------------------------------------------- abandon, and resume


def stored(database: Database, **values: Any) -> Operation:
    row: dict[str, Any] = {"key": "k", "request": "", "kind": "bookEvent", "chain_id": 1, "sender": ALICE}
    row |= {"to_address": BOB, "data": b"", "value_wei": 5, "state": "signed", "nonce": 7, "seal": "s"}
    row |= {"attempts": [ATTEMPT.to_json()], "held": "so", "held_cause": "no_funds", "held_at": NOW}
    with database.transaction() as connection:
        connection.execute(insert(table).values(row := row | values))
        found = operations.find(connection, row["key"])
    assert found is not None
    return found


def test_an_operation_is_abandoned_and_carried_on_by_who_has_seen_it(sender: Sender, database: Database) -> None:
    it = commands(sender, database)
    seen = stored(database)
    outcome = it._abandon(seen)
    assert outcome is not None
    assert outcome.sentence.startswith("bookEvent k is abandoned: it is not sent any more.")
    with database.autocommit() as connection:
        abandoned = operations.find(connection, "k")
    assert abandoned is not None
    assert (abandoned.abandoned_at is not None, abandoned.state, abandoned.held) == (True, "signed", None)
    assert it._set_abandoned(seen, None) is None, "another one has abandoned it meanwhile"
    carried_on = it._set_abandoned(abandoned, None)
    assert carried_on is not None
    assert carried_on.abandoned_at is None
    with database.transaction() as connection:
        connection.execute(update(table).values(state="submitted"))
    assert it._abandon(carried_on) is None, "another one has sent it meanwhile"


# -------------------------------------------------------------------------------------------------------------- retry


@pytest.mark.parametrize(
    ("after", "done"),
    [
        ({"state": "submitted"}, True),
        ({"state": "mined", "block_number": 9}, True),
        ({"state": "confirmed", "tx_hash": "0xab", "block_number": 9}, True),
        ({"state": "signed"}, True),
        ({"state": "prepared"}, False),
        ({"state": "failed", "error": {"message": "No."}}, False),
        ({"state": "rejected", "error": {"message": "No."}}, False),
        ({"state": "submitted", "held": "no ether", "held_cause": HeldCause.NO_FUNDS}, False),
    ],
)
def test_whether_a_retry_did_what_is_wanted(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, after: dict[str, Any], done: bool
) -> None:
    it = commands(sender)
    sender.unmined.raise_old_fees = lambda operation, *_: operation
    monkeypatch.setattr(module, "take_steps", lambda sender, given: [replace(given, requeued=1), operation(**after)])
    outcome = it._retry(operation(state="signed", held="so"))
    assert outcome is not None
    assert (outcome.done, outcome.sentence[:13], sender.asked) == (done, "bookEvent k: ", [])


@pytest.mark.parametrize(
    ("state", "sender_of", "steps", "is_raised"),
    [
        ("submitted", ALICE, 0, True),
        ("signed", ALICE, 0, True),
        ("mined", ALICE, 0, False),
        ("submitted", BOB, 0, False),
        ("submitted", ALICE, 1, False),  # the step has made another attempt
    ],
)
def test_fees_are_raised_once_by_a_retry(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, state: str, sender_of: str, steps: int, is_raised: bool
) -> None:
    before = operation(state=state, sender=sender_of, block_number=9)
    stepped = replace(before, attempts=[ATTEMPT, *[replace(ATTEMPT, tx_hash="0xac")] * steps])
    raised: list[Any] = []
    described: list[Any] = []

    def raise_old_fees(given: Operation, account: Any, policy: Any, limits: Any) -> Operation:
        raised.append((given, account, policy, limits))
        return replace(given, attempts=[*given.attempts, replace(ATTEMPT, tx_hash="0xad")])

    def describe(before: Operation, after: Operation, sent: list[str], confirmations: int) -> str:
        described.append((before, sent, confirmations))
        return "said"

    sender.unmined.raise_old_fees = raise_old_fees
    monkeypatch.setattr(module, "take_steps", lambda sender, given: [stepped] if steps else [])
    monkeypatch.setattr(module, "describe_steps", describe)
    assert commands(sender)._retry(before) == Outcome("bookEvent k: said.")
    expected = [(before, sender.accounts[0], sender.policy, sender.limits)] if is_raised else []
    assert raised == expected
    assert described == [(before, ["0xad"] if is_raised else [], sender.policy.confirmations)]
    sender.unmined.raise_old_fees = lambda operation, *_: operation
    for has_sent in (False, True):  # fees that are high enough stay, and the last attempt may be sent again
        described.clear()
        sender.unmined.has_sent = lambda operation, has_sent=has_sent: has_sent
        commands(sender)._retry(before)
        assert described[0][1] == ([stepped.attempts[-1].tx_hash] if has_sent else [])


@pytest.mark.parametrize(("head", "final"), [(4, 4), (-5, 0)])
def test_a_retry_looks_around_before_something_is_signed(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, head: int, final: int
) -> None:
    sender.head = SimpleNamespace(number=lambda max_age: head)
    monkeypatch.setattr(sender, "policy", TransactionPolicy(confirmations=1))
    monkeypatch.setattr(module, "take_steps", lambda sender, given: [])
    looked: list[str] = []
    for watch in (None, SimpleNamespace(look=lambda: looked.append("at the contract"))):
        sender.contract_watch = watch  # type: ignore[assignment]
        commands(sender)._retry(operation(**PREPARED))
    assert looked == ["at the contract"]
    assert sender.asked == [(1, final)] * 2


# ------------------------------------------------------------------------------------------- approvals and orphans


SEALER = Sealer(ALICE, [b"key of the platform"])


def test_only_what_a_limit_of_amounts_holds_is_approved(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="There is no operation nothing"):
        approve_operation(database, SEALER, "nothing", "alice")
    prepared: dict[str, Any] = {"state": "prepared", "nonce": None, "attempts": []}
    above: dict[str, Any] = {"held_cause": HeldCause.ABOVE_LIMIT}
    stored(database, key="signed", **above)
    stored(database, key="other", **prepared, held_cause=HeldCause.LIMIT)
    stored(database, key="it", **prepared | above)
    for is_sealed, key in ((True, "signed"), (True, "other"), (False, "it")):
        monkeypatch.setattr(Sealer, "has_sealed", lambda self, operation, is_sealed=is_sealed: is_sealed)
        why = "no limit holds it" if is_sealed else "this service did not store it"
        with pytest.raises(NothingToApprove, match=f"bookEvent {key} can't be approved: {why}"):
            approve_operation(database, SEALER, key, "alice")
    monkeypatch.setattr(Sealer, "has_sealed", lambda self, operation: True)
    assert approve_operation(database, SEALER, "it", "alice").key == "it"
    approve_operation(database, SEALER, "it", "bob")  # anew, as it is still held
    with database.transaction() as connection:
        connection.execute(update(table).where(table.c.key == "it").values(held_cause=None))
    approve_operation(database, SEALER, "it", "carol")  # approved already: changes nothing
    said = [row.outcome for row in history(database) if row.target == "it"][1:]
    assert said == [f"bookEvent it, of 5 wei, is approved by {name}" for name in ("alice", "bob", "bob")]
    assert len(history(database)) == 6


def history(database: Database) -> list[Any]:
    with database.autocommit() as connection:
        return [*connection.execute(select(interventions_table).order_by(interventions_table.c.id))]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, None),
        ({"operation_key": "k"}, "is the transaction of the operation k"),
        ({"dismissed": True}, "is dismissed already"),
        ({"kind": None}, "is not the effect of an order"),
        ({"succeeded": False}, "is not the effect of an order"),
    ],
)
def test_an_orphan_that_is_open_is_dismissed(database: Database, values: dict[str, Any], why: str | None) -> None:
    row: dict[str, Any] = {"chain_id": 1, "sender": ALICE, "nonce": 3, "block_number": 5, "kind": "f", "data": b""}
    row |= {"value_wei": 0, "succeeded": True, "dismissed": False}
    with database.transaction() as connection:
        for tx_hash, more in (("0xab", values), ("0xcd", {})):
            connection.execute(insert(orphans).values(row | {"tx_hash": tx_hash} | more))
    if why is None:
        outcome = dismiss_orphan(database, "0xa", "alice")
        assert outcome == Outcome("0xab is dismissed: orders with its effect are sent from the next round on.")
        assert history(database)[0].outcome == outcome.sentence
    else:
        with pytest.raises(InterventionRefused, match=f"There is nothing to dismiss: 0xab {why}"):
            dismiss_orphan(database, "0xab", "alice")
    with database.autocommit() as connection:
        dismissed = dict(connection.execute(select(orphans.c.tx_hash, orphans.c.dismissed)).all())  # type: ignore[arg-type]
    assert dismissed == {"0xab": why is None or values.get("dismissed", False), "0xcd": False}


def test_each_command_is_stored_with_its_own_outcome(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    with recorded(database, "alice", "retry", "a") as record:
        record("done")
    with pytest.raises(InterventionRefused), recorded(database, "bob", "cancel", "b"):
        raise InterventionRefused("It is refused.")
    with pytest.raises(ZeroDivisionError), recorded(database, "carol", "abandon", "c"):
        raise ZeroDivisionError
    rows = [(row.operator, row.command, row.target, row.outcome) for row in history(database)]
    said = [("alice", "retry", "a", "done"), ("bob", "cancel", "b", "It is refused.")]
    assert rows == [*said, ("carol", "abandon", "c", None)]
    assert [(record.levelno, record.getMessage(), vars(record)["operation"]) for record in caplog.records] == [
        (logging.WARNING, f"operator {who}: {command}: {outcome}", target) for who, command, target, outcome in said
    ]
