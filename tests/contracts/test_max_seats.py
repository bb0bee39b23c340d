"""A run at MAX_SEATS with one hostile attendee per seat settles in one transaction, below the gas cap of EIP-7825.

docs/decisions/0008-largest-run.md has a table of the figures that this module measures.
"""

from contextlib import closing

import pytest
from stakesim.evm.client import open_client
from stakesim.evm.compiler import compile_contracts
from stakesim.evm.engines import open_engine
from stakesim.evm.required_abi import stake_abi
from stakesim.model.rules import MAX_SEATS
from web3.exceptions import Web3RPCError
from web3.logs import DISCARD

from tests.contracts.conftest import Chain

TRANSACTION_GAS_CAP = 16_777_216
"""Largest gas limit of a transaction under EIP-7825: 2^24."""

HOSTILE = "BurningReceiver"
"""The receiver that costs most gas: it burns the whole stipend, and the contract must write a credit for it."""


def hostile_receiver(chain, *, delegated: bool) -> str:
    """Address of a receiver that burns all gas: a contract, or an account that delegates to one of its own (EIP-7702).

    A payment to the latter costs another access to a cold account.
    """
    address = chain.deploy(HOSTILE).address
    return chain.delegate(address) if delegated else address


def gas_to_settle(chain, settlement: str, seats: int, *, delegated: bool) -> int:
    """Gas to settle a run with `seats` hostile attendees and a hostile host, each of whom is owed a first credit."""
    contract = chain.deploy_event_stake()
    receivers = [hostile_receiver(chain, delegated=delegated) for _ in range(1 + seats)]
    run_id = chain.create_run(contract, host=receivers.pop(), seats=seats)
    bookings = [chain.book(contract, run_id, attendee=receiver) for receiver in receivers]
    return settle_all_deferred(chain, contract, run_id, bookings, settlement)


def settle_all_deferred(chain, contract, run_id: int, bookings: list[int], settlement: str) -> int:
    """Settles a run of hostile people, checks that nobody took a payment, and returns the gas used."""
    receipt = chain.settle(contract, run_id, settlement, attended=bookings)
    deferred = contract.events.PaymentDeferred().process_receipt(receipt, errors=DISCARD)
    assert len(deferred) == len(bookings) + (settlement != "expire")
    return receipt.gasUsed


def test_contract_and_model_have_the_same_max_seats(contract):
    assert contract.functions.MAX_SEATS().call() == MAX_SEATS


@pytest.mark.slow
@pytest.mark.parametrize("delegated", [False, True], ids=["contracts", "delegated"])
@pytest.mark.parametrize("settlement", ["complete", "cancel", "expire"])
def test_largest_run_settles_below_the_gas_cap(chain, settlement, delegated, profile):
    """Measures the full run; the quick profile extrapolates from two small runs, as gas is linear in the seats."""
    if delegated and chain.engine.name == "revm":
        pytest.skip("revm runs Cancun's rules, under which no account delegates")
    if profile == "quick":
        gas_of_2, gas_of_6 = (gas_to_settle(chain, settlement, seats, delegated=delegated) for seats in (2, 6))
        gas = gas_of_6 + (gas_of_6 - gas_of_2) * (MAX_SEATS - 6) // 4
    else:
        gas = gas_to_settle(chain, settlement, MAX_SEATS, delegated=delegated)
        print(f"{settlement}: {gas} gas of {TRANSACTION_GAS_CAP}")  # noqa: T201 - a figure of that table
    assert gas < TRANSACTION_GAS_CAP


@pytest.mark.slow
def test_largest_run_settles_on_a_node_that_enforces_the_gas_cap(profile):
    """A node with Osaka's rules, as Sepolia has them, takes no transaction with more gas than the cap."""
    with closing(open_engine("anvil:osaka")) as engine:
        chain, client, abi = Chain(engine, compile_contracts()), open_client(engine, direct=False), stake_abi()
        platform, contract = chain.platform, chain.deploy_event_stake()
        init_code = bytes.fromhex(chain.artifacts[HOSTILE].bytecode.removeprefix("0x"))
        receivers = [client.transact(platform, None, init_code).contract_address for _ in range(1 + MAX_SEATS)]
        if profile == "deep":
            receivers = [chain.delegate(receiver) for receiver in receivers]
        run_id = chain.create_run(contract, host=receivers.pop(), seats=MAX_SEATS)
        cost = contract.functions.calculateBookingCost(run_id, 1).call()[2]
        for receiver in receivers:
            booking = abi.encode("bookEventFor", receiver, run_id, 1)
            assert client.transact(platform, contract.address, booking, cost).ok
        full, bookings = engine.snapshot(), contract.functions.getEventBookings(run_id).call()
        assert len(bookings) == MAX_SEATS
        for settlement in ("complete", "cancel", "expire"):
            engine.revert(full)
            assert settle_all_deferred(chain, contract, run_id, bookings, settlement) < TRANSACTION_GAS_CAP
        engine.revert(full)
        with pytest.raises(Web3RPCError, match="tx_gas_limit_cap"):
            chain.send(contract.functions.cancelEvent(run_id), platform, gas=TRANSACTION_GAS_CAP + 1)
