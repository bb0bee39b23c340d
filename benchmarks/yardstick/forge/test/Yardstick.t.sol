// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {EventStake} from "../src/EventStake.sol";
import {IEventStake} from "../src/IEventStake.sol";

interface Vm {
    function warp(uint256 at) external;
    function deal(address who, uint256 amount) external;
    function prank(address sender) external;
}

/// Every call picks, by its arguments, among what is possible: an open run with free seats, a booking that can be
/// cancelled. It also says what each account must have been paid, by the rules.
contract Handler {
    struct Run {
        address host;
        uint256 price;
        uint256 seats;
        uint256 taken;
        uint256 start;
        uint256[] bookings;
    }

    struct Booking {
        uint256 run;
        address guest;
        uint256 seats;
    }

    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    address constant PLATFORM = address(0xBEEF0000);
    uint256 constant ACTORS = 5; // two hosts, three guests
    uint256 constant CUTOFF = 1 days;
    uint256 constant GRACE = 7 days;

    EventStake immutable stake;
    uint256[] private _open;
    mapping(uint256 id => Run) private _runs;
    mapping(uint256 id => Booking) private _bookings;
    mapping(address account => uint256) private _due;

    constructor(EventStake stake_) {
        stake = stake_;
    }

    function _actor(uint256 index) private pure returns (address) {
        return address(uint160(0xBEEF0001 + index));
    }

    // ------------------------------------------------------------------- calls

    function createRun(uint256 host, uint256 seats, uint256 price, uint256 notice, bool byPlatform) external {
        Run memory run;
        run.host = _actor(host % 2);
        run.seats = _bound(seats, 1, 6);
        run.price = _bound(price, 1 gwei, 1 ether);
        run.start = block.timestamp + _bound(notice, 2 days, 30 days);
        address sender = byPlatform ? PLATFORM : run.host;
        uint256 value = _stake(run.price * run.seats);
        _fund(sender, value);
        vm.prank(sender);
        uint256 id = byPlatform
            ? stake.createEventRunFor{value: value}(run.host, "yoga", run.price, run.seats, run.start)
            : stake.createEventRun{value: value}("yoga", run.price, run.seats, run.start);
        _runs[id] = run;
        _open.push(id);
    }

    function book(uint256 which, uint256 guest, uint256 seats, bool byPlatform) external {
        (bool found, uint256 id) = _pick(which, true);
        if (!found) return;
        Run storage run = _runs[id];
        address user = _actor(2 + guest % 3);
        seats = _bound(seats, 1, run.seats - run.taken);
        uint256 value = run.price * seats + _stake(run.price * seats);
        address sender = byPlatform ? PLATFORM : user;
        _fund(sender, value);
        vm.prank(sender);
        uint256 booking = byPlatform
            ? stake.bookEventFor{value: value}(user, id, seats)
            : stake.bookEvent{value: value}(id, seats);
        run.taken += seats;
        run.bookings.push(booking);
        _bookings[booking] = Booking(id, user, seats);
    }

    function cancelBooking(uint256 which, uint256 place, bool byPlatform) external {
        (bool found, uint256 id) = _pickBooked(which);
        if (!found) return;
        Run storage run = _runs[id];
        place %= run.bookings.length;
        uint256 booking = run.bookings[place];
        Booking storage b = _bookings[booking];
        vm.prank(byPlatform ? PLATFORM : b.guest);
        stake.cancelBooking(booking);
        _due[b.guest] += run.price * b.seats + _stake(run.price * b.seats);
        run.taken -= b.seats;
        run.bookings[place] = run.bookings[run.bookings.length - 1];
        run.bookings.pop();
    }

    function cancelRun(uint256 which, bool byPlatform) external {
        (bool found, uint256 id) = _pick(which, false);
        if (!found) return;
        Run storage run = _runs[id];
        if (block.timestamp >= run.start + (byPlatform ? GRACE : 0)) return;
        vm.prank(byPlatform ? PLATFORM : run.host);
        stake.cancelEvent(id);
        for (uint256 i; i < run.bookings.length; ++i) {
            Booking storage b = _bookings[run.bookings[i]];
            _due[b.guest] += run.price * b.seats + _stake(run.price * b.seats);
        }
        _due[run.host] += _stake(run.price * run.seats);
        _close(id);
    }

    /// @param came a bit for each booking
    function complete(uint256 which, uint8 came, uint256 late, bool byPlatform) external {
        (bool found, uint256 id) = _pick(which, false);
        if (!found) return;
        Run storage run = _runs[id];
        if (block.timestamp >= run.start + GRACE) return;
        if (block.timestamp < run.start) vm.warp(run.start + _bound(late, 0, 2 hours));
        uint256 count;
        uint256[] memory attended = new uint256[](run.bookings.length);
        for (uint256 i; i < run.bookings.length; ++i) {
            if (came >> i & 1 == 1) attended[count++] = run.bookings[i];
        }
        assembly ("memory-safe") {
            mstore(attended, count)
        }
        vm.prank(byPlatform ? PLATFORM : run.host);
        stake.completeEvent(id, attended);
        for (uint256 i; i < count; ++i) {
            Booking storage b = _bookings[attended[i]];
            _due[b.guest] += _stake(run.price * b.seats);
        }
        uint256 revenue = run.price * run.taken;
        _due[run.host] += revenue - revenue * 500 / 10_000 + _stake(run.price * run.seats);
        _close(id);
    }

    function expire(uint256 which) external {
        (bool found, uint256 id) = _pick(which, false);
        if (!found) return;
        Run storage run = _runs[id];
        if (block.timestamp < run.start + GRACE) vm.warp(run.start + GRACE);
        stake.expireEvent(id);
        uint256 hostStake = _stake(run.price * run.seats);
        for (uint256 i; i < run.bookings.length; ++i) {
            Booking storage b = _bookings[run.bookings[i]];
            uint256 paid = run.price * b.seats + _stake(run.price * b.seats);
            _due[b.guest] += paid + hostStake * b.seats / run.taken;
        }
        if (run.bookings.length == 0) _due[run.host] += hostStake;
        _close(id);
    }

    function withdrawPlatformFees() external {
        uint256 amount = stake.platformBalance();
        if (amount == 0) return;
        vm.prank(PLATFORM);
        stake.withdrawPlatformFees();
        _due[PLATFORM] += amount;
    }

    function wait_(uint256 duration) external {
        vm.warp(block.timestamp + _bound(duration, 1, 2 days));
    }

    // ------------------------------------------------------------------ checks

    /// Solvency, and everybody's payouts.
    function check() external view {
        require(address(stake).balance == stake.totalLiabilities(), "the contract owes more or less than it has");
        require(PLATFORM.balance == _due[PLATFORM], "the platform was paid more or less than due");
        for (uint256 i; i < ACTORS; ++i) {
            require(_actor(i).balance == _due[_actor(i)], "an actor was paid more or less than due");
        }
    }

    // ---------------------------------------------------------------- workings

    /// @dev An open run; where somebody is to book, one that has not started and has free seats.
    function _pick(uint256 which, bool bookable) private view returns (bool, uint256) {
        for (uint256 i; i < _open.length; ++i) {
            uint256 id = _open[(which % _open.length + i) % _open.length];
            Run storage run = _runs[id];
            if (!bookable || (block.timestamp < run.start && run.taken < run.seats)) return (true, id);
        }
        return (false, 0);
    }

    /// @dev An open run with a booking that can be cancelled.
    function _pickBooked(uint256 which) private view returns (bool, uint256) {
        for (uint256 i; i < _open.length; ++i) {
            uint256 id = _open[(which % _open.length + i) % _open.length];
            Run storage run = _runs[id];
            if (run.bookings.length > 0 && block.timestamp + CUTOFF <= run.start) return (true, id);
        }
        return (false, 0);
    }

    function _close(uint256 id) private {
        for (uint256 i; i < _open.length; ++i) {
            if (_open[i] != id) continue;
            _open[i] = _open[_open.length - 1];
            _open.pop();
        }
    }

    function _fund(address account, uint256 value) private {
        vm.deal(account, account.balance + value);
    }

    function _stake(uint256 amount) private pure returns (uint256) {
        return amount * 2_000 / 10_000;
    }

    function _bound(uint256 value, uint256 low, uint256 high) private pure returns (uint256) {
        return value >= low && value <= high ? value : low + value % (high - low + 1);
    }
}

contract YardstickTest {
    EventStake stake;
    Handler handler;

    function setUp() public {
        IEventStake.Terms memory terms = IEventStake.Terms(2_000, 500, 0, 1 days, 7 days);
        stake = new EventStake(address(0xBEEF0000), terms);
        handler = new Handler(stake);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// One invariant, as each would be a campaign of its own.
    function invariant_everybody_is_paid() public view {
        handler.check();
    }
}
