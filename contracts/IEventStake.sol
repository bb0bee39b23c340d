// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @title Stakes for bookable events
/// @notice A host stakes a share of the event's value, attendees pay the ticket plus a stake. Who comes gets the
/// stake back, a no-show forfeits it, the platform keeps a fee of the ticket revenue, a cancellation refunds everyone.
/// @dev All amounts are wei, all times are seconds since 1970 (block time), all shares are basis points (1/10,000).
/// Every division rounds down.
///
/// The platform is the owner of the contract, and its operators. They open runs, book, complete and cancel for others.
/// Only the owner pauses, withdraws the fees, names operators and hands over the ownership, so that an operator's key
/// gives no access to fees, escrow or credits.
///
/// Escrow and credits together hold less than 2^96 wei. A payment that would exceed this is refused (`AmountTooLarge`).
/// Ids are below 2^32; then nothing more can be opened or booked (Panic 0x11), and what is open can be settled.
///
/// Checks are made in one order everywhere, and the first that fails names the error: does the run or booking exist,
/// may the caller do this, is its status right, is it the time, are the arguments right, is the amount one that can be
/// held, is the value exact, is there gas for what follows.
///
/// Functions that create runs or bookings can be paused (`EnforcedPause`); functions that let money out never can.
interface IEventStake {
    /// @notice Created is unused (a run is Active from the start). Completed, Cancelled and Expired are final.
    enum RunStatus {
        Created,
        Active,
        Full,
        Completed,
        Cancelled,
        Expired
    }

    /// @notice Completed: came. Cancelled: refunded, by the attendee, with the run, or by expiry.
    enum BookingStatus {
        Active,
        Completed,
        NoShow,
        Cancelled
    }

    /// @notice A run as it stands.
    /// @param hostStake wei
    /// @param status a `RunStatus`
    /// @param hostStakeWithdrawn whether the stake has left escrow, which is when the run is final
    struct EventRun {
        uint256 eventRunId;
        address host;
        string experienceId;
        uint256 pricePerSeat;
        uint256 maxSeats;
        uint256 seatsBooked;
        uint256 hostStake;
        uint256 eventTimestamp;
        uint8 status;
        bool hostStakeWithdrawn;
        uint256 createdAt;
    }

    /// @notice A booking as it stands.
    /// @param status a `BookingStatus`
    struct Booking {
        uint256 bookingId;
        uint256 eventRunId;
        address user;
        uint256 seatCount;
        uint256 totalPayment;
        uint256 userStake;
        uint8 status;
        uint256 bookedAt;
    }

    /// @notice What a contract is deployed with. Fixed for ever.
    /// @param stakeBps stake of hosts and attendees, at most 5,000
    /// @param feeBps platform's fee of the ticket revenue, at most 1,000
    /// @param forfeitToHostBps host's share of forfeited stakes, at most 10,000; the platform gets the rest
    /// @param cancellationCutoff seconds before the start until which a booking can be cancelled, at most 30 days
    /// @param completionGrace seconds after the start within which a run can be completed, 1 hour to 90 days
    struct Terms {
        uint16 stakeBps;
        uint16 feeBps;
        uint16 forfeitToHostBps;
        uint32 cancellationCutoff;
        uint32 completionGrace;
    }

    event EventRunCreated(
        uint256 indexed eventRunId,
        address indexed host,
        string experienceId,
        uint256 pricePerSeat,
        uint256 maxSeats,
        uint256 hostStake
    );
    event BookingCreated(
        uint256 indexed bookingId,
        uint256 indexed eventRunId,
        address indexed user,
        uint256 seatCount,
        uint256 totalPayment,
        uint256 userStake
    );
    event BookingCompleted(uint256 indexed bookingId, address indexed user, uint256 stakeReturned);
    event BookingNoShow(uint256 indexed bookingId, address indexed user, uint256 stakeForfeit);
    /// @param hostPayout revenue - fee, plus the host's share of forfeited stakes
    event EventCompleted(uint256 indexed eventRunId, uint256 hostPayout, uint256 hostStakeReturned);
    /// @param refundsIssued payments and stakes given back to attendees, in wei
    event EventCancelled(uint256 indexed eventRunId, uint256 refundsIssued);

    /// @notice A single booking was cancelled in time.
    event BookingCancelled(uint256 indexed bookingId, address indexed user, uint256 refund);
    /// @param refundsIssued payments and stakes given back to attendees
    /// @param compensation what attendees got of the host's stake
    /// @param toPlatform remainder of the host's stake, 0 when nobody had booked
    event EventExpired(
        uint256 indexed eventRunId, uint256 refundsIssued, uint256 compensation, uint256 toPlatform
    );
    /// @notice A payout could not be pushed; it is now a credit of the receiver.
    event PaymentDeferred(address indexed receiver, uint256 amount);
    event CreditWithdrawn(address indexed creditor, address indexed to, uint256 amount);
    event PlatformFeesWithdrawn(address indexed to, uint256 amount);
    /// @notice The terms, when the contract is deployed.
    event Deployed(Terms terms);
    /// @notice Start of a run, directly after its `EventRunCreated`. Together they say all there is to know of it.
    event EventRunScheduled(uint256 indexed eventRunId, uint256 eventTimestamp);
    /// @param allowed whether the account acts for the platform from now on
    event OperatorSet(address indexed account, bool allowed);

    /// @notice A term of the constructor is out of its bounds.
    error InvalidTerms();
    error UnknownEventRun(uint256 eventRunId);
    error UnknownBooking(uint256 bookingId);
    /// @notice The caller is neither the host (or the attendee) nor the platform.
    error NotAuthorized(address caller);
    /// @notice The run is final, or full where a booking was asked for.
    error EventNotOpen(uint256 eventRunId, RunStatus status);
    error BookingNotActive(uint256 bookingId, BookingStatus status);
    /// @notice Too late: the last moment was before `deadline` (at it, for `cancelBooking`).
    error TooLate(uint256 deadline);
    /// @notice Too early: possible from `opens` on.
    error TooEarly(uint256 opens);
    error InvalidExperience();
    error InvalidPrice(uint256 pricePerSeat);
    error InvalidSeats(uint256 seats);
    /// @notice The start is not in the future, or beyond what a uint40 holds.
    error InvalidStart(uint256 eventTimestamp);
    /// @notice Nobody can be paid at this address: zero, or the contract itself.
    error InvalidReceiver(address receiver);
    error NotEnoughSeats(uint256 requested, uint256 available);
    /// @notice A booking in the list belongs to another run, or does not exist.
    error BookingNotOfRun(uint256 bookingId, uint256 eventRunId);
    /// @notice With this amount, escrow and credits would reach 2^96 wei.
    error AmountTooLarge(uint256 amount);
    error WrongValue(uint256 sent, uint256 required);
    error NothingToWithdraw();
    /// @notice A withdrawal, which is not pushed but asked for, was refused by its receiver.
    error TransferFailed(address to, uint256 amount);
    /// @notice Too little gas was sent to give a receiver its stipend.
    error InsufficientGas();
    /// @notice The owner can't be given up: nobody could withdraw the fees.
    error OwnershipRequired();

    /// @notice Opens a run with the sender as host. `msg.value` is `calculateRequiredStake(pricePerSeat, maxSeats)`.
    /// @dev Errors in order: EnforcedPause, InvalidReceiver (createEventRunFor), InvalidExperience, InvalidPrice,
    /// InvalidSeats, InvalidStart, AmountTooLarge, WrongValue.
    /// @param experienceId not empty
    /// @param pricePerSeat wei, 0 < price < 2^128
    /// @param maxSeats 1 to MAX_SEATS
    /// @param eventTimestamp start, later than now
    function createEventRun(string calldata experienceId, uint256 pricePerSeat, uint256 maxSeats, uint256 eventTimestamp)
        external
        payable
        returns (uint256 eventRunId);

    /// @notice The platform opens a run and pays the stake in for `host`, who gets the payouts.
    /// @dev Errors: OwnableUnauthorizedAccount, then as `createEventRun`.
    function createEventRunFor(
        address host,
        string calldata experienceId,
        uint256 pricePerSeat,
        uint256 maxSeats,
        uint256 eventTimestamp
    ) external payable returns (uint256 eventRunId);

    /// @notice Books seats for the sender. `msg.value` is the total of `calculateBookingCost`.
    /// @dev Errors in order: EnforcedPause, UnknownEventRun, InvalidReceiver (bookEventFor), EventNotOpen, TooLate,
    /// InvalidSeats (zero), NotEnoughSeats, AmountTooLarge, WrongValue. Possible while now < start.
    function bookEvent(uint256 eventRunId, uint256 seatCount) external payable returns (uint256 bookingId);

    /// @notice The platform books and pays in for `attendee`, who gets refunds and stake.
    /// @dev Errors: OwnableUnauthorizedAccount, then as `bookEvent`.
    function bookEventFor(address attendee, uint256 eventRunId, uint256 seatCount)
        external
        payable
        returns (uint256 bookingId);

    /// @notice Closes a run: who came gets the stake, the host the revenue less the fee and the own stake back,
    /// everybody not listed is a no-show. By host or platform, while start <= now < start + grace.
    /// @dev Errors in order: UnknownEventRun, NotAuthorized, EventNotOpen, TooEarly, TooLate, then for each id in the
    /// order given BookingNotOfRun, BookingNotActive (cancelled, or listed twice); InsufficientGas.
    function completeEvent(uint256 eventRunId, uint256[] calldata attendedBookingIds) external;

    /// @notice Calls a run off: everybody is refunded in full, the host's stake returns. By the host while now < start,
    /// by the platform while now < start + grace: from then on a run only expires, so that the compensation is certain.
    /// @dev Errors in order: UnknownEventRun, NotAuthorized, EventNotOpen, TooLate, InsufficientGas.
    function cancelEvent(uint256 eventRunId) external;

    /// @notice Refunds one booking in full and frees its seats. By the attendee, or the platform for them, while
    /// now + cutoff <= start.
    /// @dev Errors in order: UnknownBooking, NotAuthorized, BookingNotActive, TooLate, InsufficientGas.
    function cancelBooking(uint256 bookingId) external;

    /// @notice Ends a run that nobody completed: every active booking is refunded and gets
    /// floor(hostStake x its seats / all active seats), the platform what remains of the host's stake; with no active
    /// booking the host gets the stake back. By anyone, once now >= start + grace.
    /// @dev Errors in order: UnknownEventRun, EventNotOpen, TooEarly, InsufficientGas.
    function expireEvent(uint256 eventRunId) external;

    /// @notice Pays the sender's credit to the sender. Errors: NothingToWithdraw, TransferFailed.
    function withdraw() external;

    /// @notice Pays the sender's credit to another address. Errors in order: InvalidReceiver, NothingToWithdraw,
    /// TransferFailed.
    function withdrawTo(address payable to) external;

    /// @notice Pays the platform what it earned, to the owner. Errors in order: OwnableUnauthorizedAccount,
    /// NothingToWithdraw, TransferFailed.
    function withdrawPlatformFees() external;

    /// @notice Lets an account act for the platform, or no longer. By the owner.
    /// @dev Errors: OwnableUnauthorizedAccount. The ownership does not depend on it: the owner need not be an operator,
    /// and an operator stays one when the ownership changes.
    function setOperator(address account, bool allowed) external;

    /// @notice floor(pricePerSeat x seats x stakeBps / 10,000) wei.
    function calculateRequiredStake(uint256 pricePerSeat, uint256 seats) external view returns (uint256);

    /// @notice payment = price x seats; stake = floor(payment x stakeBps / 10,000); total is both, in wei.
    /// @dev Errors: UnknownEventRun.
    function calculateBookingCost(uint256 eventRunId, uint256 seatCount)
        external
        view
        returns (uint256 payment, uint256 stake, uint256 total);

    /// @dev Errors: UnknownEventRun.
    function getEventRun(uint256 id) external view returns (EventRun memory);

    /// @dev Errors: UnknownBooking.
    function getBooking(uint256 id) external view returns (Booking memory);

    /// @notice Ids of all bookings ever made of a run, cancelled ones too, in the order they were made.
    /// @dev It sorts them: to be called from outside, as its gas grows with the number of bookings.
    function getEventBookings(uint256 eventRunId) external view returns (uint256[] memory);
    function getUserBookings(address user) external view returns (uint256[] memory);
    function getHostEvents(address host) external view returns (uint256[] memory);

    /// @notice Whether an account acts for the platform. The owner does so in any case.
    function isOperator(address account) external view returns (bool);
    /// @notice Wei that could not be pushed to `account` and wait to be withdrawn.
    function creditOf(address account) external view returns (uint256);
    /// @notice Wei the platform has earned and not withdrawn.
    function platformBalance() external view returns (uint256);
    /// @notice Wei owed to all: active bookings, stakes of open runs, credits, platform balance.
    function totalLiabilities() external view returns (uint256);
    function terms() external view returns (Terms memory);
}
