"""What a receiver can see and do at the moment it is paid: the state is final already, and every call back fails.

The receiver is `Witness.sol`. It emits `Saw` with the contract's state when it is paid, or `Reentered` with the success
of the call that it was set to make.
"""

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:The log with transaction hash")

RUN_ACTIVE = 1
BOOKING_ACTIVE, BOOKING_CANCELLED = 0, 3


@pytest.fixture
def witness(chain, contract):
    return chain.deploy("Witness", contract.address)


@pytest.fixture
def set_witness(chain, witness, platform):
    """Sets what the witness does when it is paid: look at a run and a booking, refuse the ether, or call back."""

    def set_(run_id=0, booking_id=0, *, refuses=False, call=b""):
        chain.transact(witness.functions.set(run_id, booking_id, refuses, call), platform)

    return set_


@pytest.fixture
def credit(chain, contract, witness, set_witness, platform):
    """The witness's credit in wei: it has one because it refused a refund."""
    run_id = chain.create_run(contract)
    booking_id = chain.book(contract, run_id, attendee=witness.address)
    set_witness(refuses=True)
    chain.transact(contract.functions.cancelBooking(booking_id), platform)
    set_witness()
    return contract.functions.creditOf(witness.address).call()


@pytest.fixture
def settle(chain, contract, platform):
    """Settles a run whose one booking attended, or cancels the booking; returns the receipt."""

    def settle_(run_id, booking_id, settlement):
        if settlement == "cancel booking":
            return chain.transact(contract.functions.cancelBooking(booking_id), platform)
        return chain.settle(contract, run_id, settlement, attended=[booking_id])

    return settle_


def as_witness(contract, witness, function, args=()):
    """The call of a function of the contract, with the witness as its sender."""
    return witness.functions.execute(contract.address, 0, contract.encode_abi(function, args))


def events(contract, receipt, name):
    """The arguments of each event of that name in the receipt."""
    return [log["args"] for log in contract.events[name]().process_receipt(receipt)]


def assert_calling_back_failed(witness, receipt):
    assert [event["done"] for event in events(witness, receipt, "Reentered")] == [False]


@pytest.mark.parametrize(
    ("settlement", "run_status", "booking_status"), [("complete", 3, 1), ("cancel", 4, 3), ("expire", 5, 3)]
)
def test_run_and_bookings_are_final_before_the_first_payout(
    chain, contract, witness, set_witness, settle, settlement, run_status, booking_status
):
    """At the last payout the contract holds exactly what it still owes, which is the platform's share."""
    run_id = chain.create_run(contract, host=witness.address)
    booking_id = chain.book(contract, run_id, seats=3, attendee=witness.address)
    set_witness(run_id, booking_id)
    payouts = events(witness, settle(run_id, booking_id, settlement), "Saw")
    assert payouts
    for saw in payouts:
        assert (saw["runStatus"], saw["bookingStatus"]) == (run_status, booking_status)
        assert saw["owed"] <= saw["held"]
    assert payouts[-1]["owed"] == payouts[-1]["held"]


def test_remainder_of_an_expiry_is_the_platforms_before_the_first_payout(chain, contract, witness, set_witness, settle):
    """Three attendees share a host's stake that three does not divide: one or two wei remain."""
    run_id = chain.create_run(contract, seats=3, price=10**16 + 2)
    for _ in range(2):
        chain.book(contract, run_id)
    booking_id = chain.book(contract, run_id, attendee=witness.address)
    set_witness(run_id, booking_id)
    (saw,) = events(witness, settle(run_id, booking_id, "expire"), "Saw")
    assert contract.functions.platformBalance().call() > 0
    assert saw["owed"] == saw["held"]


def test_booking_is_cancelled_before_its_refund(chain, contract, witness, set_witness, settle):
    run_id = chain.create_run(contract, seats=2)
    booking_id = chain.book(contract, run_id, seats=2, attendee=witness.address)
    set_witness(run_id, booking_id)
    (saw,) = events(witness, settle(run_id, booking_id, "cancel booking"), "Saw")
    assert (saw["runStatus"], saw["seatsBooked"], saw["bookingStatus"]) == (RUN_ACTIVE, 0, BOOKING_CANCELLED)
    assert saw["owed"] == saw["held"]


def test_credit_is_zero_before_it_is_paid_out(chain, contract, witness, set_witness, credit, platform):
    run_id = chain.create_run(contract)
    set_witness(run_id, chain.book(contract, run_id))
    receipt = chain.transact(as_witness(contract, witness, "withdraw"), platform)
    (saw,) = events(witness, receipt, "Saw")
    assert saw["credit"] == 0 < credit
    assert saw["owed"] == saw["held"]
    assert [log["address"] for log in receipt.logs] == [contract.address, witness.address]


@pytest.mark.parametrize("settlement", ["complete", "cancel", "expire", "cancel booking"])
def test_credit_cannot_be_withdrawn_during_a_payout(
    chain, contract, witness, set_witness, settle, credit, stranger, settlement
):
    """The gas stipend of a payout would be enough for the withdrawal: it is the guard that refuses it."""
    run_id = chain.create_run(contract)
    booking_id = chain.book(contract, run_id, attendee=witness.address)
    set_witness(call=contract.encode_abi("withdrawTo", [stranger.address]))
    assert_calling_back_failed(witness, settle(run_id, booking_id, settlement))
    assert contract.functions.creditOf(witness.address).call() == credit


@pytest.mark.usefixtures("credit")
def test_booking_cannot_be_cancelled_during_the_withdrawal_of_a_credit(chain, contract, witness, set_witness, platform):
    booking_id = chain.book(contract, chain.create_run(contract), attendee=witness.address)
    set_witness(call=contract.encode_abi("cancelBooking", [booking_id]))
    receipt = chain.transact(as_witness(contract, witness, "withdraw"), platform)
    assert_calling_back_failed(witness, receipt)
    assert contract.functions.getBooking(booking_id).call()[6] == BOOKING_ACTIVE


@pytest.mark.parametrize("calls_back", [False, True])
def test_fees_are_deducted_before_they_are_paid_and_calling_back_fails(
    chain, contract, witness, set_witness, settle, platform, calls_back
):
    completed_run = chain.create_run(contract)
    settle(completed_run, chain.book(contract, completed_run), "complete")
    open_run = chain.create_run(contract)
    booking_id = chain.book(contract, open_run, attendee=witness.address)
    chain.transact(contract.functions.transferOwnership(witness.address), platform)
    chain.transact(as_witness(contract, witness, "acceptOwnership"), platform)
    set_witness(open_run, booking_id, call=contract.encode_abi("cancelBooking", [booking_id]) if calls_back else b"")
    receipt = chain.transact(as_witness(contract, witness, "withdrawPlatformFees"), platform)
    if calls_back:
        assert_calling_back_failed(witness, receipt)
    else:
        (saw,) = events(witness, receipt, "Saw")
        assert saw["owed"] == saw["held"]
        assert [log["address"] for log in receipt.logs] == [contract.address, witness.address]


PAYOUTS = ["complete", "cancel", "expire", "cancel booking", "withdraw", "fees"]
"""Every way in which the contract pays somebody."""

GUARDED = [
    ("withdraw", []),
    ("withdrawTo", ["0x" + "22" * 20]),
    ("withdrawPlatformFees", []),
    ("cancelBooking", [2]),
    ("cancelEvent", [2]),
    ("expireEvent", [2]),
    ("completeEvent", [2, []]),
]
UNGUARDED = [
    ("createEventRun", ["x", 1, 1, 2**40 - 1]),
    ("createEventRunFor", ["0x" + "22" * 20, "x", 1, 1, 2**40 - 1]),
    ("bookEvent", [2, 1]),
    ("bookEventFor", ["0x" + "22" * 20, 2, 1]),
    ("setOperator", ["0x" + "22" * 20, True]),
    ("transferOwnership", ["0x" + "22" * 20]),
    ("pause", []),
]
"""They move no money out; a receiver may call them, as anybody may at any time."""


@pytest.mark.slow
@pytest.mark.parametrize("payout", PAYOUTS)
@pytest.mark.parametrize(("function", "args"), GUARDED + UNGUARDED, ids=[name for name, _ in GUARDED + UNGUARDED])
def test_receiver_with_every_right_gains_nothing_by_calling_back(chain, platform, payout, function, args):
    """The receiver is owner, operator, host of all runs, attendee of all bookings, and has a credit.

    Run 2 is open and has booking 2, both the receiver's; without stakes, a run costs nothing to open.
    """
    contract = chain.deploy_event_stake(stake_bps=0)
    witness = chain.deploy("Witness", contract.address)

    def set_(*settings):
        chain.transact(witness.functions.set(*settings), platform)

    def act(name, *arguments, at=None):
        return chain.transact(as_witness(contract, witness, name, arguments), platform, at=at)

    for run_id in (1, 2, 3):
        chain.create_run(contract, host=witness.address, start=chain.engine.now() + 1_000_000)
        chain.book(contract, run_id, attendee=witness.address)
    chain.book(contract, 1, attendee=witness.address)
    chain.transact(contract.functions.setOperator(witness.address, True), platform)
    chain.transact(contract.functions.transferOwnership(witness.address), platform)
    act("acceptOwnership")
    set_(0, 0, True, b"")
    act("cancelBooking", 4)
    start = chain.start_of(contract, 3)
    credit = contract.functions.creditOf(witness.address).call()
    assert credit > 0
    if payout == "fees":
        act("completeEvent", 3, [], at=start)
    held = chain.balance(contract.address)
    set_(0, 0, False, contract.encode_abi(function, args))
    paid = chain.balance(witness.address)
    receipt = {
        "complete": lambda: act("completeEvent", 1, [1], at=start),
        "cancel": lambda: act("cancelEvent", 1),
        "expire": lambda: act("expireEvent", 1, at=start + 8 * 86_400),
        "cancel booking": lambda: act("cancelBooking", 1),
        "withdraw": lambda: act("withdraw"),
        "fees": lambda: act("withdrawPlatformFees"),
    }[payout]()
    if (function, args) in GUARDED:
        assert all(not event["done"] for event in events(witness, receipt, "Reentered"))
    gained = chain.balance(witness.address) - paid
    deferred = contract.functions.creditOf(witness.address).call() - credit
    assert held - chain.balance(contract.address) == gained
    assert deferred == -credit if payout == "withdraw" else gained + deferred > 0
    assert chain.balance(contract.address) == contract.functions.totalLiabilities().call()
    assert contract.functions.getBooking(2).call()[6] == BOOKING_ACTIVE


def test_payout_of_zero_is_neither_pushed_nor_deferred(chain):
    """Without stakes an attendee who attended gets nothing back, so a receiver that refuses ether gets no credit."""
    contract = chain.deploy_event_stake(stake_bps=0)
    run_id = chain.create_run(contract)
    booking_id = chain.book(contract, run_id, attendee=chain.deploy("RefusingReceiver").address)
    receipt = chain.settle(contract, run_id, "complete", attended=[booking_id])
    assert events(contract, receipt, "PaymentDeferred") == []
