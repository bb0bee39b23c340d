"""What the signer asks before it signs, and what it signs then, with stand-ins for all that it asks."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from app.services.operation_types import FILL_NONCE_GAP, Attempt, HeldCause, Operation
from app.services.orphans import HeldForOrphan
from app.services.rpc_types import BlockHeader
from app.services.transactions import signer as module
from app.services.transactions.accounts import SignerError
from app.services.transactions.fees import GAS_MARGIN, Fees
from app.services.transactions.limits import Amounts, Limits
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.signer import Signer
from app.services.transactions.signing import Content
from app.services.transactions.spending import AboveLimit, Charge

PLATFORM, LANE, PREVIOUS, STRANGER = ("0x" + digit * 40 for digit in "abcd")
AMOUNTS = Amounts(operation_wei=100, person_day_wei=90, day_wei=80, person_run_seats=4)
CONNECTION: Any = SimpleNamespace()
ACCOUNT: Any = SimpleNamespace(address=PLATFORM)
LIMITS = Limits(5, frozenset({"contract"}))
POLICY = TransactionPolicy(confirmations=3, max_fee_per_gas=11_000, priority_fee_per_gas=1_000, bump_blocks=2)
HEAD, BASE_FEE, SIGNED_AT, ESTIMATE = 20, 2_000, 10, 50_000
OLD = Attempt("0xold", "0xraw", 4, 60_000, 4_000, 1_000, SIGNED_AT)


def operation(state: str = "signed", **values: Any) -> Operation:
    columns: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
    columns |= {"key": "k", "kind": "bookEventFor", "chain_id": 5, "sender": PLATFORM, "state": state, "nonce": 4}
    columns |= {"attempts": [OLD], "requeued": 0, "value_wei": 7, "data": b"", "to_address": "contract"}
    return Operation(**columns | values)


def prepared(**values: Any) -> Operation:
    return operation(**{"state": "prepared", "nonce": None, "attempts": []} | values)


class World:
    """A signer whose parts do what the test says, and note what they are asked to do."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log = list[str]()
        self.fault = self.unpaid = self.changed = self.approval = self.seats = self.pause = self.watch_says = None
        self.sealed, self.mismatch, self.covers, self.is_paused = True, None, True, False
        self.estimate: Any = ESTIMATE
        self.header = BlockHeader(HEAD, "0x", "0x", 0, BASE_FEE)
        self.has_funds, self.sign_error, self.nonces_error = True, None, list[Any]()
        self.signs_nothing = False
        self.stored: Operation | None = None
        database: Any = SimpleNamespace(
            autocommit=lambda: nullcontext(CONNECTION), transaction=lambda: nullcontext(CONNECTION)
        )
        self.database = database
        sealer: Any = SimpleNamespace(has_sealed=lambda each: self.sealed)
        w3: Any = self
        patch.setattr(module, "Spending", lambda *asks: SimpleNamespace(covers=self._covers, accounts=asks[2]))
        patch.setattr(module, "UnknownTransactions", lambda *asks: SimpleNamespace())
        previous: Any = SimpleNamespace(address=PREVIOUS)
        head: Any = SimpleNamespace(latest=self._latest)
        self.signer = Signer(w3, database, sealer, self._sign, head, lambda: 0.0, [PLATFORM, LANE], [previous])
        parts: Any = self.signer
        parts.nonces = SimpleNamespace(sign=self._take_nonce)
        parts._funds = SimpleNamespace(reserve=self._reserve)
        parts.unsigned = SimpleNamespace(
            contract_watch=None,
            named_ids=None,
            hold=self._hold,
            estimate=self._estimate,
            check_named_ids=lambda each, policy: self.changed,
        )
        patch.setattr(module.rpc, "latest_header", lambda w3: self.header)
        for name in ("find_approval", "reason_against_seats", "reason_unpaid", "find_mismatch"):
            patch.setattr(module, name, getattr(self, "_" + name))
        patch.setattr(module, "current_pause", lambda connection: self.pause)
        patch.setattr(module, "lock_against_pause", lambda connection: self.is_paused)
        patch.setattr(module.limits, "check", lambda each, allowed: self.fault)
        patch.setattr(module.operations, "lock", lambda connection, key: self.stored)
        patch.setattr(module.operations, "change", self._change)
        patch.setattr(module.operations, "create_signed", self._create_signed)
        patch.setattr(module.states, "hold", self._hold_signed)

    def watch(self, **says: Any) -> None:
        watch = {"reason_to_hold": lambda each: None, "code_changed": False}
        self.signer.unsigned.contract_watch = SimpleNamespace(**watch | says)  # type: ignore[assignment]

    def first(self, given: Operation, amounts: Amounts | None = None, **policy: Any) -> Operation:
        return self.signer.sign_first(given, ACCOUNT, replace(POLICY, **policy), replace(LIMITS, amounts=amounts))

    def _sign(self, of: Operation | Content, account: Any, nonce: int, gas: int, fees: Fees, *blocks: Any) -> Attempt:
        assert account is ACCOUNT
        if self.sign_error:
            raise self.sign_error
        self.log.append(f"sign {nonce} gas {gas} fees {fees[0]} {fees[1]} {' '.join(map(str, blocks))}")
        return Attempt("0xnew", "0xraw", nonce, gas, *fees, *blocks)

    def _take_nonce(self, given: Operation, final_block: int, sign: Any, charge: Charge | None) -> Operation:
        charged = charge and f"charge {charge.wei}{' approved' if charge.approved_at else ''}"
        self.log.append(f"nonce after {final_block} {charged}")
        if self.nonces_error and (error := self.nonces_error.pop(0)):
            raise error
        return given if self.signs_nothing else replace(given, state="signed", nonce=9, attempts=[sign(9)])

    def _reserve(self, chain_id: int, address: str, cost_wei: int) -> bool:
        assert (chain_id, address) == (5, PLATFORM)
        self.log.append(f"reserve {cost_wei}")
        return self.has_funds

    def _estimate(self, each: Operation, policy: Any) -> Any:
        self.log.append("estimate")
        return self.estimate

    def _latest(self, max_age: float) -> BlockHeader:
        assert max_age == POLICY.head_max_age
        return self.header

    def _hold(self, each: Operation, cause: HeldCause, reason: str, policy: Any) -> Operation:
        return replace(each, held=reason, held_cause=cause)

    def _hold_signed(self, database: Any, each: Operation, cause: HeldCause, reason: str) -> Operation:
        assert database is self.database
        return replace(each, held=reason, held_cause=cause)

    def _covers(self, each: Operation, attempt: Attempt, amounts: Any) -> bool:
        self.log.append(f"covers {amounts is not None}")
        return self.covers

    def _find_approval(self, connection: Any, each: Operation, sealer: Any) -> Any:
        assert connection is CONNECTION
        self.log.append("find approval")
        return self.approval

    def _reason_against_seats(self, connection: Any, each: Operation, amounts: Any) -> Any:
        assert connection is CONNECTION
        self.log.append("seats")
        return self.seats

    def _reason_unpaid(self, connection: Any, each: Operation, sealer: Any) -> Any:
        assert connection is CONNECTION
        return self.unpaid

    def _find_mismatch(self, each: Operation, attempt: Attempt) -> Any:
        return self.mismatch

    def _change(self, connection: Any, each: Operation, from_states: Any, **values: Any) -> Operation:
        assert (connection, from_states) == (CONNECTION, (each.state,))
        return replace(each, **values)

    def _create_signed(self, connection: Any, key: str, draft: Any, attempt: Attempt) -> Operation | None:
        call, chain_id, sender = draft[:3]
        assert (call.to, call.name, call.data, call.value) == (PLATFORM, FILL_NONCE_GAP, b"", 0)
        self.log.append(f"create {key} {chain_id} {sender}")
        return None if self.signs_nothing else operation(kind=call.name, attempts=[attempt])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "checksummed", lambda address: address)
    return World(monkeypatch)


# ---------------------------------------------------------------------------------------------------- before a nonce

GAS = ESTIMATE + ESTIMATE // 5 + GAS_MARGIN
TAKEN = ["estimate", f"reserve {7 + GAS * 5_000}", "nonce after 18 None", f"sign 9 gas {GAS} fees 5000 1000 20"]
TODAY = "at 2026"


@pytest.mark.parametrize(
    ("known", "given", "cause", "reason"),
    [
        ({"fault": "a fault"}, prepared(), "limit", "a fault"),
        ({"sealed": False}, prepared(), "limit", "it was not stored by this service"),
        ({"sealed": False, "mismatch": "no"}, prepared(attempts=[OLD]), "limit", "it was not stored by this service"),
        ({"unpaid": "nobody paid"}, prepared(), "unpaid", "nobody paid"),
        ({"unpaid": "nobody paid"}, prepared(sender=PREVIOUS), "unpaid", "nobody paid"),
        (
            {"header": BlockHeader(HEAD, "", "", 0, 10_001)},
            prepared(),
            "base_fee",
            "10001 wei per gas is above the cap",
        ),
        ({"has_funds": False}, prepared(), "no_funds", f"insufficient funds of {PLATFORM} for gas and value"),
        ({"nonces_error": [HeldForOrphan("an orphan")]}, prepared(), "orphan", "an orphan"),
        ({"nonces_error": [SignerError("timeout", "silence")]}, prepared(), "signer", "silence"),
        ({"signs_nothing": True, "pause": "paused"}, prepared(), "paused", "paused"),
    ],
)
def test_why_an_operation_is_held_before_it_gets_a_nonce(
    world: World, known: dict[str, Any], given: Operation, cause: str, reason: str
) -> None:
    vars(world).update(known)
    after = world.first(given, needs_payments=True)
    assert (after.state, after.nonce, after.held_cause) == ("prepared", None, cause)
    assert reason in (after.held or "")


@pytest.mark.parametrize(
    ("known", "given"),
    [
        ({}, prepared()),
        ({"sealed": False}, prepared(attempts=[OLD])),  # signed before there were seals
        ({"unpaid": "x"}, prepared(kind="cancelEvent")),
        ({"unpaid": "x"}, prepared(sender=STRANGER)),
        ({"pause": "x"}, prepared()),
        ({"header": BlockHeader(HEAD, "", "", 0, BASE_FEE)}, prepared()),
    ],
)
def test_an_operation_is_signed_with_what_it_may_cost(world: World, known: dict[str, Any], given: Operation) -> None:
    vars(world).update(known)
    assert world.first(given, needs_payments=True).state == "signed"
    assert world.log == TAKEN


def test_an_operation_that_the_contract_cannot_take_is_held(world: World) -> None:
    world.watch(reason_to_hold=lambda each: "the contract is paused")
    assert world.first(prepared()).held_cause == "contract"
    world.watch()
    assert world.first(prepared()).state == "signed"


@pytest.mark.parametrize("known", [{"changed": prepared(held="named")}, {"estimate": prepared(held="named")}])
def test_what_was_decided_about_it_meanwhile_stays(world: World, known: dict[str, Any]) -> None:
    vars(world).update(known)
    assert world.first(prepared()).held == "named"
    assert not any(step.startswith("nonce") for step in world.log)


@pytest.mark.parametrize(
    ("kind", "held_cause"), [("bookEventFor", "paused"), ("withdrawPlatformFees", "paused"), ("cancelEvent", None)]
)
def test_a_pause_is_why_nothing_was_signed(world: World, kind: str, held_cause: str | None) -> None:
    world.signs_nothing = True
    assert world.first(prepared(kind=kind)).held_cause is None
    world.pause = "somebody paused"
    assert world.first(prepared(kind=kind)).held_cause == held_cause


def test_a_retry_gets_more_gas_and_a_short_chain_has_no_final_block(world: World) -> None:
    world.header = BlockHeader(1, "", "", 0, BASE_FEE)
    world.first(prepared(requeued=1))
    gas = 2 * ESTIMATE + GAS_MARGIN
    assert world.log[1:] == [f"reserve {7 + gas * 5_000}", "nonce after 0 None", f"sign 9 gas {gas} fees 5000 1000 1"]


# ------------------------------------------------------------------------------------------------ limits of amounts


@pytest.mark.parametrize(
    ("given", "known", "charges"),
    [
        (prepared(), {}, [f"charge {7 + GAS * 11_000}"]),
        (prepared(value_wei=80), {}, [f"charge {80 + GAS * 11_000}"]),
        (prepared(kind="cancelEvent", value_wei=0), {"seats": "many"}, ["charge 0"]),
        (prepared(value_wei=81, sender=STRANGER), {"seats": "many"}, [f"charge {81 + GAS * 11_000}"]),
        (prepared(value_wei=81), {}, "it sends 81 wei, and the lowest limit is 80 wei"),
        (prepared(sender=PREVIOUS), {}, f"{PREVIOUS} was the platform's account before"),
        (prepared(), {"seats": "too many"}, "too many"),
        (prepared(), {"nonces_error": [AboveLimit("the day's")]}, "the day's"),
    ],
)
def test_an_order_above_a_limit_needs_an_approval(
    world: World, given: Operation, known: dict[str, Any], charges: Any
) -> None:
    vars(world).update(known)
    again = list(world.nonces_error)
    after = world.first(given, AMOUNTS)
    charged = [step.partition(" ")[2].partition(" ")[2].partition(" ")[2] for step in world.log if "nonce" in step]
    if isinstance(charges, list):
        assert (after.state, charged) == ("signed", charges)
        return
    assert (after.state, after.held_cause) == ("prepared", "above_limit")
    assert charges in (after.held or "")
    world.nonces_error, world.approval = again, SimpleNamespace(microseconds=1)
    world.log.clear()
    assert world.first(given, AMOUNTS).state == "signed"
    assert [step for step in world.log if "nonce" in step][-1] == "nonce after 18 charge 0 approved"
    assert "find approval" in world.log


def test_seats_are_counted_if_they_are_limited(world: World) -> None:
    world.first(prepared(), AMOUNTS)
    assert world.log[0] == "seats"
    world.log.clear()
    world.first(prepared(), replace(AMOUNTS, person_run_seats=None))
    assert "seats" not in world.log
