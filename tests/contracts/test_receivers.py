"""No hostile receiver can stop another party's settlement, and no caller can starve a receiver of its gas."""

import pytest
from stakesim.evm.engines import open_engine
from stakesim.evm.in_process.py_evm import GasWatchingComputation
from web3.logs import DISCARD

from tests.contracts.conftest import BOOKING_COST, DAY, GRACE, Chain

GAS = 0x5A
"""The instruction that reads the gas that is left."""

HOSTILE_RECEIVERS = ["RefusingReceiver", "BurningReceiver", "FloodingReceiver"]


@pytest.mark.slow
@pytest.mark.parametrize("receiver", HOSTILE_RECEIVERS)
@pytest.mark.parametrize("settlement", ["complete", "cancel", "expire"])
def test_failed_push_becomes_a_credit_and_stops_no_other_payout(
    chain, contract, platform, attendee, receiver, settlement
):
    attacker = chain.deploy(receiver)
    run_id = chain.create_run(contract, host=attacker.address)
    bookings = [chain.book(contract, run_id, attendee=attacker.address), chain.book(contract, run_id)]
    balance_before = chain.balance(attendee.address)
    chain.settle(contract, run_id, settlement, attended=bookings)
    assert chain.balance(attendee.address) > balance_before
    credit = contract.functions.creditOf(attacker.address).call()
    assert credit > 0
    assert chain.balance(contract.address) == contract.functions.totalLiabilities().call()

    other_address = "0x" + "22" * 20
    withdraw_to = contract.encode_abi("withdrawTo", [other_address])
    chain.transact(attacker.functions.execute(contract.address, 0, withdraw_to), platform)
    assert chain.balance(other_address) == credit
    assert contract.functions.creditOf(attacker.address).call() == 0


@pytest.mark.parametrize("settlement", ["complete", "cancel", "expire"])
def test_a_settlement_is_logged_before_its_payouts_and_the_host_is_paid_last(chain, contract, settlement):
    """Whoever follows the events can tell which settlement a deferred payout belongs to."""
    host, attendees = chain.deploy("RefusingReceiver"), [chain.deploy("RefusingReceiver") for _ in range(3)]
    run_id = chain.create_run(contract, host=host.address)
    bookings = [chain.book(contract, run_id, attendee=attendee.address) for attendee in attendees]
    receipt = chain.settle(contract, run_id, settlement, attended=bookings)
    deferred = contract.events.PaymentDeferred().process_receipt(receipt, errors=DISCARD)
    paid = [attendee.address for attendee in attendees]
    assert [log["args"]["receiver"] for log in deferred] == (paid if settlement == "expire" else [*paid, host.address])
    name = {"complete": "EventCompleted", "cancel": "EventCancelled", "expire": "EventExpired"}[settlement]
    (settled,) = contract.events[name]().process_receipt(receipt, errors=DISCARD)
    assert settled["logIndex"] < deferred[0]["logIndex"]


def test_a_cancellation_is_logged_before_its_refund(chain, contract, attendee):
    refusing = chain.deploy("RefusingReceiver")
    booking = chain.book(contract, chain.create_run(contract), attendee=refusing.address)
    receipt = chain.transact(contract.functions.cancelBooking(booking), chain.platform)
    (cancelled,) = contract.events.BookingCancelled().process_receipt(receipt, errors=DISCARD)
    (deferred,) = contract.events.PaymentDeferred().process_receipt(receipt, errors=DISCARD)
    assert cancelled["logIndex"] < deferred["logIndex"]


@pytest.mark.slow
def test_too_little_gas_for_a_push_reverts_instead_of_starving_the_receiver(chain, contract, platform, host, attendee):
    """A caller who sends slightly too little gas cannot turn a payout into a credit: the run settles in full or not."""
    run_id = chain.create_run(contract)
    chain.book(contract, run_id)
    cancel = contract.functions.cancelEvent(run_id)
    for gas in range(60_000, 260_000, 10_000):
        snapshot = chain.engine.snapshot()
        receipt = chain.send(cancel, platform, gas=gas)
        if receipt.status == 1:
            assert contract.functions.creditOf(attendee.address).call() == 0
            assert contract.functions.creditOf(host.address).call() == 0
        chain.engine.revert(snapshot)
    assert receipt.status == 1


@pytest.mark.slow
def test_cancelled_bookings_do_not_make_a_settlement_cost_more_gas(chain, contract, attendee, profile):
    gas_used = []
    for cancellations in (0, 1, 5 if profile == "quick" else 30):
        run_id = chain.create_run(contract)
        for _ in range(cancellations):
            chain.transact(contract.functions.cancelBooking(chain.book(contract, run_id)), attendee)
        active = chain.book(contract, run_id)
        assert len(contract.functions.getEventBookings(run_id).call()) == cancellations + 1
        gas_used.append(chain.settle(contract, run_id, "complete", attended=[active]).gasUsed)
    assert gas_used[2] <= gas_used[1]


class TestGasThatIsDemanded:
    """A push demands what the worst receiver may cost, so it never runs out of gas once it was begun."""

    @pytest.fixture(params=["contract", "delegated"])
    def burner(self, request, chain):
        """The worst receiver: it burns its whole stipend and has no credit yet. One that delegates costs more."""
        if request.param == "delegated" and chain.engine.name == "revm":
            pytest.skip("revm runs Cancun's rules, under which no account delegates")
        address = chain.deploy("BurningReceiver").address
        return chain.delegate(address) if request.param == "delegated" else address

    def error_with_gas(self, chain, call, gas):
        """The error's selector with this gas limit; "" if the gas runs out, None if the call succeeds."""
        try:
            call.call({"from": chain.platform.address, "gas": gas}, block_identifier="pending")
        except Exception as error:  # noqa: BLE001 - the class differs by gas limit and engine; the data is checked
            data = str(getattr(error, "data", None) or "")
            return data[:10] if data.startswith("0x") else ""
        return None

    @pytest.mark.slow
    @pytest.mark.parametrize("settlement", ["complete", "cancel", "expire", "cancel booking"])
    def test_limit_that_is_not_refused_is_enough(self, chain, contract, burner, settlement):
        """Searches the lowest gas limit that is not refused by name, to the unit: with it, the call succeeds."""
        insufficient = "0x" + contract.w3.keccak(text="InsufficientGas()").hex().removeprefix("0x")[:8]
        run_id = chain.create_run(contract, host=burner)
        booking_id = chain.book(contract, run_id, attendee=burner)
        start, functions = chain.start_of(contract, run_id), contract.functions
        call, at = {
            "complete": (functions.completeEvent(run_id, [booking_id]), start),
            "cancel": (functions.cancelEvent(run_id), start),
            "expire": (functions.expireEvent(run_id), start + GRACE),
            "cancel booking": (functions.cancelBooking(booking_id), start - DAY),
        }[settlement]
        chain.engine.set_next_timestamp(at)
        low, high = 60_000, 600_000
        assert self.error_with_gas(chain, call, high) is None
        while high - low > 1:
            middle = (low + high) // 2
            error = self.error_with_gas(chain, call, middle)
            low, high = (low, middle) if error is None else (middle, high)
        assert self.error_with_gas(chain, call, low) == insufficient
        receipt = chain.send(call, chain.platform, at=at, gas=high)
        assert receipt.status == 1
        spare = high - receipt.gasUsed
        assert spare > 10_000, f"of the gas demanded {spare} is left over"

    def test_receiver_gets_its_whole_stipend_at_the_lowest_limit(self, chain, contract, platform):
        """An honest receiver that needs almost all of it is paid, however little gas is sent."""
        spender = chain.deploy("Spender").address
        run_id = chain.create_run(contract)
        cancel = contract.functions.cancelBooking(chain.book(contract, run_id, attendee=spender))
        low, high = 60_000, 600_000
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.error_with_gas(chain, cancel, middle) is None else (middle, high)
        chain.send(cancel, platform, gas=high)
        assert chain.balance(spender) == BOOKING_COST
        assert contract.functions.creditOf(spender).call() == 0


class GasReadings:
    """Records what the instruction GAS reads in py-evm, and how much gas each call to an address begins with."""

    def __init__(self):
        self.read, self.given = [], {}

    def computation(self):
        opcodes = dict(GasWatchingComputation.opcodes)
        run = opcodes[GAS]

        def run_and_record(computation):
            run(computation=computation)
            self.read.append((computation.msg.to, computation.get_gas_remaining()))
            self.given[computation.msg.to] = computation.msg.gas

        opcodes[GAS] = run_and_record
        return type("GasReadingComputation", (GasWatchingComputation,), {"opcodes": opcodes})


class TestGasToTheUnit:
    """What a push demands, and what a receiver gets, exactly: a unit less or more is another contract."""

    @pytest.fixture
    def readings(self):
        return GasReadings()

    @pytest.fixture
    def watched(self, chain, readings):
        """A chain of its own, as only py-evm shows what an instruction reads."""
        return Chain(open_engine("py-evm", trace=readings), chain.artifacts)

    @pytest.mark.slow
    def test_push_demands_exactly_its_gas_and_what_it_costs_around_it(self, watched, readings):
        contract = watched.deploy_event_stake()
        booking = watched.book(contract, watched.create_run(contract))
        cancel = contract.functions.cancelBooking(booking)
        low, high = 60_000, 600_000
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.succeeds(watched, cancel, middle) else (middle, high)
        readings.read.clear()
        assert not self.succeeds(watched, cancel, low)
        assert self.succeeds(watched, cancel, high)
        stake = bytes.fromhex(contract.address[2:])
        assert [gas for address, gas in readings.read if address == stake] == [89_999, 90_000]

    def succeeds(self, chain, call, gas):
        snapshot = chain.engine.snapshot()
        status = chain.send(call, chain.platform, gas=gas).status
        chain.engine.revert(snapshot)
        return status == 1

    @pytest.mark.slow
    def test_push_gives_exactly_its_gas_and_the_stipend_of_a_call_with_value(self, watched, readings):
        contract, spender = watched.deploy_event_stake(), watched.deploy("Spender").address
        booking = watched.book(contract, watched.create_run(contract), attendee=spender)
        watched.transact(contract.functions.cancelBooking(booking), watched.platform)
        assert readings.given[bytes.fromhex(spender[2:])] == 30_000 + 2_300

    @pytest.mark.slow
    def test_withdrawal_gives_all_gas_that_the_evm_lets_it_give(self, watched, readings):
        """A 64th stays behind (EIP-150)."""
        contract, spender = watched.deploy_event_stake(), watched.deploy("Spender").address
        refusing = watched.deploy("RefusingReceiver")
        booking = watched.book(contract, watched.create_run(contract), attendee=refusing.address)
        watched.transact(contract.functions.cancelBooking(booking), watched.platform)
        withdraw = contract.encode_abi("withdrawTo", [spender])
        watched.transact(refusing.functions.execute(contract.address, 0, withdraw), watched.platform)
        stake = bytes.fromhex(contract.address[2:])
        (left,) = [gas for address, gas in readings.read[-2:] if address == stake]
        given = readings.given[bytes.fromhex(spender[2:])] - 2_300
        assert left * 62 // 64 < given <= left * 63 // 64
