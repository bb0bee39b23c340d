"""withdrawPlatformFees: the owner withdraws what the platform earned and nothing else."""

import pytest

from tests.contracts.conftest import BOOKING_COST, HOST_STAKE, PRICE, ROLES

FEE_AND_FORFEITS = PRICE * 5 // 100 + PRICE * 20 // 100
"""Of a completed run whose one attendee stayed away, in wei."""


@pytest.mark.parametrize("role", ROLES)
def test_only_the_owner_withdraws(chain, contract, callers, host, role):
    error = callers.error(role, "withdrawPlatformFees")
    assert error == ("NothingToWithdraw" if role == "owner" else "OwnableUnauthorizedAccount")
    at = chain.start_of(contract, callers.run_id)
    chain.transact(contract.functions.completeEvent(callers.run_id, []), host, at=at)
    error = callers.error(role, "withdrawPlatformFees")
    assert error == (None if role == "owner" else "OwnableUnauthorizedAccount")


def test_fees_leave_escrow_and_credits(chain, contract, platform):
    """While another run is open, and a third party has a credit."""
    completed_run, open_run = chain.create_run(contract), chain.create_run(contract)
    chain.book(contract, completed_run)
    chain.book(contract, open_run, seats=2)
    refused = chain.book(contract, open_run, attendee=chain.deploy("RefusingReceiver").address)
    chain.transact(contract.functions.cancelBooking(refused), platform)
    withdraw_fees = contract.functions.withdrawPlatformFees()
    assert chain.revert_error(withdraw_fees, platform) == "NothingToWithdraw"
    chain.settle(contract, completed_run, "complete", attended=[])
    assert contract.functions.platformBalance().call() == FEE_AND_FORFEITS
    before = chain.balance(platform.address)
    receipt = chain.transact(withdraw_fees, platform)
    gas_cost = receipt.gasUsed * receipt.effectiveGasPrice
    assert chain.balance(platform.address) == before + FEE_AND_FORFEITS - gas_cost
    withdrawn = dict(contract.events.PlatformFeesWithdrawn().process_log(receipt.logs[0])["args"])
    assert withdrawn == {"to": platform.address, "amount": FEE_AND_FORFEITS}
    escrow, credit = 2 * BOOKING_COST + HOST_STAKE, BOOKING_COST
    assert chain.balance(contract.address) == escrow + credit == contract.functions.totalLiabilities().call()
    assert chain.revert_error(withdraw_fees, platform) == "NothingToWithdraw"


def test_owner_that_takes_no_ether_keeps_the_fees_in_the_contract(chain, contract, platform):
    run_id = chain.create_run(contract)
    chain.book(contract, run_id)
    chain.settle(contract, run_id, "complete", attended=[])
    owner = chain.deploy("RefusingReceiver")
    chain.transact(contract.functions.transferOwnership(owner.address), platform)
    for function in ("acceptOwnership", "withdrawPlatformFees"):
        call = owner.functions.execute(contract.address, 0, contract.encode_abi(function, []))
        if function == "acceptOwnership":
            chain.transact(call, platform)
    assert chain.revert_error(call, platform) == "TransferFailed"
    assert contract.functions.platformBalance().call() == FEE_AND_FORFEITS


def test_forced_ether_is_nobodys_and_changes_no_settlement(chain, contract, host, platform):
    run_id = chain.create_run(contract)
    chain.book(contract, run_id)
    liabilities = contract.functions.totalLiabilities().call()
    chain.deploy("EtherForcer", contract.address, value=5)
    assert chain.balance(contract.address) == liabilities + 5
    assert contract.functions.totalLiabilities().call() == liabilities
    assert chain.revert_error(contract.functions.withdrawPlatformFees(), platform) == "NothingToWithdraw"
    chain.transact(contract.functions.cancelEvent(run_id), host)
    assert chain.balance(contract.address) == 5


def test_plain_ether_is_refused(chain, contract, host):
    w3 = chain.engine.w3
    transaction = {
        "to": contract.address,
        "value": 1,
        "gas": 100_000,
        "nonce": w3.eth.get_transaction_count(host.address),
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
        "chainId": w3.eth.chain_id,
    }
    tx_hash = w3.eth.send_raw_transaction(host.sign_transaction(transaction).raw_transaction)
    assert w3.eth.wait_for_transaction_receipt(tx_hash).status == 0
    assert chain.balance(contract.address) == 0
