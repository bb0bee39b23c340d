"""setOperator: the owner says who acts for the platform, and what such an account can't do."""

import pytest

from tests.contracts.conftest import BOOKING_COST, HOST_STAKE, PRICE, ROLES, ZERO_ADDRESS

OWNERS_FUNCTIONS = [
    ("pause", []),
    ("unpause", []),
    ("withdrawPlatformFees", []),
    ("setOperator", ["0x" + "22" * 20, True]),
    ("transferOwnership", ["0x" + "22" * 20]),
    ("renounceOwnership", []),
    ("acceptOwnership", []),
    ("withdraw", []),
    ("withdrawTo", ["0x" + "22" * 20]),
]


@pytest.mark.parametrize("role", ROLES)
def test_only_the_owner_names_operators(callers, stranger, role):
    error = callers.error(role, "setOperator", stranger.address, True)
    assert error == (None if role == "owner" else "OwnableUnauthorizedAccount")


@pytest.mark.parametrize("role", ROLES)
def test_view_says_who_is_an_operator(contract, callers, role):
    assert contract.functions.isOperator(callers.address(role)).call() == (role == "operator")


def test_event_says_what_was_set_also_twice(chain, contract, platform, stranger):
    for allowed in (True, True, False, False):
        receipt = chain.transact(contract.functions.setOperator(stranger.address, allowed), platform)
        (log,) = receipt.logs
        logged = dict(contract.events.OperatorSet().process_log(log)["args"])
        assert logged == {"account": stranger.address, "allowed": allowed}
        assert contract.functions.isOperator(stranger.address).call() == allowed
    assert contract.functions.isOperator(ZERO_ADDRESS).call() is False


@pytest.mark.parametrize(("function", "args"), OWNERS_FUNCTIONS, ids=[name for name, _ in OWNERS_FUNCTIONS])
def test_operator_can_do_nothing_that_is_the_owners(chain, contract, callers, host, function, args):
    """There are fees, escrow and a credit that it might want."""
    refuser, functions = chain.deploy("RefusingReceiver"), contract.functions
    owner, run_id = callers.accounts["owner"], callers.run_id
    chain.transact(functions.bookEventFor(refuser.address, run_id, 1), owner, BOOKING_COST)
    chain.transact(functions.createEventRun("x", PRICE, 4, 2**40 - 1), host, HOST_STAKE)
    chain.transact(functions.completeEvent(run_id, [2]), host, at=chain.start_of(contract, run_id))
    assert functions.platformBalance().call() > 0
    assert functions.creditOf(refuser.address).call() > 0
    expected = "NothingToWithdraw" if function in ("withdraw", "withdrawTo") else "OwnableUnauthorizedAccount"
    assert callers.error("operator", function, *args) == expected


def test_what_an_operator_does_pays_whom_it_is_for(chain, contract, platform, host, attendee):
    """Whatever it opens, books, cancels and completes, its own account only ever pays."""
    operator = chain.engine.accounts[4]
    functions = contract.functions
    chain.transact(functions.setOperator(operator.address, True), platform)
    balances = [chain.balance(account.address) for account in (host, attendee)]
    start = chain.engine.now() + 1_000_000
    paid = 0
    for _ in range(2):
        chain.transact(functions.createEventRunFor(host.address, "x", PRICE, 4, start), operator, HOST_STAKE)
        paid += HOST_STAKE
    for run_id in (1, 1, 2):
        chain.transact(functions.bookEventFor(attendee.address, run_id, 1), operator, BOOKING_COST)
        paid += BOOKING_COST
    before = chain.balance(operator.address)
    gas = 0
    for call, at in (
        (functions.cancelBooking(1), None),
        (functions.cancelEvent(2), None),
        (functions.completeEvent(1, [2]), start),
    ):
        receipt = chain.transact(call, operator, at=at)
        gas += receipt.gasUsed * receipt.effectiveGasPrice
    assert chain.balance(operator.address) == before - gas
    gained = sum(chain.balance(a.address) - b for a, b in zip((host, attendee), balances, strict=True))
    assert gained + contract.functions.platformBalance().call() == paid
    assert chain.balance(contract.address) == contract.functions.platformBalance().call()


def test_operator_stays_one_when_the_ownership_changes_and_the_owner_needs_to_be_none(chain, contract, callers):
    assert callers.error("operator", "cancelBooking", callers.booking_id) is None
    assert contract.functions.isOperator(callers.address("owner")).call() is False
    assert callers.error("owner", "cancelBooking", callers.booking_id) is None


def test_owner_that_is_an_operator_stays_one_as_former_owner(chain, contract, platform, stranger):
    run_id = chain.create_run(contract)
    functions = contract.functions
    chain.transact(functions.setOperator(platform.address, True), platform)
    chain.transact(functions.transferOwnership(stranger.address), platform)
    chain.transact(functions.acceptOwnership(), stranger)
    assert chain.revert_error(functions.cancelEvent(run_id), platform) is None
    chain.transact(functions.setOperator(platform.address, False), stranger)
    assert chain.revert_error(functions.cancelEvent(run_id), platform) == "NotAuthorized"
