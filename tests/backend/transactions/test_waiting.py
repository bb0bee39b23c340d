"""How the sender waits for an operation, and what it is made of: with stand-ins for its parts."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from app.core.errors import ChainUnavailable, DatabaseUnavailable, OutOfFunds, Superseded
from app.services.codec import Call
from app.services.operation_types import Operation
from app.services.transactions import sender as module
from app.services.transactions.limits import Amounts, Limits
from test_sender_rules import (
    CONTRACT,
    OPERATOR,
    PLATFORM,
    POLICY,
    PREVIOUS,
    SOMEBODY,
    World,
    operation,
    receipt,
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# ------------------------------------------------------------------------------------------------------------ waiting


def states_of(world: World, *outcomes: Any) -> None:
    """Sets what each step returns or raises; the last one for ever."""
    left = list(outcomes)

    def step(given: Operation, signer: Any) -> Any:
        assert world.parts._in_progress[given.key].is_set() is False
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return module._Step(outcome, receipt() if outcome.closed else None)

    world.parts._step = step


def test_it_waits_between_looks_that_bring_nothing(world: World) -> None:
    signed, submitted = operation("signed"), operation("submitted")
    states_of(world, signed, submitted, submitted, submitted, OSError(), OSError(), operation("confirmed"))
    world.sender.policy = replace(POLICY, max_pause=0.7, give_up_after=1000)
    assert world.sender.finish(operation("prepared")) == receipt()
    assert world.slept == pytest.approx([0.5, 0.6, 0.7 * 20, 0.7 * 20])
    assert world.log[-1] == "receipt of confirmed"
    assert world.parts._in_progress == {}


@pytest.mark.parametrize(
    ("outcome", "kind", "words"),
    [
        (operation("submitted"), ChainUnavailable, "cancelEvent: sent, but not mined in time; it may be mined yet."),
        (operation("submitted", held="why"), ChainUnavailable, "cancelEvent is held: why."),
        (operation("submitted", held="why", held_cause="no_funds"), OutOfFunds, "cancelEvent is held: why."),
        (OSError(), ChainUnavailable, "cancelEvent: the node can't be reached (OSError)."),
        (ChainUnavailable("of an earlier one", "other"), ChainUnavailable, "of an earlier one"),
    ],
)
def test_it_gives_up_after_a_while(world: World, outcome: Any, kind: type[ChainUnavailable], words: str) -> None:
    states_of(world, outcome)
    world.sender.policy = replace(POLICY, min_pause=5, max_pause=5, give_up_after=10)
    with pytest.raises(kind) as caught:
        world.sender.finish(operation("submitted"))
    assert (type(caught.value), caught.value.message, caught.value.operation) == (kind, words, "k")
    is_node = isinstance(outcome, Exception)
    assert world.slept == ([100] if is_node else [5, 5, 5])  # just as long as it may is no longer
    assert world.parts._in_progress == {}


def test_who_waits_for_an_operation_that_is_held_without_a_nonce_hears_it_at_once(world: World) -> None:
    states_of(world, operation("prepared", held="why"))
    with pytest.raises(ChainUnavailable, match="cancelEvent is held: why"):
        world.sender.finish(operation("prepared"))
    assert world.slept == []
    states_of(world, OSError(), operation("confirmed"))
    assert world.sender.finish(operation("prepared", held="an old reason")) == receipt()
    assert world.slept == [0.5 * 20]


def test_without_a_database_it_ends_at_once(world: World) -> None:
    states_of(world, DatabaseUnavailable("away"))
    with pytest.raises(ChainUnavailable, match="cancelEvent: the database is unavailable") as caught:
        world.sender.finish(operation())
    assert (caught.value.operation, world.slept) == ("k", [])


@pytest.mark.parametrize(
    ("states", "confirmations", "end"),
    [
        (["signed", "submitted", "mined"], 3, "submitted"),
        (["signed", "submitted", "mined", "confirmed"], 1, "confirmed"),
        (["signed", "signed", "submitted"], 3, "signed"),
        (["mined", "confirmed"], 3, "mined"),
        (["signed", "mined", "confirmed"], 2, "mined"),
        (["signed", "error"], 3, "signed"),
    ],
)
def test_it_advances_until_a_block_is_awaited(
    world: World, states: list[str], confirmations: int, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.sender.policy = replace(POLICY, confirmations=confirmations)
    states_of(world, *(OSError() if state == "error" else operation(state) for state in states))
    assert world.sender.advance(operation("prepared")).state == end
    assert bool(caplog.records) == ("error" in states)
    assert world.parts._in_progress == {}


def test_a_step_says_which_operation_the_node_failed_for(world: World) -> None:
    states_of(world, OSError())
    world.parts._in_progress["k"] = threading.Event()
    with pytest.raises(ChainUnavailable) as caught:
        world.sender.step(operation())
    assert (caught.value.operation, caught.value.message) == ("k", "cancelEvent: the node can't be reached (OSError).")


# ------------------------------------------------------------------------------------------------- what it is made of


def test_what_this_process_signs(world: World) -> None:
    amounts = Amounts(1, 2, 3)
    world.sender.policy = replace(POLICY, functions=frozenset({"cancelEvent"}), amounts=amounts)
    world.sender.allow("0x1")
    world.sender.allow("0x2")
    assert world.sender.limits == Limits(5, frozenset({"0x1", "0x2"}), frozenset({"cancelEvent"}), amounts)
    assert (world.sender.chain_id, world.log.count("chain id")) == (5, 1)
    assert (world.sender.address, world.sender.nonces) == (PLATFORM.address, "nonces")
    assert world.sender.accounts == (PLATFORM, OPERATOR, PREVIOUS)
    watch: Any = SimpleNamespace(may_act="may act")
    assert world.sender.contract_watch is None
    world.sender.contract_watch = watch
    assert (world.sender.contract_watch, world.sender.lanes.may_act) == (watch, "may act")


def test_the_network_is_unknown_while_the_node_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.rpc, "chain_id", lambda w3: (_ for _ in ()).throw(OSError()))
    with pytest.raises(ChainUnavailable, match="chain id: the node can't be reached"):
        _ = world.sender.chain_id


def test_a_call_becomes_an_operation_of_its_sender(world: World) -> None:
    call = Call(CONTRACT, "cancelEvent", b"d")  # type: ignore[arg-type]
    assert world.sender.draft(call, SOMEBODY).sender == SOMEBODY.address
    draft = world.sender.draft(call, None)
    assert (draft.call, draft.chain_id, draft.sender, draft.subject) == (call, 5, OPERATOR.address, None)
    assert (draft.person, draft.seal) == (None, world.sealer.seal)
    finished = list[Any]()
    world.parts.finish = lambda each, signer: finished.append((each.state, each.sender, signer))
    world.sender.send(call, SOMEBODY)
    assert finished == [("prepared", SOMEBODY.address, SOMEBODY)]


def test_the_error_of_a_closed_operation_is_raised(world: World) -> None:
    world.sender.check_success(operation("confirmed"))
    with pytest.raises(Superseded, match="over"):
        world.sender.check_success(operation("failed", error={"code": "superseded", "message": "over"}))
    assert world.sender.receipt(operation("confirmed")) is None
    assert world.log[-1] == "receipt of confirmed"
