// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {IEventStake} from "../IEventStake.sol";
import {AnyState} from "./AnyState.sol";

/// @notice Who may do what, and what never changes: from any state, by any sender.
contract RulesProof is AnyState {
    /// @dev Fees, pause, operators, ownership: the owner's alone.
    function check_only_the_owner(address sender, address account, bool allowed) public {
        VM.assume(sender != stake.owner());
        bytes[6] memory calls = [
            abi.encodeCall(stake.withdrawPlatformFees, ()),
            abi.encodeCall(stake.pause, ()),
            abi.encodeCall(stake.unpause, ()),
            abi.encodeCall(stake.setOperator, (account, allowed)),
            abi.encodeCall(stake.transferOwnership, (account)),
            abi.encodeCall(stake.renounceOwnership, ())
        ];
        for (uint256 i; i < 6; ++i) _assertReverts(sender, calls[i]);
    }

    function check_only_the_platform_acts_for_others(address sender, address account, uint256 price) public {
        VM.assume(sender != stake.owner() && !stake.isOperator(sender));
        _assertReverts(sender, abi.encodeCall(stake.createEventRunFor, (account, "x", price, 1, type(uint40).max)));
        _assertReverts(sender, abi.encodeCall(stake.bookEventFor, (account, RUN, 1)));
    }

    /// @dev A run is closed by its host or the platform, a booking cancelled by its attendee or the platform.
    function check_only_a_party_settles(address sender) public {
        _givenActiveBookings(1);
        VM.assume(sender != stake.owner() && !stake.isOperator(sender));
        VM.assume(sender != receivers[0] && sender != receivers[1]);
        _assertReverts(sender, abi.encodeCall(stake.completeEvent, (RUN, new uint256[](0))));
        _assertReverts(sender, abi.encodeCall(stake.cancelEvent, (RUN)));
        _assertReverts(sender, abi.encodeCall(stake.cancelBooking, (1)));
    }

    /// @custom:halmos --default-bytes-lengths 1
    function check_roles(address sender, address other) public {
        (address owner, address pending) = (stake.owner(), stake.pendingOwner());
        bool operator = stake.isOperator(other);
        _anyOtherCall(sender);
        assert(stake.owner() == owner || (sender == pending && stake.owner() == pending));
        assert(stake.pendingOwner() == pending || sender == owner || stake.pendingOwner() == address(0));
        assert(stake.isOperator(other) == operator || sender == owner);
    }

    /// @dev While paused nothing is opened or booked, by nobody, and only the owner ends the pause.
    /// @custom:halmos --default-bytes-lengths 1
    function check_pause(address sender) public {
        _givenPaused();
        (address owner, uint256 totals) = (stake.owner(), _load(TOTALS));
        _anyOtherCall(sender);
        assert(_isPaused() || sender == owner);
        assert(_load(TOTALS) >> 192 == totals >> 192);
        assert(uint96(_load(TOTALS)) == uint96(totals));
    }

    /// @dev A credit can be withdrawn at any time, paused or not, by nobody else, whole, and once.
    function check_credit_is_withdrawn(address creditor) public {
        VM.assume(creditor != address(stake) && creditor != address(0));
        uint256 credit = stake.creditOf(creditor);
        VM.assume(credit > 0 && credit <= _books().credits && credit <= address(stake).balance);
        VM.prank(creditor);
        (bool done,) = address(stake).call(abi.encodeCall(stake.withdrawTo, (payable(address(0xE0A)))));
        assert(done);
        assert(address(0xE0A).balance == credit);
        assert(stake.creditOf(creditor) == 0);
    }

    /// @dev Nobody takes a credit of somebody else's, whatever they call.
    /// @custom:halmos --default-bytes-lengths 1
    function check_credit_is_nobody_elses(address sender, address creditor) public {
        VM.assume(sender != creditor);
        uint256 credit = stake.creditOf(creditor);
        _anyOtherCall(sender);
        assert(stake.creditOf(creditor) == credit);
    }

    /// @dev No call changes host, start, price, seats, creation or name of a run that exists, nor the terms.
    /// @custom:halmos --default-bytes-lengths 1
    function check_terms_frozen(address sender, uint32 run) public {
        VM.assume(run != 0 && run <= uint32(_load(TOTALS) >> 192));
        uint256 slot = _slot(run, RUNS);
        (uint256 first, uint256 second, uint256 name) = (uint200(_load(slot)), _load(slot + 1), _load(slot + 2));
        _anyOtherCall(sender);
        assert(uint200(_load(slot)) == first && _load(slot + 1) == second && _load(slot + 2) == name);
        _assertTerms();
    }

    function check_terms_frozen_by_settlement(uint8 kind) public {
        _givenActiveBookings(1);
        uint256 slot = _slot(RUN, RUNS);
        (uint256 first, uint256 second, uint256 name) = (uint200(_load(slot)), _load(slot + 1), _load(slot + 2));
        _settle(kind);
        assert(uint200(_load(slot)) == first && _load(slot + 1) == second && _load(slot + 2) == name);
        _assertTerms();
    }

    /// @dev Only settlement changes a status, and a booking that exists is changed by nothing else.
    /// @custom:halmos --default-bytes-lengths 1
    function check_status_changes_by_settlement_only(address sender, uint32 run, uint32 booking) public {
        VM.assume(run != 0 && run <= uint32(_load(TOTALS) >> 192));
        VM.assume(booking != 0 && booking <= uint32(_load(TOTALS) >> 224));
        (uint256 status, uint256 word) = (_runStatus(run), _load(_slot(booking, BOOKINGS)));
        _anyOtherCall(sender);
        assert(_runStatus(run) == status);
        assert(_load(_slot(booking, BOOKINGS)) == word);
    }

    /// @dev What is final stays: a run that is not active is not settled, nor a booking of another status.
    function check_final_is_final(uint8 kind, uint8 status) public {
        _givenActiveBookings(1);
        uint256 before = _runStatus(RUN);
        _settle(kind);
        assert(before == 1 || kind == 3);
        assert(_runStatus(RUN) == (kind == 3 ? before : 3 + uint256(kind)));
        assert(_bookingStatus(1) == (kind == 0 ? 2 : 3));
        _store(_slot(1, BOOKINGS), abi.encodePacked(uint8(0), status, uint240(_load(_slot(1, BOOKINGS)))));
        (bool again,) = address(stake).call(abi.encodeCall(stake.cancelBooking, (1)));
        assert(!again || status == 0);
    }

    /// @dev Complete from the start until the grace ends, expire from then on, cancel until then, cancel a booking
    /// until the cutoff.
    function check_times(uint8 kind) public {
        _givenActiveBookings(1);
        uint256 start = uint40(_load(_slot(RUN, RUNS)) >> 160);
        _settle(kind);
        if (kind == 0) assert(block.timestamp >= start && block.timestamp < start + terms.grace);
        if (kind == 1) assert(block.timestamp < start + terms.grace);
        if (kind == 2) assert(block.timestamp >= start + terms.grace);
        if (kind == 3) assert(block.timestamp + terms.cutoff <= start);
    }

    /// @dev A run never has more seats booked than it has.
    /// @custom:halmos --default-bytes-lengths 1
    function check_seats(address sender, uint32 run) public {
        VM.assume(_seatsBooked(run) <= _maxSeats(run));
        VM.assume(run != uint32(_load(TOTALS) >> 192) + 1 || _seatsBooked(run) == 0);
        _anyOtherCall(sender);
        assert(_seatsBooked(run) <= _maxSeats(run));
    }

    /// @dev Completes with a no-show, cancels, expires, or cancels the booking.
    function _settle(uint8 kind) private {
        VM.assume(kind < 4);
        _asOperator();
        if (kind == 0) _complete(1, [false, false, false]);
        else if (kind == 1) stake.cancelEvent(RUN);
        else if (kind == 2) stake.expireEvent(RUN);
        else stake.cancelBooking(1);
    }

    function _assertTerms() private view {
        IEventStake.Terms memory current = stake.terms();
        assert(current.stakeBps == terms.stakeBps && current.feeBps == terms.feeBps);
        assert(current.forfeitToHostBps == terms.forfeitToHostBps);
        assert(current.cancellationCutoff == terms.cutoff && current.completionGrace == terms.grace);
    }

    function _assertReverts(address sender, bytes memory data) private {
        VM.prank(sender);
        (bool done,) = address(stake).call(data);
        assert(!done);
    }
}
