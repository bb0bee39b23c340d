"""Every value that the contract narrows to store it: at its limit it is stored exactly, beyond it is refused.

| value | bits | why no bit is lost |
| --- | ---: | --- |
| escrow and credits, together | 96 | `AmountTooLarge` |
| price of a seat | 128 | `InvalidPrice` |
| start | 40 | `InvalidStart`; creation and bookings are before it |
| seats of a run, of a booking, active bookings | 8 | at most MAX_SEATS |
| ids of runs and bookings, bookings of a run | 32 | the counters are checked: Panic 0x11 |
"""

import pytest
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract

from tests.contracts.conftest import BOOKING_COST, DEFAULT_TERMS, HOST_STAKE, PRICE

MAX_HELD = 2**96 - 1
RICH = 2**98
"""Wei: more than the contract can hold."""
LAST_ID = 2**32 - 1


@pytest.fixture
def rich(chain, host, platform):
    """Gives host and platform more wei than there are."""
    for account in (host, platform):
        chain.engine.set_balance(account.address, RICH)


@pytest.fixture
def halves(chain):
    """A contract with stakes of one half, so that the stake of a seat at 2 wei is 1 wei."""
    return chain.deploy_event_stake(stake_bps=5_000, fee_bps=1_000)


def test_a_list_goes_on_beyond_16_bits(chain, contract, attendee):
    """So many bookings take too long to make, so the length of the list is set in the contract's storage."""
    run_id = chain.create_run(contract)
    chain.book(contract, run_id)
    keys = [attendee.address[2:].rjust(64, "0") + f"{base:064x}" for base in range(16)]
    slots = [int.from_bytes(contract.w3.keccak(hexstr=key), "big") for key in keys]
    (lists,) = [slot for slot in slots if word(chain, contract, slot) == 1 << 32 | 1]  # the length, and the one id
    chain.engine.set_storage(contract.address, lists, 1 << 32 | 65_535)
    booking_id = chain.book(contract, run_id)
    assert word(chain, contract, lists) == 1 << 32 | 65_536
    assert word(chain, contract, lists + 65_536 // 8) == booking_id


def test_there_is_no_id_after_the_last_one(chain, contract, platform):
    """So many ids take too long to give, so the counters are set in the contract's storage."""
    run_id = chain.create_run(contract)
    chain.book(contract, run_id)
    escrow = HOST_STAKE + BOOKING_COST
    (totals,) = [slot for slot in range(16) if word(chain, contract, slot) == 1 << 224 | 1 << 192 | escrow]
    chain.engine.set_storage(contract.address, totals, LAST_ID << 224 | LAST_ID << 192 | escrow)
    start, functions = chain.start_of(contract, run_id), contract.functions
    for call, value in (
        (functions.createEventRun("x", PRICE, 4, start), HOST_STAKE),
        (functions.bookEvent(run_id, 1), BOOKING_COST),
    ):
        with pytest.raises(Exception, match=r"(?i)overflow|0x11|panic"):
            call.call({"from": platform.address, "value": value})


def word(chain, contract, slot):
    """A word of the contract's storage."""
    return int.from_bytes(chain.engine.w3.eth.get_storage_at(contract.address, slot), "big")


@pytest.mark.usefixtures("rich")
class TestAmounts:
    def create(self, chain, contract, host, stake):
        """A run of one seat with this stake in wei."""
        start = chain.engine.now() + 1_000_000
        return contract.functions.createEventRun("x", 2 * stake, 1, start)

    @pytest.mark.parametrize(
        ("stake", "error"), [(MAX_HELD - 1, None), (MAX_HELD, None), (MAX_HELD + 1, "AmountTooLarge")]
    )
    def test_stake_of_a_run(self, chain, halves, host, stake, error):
        assert chain.revert_error(self.create(chain, halves, host, stake), host, stake) == error

    def test_largest_escrow_is_held_and_returned_to_the_wei(self, chain, halves, host, platform):
        chain.transact(self.create(chain, halves, host, MAX_HELD), host, MAX_HELD)
        assert halves.functions.getEventRun(1).call()[6] == MAX_HELD == halves.functions.totalLiabilities().call()
        more = self.create(chain, halves, host, 1)
        assert chain.revert_error(more, host, 1) == "AmountTooLarge"
        before = chain.balance(host.address)
        chain.transact(halves.functions.cancelEvent(1), platform)
        assert chain.balance(host.address) - before == MAX_HELD
        assert chain.balance(halves.address) == halves.functions.totalLiabilities().call() == 0
        assert chain.revert_error(more, host, 1) is None

    @pytest.mark.parametrize(("left", "error"), [(3, None), (2, "AmountTooLarge")])
    def test_cost_of_a_booking(self, chain, halves, host, platform, left, error):
        """A seat at 2 wei costs 3 with its stake, and the stake of its run is 1."""
        chain.transact(self.create(chain, halves, host, 1), host, 1)
        taken = MAX_HELD - 1 - left
        chain.transact(self.create(chain, halves, host, taken), host, taken)
        book = halves.functions.bookEventFor(host.address, 1, 1)
        assert chain.revert_error(book, platform, 3) == error
        assert chain.revert_error(book, platform, 4) == (error or "WrongValue")

    def test_largest_payment_is_settled_to_the_wei(self, chain, halves, host, attendee, platform):
        """Payment and both stakes of one seat are twice its price: together just below the limit."""
        price = MAX_HELD // 2 - 1
        run_id = chain.create_run(halves, seats=1, price=price)
        booking_id = chain.book(halves, run_id)
        assert MAX_HELD - 4 <= halves.functions.totalLiabilities().call() <= MAX_HELD
        before = chain.balance(attendee.address), chain.balance(host.address)
        chain.settle(halves, run_id, "complete", attended=[booking_id])
        fee = price // 10
        assert chain.balance(attendee.address) - before[0] == price // 2
        assert chain.balance(host.address) - before[1] == price - fee + price // 2
        assert chain.balance(halves.address) == halves.functions.platformBalance().call() == fee

    def test_forfeits_of_more_than_64_bits_are_shared_to_the_wei(self, chain, host, platform):
        contract = chain.deploy_event_stake(forfeit_to_host_bps=3_333)
        price = 2**72 + 1
        run_id = chain.create_run(contract, seats=1, price=price)
        chain.book(contract, run_id)
        before = chain.balance(host.address)
        chain.settle(contract, run_id, "complete", attended=[])
        stake, fee = price // 5, price * 5 // 100
        to_host = stake * 3_333 // 10_000
        assert to_host > 2**64
        assert chain.balance(host.address) - before == price - fee + to_host + stake
        assert contract.functions.platformBalance().call() == fee + stake - to_host

    def test_credits_count_and_earnings_do_not(self, chain, halves, host, platform):
        refuser = chain.deploy("RefusingReceiver")
        run_id = chain.create_run(halves, host=refuser.address, seats=1, price=2 * MAX_HELD)
        chain.transact(halves.functions.cancelEvent(run_id), platform)
        assert halves.functions.creditOf(refuser.address).call() == MAX_HELD
        assert halves.functions.totalLiabilities().call() == MAX_HELD
        more = self.create(chain, halves, host, 1)
        assert chain.revert_error(more, host, 1) == "AmountTooLarge"
        other = "0x" + "22" * 20
        withdraw = halves.encode_abi("withdrawTo", [other])
        chain.transact(refuser.functions.execute(halves.address, 0, withdraw), platform)
        assert chain.balance(other) == MAX_HELD
        assert chain.revert_error(more, host, 1) is None

    @pytest.mark.slow
    def test_earnings_may_exceed_what_escrow_can_hold(self, chain, halves, platform):
        """The fee of one run stays while the next one fills escrow."""
        earned = 0
        for _ in range(2):
            price = MAX_HELD // 2 - 1
            run_id = chain.create_run(halves, seats=1, price=price)
            chain.book(halves, run_id)
            chain.settle(halves, run_id, "complete", attended=[])
            earned += price // 10 + price // 2
        chain.create_run(halves, seats=1, price=2 * MAX_HELD)
        assert halves.functions.platformBalance().call() == earned > 2**95
        assert halves.functions.totalLiabilities().call() == earned + MAX_HELD == chain.balance(halves.address)


@pytest.mark.parametrize(
    ("price", "error"), [(2**128 - 1, None), (2**128, "InvalidPrice"), (2**256 - 1, "InvalidPrice")]
)
def test_price(chain, host, price, error):
    """Without stakes a run of any price can be opened, though nobody could pay for a seat."""
    contract = chain.deploy_event_stake(stake_bps=0)
    create = contract.functions.createEventRun("x", price, 200, chain.engine.now() + 1_000)
    assert chain.revert_error(create, host) == error
    if error is None:
        chain.transact(create, host)
        assert contract.functions.getEventRun(1).call()[3] == price
        assert chain.revert_error(contract.functions.bookEvent(1, 200), host, 1) == "AmountTooLarge"


@pytest.mark.parametrize(("start", "error"), [(2**40 - 1, None), (2**40, "InvalidStart"), (2**256 - 1, "InvalidStart")])
def test_start(chain, contract, host, start, error):
    create = contract.functions.createEventRun("x", PRICE, 4, start)
    assert chain.revert_error(create, host, HOST_STAKE) == error
    if error is None:
        chain.transact(create, host, HOST_STAKE)
        assert chain.start_of(contract, 1) == start


def test_run_that_starts_last_of_all_has_its_whole_grace(chain, contract, host, platform):
    """Its deadlines need more than the 40 bits of its start."""
    run_id = chain.create_run(contract, start=2**40 - 1)
    expire = contract.functions.expireEvent(run_id)
    assert chain.revert_error(expire, platform) == "TooEarly"
    for offset, error in ((-1, None), (0, "TooLate")):
        at = 2**40 - 1 + 7 * 86_400 + offset
        assert chain.revert_error(contract.functions.cancelEvent(run_id), platform, at=at) == error
    assert chain.revert_error(expire, platform, at=2**40 + 7 * 86_400) is None


@pytest.mark.slow
@pytest.mark.parametrize("seats", [1, 200])
def test_seats(chain, contract, seats):
    """One booking of 200 seats, and 200 of one seat."""
    run_id = chain.create_run(contract, seats=200, price=10**10)
    for _ in range(200 // seats):
        last = chain.book(contract, run_id, seats=seats)
    run = contract.functions.getEventRun(run_id).call()
    assert (run[4], run[5], run[8]) == (200, 200, 2)
    assert contract.functions.getBooking(last).call()[3] == seats
    assert len(contract.functions.getEventBookings(run_id).call()) == 200 // seats


class TestIds:
    @pytest.fixture
    def near_limits(self, chain):
        """A contract that has given all but two ids of each kind."""
        chain.artifacts["NearLimits"] = load_contract(CONTRACTS / "test" / "NearLimits.sol")
        return chain.deploy("NearLimits", chain.platform.address, DEFAULT_TERMS, LAST_ID - 2, LAST_ID - 2)

    @pytest.mark.slow
    def test_last_ids_are_whole_everywhere_and_then_there_is_no_other(
        self, chain, near_limits, host, attendee, platform
    ):
        runs = [chain.create_run(near_limits) for _ in range(2)]
        bookings = [chain.book(near_limits, runs[1]) for _ in range(2)]
        assert runs == bookings == [LAST_ID - 1, LAST_ID]
        functions = near_limits.functions
        assert functions.getHostEvents(host.address).call() == runs
        assert functions.getUserBookings(attendee.address).call() == bookings
        assert functions.getEventBookings(LAST_ID).call() == bookings
        assert functions.getBooking(LAST_ID).call()[:2] == (LAST_ID, LAST_ID)
        start = chain.start_of(near_limits, LAST_ID)
        for create, value in (
            (functions.createEventRun("x", PRICE, 4, start), HOST_STAKE),
            (functions.bookEvent(LAST_ID, 1), BOOKING_COST),
        ):
            with pytest.raises(Exception, match=r"(?i)overflow|0x11|panic"):
                create.call({"from": platform.address, "value": value})
        assert functions.totalLiabilities().call() == 2 * HOST_STAKE + 2 * BOOKING_COST

        chain.transact(functions.cancelBooking(LAST_ID - 1), platform)
        assert functions.getEventBookings(LAST_ID).call() == bookings
        chain.settle(near_limits, LAST_ID, "complete", attended=[LAST_ID])
        chain.settle(near_limits, LAST_ID - 1, "expire", attended=[])
        assert chain.balance(near_limits.address) == functions.platformBalance().call()
