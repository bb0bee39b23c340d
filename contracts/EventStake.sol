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
    /// @dev Two slots and the experience id. The first has what changes; Full is not stored but follows from the seats.
    struct Run {
        address host;
        uint40 start;
        uint8 seatsBooked;
        uint8 activeBookings;
        uint32 bookings;
        RunStatus status;
        uint128 pricePerSeat;
        uint40 createdAt;
        uint8 maxSeats;
        string experienceId;
    }

    /// @dev One slot.
    struct StoredBooking {
        address user;
        uint40 bookedAt;
        uint32 eventRunId;
        uint8 seats;
        BookingStatus status;
    }

    /// @dev One slot. `escrow` has the payments and stakes of active bookings, and the host stakes of open runs.
    struct Totals {
        uint96 escrow;
        uint96 credits;
        uint32 lastRunId;
        uint32 lastBookingId;
    }

    /// @dev A list of ids of 32 bits, eight to a slot: only slots that were written cost anything.
    struct Ids {
        uint32[2 ** 32] at;
    }

    uint256 private constant BPS = 10_000;

    /// @notice Seats a run may have: the settlement of so many hostile attendees fits in a transaction of 2^24 gas.
    /// @dev Seats are stored in 8 bits: a number that needs more does not compile here.
    uint256 public constant MAX_SEATS = uint8(200);

    /// @notice Gas a receiver of a pushed payout may use: enough for a smart wallet, too little to stop a settlement.
    uint256 public constant PUSH_GAS = 30_000;

    /// @dev What a push may cost around the receiver's own gas. Measured: at most 38,500. Of these, 14,200 are for a
    /// call with value to a cold account that delegates to a cold one (EIP-7702), the rest for a first credit.
    uint256 private constant PUSH_OVERHEAD = 60_000;

    uint256 private immutable STAKE_BPS;
    uint256 private immutable FEE_BPS;
    uint256 private immutable FORFEIT_TO_HOST_BPS;
    uint256 private immutable CANCELLATION_CUTOFF;
    uint256 private immutable COMPLETION_GRACE;

    Totals private _totals;
    mapping(uint256 runId => Run) private _runs;
    mapping(uint256 bookingId => StoredBooking) private _bookings;

    /// @dev All bookings of a run, the active ones first: settlement walks only those, which seats bound, so that
    /// booking and cancelling many times can't make a run too long to settle. The run has both lengths.
    mapping(uint256 runId => Ids) private _runBookings;
    /// @dev In the order they were made. The length is at 0, in the slot of the first seven ids.
    mapping(address user => Ids) private _userBookings;
    mapping(address host => Ids) private _hostRuns;

    /// @inheritdoc IEventStake
    mapping(address account => uint256) public creditOf;
    /// @inheritdoc IEventStake
    uint256 public platformBalance;
    /// @inheritdoc IEventStake
    mapping(address account => bool) public isOperator;

    modifier onlyPlatform() {
        if (!isOperator[msg.sender]) _checkOwner();
        _;
    }

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
        emit Deployed(terms_);
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
    ) external payable onlyPlatform whenNotPaused returns (uint256) {
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
        onlyPlatform
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
        uint256 stake = _hostStake(run);
        uint256 revenue = price * run.seatsBooked;
        (uint256 stakes, uint256 forfeits) = _closeBookings(run, eventRunId);
        uint256 fee = revenue * FEE_BPS / BPS;
        uint256 forfeitsToHost = forfeits * FORFEIT_TO_HOST_BPS / BPS;
        uint256 hostPayout = revenue - fee + forfeitsToHost;

        _release(stake + revenue + stakes);
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
        uint256 deadline = run.start;
        if (block.timestamp >= deadline && _isPlatform()) deadline += COMPLETION_GRACE;
        if (block.timestamp >= deadline) revert TooLate(deadline);

        uint256 stake = _hostStake(run);
        uint256[] memory active = _activeBookings(run, eventRunId);
        uint256 refunds = _refundable(run, active);
        _release(refunds + stake);
        run.status = RunStatus.Cancelled;
        emit EventCancelled(eventRunId, refunds);

        _refundAll(run, active, 0);
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
        uint8 active = run.activeBookings;
        (run.seatsBooked, run.activeBookings) = (run.seatsBooked - booking.seats, active - 1);
        booking.status = BookingStatus.Cancelled;
        _deactivate(_runBookings[booking.eventRunId], active, uint32(bookingId)); // exists
        _release(refund);
        emit BookingCancelled(bookingId, user, refund);

        _push(user, refund);
    }

    /// @inheritdoc IEventStake
    function expireEvent(uint256 eventRunId) external nonReentrant {
        Run storage run = _existing(eventRunId);
        _checkOpen(eventRunId, run);
        uint256 opens = run.start + COMPLETION_GRACE;
        if (block.timestamp < opens) revert TooEarly(opens);

        uint256 stake = _hostStake(run);
        uint256[] memory active = _activeBookings(run, eventRunId);
        uint256 refunds = _refundable(run, active);
        uint256 compensation = _compensations(run, active, stake);
        uint256 toPlatform = active.length == 0 ? 0 : stake - compensation;
        _release(refunds + stake);
        platformBalance += toPlatform;
        run.status = RunStatus.Expired;
        emit EventExpired(eventRunId, refunds, compensation, toPlatform);

        if (active.length == 0) _push(run.host, stake);
        else _refundAll(run, active, stake);
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
        _totals.credits -= uint96(amount); // a part of them
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

    /// @inheritdoc IEventStake
    function setOperator(address account, bool allowed) external onlyOwner {
        isOperator[account] = allowed;
        emit OperatorSet(account, allowed);
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
            hostStake: _hostStake(run),
            eventTimestamp: run.start,
            status: uint8(_statusOf(run)),
            hostStakeWithdrawn: run.status != RunStatus.Active,
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
        return _sorted(_read(_runBookings[eventRunId], 0, _runs[eventRunId].bookings));
    }

    /// @inheritdoc IEventStake
    function getUserBookings(address user) external view returns (uint256[] memory) {
        return _read(_userBookings[user], 1, _userBookings[user].at[0]);
    }

    /// @inheritdoc IEventStake
    function getHostEvents(address host) external view returns (uint256[] memory) {
        return _read(_hostRuns[host], 1, _hostRuns[host].at[0]);
    }

    /// @inheritdoc IEventStake
    function totalLiabilities() external view returns (uint256) {
        return uint256(_totals.escrow) + _totals.credits + platformBalance;
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

    /// @dev Operators first: they are who acts for the platform day by day.
    function _isPlatform() private view returns (bool) {
        return isOperator[msg.sender] || msg.sender == owner();
    }

    function _checkAuthorized(address party) private view {
        if (msg.sender != party && !_isPlatform()) revert NotAuthorized(msg.sender);
    }

    function _statusOf(Run storage run) private view returns (RunStatus) {
        return run.status == RunStatus.Active && run.seatsBooked == run.maxSeats ? RunStatus.Full : run.status;
    }

    function _checkOpen(uint256 eventRunId, Run storage run) private view {
        if (run.status != RunStatus.Active) revert EventNotOpen(eventRunId, run.status);
    }

    function _checkReceiver(address receiver) private view {
        if (receiver == address(0) || receiver == address(this)) revert InvalidReceiver(receiver);
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
        _receive(stake);

        id = ++_totals.lastRunId;
        Run storage run = _runs[id];
        run.host = host;
        run.start = uint40(start); // checked
        run.status = RunStatus.Active;
        run.pricePerSeat = uint128(price); // checked
        run.createdAt = uint40(block.timestamp); // before the start
        run.maxSeats = uint8(maxSeats); // at most MAX_SEATS
        run.experienceId = experienceId;
        _append(_hostRuns[host], uint32(id));
        emit EventRunCreated(id, host, experienceId, price, maxSeats, stake);
        emit EventRunScheduled(id, start);
    }

    function _book(address user, Run storage run, uint256 runId, uint256 seats) private returns (uint256 id) {
        RunStatus status = _statusOf(run);
        if (status != RunStatus.Active) revert EventNotOpen(runId, status);
        if (block.timestamp >= run.start) revert TooLate(run.start);
        if (seats == 0) revert InvalidSeats(seats);
        uint256 available = run.maxSeats - run.seatsBooked;
        if (seats > available) revert NotEnoughSeats(seats, available);
        uint256 payment = run.pricePerSeat * seats;
        uint256 stake = _stakeOf(payment);
        _receive(payment + stake);

        id = ++_totals.lastBookingId;
        StoredBooking storage booking = _bookings[id];
        booking.user = user;
        booking.bookedAt = uint40(block.timestamp); // before the start
        booking.eventRunId = uint32(runId); // a run that exists
        booking.seats = uint8(seats); // at most `available`
        _addToRun(run, runId, uint32(id), booking.seats);
        _append(_userBookings[user], uint32(id));
        emit BookingCreated(id, runId, user, seats, payment, stake);
    }

    function _addToRun(Run storage run, uint256 runId, uint32 id, uint8 seats) private {
        (uint8 active, uint32 count) = (run.activeBookings, run.bookings);
        _insert(_runBookings[runId], active, count, id);
        (run.seatsBooked, run.activeBookings, run.bookings) = (run.seatsBooked + seats, active + 1, count + 1);
    }

    /// @dev Takes the exact value into escrow. Escrow and credits together fit in 96 bits after this, and nothing else
    /// adds to them; so every amount that is part of them fits, too, wherever it goes.
    function _receive(uint256 amount) private {
        uint256 escrow = _totals.escrow + amount;
        if (escrow + _totals.credits > type(uint96).max) revert AmountTooLarge(amount);
        if (msg.value != amount) revert WrongValue(msg.value, amount);
        _totals.escrow = uint96(escrow); // checked
    }

    /// @dev Takes out of escrow what is paid out, or is the platform's from now on.
    function _release(uint256 amount) private {
        _totals.escrow = uint96(_totals.escrow - amount); // less than it was
    }

    function _activeBookings(Run storage run, uint256 runId) private view returns (uint256[] memory) {
        return _read(_runBookings[runId], 0, run.activeBookings);
    }

    /// @dev Settles every active booking of a run that completes, marked Completed by now or else a no-show. Returns
    /// all their stakes, and the forfeited ones among them.
    function _closeBookings(Run storage run, uint256 runId) private returns (uint256 stakes, uint256 forfeits) {
        uint256[] memory active = _activeBookings(run, runId);
        uint256 price = run.pricePerSeat;
        for (uint256 i; i < active.length; ++i) {
            StoredBooking storage booking = _bookings[active[i]];
            uint256 stake = _stakeOf(price * booking.seats);
            stakes += stake;
            if (booking.status == BookingStatus.Completed) {
                emit BookingCompleted(active[i], booking.user, stake);
            } else {
                booking.status = BookingStatus.NoShow;
                forfeits += stake;
                emit BookingNoShow(active[i], booking.user, stake);
            }
        }
    }

    /// @dev Marks active bookings as cancelled and returns what they all paid in.
    function _refundable(Run storage run, uint256[] memory active) private returns (uint256 refunds) {
        for (uint256 i; i < active.length; ++i) {
            StoredBooking storage booking = _bookings[active[i]];
            booking.status = BookingStatus.Cancelled;
            refunds += _paidFor(run, booking);
        }
    }

    /// @dev What all attendees of an expired run get of the host's stake: each share is rounded down.
    function _compensations(Run storage run, uint256[] memory active, uint256 hostStake)
        private
        view
        returns (uint256 sum)
    {
        for (uint256 i; i < active.length; ++i) {
            sum += hostStake * _bookings[active[i]].seats / run.seatsBooked;
        }
    }

    /// @dev Pays every active booking what it paid in and its share of `hostStake` (0: a cancellation).
    function _refundAll(Run storage run, uint256[] memory active, uint256 hostStake) private {
        for (uint256 i; i < active.length; ++i) {
            StoredBooking storage booking = _bookings[active[i]];
            _push(booking.user, _paidFor(run, booking) + hostStake * booking.seats / run.seatsBooked);
        }
    }

    function _stakeOf(uint256 amount) private view returns (uint256) {
        return amount * STAKE_BPS / BPS;
    }

    function _hostStake(Run storage run) private view returns (uint256) {
        return _stakeOf(uint256(run.pricePerSeat) * run.maxSeats);
    }

    function _paidFor(Run storage run, StoredBooking storage booking) private view returns (uint256) {
        uint256 payment = uint256(run.pricePerSeat) * booking.seats;
        return payment + _stakeOf(payment);
    }

    // ------------------------------------------------------------------- lists

    /// @dev Adds an id to a list that has its length at 0.
    function _append(Ids storage ids, uint32 id) private {
        uint32 length = ++ids.at[0];
        ids.at[length] = id;
    }

    /// @dev Adds an id behind the active ones, which are the first of the list. What was there goes to its end.
    function _insert(Ids storage ids, uint256 active, uint256 length, uint32 id) private {
        if (active < length) ids.at[length] = ids.at[active];
        ids.at[active] = id;
    }

    /// @dev Moves an id behind the active ones. To search a few slots costs less than to keep the place of each id.
    function _deactivate(Ids storage ids, uint256 active, uint32 id) private {
        uint256 place;
        while (ids.at[place] != id) ++place;
        (ids.at[place], ids.at[active - 1]) = (ids.at[active - 1], id);
    }

    function _read(Ids storage ids, uint256 start, uint256 count) private view returns (uint256[] memory result) {
        result = new uint256[](count);
        for (uint256 i; i < count; ++i) result[i] = ids.at[start + i];
    }

    /// @dev A shell sort: short, and quick where little is out of order.
    function _sorted(uint256[] memory ids) private pure returns (uint256[] memory) {
        uint256 gap = 1;
        while (gap < ids.length) gap = 3 * gap + 1;
        while ((gap /= 3) > 0) {
            for (uint256 i = gap; i < ids.length; ++i) {
                uint256 id = ids[i];
                uint256 place = i;
                for (; place >= gap && ids[place - gap] > id; place -= gap) ids[place] = ids[place - gap];
                ids[place] = id;
            }
        }
        return ids;
    }

    // ---------------------------------------------------------------- payments

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
            _totals.credits += uint96(amount); // left escrow just now
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
