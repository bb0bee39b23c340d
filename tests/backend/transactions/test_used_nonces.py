"""When an operation that is in no block starts over, fails, or gives its nonce up: as a table, with stand-ins."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from app.core.errors import Superseded
from app.services.operation_types import FILL_NONCE_GAP, NoEffect, Operation, UsedNonce
from app.services.rpc_refusals import RefusalKind
from app.services.transactions.conclusions import Mined
from app.services.transactions.mempool import Due, SendRefusal
from app.services.transactions.named_ids import Doubt
from test_unmined_rules import (
    ACCOUNT,
    HEAD,
    LIMITS,
    NEW,
    NOW,
    POLICY,
    RECEIPT,
    SIGNED_AT,
    World,
    given_up,
    held,
    operation,
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# ------------------------------------------------------------------------------------------------------ a used nonce


@pytest.mark.parametrize(
    ("given", "block", "outcome"),
    [
        (operation(), SIGNED_AT + 1, "start over"),
        (operation(), SIGNED_AT, "start over free"),
        (operation(requeued=1), SIGNED_AT + 1, "fail"),
        (operation(requeued=1), SIGNED_AT, "start over free"),
        (operation(requeued=1), SIGNED_AT - 1, "start over free"),
        (operation(reorged=True), SIGNED_AT + 1, "fail"),
        (operation(reorged=True), SIGNED_AT, "fail"),
        (given_up(), SIGNED_AT + 1, "fail"),
        (operation(abandoned_at=NOW), SIGNED_AT + 1, "fail"),
        (operation(kind=FILL_NONCE_GAP), SIGNED_AT + 1, "fail"),
        (held("limit"), SIGNED_AT + 1, "fail"),
        (held("refused"), SIGNED_AT + 1, "start over"),
    ],
)
def test_what_becomes_of_it_when_another_used_its_nonce(
    world: World, given: Operation, block: int, outcome: str
) -> None:
    other = SimpleNamespace(block_hash="0xblock")
    world.conclusion, world.used = NoEffect(given, UsedNonce("0xother", block, other)), 5  # type: ignore[arg-type]
    after = world.follow(given, "NONCE_TOO_LOW")
    if outcome == "fail":
        message = f"Superseded {given.kind} had no effect: its nonce 4 went to 0xother, which is not ours."
        assert world.log == ["conclude", f"fail {message} {{'block_number': {block}, 'block_hash': '0xblock'}}"]
        assert after.state == "failed"
    else:
        assert world.log == ["conclude", f"forget {given.state}", f"{outcome}: its nonce 4 went to 0xother"]
        assert after.state == "prepared"


@pytest.mark.parametrize("conclusion", [Mined(operation(), RECEIPT), operation("confirmed")])
def test_what_turns_out_to_be_done_goes_on_from_there(world: World, conclusion: Any) -> None:
    world.conclusion, world.used, world.due = conclusion, 5, Due(True, True)
    assert world.follow(operation()) is conclusion
    assert world.log == ["resend", "conclude"]


@pytest.mark.parametrize(
    ("revert", "given", "step"),
    [
        ("OutOfGas", operation("mined"), "start over: 0xmined ran out of gas"),
        ("OutOfGas", operation("mined", requeued=1), "fail"),
        ("OutOfGas", given_up(), "fail"),
        ("NotEnoughSeats", operation("mined"), "fail"),
    ],
)
def test_only_the_first_time_without_enough_gas_starts_over(
    world: World, revert: str, given: Operation, step: str
) -> None:
    world.revert = revert
    after = world.unmined.close_reverted(given, RECEIPT, {"gas_used": 7})
    message = "fail ContractRejected bookEventFor was refused by the contract: a reason. {'gas_used': 7}"
    assert world.log == ([message] if step == "fail" else [f"forget {given.state}", step])
    assert after.state == ("failed" if step == "fail" else "prepared")


# ----------------------------------------------------------------------------------------- doubts, and an old process


@pytest.mark.parametrize(
    ("given", "is_final", "steps"),
    [
        (operation(), False, []),
        (operation(), True, ["give up bookEventFor has no effect, and never will: doubt.", "send 0xnew"]),
        (operation("signed"), True, ["give up bookEventFor has no effect, and never will: doubt.", "send 0xnew"]),
        (operation("mined"), True, []),
    ],
)
def test_bytes_whose_numbers_mean_something_else_are_not_sent_again(
    world: World, given: Operation, is_final: bool, steps: list[str]
) -> None:
    assert world.unmined.check_before_resend(given, ACCOUNT, POLICY) is None  # type: ignore[arg-type]
    world.doubt = Doubt("doubt", is_final)
    changed = world.unmined.check_before_resend(given, ACCOUNT, POLICY)  # type: ignore[arg-type]
    assert changed is not None
    assert world.log == ["hold reorg: doubt", *steps]
    assert changed.given_up == bool(steps)
    world.log.clear()
    assert world.unmined.check_before_resend(given, None, POLICY) is not None
    assert world.log == ["hold reorg: doubt"]
    assert world.unmined.check_before_resend(given_up(), ACCOUNT, POLICY) is None, "it names nothing"  # type: ignore[arg-type]


def test_a_cancellation_says_why_a_node_refused_it(world: World) -> None:
    world.refusal = SendRefusal(RefusalKind.NO_FUNDS, "words")
    error, account = Superseded("over"), ACCOUNT
    changed, refusal = world.unmined.cancel(operation(), account, POLICY, error)  # type: ignore[arg-type]
    assert (changed.given_up, refusal, world.log) == (True, world.refusal, ["give up over", "send 0xnew"])
    world.signs = False
    assert world.unmined.cancel(given_up(), account, POLICY, error)[1] is None  # type: ignore[arg-type]
    assert world.unmined.cancel(operation(), account, POLICY, error)[1] is None  # type: ignore[arg-type]
    assert world.log[2:] == ["give up over"] * 2


@pytest.mark.parametrize(
    ("signed_block", "headers", "steps"),
    [
        (None, {SIGNED_AT: 1_000, HEAD: 1_060}, []),
        (None, {SIGNED_AT: 1_000, HEAD: 1_061}, ["raise", "send 0xnew"]),
        (12, {SIGNED_AT: 1_000, 12: 1_001, HEAD: 1_061}, []),
        (12, {SIGNED_AT: 1_061, 12: 1_000, HEAD: 1_061}, ["raise", "send 0xnew"]),
        (12, {SIGNED_AT: 1_000, HEAD: 1_061}, []),  # the node does not show the block
    ],
)
def test_old_fees_are_raised_by_the_times_of_blocks(
    world: World, signed_block: int | None, headers: dict[int, int], steps: list[str]
) -> None:
    world.headers = headers
    given = operation(attempts=[replace(NEW, latest_block=SIGNED_AT, signed_block=signed_block)])
    world.unmined.raise_old_fees(given, ACCOUNT, POLICY, LIMITS)  # type: ignore[arg-type]
    assert world.log == steps


def test_what_was_dropped_from_the_chain_is_not_mined_any_more(world: World) -> None:
    given = operation("mined", tx_hash="0xold", block_number=9, block_hash="0x9")
    dropped = world.unmined.return_to_mempool(given)
    assert (dropped.state, dropped.reorged) == ("submitted", True)
    assert (dropped.tx_hash, dropped.block_number, dropped.block_hash) == (None, None, None)
    assert world.log[1] == "forget submitted"
    world.has_sent = True
    assert world.unmined.has_sent(dropped)
