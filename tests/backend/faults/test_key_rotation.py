"""The platform's key is rotated: what the old account began ends under the old key, and new orders are the new one's.

People without a wallet are entered under an address of its own (`CUSTODY_ADDRESS`), before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from app.bootstrap.access_checks import check_keys
from app.bootstrap.services import build_services
from app.db.tables import users
from app.services.blockchain_service import BlockchainService
from app.services.interventions import approve_operation
from app.services.operation_types import HeldCause, Operation
from app.services.transactions.accounts import derived_sealer
from app.services.transactions.limits import ORDERS, Amounts, Sealer, derived_seal_key
from app.services.transactions.sender import TransactionSender
from app.services.transactions.spending import Entry, read_entry
from eth_account import Account
from eth_account.signers.local import LocalAccount
from fault_environment import POLICY, FaultEnvironment, NodeConnection, all_operations, effects, http
from sqlalchemy import update
from web3 import Web3

pytestmark = pytest.mark.slow
NEW = Account.from_key("0x" + "8c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362319")
OWNER = Account.from_key("0x" + "5e" * 32)
ETH = 10**18
CUSTODY = "0x00000000000000000000000000000000000c0571"


def with_keys(environment: FaultEnvironment, *accounts: LocalAccount, **policy: Any) -> FaultEnvironment:
    """Returns a process with these keys, of which the first is the platform's."""
    platform, *previous = accounts
    connection = NodeConnection(http(environment.engine), environment.database)
    w3 = Web3(connection, [])
    keys = {account.address: derived_seal_key(account) for account in previous}
    sealer = Sealer(platform.address, [derived_seal_key(platform)], keys)
    policy_of_process = replace(POLICY, **policy)
    sender = TransactionSender(w3, platform, environment.database, policy_of_process, previous=previous, sealer=sealer)
    chain = BlockchainService(w3, environment.address, sender, CUSTODY)
    services = build_services(w3, environment.database, chain, environment.services.pricing)
    environment.opened.append(services)
    return replace(environment, connection=connection, services=services)


def without_wallets(environment: FaultEnvironment) -> None:
    with environment.database.transaction() as connection:
        connection.execute(update(users).values(wallet_address=None))


def as_platform(environment: FaultEnvironment, function: str, *arguments: Any, by: LocalAccount) -> None:
    """Calls a function of ownership, in a block of its own."""
    abi = [{"type": "function", "name": function, "stateMutability": "nonpayable", "outputs": []}]
    abi[0]["inputs"] = [{"name": "", "type": "address" if len(str(each)) == 42 else "bool"} for each in arguments]  # type: ignore[assignment]
    contract = environment.w3.eth.contract(Web3.to_checksum_address(environment.address), abi=abi)
    fields = {"from": by.address, "nonce": environment.w3.eth.get_transaction_count(by.address), "gas": 100_000}
    signed = by.sign_transaction(contract.functions[function](*arguments).build_transaction(fields))  # type: ignore[arg-type]
    environment.foreign.add(signed.hash.to_0x_hex())
    environment.w3.eth.send_raw_transaction(signed.raw_transaction)
    environment.mine()
    assert environment.w3.eth.get_transaction_receipt(signed.hash)["status"] == 1


def hand_over(environment: FaultEnvironment) -> None:
    """Makes the new account the contract's owner."""
    environment.rpc("anvil_setBalance", NEW.address, hex(10**21))
    as_platform(environment, "transferOwnership", NEW.address, by=environment.platform)
    as_platform(environment, "acceptOwnership", by=NEW)


def give_to_owner(environment: FaultEnvironment) -> None:
    """Makes another account the contract's owner, and the platform's account its operator."""
    environment.rpc("anvil_setBalance", OWNER.address, hex(10**21))
    as_platform(environment, "transferOwnership", OWNER.address, by=environment.platform)
    as_platform(environment, "acceptOwnership", by=OWNER)
    as_platform(environment, "setOperator", environment.platform.address, True, by=OWNER)


def spent(operation: Operation) -> int:
    """What a final operation cost in wei."""
    return operation.value_wei + (operation.gas_used or 0) * (operation.gas_price_wei or 0)


def finish(environment: FaultEnvironment, open_ones: Sequence[Operation]) -> list[Operation]:
    """Lets the reconciler alone carry everything on, as after a restart."""
    for _ in range(12):
        environment.services.reconciler.run_once(timedelta())
        environment.mine()
    environment.services.reconciler.run_once(timedelta())
    return [environment.find(operation) for operation in open_ones]


def test_operations_in_every_state_end_under_the_old_key(environment: FaultEnvironment) -> None:
    without_wallets(environment)
    old = environment.platform
    before = with_keys(environment, old)
    run = before.open_run(seats=6)

    mined = before.follow(before.prepare_booking(run))
    before.mine()
    mined = before.follow(mined)
    submitted = before.step(before.step(before.prepare_booking(run)))
    sender = before.services.sender
    signed = sender._signer.sign_first(before.prepare_booking(run), old, sender.policy, sender.limits)
    cancelled = before.prepare_booking(run)
    prepared = cancelled
    states = [before.find(each).state for each in (mined, submitted, signed, prepared)]
    assert states == ["mined", "submitted", "signed", "prepared"]

    after = with_keys(before, NEW, old)
    environment.rpc("anvil_setBalance", NEW.address, hex(10**21))
    check = check_keys(after.database, sender.chain_id, after.services.sender.accounts)
    assert (check.ok, check.finding) == (True, f"4 open operations need the previous key of {old.address}.")
    ended = finish(after, [mined, submitted, signed, prepared])
    assert [(each.state, each.sender) for each in ended] == [("confirmed", old.address)] * 4
    assert set(effects(after).values()) == {1}
    hand_over(after)

    check = check_keys(after.database, sender.chain_id, after.services.sender.accounts)
    assert check.finding == "No previous key is needed any more: take it out of the settings."
    alone = with_keys(after, NEW)
    new = alone.settle(alone.prepare_booking(run))
    assert (new.state, new.sender, new.kind) == ("confirmed", NEW.address, "bookEventFor")
    assert set(effects(alone).values()) == {1}
    booked = {row.user for row in map(alone.services.chain.get_booking_from_chain, range(1, 6))}
    assert booked == {CUSTODY}, "custody is the same before and after"
    report = alone.services.reconciler.dry_run()
    assert (report.differences, report.pending) == ([], [])


def test_the_owner_rotates_operators(environment: FaultEnvironment) -> None:
    """It is neither of the operators. The old one is removed once its operations have ended."""
    without_wallets(environment)
    give_to_owner(environment)
    old = environment.platform
    before = with_keys(environment, old)
    run = before.open_run(seats=6)
    booked = before.settle(before.prepare_booking(run))
    submitted = before.step(before.step(before.prepare_booking(run)))
    sender = before.services.sender
    signed = sender._signer.sign_first(before.prepare_booking(run), old, sender.policy, sender.limits)
    prepared = before.prepare_booking(run)

    environment.rpc("anvil_setBalance", NEW.address, hex(10**21))
    as_platform(environment, "setOperator", NEW.address, True, by=OWNER)
    after = with_keys(before, NEW, old)
    new = after.step(after.step(after.prepare_booking(run)))
    ended = finish(after, [submitted, signed, prepared, new])
    assert [(each.state, each.sender) for each in ended] == [("confirmed", old.address)] * 3 + [
        ("confirmed", NEW.address)
    ]
    as_platform(environment, "setOperator", old.address, False, by=OWNER)

    alone = with_keys(after, NEW)
    cancelled = alone.settle(alone.services.bookings.prepare_cancel(booked.subject))
    last = alone.settle(alone.prepare_booking(run))
    assert [(each.state, each.sender) for each in (cancelled, last)] == [("confirmed", NEW.address)] * 2
    assert set(effects(alone).values()) == {1}
    users_on_chain = {row.user for row in map(alone.services.chain.get_booking_from_chain, range(1, 7))}
    assert users_on_chain == {CUSTODY}, "custody is the same before and after"
    report = alone.services.reconciler.dry_run()
    assert (report.differences, report.pending) == ([], [])


def test_orders_of_an_operator_that_the_owner_removed_end_and_can_be_placed_anew(environment: FaultEnvironment) -> None:
    """As after a theft: what the old operator sent has no effect any more, and what was booked under it is refunded."""
    without_wallets(environment)
    give_to_owner(environment)
    old = environment.platform
    before = with_keys(environment, old)
    run = before.open_run(seats=6)
    booked = before.settle(before.prepare_booking(run))
    sender = before.services.sender
    signed = sender._signer.sign_first(before.prepare_booking(run), old, sender.policy, sender.limits)
    prepared = before.prepare_booking(run)
    environment.rpc("anvil_setBalance", NEW.address, hex(10**21))
    as_platform(environment, "setOperator", NEW.address, True, by=OWNER)
    as_platform(environment, "setOperator", old.address, False, by=OWNER)
    after = with_keys(before, NEW, old)
    ended = finish(after, [signed, prepared])
    assert [(each.state, (each.error or {}).get("name")) for each in ended] == [
        ("failed", "OwnableUnauthorizedAccount"),
        ("rejected", "OwnableUnauthorizedAccount"),
    ]
    assert after.settle(after.prepare_booking(run)).sender == NEW.address
    cancelled = after.settle(after.services.bookings.prepare_cancel(booked.subject))
    assert (cancelled.state, cancelled.sender) == ("confirmed", NEW.address)
    assert environment.w3.eth.get_balance(Web3.to_checksum_address(CUSTODY)) == booked.value_wei


def test_a_stuck_transaction_of_the_old_key_is_replaced_under_the_old_key(environment: FaultEnvironment) -> None:
    """Its fees are too low for all blocks; only the old key can sign it anew with the same nonce."""
    without_wallets(environment)
    before = with_keys(environment, environment.platform)
    run = before.open_run()
    stuck = before.step(before.step(before.prepare_booking(run)))
    environment.rpc("anvil_dropAllTransactions")
    environment.mine_at(stuck.attempts[0].max_fee_per_gas * 6)
    without = with_keys(before, NEW, bump_after=0)
    assert without.services.sender.step(stuck).attempts == stuck.attempts
    check = check_keys(without.database, stuck.chain_id, without.services.sender.accounts)
    assert (check.ok, check.finding) == (
        False,
        f"1 open operations are from {environment.platform.address}, whose key is not here.",
    )
    after = with_keys(before, NEW, environment.platform, bump_after=0)
    [ended] = finish(after, [stuck])
    assert (ended.state, ended.sender, ended.nonce) == ("confirmed", environment.platform.address, stuck.nonce)
    assert len(ended.attempts) > len(stuck.attempts)
    assert effects(after)[stuck.key] == 1


def test_the_limit_of_a_day_holds_for_all_accounts_together(environment: FaultEnvironment) -> None:
    """A rotation makes no room: what the old account spent counts, and it signs no more orders without approval."""
    without_wallets(environment)
    amounts = Amounts(operation_wei=10 * ETH, person_day_wei=20 * ETH, day_wei=20 * ETH)
    before = with_keys(environment, environment.platform, amounts=amounts)
    run = before.open_run(seats=10)
    booked = before.settle(before.prepare_booking(run))
    left = before.prepare_booking(run)
    signed = before.step(before.prepare_booking(run))
    doomed = before.services.bookings.prepare_cancel(booked.subject)
    after = with_keys(before, NEW, environment.platform, amounts=amounts)
    [held, ended, cancelled] = finish(after, [left, signed, doomed])
    assert [(each.state, each.sender) for each in (ended, cancelled)] == [
        ("confirmed", environment.platform.address)
    ] * 2
    assert (held.state, held.held_cause, held.attempts) == ("prepared", HeldCause.ABOVE_LIMIT, [])
    assert "was the platform's account before" in (held.held or "")

    hand_over(after)
    orders = [each for each in all_operations(after.database) if each.kind in ORDERS and each.attempts]
    tight = replace(amounts, day_wei=sum(map(spent, orders)) + 10**15)
    after = with_keys(after, NEW, environment.platform, amounts=tight)
    order = after.step(after.prepare_run())
    assert (order.held_cause, order.sender) == (HeldCause.ABOVE_LIMIT, NEW.address)
    assert "the last 24 hours" in (order.held or "")
    roomy = with_keys(after, NEW, environment.platform, amounts=amounts)
    assert roomy.settle(roomy.prepare_run()).state == "confirmed"


def test_an_order_of_the_old_account_that_a_person_approves_is_signed(environment: FaultEnvironment) -> None:
    without_wallets(environment)
    amounts = Amounts(operation_wei=10 * ETH, person_day_wei=20 * ETH, day_wei=20 * ETH)
    before = with_keys(environment, environment.platform, amounts=amounts)
    run = before.open_run()
    left = before.prepare_booking(run)
    after = with_keys(before, NEW, environment.platform, amounts=amounts)
    assert after.step(left).held_cause == HeldCause.ABOVE_LIMIT
    approve_operation(after.database, after.services.sender.sealer, left.key, "operator")
    [ended] = finish(after, [left])
    assert (ended.state, ended.sender) == ("confirmed", environment.platform.address)


def test_an_approval_under_the_old_key_holds_after_the_rotation(environment: FaultEnvironment) -> None:
    """So do the entries under its seal: fees are raised no further than was counted."""
    without_wallets(environment)
    amounts = Amounts(operation_wei=ETH // 1000, person_day_wei=20 * ETH, day_wei=20 * ETH)
    before = with_keys(environment, environment.platform, amounts=amounts)
    large = before.step(before.prepare_run())
    assert large.held_cause == HeldCause.ABOVE_LIMIT
    approve_operation(before.database, before.services.sender.sealer, large.key, "operator")
    after = with_keys(before, NEW, environment.platform, amounts=amounts)
    [ended] = finish(after, [large])
    assert (ended.state, ended.sender, ended.spending["wei"]) == ("confirmed", environment.platform.address, 0)  # type: ignore[index]


def test_an_entry_below_nothing_is_none() -> None:
    """A previous account's key that leaked seals no entry that makes room for the present one."""
    old = Account.create()
    sealer = Sealer(NEW.address, [derived_seal_key(NEW)], {old.address: derived_seal_key(old)})
    for wei, is_known in ((5, True), (-5, False)):
        entry = Entry(3, 1, wei, "", 0, "key")
        stored = entry.to_json(1, old.address, derived_sealer(old))
        assert (read_entry(1, old.address, 3, "key", stored, sealer) is not None) == is_known
        assert read_entry(1, NEW.address, 3, "key", stored, sealer) is None


def test_a_gap_among_the_old_accounts_nonces_is_filled_under_the_old_key(environment: FaultEnvironment) -> None:
    without_wallets(environment)
    before = with_keys(environment, environment.platform)
    run = before.open_run()
    first, second = before.prepare_booking(run), before.prepare_booking(run)
    sender = before.services.sender
    first = sender._signer.sign_first(first, environment.platform, sender.policy, sender.limits)
    second = sender._signer.sign_first(second, environment.platform, sender.policy, sender.limits)
    with before.database.transaction() as connection:  # the database lost the first one
        connection.exec_driver_sql("DELETE FROM operations WHERE key = %s", (first.key,))
    after = with_keys(before, NEW, environment.platform)
    [ended] = finish(after, [second])
    assert (ended.state, ended.nonce) == ("confirmed", second.nonce)
    filled = [each for each in all_operations(after.database) if each.kind == "fillNonceGap"]
    assert [(each.sender, each.nonce) for each in filled] == [(environment.platform.address, first.nonce)]


def test_an_old_order_that_the_contract_refuses_by_now_is_rejected_and_can_be_placed_anew(
    environment: FaultEnvironment,
) -> None:
    without_wallets(environment)
    before = with_keys(environment, environment.platform)
    run = before.open_run()
    prepared = before.prepare_booking(run)
    hand_over(before)
    after = with_keys(before, NEW, environment.platform)
    [ended] = finish(after, [prepared])
    assert (ended.state, ended.attempts) == ("rejected", [])
    assert after.settle(after.prepare_booking(run)).sender == NEW.address


def test_a_leaked_key_signs_nothing_and_its_order_can_be_placed_anew(environment: FaultEnvironment) -> None:
    without_wallets(environment)
    before = with_keys(environment, environment.platform)
    run = before.open_run()
    prepared = before.prepare_booking(run)
    hand_over(before)
    after = with_keys(before, NEW)
    [ended] = finish(after, [prepared])
    assert (ended.state, ended.attempts) == ("rejected", [])
    assert "the key of" in str(ended.error)
    forged = derived_sealer(environment.platform)
    assert not after.services.sender.sealer.has_sealed(replace(prepared, seal=prepared.seal))
    assert forged.has_sealed(prepared)
    assert after.settle(after.prepare_booking(run)).sender == NEW.address


def test_refunds_of_people_without_a_wallet_go_to_the_custody_address(environment: FaultEnvironment) -> None:
    without_wallets(environment)
    before = with_keys(environment, environment.platform)
    run = before.open_run()
    booking = before.settle(before.prepare_booking(run))
    held_before = environment.w3.eth.get_balance(Web3.to_checksum_address(CUSTODY))
    hand_over(before)
    after = with_keys(before, NEW)
    cancelled = after.settle(after.services.bookings.prepare_cancel(booking.subject))
    assert (cancelled.state, cancelled.sender) == ("confirmed", NEW.address)
    refunded = environment.w3.eth.get_balance(Web3.to_checksum_address(CUSTODY)) - held_before
    assert refunded == booking.value_wei
