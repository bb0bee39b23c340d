"""withdraw and withdrawTo: a deferred payout belongs to its creditor, once."""

import pytest

from tests.contracts.conftest import BOOKING_COST, ROLES, ZERO_ADDRESS

OTHER = "0x" + "22" * 20
HOSTILE_RECEIVERS = ["RefusingReceiver", "BurningReceiver", "FloodingReceiver"]


@pytest.fixture(params=HOSTILE_RECEIVERS)
def creditor(request, chain, contract, platform):
    """A contract with a credit of one booking's cost."""
    receiver = chain.deploy(request.param)
    run_id = chain.create_run(contract)
    booking_id = chain.book(contract, run_id, attendee=receiver.address)
    chain.transact(contract.functions.cancelBooking(booking_id), platform)
    assert contract.functions.creditOf(receiver.address).call() == BOOKING_COST
    return receiver


def call_as(contract, creditor, function, *args):
    return creditor.functions.execute(contract.address, 0, contract.encode_abi(function, args))


@pytest.mark.parametrize("role", ROLES)
def test_who_has_no_credit_withdraws_nothing(callers, role):
    assert callers.error(role, "withdraw") == "NothingToWithdraw"
    assert callers.error(role, "withdrawTo", OTHER) == "NothingToWithdraw"


def test_credit_is_withdrawn_once_to_an_account_that_takes_it(chain, contract, creditor, platform):
    receipt = chain.transact(call_as(contract, creditor, "withdrawTo", OTHER), platform)
    withdrawn = dict(contract.events.CreditWithdrawn().process_log(receipt.logs[0])["args"])
    assert withdrawn == {"creditor": creditor.address, "to": OTHER, "amount": BOOKING_COST}
    assert chain.balance(OTHER) == BOOKING_COST
    assert contract.functions.creditOf(creditor.address).call() == 0
    assert chain.balance(contract.address) == contract.functions.totalLiabilities().call()
    again = call_as(contract, creditor, "withdrawTo", OTHER)
    assert chain.revert_error(again, platform) == "NothingToWithdraw"


def test_refused_withdrawal_keeps_the_credit(chain, contract, creditor, platform):
    assert chain.send(call_as(contract, creditor, "withdraw"), platform).status == 0
    assert contract.functions.creditOf(creditor.address).call() == BOOKING_COST
    assert chain.balance(contract.address) == contract.functions.totalLiabilities().call()


def test_receiver_that_cannot_be_paid_is_refused_first(chain, contract, stranger):
    for receiver in (ZERO_ADDRESS, contract.address):
        assert chain.revert_error(contract.functions.withdrawTo(receiver), stranger) == "InvalidReceiver"


def test_credits_of_several_payouts_add_up(chain, contract, platform):
    receiver = chain.deploy("RefusingReceiver")
    run_id = chain.create_run(contract)
    for _ in range(2):
        booking_id = chain.book(contract, run_id, attendee=receiver.address)
        chain.transact(contract.functions.cancelBooking(booking_id), platform)
    assert contract.functions.creditOf(receiver.address).call() == 2 * BOOKING_COST
    chain.transact(call_as(contract, receiver, "withdrawTo", OTHER), platform)
    assert chain.balance(OTHER) == 2 * BOOKING_COST
