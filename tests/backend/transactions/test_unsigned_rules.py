"""What becomes of an operation before it is signed: estimates, rejections, waiting and giving up, with stand-ins."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from app.services.contract_watch import PAUSABLE
from app.services.operation_types import HeldCause, Operation
from app.services.orphans import HeldForOrphan
from app.services.rpc_errors import Refused
from app.services.rpc_refusals import RefusalKind
from app.services.transactions import unsigned as module
from app.services.transactions.named_ids import Doubt
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.unsigned import Unsigned
from web3.exceptions import ContractLogicError

CONNECTION: Any = SimpleNamespace()
DATABASE: Any = SimpleNamespace(autocommit=lambda: nullcontext(CONNECTION))
POLICY = TransactionPolicy(
    confirmations=3, hold_after=60, expire_after=1800, looks_before_rejecting=True, head_max_age=2
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ATTEMPT: Any = SimpleNamespace()
REVERT = ContractLogicError("execution reverted: words", data="0x")


def operation(kind: str = "bookEventFor", **values: Any) -> Operation:
    columns: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
    columns |= {"key": "k", "kind": kind, "chain_id": 5, "sender": "0xa", "to_address": "0xc", "data": b"d"}
    return Operation(**columns | {"value_wei": 7, "state": "prepared", "attempts": []} | values)


class World:
    """An `Unsigned` on a node that fails as the test says, with a clock."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.head, self.log, self.held_seconds = 100.0, 20, list[str](), 0.0
        self.error: Exception | None = None
        self.orphan: Any = None
        self.doubt: Any = None
        patch.setattr(module.rpc, "estimate_gas", self._estimate)
        patch.setattr(module.operations, "held_seconds", self._held_seconds)
        patch.setattr(module.states, "hold", self._hold)
        patch.setattr(module.states, "reject", self._reject)
        head: Any = SimpleNamespace(number=self._number)
        unknown = SimpleNamespace(take_over=self._take_over)
        nonces: Any = SimpleNamespace(find_unknown=self._find_unknown, unknown=unknown)
        w3: Any = self
        self.unsigned = Unsigned(w3, DATABASE, head, nonces, lambda: self.now)
        self.unsigned.named_ids = SimpleNamespace(find_doubt=self._find_doubt)  # type: ignore[assignment]

    def watch(self, why: str | None) -> None:
        self.unsigned.contract_watch = SimpleNamespace(reason_after_revert=lambda each, name: why and f"{why} {name}")  # type: ignore

    def _estimate(self, w3: Any, to: str, data: bytes, block: str, *, sender: str, value: int) -> int:
        assert (w3, to, data, block, sender, value) == (self, "0xc", b"d", "pending", "0xa", 7)
        if self.error:
            raise self.error
        return 50_000

    def _number(self, max_age: float) -> int:
        assert max_age == 2
        return self.head

    def _find_unknown(self, chain_id: int, final_block: int) -> None:
        self.log.append(f"look for unknown {chain_id} {final_block}")

    def _take_over(self, each: Operation) -> Any:
        if isinstance(self.orphan, Exception):
            raise self.orphan
        return self.orphan

    def _find_doubt(self, each: Operation, policy: Any) -> Any:
        assert policy is POLICY
        if isinstance(self.doubt, Exception):
            raise self.doubt
        return self.doubt

    def _held_seconds(self, connection: Any, key: str) -> float:
        assert (connection, key) == (CONNECTION, "k")
        return self.held_seconds

    def _hold(self, database: Any, each: Operation, cause: HeldCause, reason: str) -> Operation:
        assert database is DATABASE
        return replace(each, held=reason, held_cause=cause)

    def _reject(self, database: Any, each: Operation, error: Any) -> Operation:
        assert database is DATABASE
        self.log.append(f"reject {type(error).__name__}: {error.message}")
        return replace(each, state="rejected")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def held(outcome: Any) -> str:
    assert isinstance(outcome, Operation)
    return f"{outcome.held_cause}: {outcome.held}"


# --------------------------------------------------------------------------------------------------------- estimates


def test_an_estimate_is_the_nodes_number(world: World) -> None:
    assert world.unsigned.estimate(operation(), POLICY) == 50_000


def test_a_sender_without_funds_is_held(world: World) -> None:
    world.error = Refused(RefusalKind.NO_FUNDS, "poor")
    said = held(world.unsigned.estimate(operation(), POLICY))
    assert said == "no_funds: insufficient funds of 0xa for gas and value"


@pytest.mark.parametrize("error", [Refused(None, "words"), OSError("words"), ContractLogicError("no such thing")])
def test_a_node_that_fails_for_long_holds_the_operation(world: World, error: Exception) -> None:
    world.error = error
    for now in (100, 160):
        world.now = now
        with pytest.raises(type(error)):
            world.unsigned.estimate(operation(), POLICY)
    with pytest.raises(type(error)):
        world.unsigned.estimate(operation(key="another"), POLICY)
    world.now = 160.1
    said = held(world.unsigned.estimate(operation(), POLICY))
    assert said.startswith("estimate: its gas can't be estimated: the node ")
    assert not said.endswith(".")
    world.error = None
    assert world.unsigned.estimate(operation(), POLICY) == 50_000
    world.error = error
    with pytest.raises(type(error)):
        world.unsigned.estimate(operation(), POLICY)


def test_a_revert_rejects_unless_the_contract_has_changed(world: World) -> None:
    world.error = REVERT
    words = "reject ContractRejected: bookEventFor was refused by the contract: words."
    for why in (False, None):
        if why is None:
            world.watch(None)
        world.log.clear()
        outcome = world.unsigned.estimate(operation(), POLICY)
        assert isinstance(outcome, Operation)
        assert (outcome.state, world.log) == ("rejected", ["look for unknown 5 18", words])
    world.watch("it changed, after")
    assert held(world.unsigned.estimate(operation(), POLICY)) == "contract: it changed, after Error"


def test_an_orphan_may_be_why_the_contract_refuses_it(world: World) -> None:
    world.error, world.orphan = REVERT, HeldForOrphan("an orphan")
    assert held(world.unsigned.estimate(operation(), POLICY)) == "orphan: an orphan"
    world.orphan = operation(state="signed")
    assert world.unsigned.estimate(operation(), POLICY) is world.orphan
    assert world.log == ["look for unknown 5 18"] * 2
    world.head = 1
    world.unsigned.estimate(operation(), POLICY)
    assert world.log[2:] == ["look for unknown 5 0"], "a short chain has no final block"
    world.unsigned.estimate(operation(), replace(POLICY, looks_before_rejecting=False))
    assert len(world.log) == 3


# ---------------------------------------------------------------------------------------------------- what is held


@pytest.mark.parametrize(
    ("given", "cause", "may_expire"),
    [
        *[(operation(kind, held_at=NOW), HeldCause.UNPAID, True) for kind in PAUSABLE],
        (operation("cancelEvent", held_at=NOW), HeldCause.UNPAID, False),
        (operation("withdrawPlatformFees", held_at=NOW), HeldCause.UNPAID, False),
        (operation(), HeldCause.UNPAID, False),  # held just now
        (operation(held_at=NOW, attempts=[ATTEMPT]), HeldCause.UNPAID, False),
        *[(operation(held_at=NOW), each, each not in ("limit", "orphan")) for each in HeldCause],
    ],
)
def test_an_order_that_waits_for_too_long_is_given_up(
    world: World, given: Operation, cause: HeldCause, may_expire: bool
) -> None:
    world.held_seconds = 1800
    assert held(world.unsigned.hold(given, cause, "why", POLICY)) == f"{cause}: why"
    world.held_seconds = 1800.6
    outcome = world.unsigned.hold(given, cause, "why", POLICY)
    assert outcome.state == ("rejected" if may_expire else "prepared")
    words = f"reject Expired: {given.kind} was given up after 1801 seconds, and nothing was sent: why."
    assert world.log == ([words] if may_expire else [])


def test_what_was_given_up_is_forgotten(world: World) -> None:
    world.error, world.held_seconds = ConnectionResetError(), 1801
    with pytest.raises(ConnectionResetError):
        world.unsigned.estimate(operation(), POLICY)
    world.now += 61
    assert world.unsigned._failing_since == {"k": 100}
    outcome = world.unsigned.estimate(operation(held_at=NOW), POLICY)
    assert isinstance(outcome, Operation)
    assert (outcome.state, world.unsigned._failing_since) == ("rejected", {})


# ------------------------------------------------------------------------------------------------------------- names


def test_a_call_that_may_name_something_else_waits(world: World) -> None:
    assert world.unsigned.check_named_ids(operation(), POLICY) is None
    world.doubt = Doubt("doubt")
    assert held(world.unsigned.check_named_ids(operation(), POLICY)) == "reorg: doubt"
    world.doubt = Doubt("doubt", is_final=True)
    outcome = world.unsigned.check_named_ids(operation(), POLICY)
    assert outcome is not None
    assert outcome.state == "rejected"
    assert world.log == ["reject Superseded: bookEventFor was not sent, and never will be: doubt."]
    world.doubt = ConnectionResetError()
    with pytest.raises(ConnectionResetError):
        world.unsigned.check_named_ids(operation(), POLICY)
    world.now += 61
    said = held(world.unsigned.check_named_ids(operation(), POLICY))
    assert said.startswith("estimate: the block of what it names can't be read: ")
