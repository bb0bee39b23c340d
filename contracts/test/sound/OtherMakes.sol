// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {OtherMake} from "./OtherMake.sol";

// Each is right by the rules, with the difference that its comment declares; PackedWords has none but its storage.

/// @notice A run is two words and a booking is one, packed by hand: it takes 200 seats.
contract PackedWords is OtherMake {
    mapping(uint256 runId => uint256[2]) private _runWords;
    mapping(uint256 ticketId => uint256) private _ticketWords;

    constructor(address platform, Terms memory terms_) OtherMake(platform, terms_) {}

    function _run(uint256 id) internal view override returns (Run memory run) {
        (uint256 first, uint256 second) = (_runWords[id][0], _runWords[id][1]);
        run.host = address(uint160(first));
        run.start = first >> 160 & 0xffffffffff;
        run.seats = first >> 200 & 0xffff;
        run.taken = first >> 216 & 0xffff;
        run.status = RunStatus(first >> 232);
        run.price = second & type(uint128).max;
        run.createdAt = second >> 128;
    }

    function _writeRun(uint256 id, Run memory run) internal override {
        _runWords[id][0] = uint160(run.host) | run.start << 160 | run.seats << 200 | run.taken << 216
            | uint256(run.status) << 232;
        _runWords[id][1] = run.price | run.createdAt << 128;
    }

    function _maxSeats() internal pure virtual override returns (uint256) {
        return 200;
    }

    /// @dev 160 bits of the user, 32 of the run, 8 of the seats, 48 of the time, 8 of the status.
    function _ticket(uint256 id) internal view override returns (Ticket memory ticket) {
        uint256 word = _ticketWords[id];
        ticket.user = address(uint160(word));
        ticket.runId = word >> 160 & 0xffffffff;
        ticket.seats = word >> 192 & 0xff;
        ticket.bookedAt = word >> 200 & 0xffffffffffff;
        ticket.status = BookingStatus(word >> 248);
    }

    function _writeTicket(uint256 id, Ticket memory ticket) internal override {
        _ticketWords[id] = uint160(ticket.user) | ticket.runId << 160 | ticket.seats << 192 | ticket.bookedAt << 200
            | uint256(ticket.status) << 248;
    }
}

/// @notice Nothing is pushed: every payout is a credit that its receiver withdraws.
contract PullPayments is PackedWords {
    constructor(address platform, Terms memory terms_) PackedWords(platform, terms_) {}

    function _pay(address to, uint256 amount) internal override {
        if (amount > 0) _credit(to, amount);
    }
}

/// @notice The host is paid first, and the attendees from the last to the first.
contract HostPaidFirst is PackedWords {
    constructor(address platform, Terms memory terms_) PackedWords(platform, terms_) {}

    function _payAll(Payout[] memory payouts) internal override {
        for (uint256 i = payouts.length; i > 0; --i) _pay(payouts[i - 1].to, payouts[i - 1].amount);
    }
}

/// @notice A run has at most 7 seats.
contract FewSeats is PackedWords {
    constructor(address platform, Terms memory terms_) PackedWords(platform, terms_) {}

    function _maxSeats() internal pure override returns (uint256) {
        return 7;
    }
}

/// @notice Half of the forfeits are the host's, and the other terms are its own, too. Nobody chooses them.
contract OwnTerms is PackedWords {
    constructor(address platform)
        PackedWords(
            platform,
            Terms({stakeBps: 1_500, feeBps: 333, forfeitToHostBps: 5_000, cancellationCutoff: 2 hours, completionGrace: 3 days})
        )
    {}
}

/// @notice It reverts with strings.
contract StringErrors is PackedWords {
    constructor(address platform, Terms memory terms_) PackedWords(platform, terms_) {}

    function _checkOwner() internal view override {
        require(msg.sender == owner(), "Only owner");
    }

    function _requireNotPaused() internal view override {
        require(!paused(), "Paused");
    }

    function _fail(bytes memory error) internal pure override {
        bytes4 kind = bytes4(error);
        if (kind == UnknownEventRun.selector) revert("Unknown event");
        if (kind == UnknownBooking.selector) revert("Unknown booking");
        if (kind == NotAuthorized.selector) revert("Not authorized");
        if (kind == EventNotOpen.selector) revert("Event not open");
        if (kind == BookingNotActive.selector) revert("Booking not active");
        if (kind == TooLate.selector) revert("Too late");
        if (kind == TooEarly.selector) revert("Too early");
        if (kind == InvalidSeats.selector) revert("Bad number of seats");
        if (kind == NotEnoughSeats.selector) revert("Not enough seats");
        if (kind == BookingNotOfRun.selector) revert("Not a booking of this event");
        if (kind == WrongValue.selector) revert("Incorrect payment");
        if (kind == NothingToWithdraw.selector) revert("Nothing to withdraw");
        if (kind == TransferFailed.selector) revert("Transfer failed");
        if (kind == InsufficientGas.selector) revert("Not enough gas");
        revert("Invalid argument");
    }
}
