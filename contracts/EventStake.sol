// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IEventStake} from "./IEventStake.sol";

/// @dev Functions read in one order: check, compute, write, emit, pay. Amounts that follow from a run's terms
/// (payment, stakes) are computed, not stored: the terms can't change, so there is nothing to fall out of step.
contract EventStake is IEventStake, Ownable2Step, Pausable, ReentrancyGuardTransient {

    /// @dev Two slots and the experience id.
    struct Run {
        address host;
        uint40 start;
        uint16 maxSeats;
        uint16 seatsBooked;
        RunStatus status;
        uint128 pricePerSeat;
        uint40 createdAt;
        string experienceId;
    }

    /// @dev One slot.
    struct StoredBooking {
        address user;
        uint40 bookedAt;
        uint32 eventRunId;
        uint16 seats;
        BookingStatus status;
    }

    uint256 private constant BPS = 10_000;

    /// @notice Seats a run may have: the settlement of so many hostile attendees fits in a transaction of 2^24 gas.
    uint256 public constant MAX_SEATS = 200;

    /// @notice Gas a receiver of a pushed payout may use: enough for a smart wallet, too little to stop a settlement.
    uint256 public constant PUSH_GAS = 30_000;

    /// @dev What a push costs around the receiver's own gas: the call with value to a cold account (11,600), and
    /// writing the credit and the event when it fails.
    uint256 private constant PUSH_OVERHEAD = 60_000;

    uint256 private immutable STAKE_BPS;
    uint256 private immutable FEE_BPS;
    uint256 private immutable FORFEIT_TO_HOST_BPS;
    uint256 private immutable CANCELLATION_CUTOFF;
    uint256 private immutable COMPLETION_GRACE;

    uint32 private _lastRunId;
    uint32 private _lastBookingId;
    mapping(uint256 runId => Run) private _runs;
    mapping(uint256 bookingId => StoredBooking) private _bookings;

    /// @dev All bookings of a run, and those that are active: settlement walks the second, which seats bound, so
    /// that booking and cancelling many times can't make a run too long to settle.
    mapping(uint256 runId => uint32[]) private _runBookings;
    mapping(uint256 runId => uint32[]) private _activeBookings;
    mapping(address user => uint32[]) private _userBookings;
    mapping(address host => uint32[]) private _hostRuns;

    /// @dev Payments and stakes of active bookings, and the host stakes of open runs.
    uint256 private _escrow;
    uint256 private _totalCredits;

    /// @inheritdoc IEventStake
    mapping(address account => uint256) public creditOf;
    /// @inheritdoc IEventStake
    uint256 public platformBalance;

    constructor(address platform, Terms memory terms_) Ownable(platform) {
        if (
            terms_.stakeBps > 5_000 || terms_.feeBps > 1_000 || terms_.forfeitToHostBps > BPS
                || terms_.cancellationCutoff > 30 days || terms_.completionGrace < 1 hours
                || terms_.completionGrace > 90 days
        ) revert InvalidTerms();
        STAKE_BPS = terms_.stakeBps;
        FEE_BPS = terms_.feeBps;
        FORFEIT_TO_HOST_BPS = terms_.forfeitToHostBps;
        CANCELLATION_CUTOFF = terms_.cancellationCutoff;
        COMPLETION_GRACE = terms_.completionGrace;
    }

    // ---------------------------------------------------------------- money in

    /// @inheritdoc IEventStake
    function createEventRun(string calldata experienceId, uint256 pricePerSeat, uint256 maxSeats, uint256 eventTimestamp)
        external
        payable
        whenNotPaused
        returns (uint256)
    {
        return _create(msg.sender, experienceId, pricePerSeat, maxSeats, eventTimestamp);
    }

    /// @inheritdoc IEventStake
    function createEventRunFor(
        address host,
        string calldata experienceId,
        uint256 pricePerSeat,
        uint256 maxSeats,
        uint256 eventTimestamp
    ) external payable onlyOwner whenNotPaused returns (uint256) {
        _checkReceiver(host);
        return _create(host, experienceId, pricePerSeat, maxSeats, eventTimestamp);
    }

    /// @inheritdoc IEventStake
    function bookEvent(uint256 eventRunId, uint256 seatCount) external payable whenNotPaused returns (uint256) {
        return _book(msg.sender, _existing(eventRunId), eventRunId, seatCount);
    }

    /// @inheritdoc IEventStake
    function bookEventFor(address attendee, uint256 eventRunId, uint256 seatCount)
        external
        payable
        onlyOwner
        whenNotPaused
        returns (uint256)
    {
        Run storage run = _existing(eventRunId);
        _checkReceiver(attendee);
        return _book(attendee, run, eventRunId, seatCount);
    }

    // --------------------------------------------------------------- money out

    /// @inheritdoc IEventStake
    function completeEvent(uint256 eventRunId, uint256[] calldata attendedBookingIds) external nonReentrant {
        Run storage run = _existing(eventRunId);
        _checkAuthorized(run.host);
        _checkOpen(eventRunId, run);
        if (block.timestamp < run.start) revert TooEarly(run.start);
        uint256 deadline = run.start + COMPLETION_GRACE;
        if (block.timestamp >= deadline) revert TooLate(deadline);

        for (uint256 i; i < attendedBookingIds.length; ++i) {
            uint256 id = attendedBookingIds[i];
            StoredBooking storage booking = _bookings[id];
            if (booking.eventRunId != eventRunId) revert BookingNotOfRun(id, eventRunId);
            if (booking.status != BookingStatus.Active) revert BookingNotActive(id, booking.status);
            booking.status = BookingStatus.Completed;
        }

        uint256 price = run.pricePerSeat;
        uint256 stake = _stakeOf(price * run.maxSeats);
        uint256 revenue = price * run.seatsBooked;
        uint256 forfeits = _closeBookings(run, eventRunId);
        uint256 fee = revenue * FEE_BPS / BPS;
        uint256 forfeitsToHost = forfeits * FORFEIT_TO_HOST_BPS / BPS;
        uint256 hostPayout = revenue - fee + forfeitsToHost;

        platformBalance += fee + forfeits - forfeitsToHost;
        run.status = RunStatus.Completed;
        emit EventCompleted(eventRunId, hostPayout, stake);

        for (uint256 i; i < attendedBookingIds.length; ++i) {
            StoredBooking storage booking = _bookings[attendedBookingIds[i]];
            _push(booking.user, _stakeOf(price * booking.seats));
        }
        _push(run.host, hostPayout + stake);
    }

    /// @inheritdoc IEventStake
    function cancelEvent(uint256 eventRunId) external nonReentrant {
        Run storage run = _existing(eventRunId);
        _checkAuthorized(run.host);
        _checkOpen(eventRunId, run);
        if (msg.sender != owner() && block.timestamp >= run.start) revert TooLate(run.start);

        uint256 stake = _stakeOf(uint256(run.pricePerSeat) * run.maxSeats);
        uint256 refunds = _refundable(run, eventRunId);
        _escrow -= refunds + stake;
        run.status = RunStatus.Cancelled;
        emit EventCancelled(eventRunId, refunds);

        _refundAll(run, eventRunId, 0);
        _push(run.host, stake);
    }

    /// @inheritdoc IEventStake
    function cancelBooking(uint256 bookingId) external nonReentrant {
        StoredBooking storage booking = _bookings[bookingId];
        address user = booking.user;
        if (user == address(0)) revert UnknownBooking(bookingId);
        _checkAuthorized(user);
        if (booking.status != BookingStatus.Active) revert BookingNotActive(bookingId, booking.status);
        Run storage run = _runs[booking.eventRunId];
        if (block.timestamp + CANCELLATION_CUTOFF > run.start) revert TooLate(run.start - CANCELLATION_CUTOFF);

        uint256 refund = _paidFor(run, booking);
        booking.status = BookingStatus.Cancelled;
        run.seatsBooked -= booking.seats;
        run.status = RunStatus.Active;
        _remove(_activeBookings[booking.eventRunId], bookingId);
        _escrow -= refund;
        emit BookingCancelled(bookingId, user, refund);

        _push(user, refund);
    }

    /// @inheritdoc IEventStake
    function expireEvent(uint256 eventRunId) external nonReentrant {
        Run storage run = _existing(eventRunId);
        _checkOpen(eventRunId, run);
        uint256 opens = run.start + COMPLETION_GRACE;
        if (block.timestamp < opens) revert TooEarly(opens);

        uint256 stake = _stakeOf(uint256(run.pricePerSeat) * run.maxSeats);
        uint256 refunds = _refundable(run, eventRunId);
        uint256 compensation = _compensations(run, eventRunId, stake);
        uint256 toPlatform = run.seatsBooked == 0 ? 0 : stake - compensation;
        _escrow -= refunds + stake;
        platformBalance += toPlatform;
        run.status = RunStatus.Expired;
        emit EventExpired(eventRunId, refunds, compensation, toPlatform);

        if (run.seatsBooked == 0) _push(run.host, stake);
        else _refundAll(run, eventRunId, stake);
    }

    /// @inheritdoc IEventStake
    function withdraw() external {
        withdrawTo(payable(msg.sender));
    }

    /// @inheritdoc IEventStake
    function withdrawTo(address payable to) public nonReentrant {
        _checkReceiver(to);
        uint256 amount = creditOf[msg.sender];
        if (amount == 0) revert NothingToWithdraw();

        creditOf[msg.sender] = 0;
        _totalCredits -= amount;
        emit CreditWithdrawn(msg.sender, to, amount);

        _send(to, amount);
    }

    /// @inheritdoc IEventStake
    function withdrawPlatformFees() external onlyOwner nonReentrant {
        uint256 amount = platformBalance;
        if (amount == 0) revert NothingToWithdraw();

        platformBalance = 0;
        emit PlatformFeesWithdrawn(msg.sender, amount);

        _send(msg.sender, amount);
    }

    // ---------------------------------------------------------------- platform

    /// @notice Stops new runs and bookings. Money can always leave.
    function pause() external onlyOwner {
        _pause();
    }

    function unpause() external onlyOwner {
        _unpause();
    }

    /// @dev Without an owner nobody could withdraw the fees.
    function renounceOwnership() public view override onlyOwner {
        revert OwnershipRequired();
    }

    // ------------------------------------------------------------------- views

    /// @inheritdoc IEventStake
    function calculateRequiredStake(uint256 pricePerSeat, uint256 seats) external view returns (uint256) {
        return _stakeOf(pricePerSeat * seats);
    }

    /// @inheritdoc IEventStake
    function calculateBookingCost(uint256 eventRunId, uint256 seatCount)
        external
        view
        returns (uint256 payment, uint256 stake, uint256 total)
    {
        payment = _existing(eventRunId).pricePerSeat * seatCount;
        stake = _stakeOf(payment);
        total = payment + stake;
    }

    /// @inheritdoc IEventStake
    function getEventRun(uint256 id) external view returns (EventRun memory) {
        Run storage run = _existing(id);
        return EventRun({
            eventRunId: id,
            host: run.host,
            experienceId: run.experienceId,
            pricePerSeat: run.pricePerSeat,
            maxSeats: run.maxSeats,
            seatsBooked: run.seatsBooked,
            hostStake: _stakeOf(uint256(run.pricePerSeat) * run.maxSeats),
            eventTimestamp: run.start,
            status: uint8(run.status),
            hostStakeWithdrawn: !_isOpen(run),
            createdAt: run.createdAt
        });
    }

    /// @inheritdoc IEventStake
    function getBooking(uint256 id) external view returns (Booking memory) {
        StoredBooking storage booking = _bookings[id];
        if (booking.user == address(0)) revert UnknownBooking(id);
        uint256 payment = uint256(_runs[booking.eventRunId].pricePerSeat) * booking.seats;
        return Booking({
            bookingId: id,
            eventRunId: booking.eventRunId,
            user: booking.user,
            seatCount: booking.seats,
            totalPayment: payment,
            userStake: _stakeOf(payment),
            status: uint8(booking.status),
            bookedAt: booking.bookedAt
        });
    }

    /// @inheritdoc IEventStake
    function getEventBookings(uint256 eventRunId) external view returns (uint256[] memory) {
        return _widened(_runBookings[eventRunId]);
    }

    /// @inheritdoc IEventStake
    function getUserBookings(address user) external view returns (uint256[] memory) {
        return _widened(_userBookings[user]);
    }

    /// @inheritdoc IEventStake
    function getHostEvents(address host) external view returns (uint256[] memory) {
        return _widened(_hostRuns[host]);
    }

    /// @inheritdoc IEventStake
    function totalLiabilities() external view returns (uint256) {
        return _escrow + _totalCredits + platformBalance;
    }

    /// @inheritdoc IEventStake
    function terms() external view returns (Terms memory) {
        return Terms({
            stakeBps: uint16(STAKE_BPS),
            feeBps: uint16(FEE_BPS),
            forfeitToHostBps: uint16(FORFEIT_TO_HOST_BPS),
            cancellationCutoff: uint32(CANCELLATION_CUTOFF),
            completionGrace: uint32(COMPLETION_GRACE)
        });
    }

    // ------------------------------------------------------------------ checks

    function _existing(uint256 eventRunId) private view returns (Run storage run) {
        run = _runs[eventRunId];
        if (run.host == address(0)) revert UnknownEventRun(eventRunId);
    }

    function _checkAuthorized(address party) private view {
        if (msg.sender != party && msg.sender != owner()) revert NotAuthorized(msg.sender);
    }

    function _isOpen(Run storage run) private view returns (bool) {
        return run.status == RunStatus.Active || run.status == RunStatus.Full;
    }

    function _checkOpen(uint256 eventRunId, Run storage run) private view {
        if (!_isOpen(run)) revert EventNotOpen(eventRunId, run.status);
    }

    function _checkReceiver(address receiver) private view {
        if (receiver == address(0) || receiver == address(this)) revert InvalidReceiver(receiver);
    }

    function _checkValue(uint256 required) private view {
        if (msg.value != required) revert WrongValue(msg.value, required);
    }

    // ----------------------------------------------------------------- workings

    function _create(address host, string calldata experienceId, uint256 price, uint256 maxSeats, uint256 start)
        private
        returns (uint256 id)
    {
        if (bytes(experienceId).length == 0) revert InvalidExperience();
        if (price == 0 || price > type(uint128).max) revert InvalidPrice(price);
        if (maxSeats == 0 || maxSeats > MAX_SEATS) revert InvalidSeats(maxSeats);
        if (start <= block.timestamp || start > type(uint40).max) revert InvalidStart(start);
        uint256 stake = _stakeOf(price * maxSeats);
        _checkValue(stake);

        id = ++_lastRunId;
        _runs[id] = Run({
            host: host,
            start: uint40(start),
            maxSeats: uint16(maxSeats),
            seatsBooked: 0,
            status: RunStatus.Active,
            pricePerSeat: uint128(price),
            createdAt: uint40(block.timestamp),
            experienceId: experienceId
        });
        _hostRuns[host].push(uint32(id));
        _escrow += stake;
        emit EventRunCreated(id, host, experienceId, price, maxSeats, stake);
    }

    function _book(address user, Run storage run, uint256 runId, uint256 seats) private returns (uint256 id) {
        if (run.status != RunStatus.Active) revert EventNotOpen(runId, run.status);
        if (block.timestamp >= run.start) revert TooLate(run.start);
        if (seats == 0) revert InvalidSeats(seats);
        uint256 available = run.maxSeats - run.seatsBooked;
        if (seats > available) revert NotEnoughSeats(seats, available);
        uint256 payment = run.pricePerSeat * seats;
        uint256 stake = _stakeOf(payment);
        _checkValue(payment + stake);

        id = ++_lastBookingId;
        _bookings[id] = StoredBooking({
            user: user,
            bookedAt: uint40(block.timestamp),
            eventRunId: uint32(runId),
            seats: uint16(seats),
            status: BookingStatus.Active
        });
        run.seatsBooked += uint16(seats);
        if (seats == available) run.status = RunStatus.Full;
        _runBookings[runId].push(uint32(id));
        _activeBookings[runId].push(uint32(id));
        _userBookings[user].push(uint32(id));
        _escrow += payment + stake;
        emit BookingCreated(id, runId, user, seats, payment, stake);
    }

    /// @dev Settles every active booking of a run that completes, marked Completed by now or else a no-show. Takes
    /// all its money out of escrow and returns the forfeited stakes.
    function _closeBookings(Run storage run, uint256 runId) private returns (uint256 forfeits) {
        uint32[] storage active = _activeBookings[runId];
        uint256 price = run.pricePerSeat;
        uint256 released = _stakeOf(price * run.maxSeats) + price * run.seatsBooked;
        uint256 count = active.length;
        for (uint256 i; i < count; ++i) {
            uint256 id = active[i];
            StoredBooking storage booking = _bookings[id];
            uint256 stake = _stakeOf(price * booking.seats);
            released += stake;
            if (booking.status == BookingStatus.Completed) {
                emit BookingCompleted(id, booking.user, stake);
            } else {
                booking.status = BookingStatus.NoShow;
                forfeits += stake;
                emit BookingNoShow(id, booking.user, stake);
            }
        }
        _escrow -= released;
    }

    /// @dev Marks every active booking of a run as cancelled and returns what they all paid in.
    function _refundable(Run storage run, uint256 runId) private returns (uint256 refunds) {
        uint32[] storage active = _activeBookings[runId];
        uint256 count = active.length;
        for (uint256 i; i < count; ++i) {
            StoredBooking storage booking = _bookings[active[i]];
            booking.status = BookingStatus.Cancelled;
            refunds += _paidFor(run, booking);
        }
    }

    /// @dev What all attendees of an expired run get of the host's stake: each share is rounded down.
    function _compensations(Run storage run, uint256 runId, uint256 hostStake) private view returns (uint256 sum) {
        uint32[] storage active = _activeBookings[runId];
        uint256 count = active.length;
        for (uint256 i; i < count; ++i) {
            sum += hostStake * _bookings[active[i]].seats / run.seatsBooked;
        }
    }

    /// @dev Pays every active booking what it paid in and its share of `hostStake` (0: a cancellation).
    function _refundAll(Run storage run, uint256 runId, uint256 hostStake) private {
        uint32[] storage active = _activeBookings[runId];
        uint256 count = active.length;
        for (uint256 i; i < count; ++i) {
            StoredBooking storage booking = _bookings[active[i]];
            _push(booking.user, _paidFor(run, booking) + hostStake * booking.seats / run.seatsBooked);
        }
    }

    function _stakeOf(uint256 amount) private view returns (uint256) {
        return amount * STAKE_BPS / BPS;
    }

    function _paidFor(Run storage run, StoredBooking storage booking) private view returns (uint256) {
        uint256 payment = uint256(run.pricePerSeat) * booking.seats;
        return payment + _stakeOf(payment);
    }

    /// @dev The list is at most MAX_SEATS long and eight to a slot, so a search costs less than keeping an index.
    function _remove(uint32[] storage ids, uint256 id) private {
        uint256 i;
        while (ids[i] != id) ++i;
        ids[i] = ids[ids.length - 1];
        ids.pop();
    }

    function _widened(uint32[] storage ids) private view returns (uint256[] memory wide) {
        wide = new uint256[](ids.length);
        for (uint256 i; i < wide.length; ++i) wide[i] = ids[i];
    }

    /// @dev Pays with bounded gas and without copying what the receiver returns; what can't be paid becomes a credit.
    /// The gas is demanded first, or a caller could starve a receiver by sending little.
    function _push(address to, uint256 amount) private {
        if (amount == 0) return;
        if (gasleft() < PUSH_GAS + PUSH_OVERHEAD) revert InsufficientGas();
        bool paid;
        assembly ("memory-safe") {
            paid := call(PUSH_GAS, to, amount, 0, 0, 0, 0)
        }
        if (!paid) {
            creditOf[to] += amount;
            _totalCredits += amount;
            emit PaymentDeferred(to, amount);
        }
    }

    function _send(address to, uint256 amount) private {
        bool paid;
        assembly ("memory-safe") {
            paid := call(gas(), to, amount, 0, 0, 0, 0)
        }
        if (!paid) revert TransferFailed(to, amount);
    }
}
