"""Further attempts of an operation with its nonce: raised fees, other gas, no effect. With stand-ins, as a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from app.core.errors import Superseded
from app.services.operation_types import Attempt, Operation
from app.services.rpc_refusals import RefusalKind
from app.services.rpc_types import BlockHeader
from app.services.transactions import signer as module
from app.services.transactions.accounts import SignerError
from app.services.transactions.limits import Limits
from app.services.transactions.signer import TRANSFER_GAS
from test_signer_rules import (
    ACCOUNT,
    AMOUNTS,
    BASE_FEE,
    GAS,
    HEAD,
    LIMITS,
    OLD,
    PLATFORM,
    POLICY,
    World,
    operation,
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "checksummed", lambda address: address)
    return World(monkeypatch)


# -------------------------------------------------------------------------------------------------- further attempts


def bump(world: World, given: Operation, *, at_once: bool = False, limits: Limits = LIMITS) -> Operation:
    world.stored = world.stored or given
    return world.signer.raise_fees(given, ACCOUNT, POLICY, limits, at_once=at_once)


@pytest.mark.parametrize(
    ("last", "at_once", "outcome"),
    [
        (OLD, False, "sign 4 gas 60000 fees 5120 1120 10 20 False"),
        (replace(OLD, signed_block=18), False, "sign 4 gas 60000 fees 5120 1120 10 20 False"),
        (replace(OLD, no_effect=True), False, "sign 4 gas 60000 fees 5120 1120 10 20 True"),
        (replace(OLD, signed_block=19), False, None),
        (replace(OLD, signed_block=20), False, "no_blocks: no block has been mined since block 20"),
        (replace(OLD, latest_block=20), False, "no_blocks: no block has been mined since block 20"),
        (replace(OLD, latest_block=21), False, "no_blocks: no block has been mined since block 21"),
        (replace(OLD, signed_block=20), True, "sign 4 gas 60000 fees 5120 1120 10 20 False"),
        (replace(OLD, signed_block=19), True, "sign 4 gas 60000 fees 5120 1120 10 20 False"),
        (replace(OLD, max_fee_per_gas=10_001), False, "fees_at_cap: fees can't be raised above the cap of 11000"),
    ],
)
def test_fees_are_raised_once_blocks_were_mined(world: World, last: Attempt, at_once: bool, outcome: Any) -> None:
    given = operation(attempts=[last])
    after = bump(world, given, at_once=at_once)
    if outcome and outcome.startswith("sign"):
        assert world.log[0] == outcome
        assert [each.tx_hash for each in after.attempts] == ["0xold", "0xnew"]
        assert after.attempts[0] is last
    else:
        assert after.attempts == [last]
        assert f"{after.held_cause}: {after.held}".startswith(outcome or "None: None")


def mend(world: World, kind: str | None, given: Operation) -> list[str]:
    world.log.clear()
    world.stored = given
    after = world.signer.mend(given, ACCOUNT, POLICY, LIMITS, kind and RefusalKind[kind])  # type: ignore[arg-type]
    signed = [step for step in world.log if step.startswith("sign")]
    assert len(after.attempts) == len(given.attempts) + len(signed)
    assert after.state == given.state
    return signed


def attempts(*changes: dict[str, Any]) -> Operation:
    return operation(attempts=[replace(OLD, **each) for each in changes])


@pytest.mark.parametrize(
    ("kind", "given", "signed"),
    [
        ("FEE_CAP", attempts({}), ["sign 4 gas 60000 fees 3250 1000 10 20"]),
        ("FEE_CAP", attempts({"max_fee_per_gas": 3_251}), ["sign 4 gas 60000 fees 3250 1000 10 20"]),
        ("FEE_CAP", attempts({"max_fee_per_gas": 3_250}), []),
        ("FEE_CAP", attempts({"max_fee_per_gas": 3_250}, {}), []),  # it was tried
        ("INTRINSIC_GAS", attempts({}), [f"sign 4 gas {GAS} fees 4000 1000 10 20"]),
        ("INTRINSIC_GAS", attempts({"gas_limit": GAS}), []),
        ("INTRINSIC_GAS", attempts({"gas_limit": GAS + 1}), []),
        ("GAS_LIMIT", attempts({}), []),
        ("GAS_LIMIT", attempts({"gas_limit": GAS}), []),
        ("GAS_LIMIT", attempts({"gas_limit": GAS + 1}), [f"sign 4 gas {GAS} fees 4000 1000 10 20"]),
        ("GAS_LIMIT", attempts({"gas_limit": GAS}, {"gas_limit": GAS + 1}), []),
        ("GAS_LIMIT", attempts({"gas_limit": GAS + 1, "no_effect": True}), []),
        ("INVALID", attempts({}), []),
        (None, attempts({}), []),
    ],
)
def test_a_transaction_is_mended_where_other_fees_or_gas_do_it(
    world: World, kind: str | None, given: Operation, signed: list[str]
) -> None:
    assert mend(world, kind, given) == signed
    assert ("estimate" in world.log) == (kind in ("INTRINSIC_GAS", "GAS_LIMIT") and not given.given_up)


def test_nothing_is_mended_without_an_estimate(world: World) -> None:
    world.estimate = operation(held="poor")
    assert mend(world, "INTRINSIC_GAS", attempts({})) == []
    assert mend(world, "FEE_CAP", attempts({})) != []


@pytest.mark.parametrize(
    ("last", "base_fee", "signed"),
    [
        (OLD, BASE_FEE, [f"sign 4 gas {TRANSFER_GAS} fees 5120 1120 10 20 True"]),
        (replace(OLD, max_fee_per_gas=10_999), BASE_FEE, [f"sign 4 gas {TRANSFER_GAS} fees 5000 1000 10 20 True"]),
        (replace(OLD, max_fee_per_gas=10_999), 10_001, []),
        (replace(OLD, no_effect=True), BASE_FEE, []),
    ],
)
def test_a_nonce_is_given_up_by_a_transaction_without_effect(
    world: World, last: Attempt, base_fee: int, signed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    world.header = BlockHeader(HEAD, "", "", 0, base_fee)
    world.fault, world.is_paused = "a limit does not matter", True
    given = world.stored = operation(attempts=[last], held="words")
    after = world.signer.give_up_nonce(given, ACCOUNT, POLICY)
    assert [step for step in world.log if step.startswith("sign")] == signed
    if signed:
        assert after.error is not None
        message = "bookEventFor had no effect: words. A transaction without effect used its nonce."
        assert (after.error["code"], after.error["message"]) == ("transaction_refused", message)
        assert world.log[-1] == "covers False"
        world.stored = given
        after = world.signer.give_up_nonce(given, ACCOUNT, POLICY, Superseded("over"))
        assert (after.error or {})["message"] == "over"
    assert TRANSFER_GAS == 21_000
    assert bool(caplog.records) == after.given_up


@pytest.mark.parametrize(
    ("known", "outcome"),
    [
        ({}, "signed"),
        ({"header": BlockHeader(HEAD, "", "", 0, 10_001)}, None),
        ({"sign_error": SignerError("timeout", "silence")}, None),
        ({"signs_nothing": True}, None),
    ],
)
def test_a_gap_is_filled_by_a_transaction_to_the_account_itself(
    world: World, known: dict[str, Any], outcome: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    vars(world).update(known)
    filling = world.signer.fill_gap(ACCOUNT, 5, 3, POLICY)
    assert (filling and filling.state) == outcome
    created = ["sign 3 gas 21000 fees 5000 1000 20", f"create fillNonceGap:5:{PLATFORM}:3 5 {PLATFORM}"]
    assert world.log == ([] if "header" in known or "sign_error" in known else created)
    assert len(caplog.records) == (outcome is not None or "sign_error" in known)


# ------------------------------------------------------------------------------------------------- with the row locked


@pytest.mark.parametrize(
    ("known", "outcome"),
    [
        ({}, "0xnew"),
        ({"is_paused": True}, "caller's"),
        ({"stored": operation("submitted")}, "0xnew"),
        ({"stored": operation("mined")}, "stored"),
        ({"stored": operation("prepared")}, "stored"),
        ({"stored": operation(attempts=[OLD, OLD])}, "stored"),
        ({"stored": operation(attempts=[])}, "stored"),
        ({"stored": operation(abandoned_at="then")}, "stored"),
        ({"fault": "a fault"}, "limit: a fault"),
        ({"sealed": False, "mismatch": "no"}, "limit: it was not stored by this service"),
        ({"sealed": False}, "0xnew"),
        ({"covers": False}, "fees_at_cap: another attempt would cost more than was counted for it"),
        ({"sign_error": SignerError("timeout", "silence")}, "signer: silence"),
    ],
)
def test_an_attempt_is_stored_if_all_is_as_it_was(world: World, known: dict[str, Any], outcome: str) -> None:
    vars(world).update(known)
    given = operation()
    after = bump(world, given)
    assert world.stored is not None
    if outcome == "0xnew":
        assert after.attempts[-1].tx_hash == outcome
    elif outcome in ("stored", "caller's"):
        assert after is (world.stored if outcome == "stored" else given)
    else:
        assert f"{after.held_cause}: {after.held}".startswith(outcome)


def test_a_pause_stops_no_exit_and_another_code_stops_all(world: World) -> None:
    world.is_paused = True
    assert len(bump(world, operation(kind="cancelEvent")).attempts) == 2
    world.is_paused, world.stored = False, None
    world.watch()
    assert len(bump(world, operation()).attempts) == 2
    world.watch(code_changed=True)
    given = operation()
    assert bump(world, given) is world.stored
    assert world.log[-1] == "covers False", "and nothing was signed"
    world.stored = given
    assert world.signer.give_up_nonce(given, ACCOUNT, POLICY).given_up


def test_what_was_counted_is_asked_by_the_limits(world: World, caplog: pytest.LogCaptureFixture) -> None:
    bump(world, operation(), limits=replace(LIMITS, amounts=AMOUNTS))
    assert world.log[-1] == "covers True"
    assert [record.getMessage() for record in caplog.records] == [
        "bookEventFor: fees raised to 5120 and 1120 wei per gas"
    ]
    world.stored = operation("mined")
    bump(world, operation())
    assert len(caplog.records) == 1
