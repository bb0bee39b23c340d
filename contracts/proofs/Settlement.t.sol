// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {AnyState} from "./AnyState.sol";

/// @notice Who gets how much when a run of up to three active bookings is settled: with any terms, price and seats,
/// whatever each receiver does with its payment. What it refuses is its credit.
/// @dev The contract checks its arithmetic, so the properties need not: without checks there are fewer paths to follow.
abstract contract Settlement is AnyState {
    function _wealths() internal view returns (uint256[4] memory all) {
        for (uint256 i; i < 4; ++i) all[i] = _wealth(i);
    }
}

contract SettlementProof is Settlement {
    /// @dev With nobody booked, the host has the stake back.
    function check_expire_empty(address sender) public {
        _givenActiveBookings(0);
        (Books memory old, uint256 before) = (_books(), _wealth(0));
        VM.prank(sender);
        stake.expireEvent(RUN);
        unchecked {
            assert(_wealth(0) - before == _stakeOf(_price(RUN) * _maxSeats(RUN)));
            assert(stake.platformBalance() == old.platform);
            _assertSurplusIsKept(old);
        }
    }

    /// @dev Refunds one of three bookings, frees its seats, and leaves the other two first in the run's list.
    function check_cancel_booking_of_three(uint8 which) public {
        VM.assume(which > 0 && which < 4);
        for (uint256 id = 1; id < 4; ++id) if (id == which) _cancelBooking(id);
    }

    function _cancelBooking(uint256 id) private {
        _givenActiveBookings(3);
        (Books memory old, uint256[4] memory before, uint256 seats) = (_books(), _wealths(), _seatsBooked(RUN));
        _asOperator();
        stake.cancelBooking(id);
        unchecked {
            uint256 payment = _price(RUN) * _seats(id);
            for (uint256 i; i < 4; ++i) {
                assert(_wealth(i) - before[i] == (i == id ? payment + _stakeOf(payment) : 0));
            }
            assert(_seatsBooked(RUN) == seats - _seats(id));
            assert(_bookingStatus(id) == 3);
            uint256 list = _load(_slot(RUN, RUN_BOOKINGS));
            assert(uint32(list >> 64) == id);
            assert(uint32(list) != id && uint32(list >> 32) != id && uint32(list) + uint32(list >> 32) + id == 6);
            _assertSurplusIsKept(old);
        }
    }
}

contract LongSettlementProof is Settlement {
    /// @dev The second of three came.
    function check_complete_three() public {
        _givenActiveBookings(3);
        (Books memory old, uint256[4] memory before, uint256 price) = (_books(), _wealths(), _price(RUN));
        bool[3] memory came = [false, true, false];
        _asOperator();
        _complete(3, came);
        unchecked {
            uint256 forfeits;
            for (uint256 i = 1; i < 4; ++i) {
                uint256 deposit = _stakeOf(price * _seats(i));
                assert(_wealth(i) - before[i] == (came[i - 1] ? deposit : 0));
                if (!came[i - 1]) forfeits += deposit;
            }
            uint256 revenue = price * _seatsBooked(RUN);
            uint256 fee = revenue * terms.feeBps / 10_000;
            uint256 toHost = forfeits * terms.forfeitToHostBps / 10_000;
            assert(_wealth(0) - before[0] == revenue - fee + toHost + _stakeOf(price * _maxSeats(RUN)));
            assert(stake.platformBalance() - old.platform == fee + forfeits - toHost);
            _assertSurplusIsKept(old);
        }
    }

    function check_cancel_two() public {
        _givenActiveBookings(2);
        (Books memory old, uint256[4] memory before, uint256 price) = (_books(), _wealths(), _price(RUN));
        _asOperator();
        stake.cancelEvent(RUN);
        unchecked {
            for (uint256 i = 1; i < 3; ++i) {
                uint256 payment = price * _seats(i);
                assert(_wealth(i) - before[i] == payment + _stakeOf(payment));
            }
            assert(_wealth(0) - before[0] == _stakeOf(price * _maxSeats(RUN)));
            assert(stake.platformBalance() == old.platform);
            _assertSurplusIsKept(old);
        }
    }

    /// @dev Many branches can't come about. With the usual millisecond for each, a busy machine follows them all.
    /// @custom:halmos --solver-timeout-branching 100ms
    function check_expire_three(address sender) public {
        _givenActiveBookings(3);
        (Books memory old, uint256[4] memory before, uint256 price) = (_books(), _wealths(), _price(RUN));
        VM.prank(sender);
        stake.expireEvent(RUN);
        unchecked {
            uint256 deposit = _stakeOf(price * _maxSeats(RUN));
            uint256 rest = deposit;
            for (uint256 i = 1; i < 4; ++i) {
                uint256 payment = price * _seats(i);
                uint256 share = deposit * _seats(i) / _seatsBooked(RUN);
                rest -= share;
                assert(_wealth(i) - before[i] == payment + _stakeOf(payment) + share);
            }
            assert(_wealth(0) == before[0]);
            assert(stake.platformBalance() - old.platform == rest);
            _assertSurplusIsKept(old);
        }
    }
}
