"""What one step of the sender does in each state, how it waits, and how it closes: with stand-ins for its parts."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from app.core.errors import UnexpectedReceipt
from app.services.operation_types import NOT_HELD, SENT_STATES, Attempt, HeldCause, Operation
from app.services.rpc_types import Receipt
from app.services.transactions import sender as module
from app.services.transactions.conclusions import Mined
from app.services.transactions.limits import Limits, Sealer
from app.services.transactions.mempool import Due, SendRefusal
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender

PLATFORM: Any = SimpleNamespace(address="0x" + "aa" * 20)
OPERATOR: Any = SimpleNamespace(address="0x" + "bb" * 20)
PREVIOUS: Any = SimpleNamespace(address="0x" + "dd" * 20)
SOMEBODY: Any = SimpleNamespace(address="0x" + "ee" * 20)
CONTRACT = "0x" + "cc" * 20
CONNECTION: Any = SimpleNamespace()
DATABASE: Any = SimpleNamespace(autocommit=lambda: nullcontext(CONNECTION))
POLICY = TransactionPolicy(confirmations=3, head_max_age=2, max_pause=0.01, give_up_after=10, min_pause=0.5)
OLD = Attempt("0xold", "0x", 4, 1, 1, 1, 10)
LOST = replace(OLD, tx_hash="0xlost", nonce=3)
NOT_DUE = Due(False, False)
EMPTY = replace(OLD, tx_hash="0xempty", no_effect=True)


def operation(state: str = "signed", **values: Any) -> Operation:
    columns: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
    columns |= {"key": "k", "kind": "cancelEvent", "chain_id": 5, "sender": PLATFORM.address, "state": state}
    columns |= {"nonce": 4, "attempts": [OLD], "to_address": CONTRACT}
    return Operation(**columns | values)


def receipt(tx_hash: str = "0xold", succeeded: bool = True, block_hash: str = "0xf") -> Receipt:
    return Receipt(tx_hash, 15, block_hash, PLATFORM.address, None, None, succeeded, 100, 3)


class World:
    """A sender among stand-ins that note what they are asked for."""

    def __init__(self, patch: pytest.MonkeyPatch, **policy: Any) -> None:
        self.log, self.now, self.slept = list[str](), 100.0, list[float]()
        self.due, self.is_new, self.refusal, self.has_sent = Due(False, True), True, None, True
        self.receipt: Receipt | None = None
        self.receipts = dict[str, Receipt]()
        self.is_final, self.changed, self.outcome = False, None, None
        self.closes, self.earlier = True, list[Operation]()
        self.signs: Any = lambda each: replace(each, state="signed", attempts=[OLD])
        self.stored: Operation | None = None
        self.event_error: Exception | None = None
        policy_ = replace(POLICY, **policy)
        w3: Any = self
        self.sealer = Sealer(PLATFORM.address, [b"key"])
        self.sender = TransactionSender(
            *(w3, PLATFORM, DATABASE, policy_),
            clock=lambda: self.now,
            sleep=self._sleep,
            uniform=lambda least, most: least + most,
            operators=[OPERATOR],
            previous=[PREVIOUS],
            sealer=self.sealer,
        )
        parts: Any = self.sender
        self.parts = parts
        parts._mempool = SimpleNamespace(
            due=lambda each, policy: self.due,
            is_new=lambda each: self.is_new,
            send=self._send,
            has_sent=lambda each: self.has_sent,
            receipt=lambda each: self.receipt,
            forget=lambda each: self.log.append("forget"),
            trust=lambda each: self.log.append("trust"),
        )
        parts.head = SimpleNamespace(number=self._number)
        watch = SimpleNamespace(contract_watch=None)
        parts._signer = SimpleNamespace(sign_first=self._sign_first, nonces="nonces", unsigned=watch)
        parts.unmined = SimpleNamespace(
            check_before_resend=self._check_before_resend,
            follow=self._follow,
            return_to_mempool=lambda each: self._note("dropped", replace(each, state="submitted")),
            give_up_nonce=self._give_up_nonce,
            close_reverted=lambda each, given, columns: self._note("reverted", replace(each, state="failed")),
        )
        parts.lanes = SimpleNamespace(forget=lambda: self.log.append("forget lanes"), choose=self._choose)
        patch.setattr(module.rpc, "chain_id", self._chain_id)
        for name in ("change", "hold", "reject", "fail", "reload"):
            patch.setattr(module.states, name, getattr(self, "_" + name))
        patch.setattr(module.receipts, "is_final", self._is_final)
        patch.setattr(module.receipts, "read_receipt", lambda w3, each, attempt: self.receipts.get(attempt.tx_hash))
        patch.setattr(module.receipts, "receipt_or_error", self._receipt_or_error)
        patch.setattr(module.projections, "effects_of_success", self._effects)
        patch.setattr(module.operations, "create", self._create)
        patch.setattr(module.operations, "close", self._close)
        patch.setattr(module.operations, "open_with_lower_nonce", lambda connection, each: self.earlier)
        patch.setattr(module, "checksummed", lambda address: address)

    def step(self, given: Operation, signer: Any = None) -> tuple[str, Any]:
        stepped = self.sender._step(given, signer)
        return stepped.operation.state, stepped.receipt

    def _note(self, text: str, result: Any) -> Any:
        self.log.append(text)
        return result

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def _chain_id(self, w3: Any) -> int:
        assert w3 is self
        self.log.append("chain id")
        return 5

    def _number(self, max_age: float) -> int:
        assert max_age == POLICY.head_max_age
        return self._note("head", 20)  # type: ignore[no-any-return]

    def _choose(self, chain_id: int, function: str) -> str:
        assert (chain_id, function) == (5, "cancelEvent")
        return str(OPERATOR.address)

    def _send(self, each: Operation) -> SendRefusal | None:
        return self._note(f"send {each.attempts[-1].tx_hash}", self.refusal)  # type: ignore[no-any-return]

    def _sign_first(self, each: Operation, account: Any, policy: Any, limits: Limits) -> Operation:
        assert (policy, limits) == (self.sender.policy, self.sender.limits)
        return self._note(f"sign with {account.address[:4]}", self.signs(each))  # type: ignore[no-any-return]

    def _check_before_resend(self, each: Operation, account: Any, policy: Any) -> Any:
        assert policy is self.sender.policy
        return self._note(f"check for {account and account.address[:4]}", self.changed)

    def _follow(self, each: Operation, refusal: Any, account: Any, policy: Any, limits: Limits) -> Any:
        assert (refusal, policy, limits) == (self.refusal, self.sender.policy, self.sender.limits)
        return self._note(f"follow for {account and account.address[:4]}", self.outcome or each)

    def _give_up_nonce(self, each: Operation, account: Any, policy: Any) -> Operation:
        assert (account, policy) == (PLATFORM, self.sender.policy)
        return self._note("give up", each)  # type: ignore[no-any-return]

    def _change(self, database: Any, each: Operation, from_states: Any, **values: Any) -> Operation:
        assert (database, from_states) == (DATABASE, SENT_STATES)
        return self._note(f"change to {values['state']}", replace(each, **values))  # type: ignore[no-any-return]

    def _hold(self, database: Any, each: Operation, cause: HeldCause, reason: str) -> Operation:
        assert database is DATABASE
        return self._note(f"hold {cause}: {reason}", replace(each, held=reason, held_cause=cause))  # type: ignore

    def _reject(self, database: Any, each: Operation, error: Any) -> Operation:
        assert database is DATABASE
        return self._note(f"reject {error.message}", replace(each, state="rejected"))  # type: ignore[no-any-return]

    def _fail(self, database: Any, proof: Any, error: Any, **columns: Any) -> Operation:
        assert database is DATABASE
        self.columns = columns
        return self._note(f"fail {error.message}", replace(proof.operation, state="failed"))  # type: ignore

    def _reload(self, database: Any, each: Operation) -> Operation:
        assert database is DATABASE
        return self._note(f"reload {each.key}", self.stored or each)  # type: ignore[no-any-return]

    def _is_final(self, w3: Any, each: Receipt, policy: Any, latest: int | None) -> bool:
        assert (w3, policy) == (self, self.sender.policy)
        self.latest = latest
        return self.is_final is True or each.tx_hash in (self.is_final or ())

    def _receipt_or_error(self, w3: Any, each: Operation, given: Any) -> Any:
        assert w3 is self
        return self._note(f"receipt of {each.state}", given)

    def _effects(self, each: Operation, events: Any, tx_hash: str, block: int) -> list[Any]:
        assert (events, tx_hash, block) == ([], "0xold", 15)
        if self.event_error:
            raise self.event_error
        return ["an effect"]

    def _create(self, connection: Any, key: str, request: str, draft: Any) -> Operation:
        assert (connection, request, len(key)) == (CONNECTION, "", 36)
        return operation("prepared", key=key, sender=draft.sender)

    def _close(self, connection: Any, each: Operation, from_states: Any, effects: Any, **columns: Any) -> Any:
        assert (connection, from_states, columns.pop("in_order")) == (CONNECTION, SENT_STATES, True)
        self.columns, self.effects = columns, effects
        if self.earlier and self.closes:
            self.log.append("not in order")
            return None
        return self._note(f"close {each.key}", replace(each, **columns) if self.closes else None)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# ------------------------------------------------------------------------------------------------------------- steps


@pytest.mark.parametrize(
    ("known", "given", "log", "state"),
    [
        ({}, operation("confirmed"), [], "confirmed"),
        ({}, operation("prepared", attempts=[]), ["sign with 0xaa", "trust"], "signed"),
        ({}, operation("prepared", attempts=[OLD]), ["sign with 0xaa"], "signed"),  # another worker signed it
        ({"signs": lambda each: each}, operation("prepared", attempts=[]), ["sign with 0xaa"], "prepared"),
        (
            {"signs": lambda each: replace(each, attempts=[OLD])},
            operation("prepared", attempts=[]),
            ["sign with 0xaa"],
            "prepared",
        ),
        # a new one: sent, and not looked for, as it can't be in a final block
        ({}, operation(), ["send 0xold", "follow for 0xaa"], "signed"),
        ({}, operation(sender=PREVIOUS.address), ["send 0xold", "follow for 0xdd"], "signed"),
        ({"has_sent": False}, operation(), ["send 0xold", "head", "follow for 0xaa"], "signed"),
        ({"refusal": SendRefusal(None, "no")}, operation(), ["send 0xold", "head", "follow for 0xaa"], "signed"),
        # one that may be older: it is checked before it is sent
        ({"is_new": False}, operation(), ["check for 0xaa", "send 0xold", "follow for 0xaa"], "signed"),
        ({"is_new": False, "changed": operation("mined")}, operation(), ["check for 0xaa"], "mined"),
        ({"due": Due(True, False)}, operation(), ["follow for 0xaa"], "signed"),
        ({"due": Due(True, False), "has_sent": False}, operation(), ["head", "follow for 0xaa"], "signed"),
        ({}, operation("submitted"), ["head", "follow for 0xaa"], "submitted"),
        ({"outcome": operation("failed")}, operation("submitted"), ["head", "follow for 0xaa", "forget"], "failed"),
        ({}, operation("mined"), ["head", "dropped", "follow for 0xaa"], "submitted"),
    ],
)
def test_what_one_step_does(world: World, known: dict[str, Any], given: Operation, log: list[str], state: str) -> None:
    vars(world).update(known)
    assert world.step(given) == (state, None)
    assert [step for step in world.log if step != "chain id"] == log


def test_an_operation_that_somebody_else_changed_meanwhile_is_left(world: World) -> None:
    world.parts.unmined.return_to_mempool = lambda each: replace(each, state="confirmed")
    assert world.step(operation("mined")) == ("confirmed", None)
    assert "follow" not in " ".join(world.log)


@pytest.mark.parametrize("state", ["signed", "submitted"])
def test_the_account_that_is_passed_signs_too(world: World, state: str) -> None:
    world.step(operation(state, sender=SOMEBODY.address), SOMEBODY)
    assert "follow for 0xee" in world.log
    world.step(operation(state, sender=SOMEBODY.address))
    assert world.log[-1] == "follow for None"


def test_what_nobody_here_can_sign_is_rejected(world: World) -> None:
    given = operation("prepared", attempts=[], sender=SOMEBODY.address)
    assert world.step(given, SOMEBODY)[0] == "signed"
    assert world.step(given)[0] == "rejected"
    reason = f"reject cancelEvent was never sent, and the key of {SOMEBODY.address} is not here."
    assert world.log[-2:] == [reason, "forget"]


def test_lanes_are_looked_at_again_when_one_is_held_or_not_any_more(world: World) -> None:
    world.outcome = operation("submitted", held_cause="refused")
    world.step(operation("submitted", held_cause="refused"))
    assert "forget lanes" not in world.log
    world.step(operation("submitted"))
    assert world.log[-1] == "forget lanes"


@pytest.mark.parametrize("confirmations", [1, 3])
def test_with_one_confirmation_the_head_is_not_read(monkeypatch: pytest.MonkeyPatch, confirmations: int) -> None:
    world = World(monkeypatch, confirmations=confirmations)
    world.receipt, world.is_final = receipt(), True
    assert world.step(operation()) == (("confirmed", world.receipt) if confirmations == 1 else ("signed", None))
    assert "head" not in world.log
    world.step(operation("submitted"))
    assert ("head" in world.log, world.latest) == ((False, None) if confirmations == 1 else (True, 20))


# ------------------------------------------------------------------------------------------------------------- mined


@pytest.mark.parametrize(
    ("given", "is_changed"),
    [
        (operation("submitted"), True),
        (operation("mined", block_hash="0xf"), False),
        (operation("mined", block_hash="0xother"), True),
        (operation("signed", block_hash="0xf"), True),
    ],
)
def test_a_receipt_that_is_not_final_makes_it_mined(world: World, given: Operation, is_changed: bool) -> None:
    world.receipt, world.has_sent = receipt(), False
    assert world.step(given) == ("mined", None)
    assert ("change to mined" in world.log) == is_changed


def test_a_mined_attempt_that_was_found_later_is_handled_at_once(world: World) -> None:
    world.outcome = Mined(operation("submitted"), receipt())
    assert world.step(operation("submitted")) == ("mined", None)
    world.is_final = True
    assert world.step(operation("submitted")) == ("confirmed", receipt())
    assert world.latest == 20


USED = {"0xempty": receipt("0xempty")}
BACK = "hold reorg: 0xlost is mined with a nonce that it had given up, and nonce 4 must have no effect"


@pytest.mark.parametrize(
    ("given", "known", "log", "state"),
    [
        (operation("submitted", attempts=[LOST, OLD]), {}, ["give up"], "submitted"),
        (
            operation("signed", attempts=[LOST, OLD]),
            {"has_sent": False, "due": Due(False, False)},
            ["give up"],
            "signed",
        ),
        (operation("mined", attempts=[LOST, OLD]), {}, [], "mined"),
        (operation("submitted", attempts=[LOST, OLD], sender=SOMEBODY.address), {}, [], "submitted"),
        (operation("submitted", attempts=[LOST, EMPTY]), {}, ["send 0xempty"], "submitted"),
        (
            operation("submitted", attempts=[LOST, EMPTY]),
            {"receipts": USED},
            [],
            "submitted",
        ),
        (
            operation("submitted", attempts=[LOST, EMPTY]),
            {"receipts": USED, "is_final": ("0xlost",)},
            [],
            "submitted",
        ),
    ],
)
def test_an_effect_with_an_earlier_nonce_is_the_only_one(
    world: World, given: Operation, known: dict[str, Any], log: list[str], state: str
) -> None:
    vars(world).update(known)
    world.receipt = receipt("0xlost")
    assert world.step(given) == (state, None)
    assert [step for step in world.log if step not in ("head", "forget lanes", "chain id")] == [BACK, *log]


def test_an_effect_with_an_earlier_nonce_counts_once_both_are_final(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.receipt, world.receipts = receipt("0xlost"), {"0xempty": receipt("0xempty")}
    world.is_final = True
    monkeypatch.setattr(module.projections, "effects_of_success", lambda *asks: [])
    assert world.step(operation("submitted", attempts=[LOST, EMPTY]))[0] == "confirmed"
    assert world.columns["tx_hash"] == "0xlost"
    assert world.latest == 20


# ------------------------------------------------------------------------------------------------------------ closing

COLUMNS: dict[str, Any] = {"tx_hash": "0xold", "block_number": 15, "block_hash": "0xf"}
COLUMNS |= {"gas_used": 100, "gas_price_wei": 3, **NOT_HELD}


def test_a_final_success_is_stored_with_its_effects(world: World) -> None:
    world.receipt, world.is_final = receipt(), True
    assert world.step(operation("mined", error={"code": "x"})) == ("confirmed", world.receipt)
    assert world.columns == {**COLUMNS, "state": "confirmed", "error": None}
    assert world.effects == ["an effect"]
    world.event_error = UnexpectedReceipt("no event")
    assert world.step(operation("mined"))[0] == "confirmed"
    assert world.columns["error"] == {"code": UnexpectedReceipt.code, "message": "no event"}
    assert world.effects == ()


def test_a_final_transaction_without_effect_fails(world: World) -> None:
    world.receipt, world.is_final = receipt("0xempty"), True
    assert world.step(operation("mined", attempts=[OLD, EMPTY]))[0] == "failed"
    assert world.columns == COLUMNS | {"tx_hash": "0xempty"}
    world.receipt = receipt(succeeded=False)
    assert world.step(operation("mined"))[0] == "failed"
    assert "reverted" in world.log


def test_another_worker_has_closed_it(world: World) -> None:
    world.receipt, world.is_final, world.closes = receipt(), True, False
    world.stored = operation("failed")
    assert world.step(operation("mined"))[0] == "failed"


@pytest.mark.parametrize("closes", [True, False])
def test_earlier_operations_are_closed_first(world: World, closes: bool) -> None:
    world.receipt, world.is_final = receipt(), True
    world.earlier = [operation("mined", key="earlier"), operation("mined", key="closed")]
    steps = list[str]()

    def step(each: Operation) -> Operation:
        steps.append(each.key)
        world.earlier = [] if closes else world.earlier
        return replace(each, state="confirmed" if closes else "mined")

    world.parts.step = step
    assert world.step(operation("mined"))[0] == ("confirmed" if closes else "mined")
    assert steps == (["earlier", "closed"] if closes else ["earlier"])
    assert next(step for step in world.log if step.startswith("reload")) == "reload earlier"
    world.earlier, world.stored = [operation("mined", key="earlier")], operation("confirmed")
    steps.clear()
    assert world.sender._close_all(world.earlier)
    assert steps == [], "another thread has closed it just now"


@pytest.mark.parametrize("is_done", [True, False])
def test_an_operation_that_another_thread_carries_out_is_waited_for(world: World, is_done: bool) -> None:
    event = world.parts._in_progress["earlier"] = threading.Event()
    if is_done:
        event.set()
    assert world.sender._close_all([operation("mined", key="earlier")]) == is_done
    assert world.log == []
