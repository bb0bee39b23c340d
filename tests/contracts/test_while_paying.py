"""What whoever is paid sees, and can do, at that moment: everything is settled already, and nothing can be done."""

import pytest

DAY = 24 * 3600
ACTIVE, CANCELLED = 1, 3


@pytest.fixture
def stake(chain):
    return chain.stake()


@pytest.fixture
def witness(chain, stake):
    return chain.deploy("Witness", stake.address)


@pytest.fixture
def order(chain, witness):
    """Has the witness look at a run and a booking when it is paid, or refuse, or call back."""

    def give(run=0, booking=0, refuses=False, call=b""):
        assert chain.send(witness.functions.set(run, booking, refuses, call), chain.platform).status == 1

    return give


@pytest.fixture
def credit(chain, stake, witness, order):
    """Lets the witness have one: it refuses a refund."""
    run = chain.run(stake)
    booking = chain.book(stake, run, attendee=witness.address)
    order(refuses=True)
    assert chain.send(stake.functions.cancelBooking(booking), chain.platform).status == 1
    order()
    return stake.functions.creditOf(witness.address).call()


def settle(chain, stake, run, booking, how):
    start = chain.start_of(stake, run)
    return {
        "complete": lambda: chain.send(stake.functions.completeEvent(run, [booking]), chain.platform, at=start),
        "cancel": lambda: chain.send(stake.functions.cancelEvent(run), chain.platform),
        "expire": lambda: chain.send(stake.functions.expireEvent(run), chain.stranger, at=start + 8 * DAY),
        "cancel booking": lambda: chain.send(stake.functions.cancelBooking(booking), chain.platform),
    }[how]()


def told(witness, receipt, event):
    return [log["args"] for log in witness.events[event]().process_receipt(receipt)]


@pytest.mark.filterwarnings("ignore:The log with transaction hash")
@pytest.mark.parametrize(
    ("how", "run_status", "booking_status"), [("complete", 3, 1), ("cancel", 4, 3), ("expire", 5, 3)]
)
def test_a_settled_run_is_settled_before_anybody_is_paid(chain, stake, witness, order, how, run_status, booking_status):
    """Host and attendees are paid last; when the last one is, what is left is owed to the platform, to the wei."""
    run = chain.run(stake, host=witness.address)
    booking = chain.book(stake, run, seats=3, attendee=witness.address)
    order(run, booking)
    receipt = settle(chain, stake, run, booking, how)
    assert receipt.status == 1
    seen = told(witness, receipt, "Saw")
    assert seen
    for saw in seen:
        assert (saw["runStatus"], saw["bookingStatus"]) == (run_status, booking_status)
        assert saw["owed"] <= saw["held"]
    assert seen[-1]["owed"] == seen[-1]["held"]


@pytest.mark.filterwarnings("ignore:The log with transaction hash")
def test_what_an_expiry_leaves_to_the_platform_is_its_own_before_anybody_is_paid(chain, witness, stake, order):
    """Three shares of a stake that three does not divide: a wei or two are left over."""
    run = chain.run(stake, seats=3, price=10**16 + 2)
    for _ in range(2):
        chain.book(stake, run)
    booking = chain.book(stake, run, attendee=witness.address)
    order(run, booking)
    (saw,) = told(witness, settle(chain, stake, run, booking, "expire"), "Saw")
    assert stake.functions.platformBalance().call() > 0
    assert saw["owed"] == saw["held"]


@pytest.mark.filterwarnings("ignore:The log with transaction hash")
def test_a_cancelled_booking_is_cancelled_before_it_is_paid_back(chain, stake, witness, order):
    run = chain.run(stake, seats=2)
    booking = chain.book(stake, run, seats=2, attendee=witness.address)
    order(run, booking)
    (saw,) = told(witness, settle(chain, stake, run, booking, "cancel booking"), "Saw")
    assert (saw["runStatus"], saw["seatsBooked"], saw["bookingStatus"]) == (ACTIVE, 0, CANCELLED)
    assert saw["owed"] == saw["held"]


@pytest.mark.filterwarnings("ignore:The log with transaction hash")
def test_a_credit_is_gone_before_it_is_paid(chain, stake, witness, order, credit):
    run = chain.run(stake)
    order(run, chain.book(stake, run))
    call = witness.functions.execute(stake.address, 0, stake.encode_abi("withdraw", []))
    (saw,) = told(witness, chain.send(call, chain.platform), "Saw")
    assert saw["credit"] == 0 < credit
    assert saw["owed"] == saw["held"]


@pytest.mark.filterwarnings("ignore:The log with transaction hash")
@pytest.mark.parametrize("how", ["complete", "cancel", "expire", "cancel booking"])
def test_a_credit_can_not_be_withdrawn_while_another_payment_is_made(chain, stake, witness, order, credit, how):
    """It would fit into the gas that a receiver has."""
    run = chain.run(stake)
    booking = chain.book(stake, run, attendee=witness.address)
    order(call=stake.encode_abi("withdrawTo", [chain.stranger.address]))
    receipt = settle(chain, stake, run, booking, how)
    assert [args["done"] for args in told(witness, receipt, "Reentered")] == [False]
    assert stake.functions.creditOf(witness.address).call() == credit


@pytest.mark.filterwarnings("ignore:The log with transaction hash")
def test_nothing_can_be_done_while_a_credit_is_withdrawn(chain, stake, witness, order, credit):
    booking = chain.book(stake, chain.run(stake), attendee=witness.address)
    order(call=stake.encode_abi("cancelBooking", [booking]))
    call = witness.functions.execute(stake.address, 0, stake.encode_abi("withdraw", []))
    receipt = chain.send(call, chain.platform)
    assert [args["done"] for args in told(witness, receipt, "Reentered")] == [False]
    assert stake.functions.getBooking(booking).call()[6] == 0


@pytest.mark.filterwarnings("ignore:The log with transaction hash")
@pytest.mark.parametrize("call", ["looks", "reenters"])
def test_fees_are_gone_before_they_are_paid_and_nothing_can_be_done_meanwhile(chain, stake, witness, order, call):
    run = chain.run(stake)
    booking = chain.book(stake, run)
    assert settle(chain, stake, run, booking, "complete").status == 1
    other = chain.run(stake)
    mine = chain.book(stake, other, attendee=witness.address)
    assert chain.send(stake.functions.transferOwnership(witness.address), chain.platform).status == 1
    accept = witness.functions.execute(stake.address, 0, stake.encode_abi("acceptOwnership", []))
    assert chain.send(accept, chain.platform).status == 1
    order(other, mine, call=b"" if call == "looks" else stake.encode_abi("cancelBooking", [mine]))
    take = witness.functions.execute(stake.address, 0, stake.encode_abi("withdrawPlatformFees", []))
    receipt = chain.send(take, chain.platform)
    assert receipt.status == 1
    if call == "looks":
        (saw,) = told(witness, receipt, "Saw")
        assert saw["owed"] == saw["held"]
    else:
        assert [args["done"] for args in told(witness, receipt, "Reentered")] == [False]


@pytest.mark.filterwarnings("ignore:The log with transaction hash")
def test_nothing_is_deferred_where_nothing_is_due(chain):
    """Without stakes, who came gets nothing back: a receiver that refuses ether is not asked."""
    stake = chain.stake(stake_bps=0)
    run = chain.run(stake)
    booking = chain.book(stake, run, attendee=chain.deploy("RefusingReceiver").address)
    receipt = settle(chain, stake, run, booking, "complete")
    assert receipt.status == 1
    assert told(stake, receipt, "PaymentDeferred") == []


def test_too_little_gas_is_said(chain, stake):
    run = chain.run(stake)
    booking = chain.book(stake, run)
    cancel = stake.functions.cancelBooking(booking)
    errors = set()
    for gas in range(100_000, 180_000, 4_000):
        try:
            cancel.call({"from": chain.platform.address, "gas": gas})
        except Exception as error:  # noqa: BLE001 - whichever it is, its data says
            errors.add(str(getattr(error, "data", "")))
    assert stake.w3.keccak(text="InsufficientGas()").hex()[:8] in "".join(errors)
