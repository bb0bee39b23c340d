// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @notice Only the interface that is deployed on Sepolia, and none of the weaknesses: values are exact, runs are limited,
/// terms are fixed, a payout that its receiver does not take stops nobody. It reverts with strings. The functions that
/// are virtual are where Planted.sol breaks it, and sound/ changes it. For tests: not one to deploy.
contract SoundEventStake {
    struct Run {
        address host;
        string experienceId;
        uint256 pricePerSeat;
        uint256 maxSeats;
        uint256 seatsBooked;
        uint256 hostStake;
        uint256 eventTimestamp;
        uint8 status;
        uint256 createdAt;
        uint256[] bookings;
    }

    struct Booking {
        uint256 eventRunId;
        address user;
        uint256 seatCount;
        uint256 totalPayment;
        uint256 userStake;
        uint8 status;
        uint256 bookedAt;
    }

    /// @notice What `getEventRun` returns.
    struct EventRunView {
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

    /// @notice What `getBooking` returns.
    struct BookingView {
        uint256 bookingId;
        uint256 eventRunId;
        address user;
        uint256 seatCount;
        uint256 totalPayment;
        uint256 userStake;
        uint8 status;
        uint256 bookedAt;
    }

    uint8 private constant ACTIVE = 1;
    uint8 private constant FULL = 2;
    uint8 private constant COMPLETED = 3;
    uint8 private constant CANCELLED = 4;
    uint8 private constant BOOKED = 0;
    uint8 private constant CAME = 1;
    uint8 private constant NO_SHOW = 2;
    uint8 private constant REFUNDED = 3;

    address public immutable owner = msg.sender;
    uint256 private constant MAX_SEATS = 200;
    uint256 private constant PUSH_GAS = 30_000;
    uint256 private _runCount;
    uint256 private _bookingCount;
    uint256 internal _fees;
    mapping(address => uint256) internal _unclaimed;
    mapping(uint256 => Run) private _runs;
    mapping(uint256 => Booking) private _bookings;
    mapping(address => uint256[]) private _userBookings;
    mapping(address => uint256[]) private _hostEvents;

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
    event EventCompleted(uint256 indexed eventRunId, uint256 hostPayout, uint256 hostStakeReturned);
    event EventCancelled(uint256 indexed eventRunId, uint256 refundsIssued);

    function createEventRun(string calldata experienceId, uint256 pricePerSeat, uint256 maxSeats, uint256 eventTimestamp)
        external
        payable
        returns (uint256 id)
    {
        require(pricePerSeat > 0, "Price must be positive");
        require(maxSeats > 0 && maxSeats <= _maxSeats(), "Bad number of seats");
        require(eventTimestamp > block.timestamp, "Event must be in the future");
        require(msg.value == calculateRequiredStake(pricePerSeat, maxSeats), "Incorrect stake");
        id = ++_runCount;
        Run storage run = _runs[id];
        run.host = msg.sender;
        run.experienceId = experienceId;
        run.pricePerSeat = pricePerSeat;
        run.maxSeats = maxSeats;
        run.hostStake = msg.value;
        run.eventTimestamp = eventTimestamp;
        run.status = ACTIVE;
        run.createdAt = block.timestamp;
        _hostEvents[msg.sender].push(id);
        emit EventRunCreated(id, msg.sender, experienceId, pricePerSeat, maxSeats, msg.value);
    }

    function bookEvent(uint256 eventRunId, uint256 seatCount) external payable returns (uint256 id) {
        Run storage run = _runs[eventRunId];
        require(run.status == ACTIVE, "Event not open");
        require(block.timestamp < run.eventTimestamp, "Event has started");
        require(seatCount > 0, "Seats must be positive");
        require(run.seatsBooked + seatCount <= run.maxSeats, "Not enough seats");
        (uint256 payment, uint256 stake, uint256 total) = calculateBookingCost(eventRunId, seatCount);
        _checkPaid(total);
        id = ++_bookingCount;
        _bookings[id] = Booking(eventRunId, msg.sender, seatCount, payment, stake, BOOKED, block.timestamp);
        run.bookings.push(id);
        _userBookings[msg.sender].push(id);
        run.seatsBooked += seatCount;
        if (run.seatsBooked == run.maxSeats) run.status = FULL;
        emit BookingCreated(id, eventRunId, msg.sender, seatCount, payment, stake);
    }

    function completeEvent(uint256 eventRunId, uint256[] calldata attendedBookingIds) external {
        Run storage run = _open(eventRunId);
        require(block.timestamp >= run.eventTimestamp, "Event has not started");
        run.status = COMPLETED;
        for (uint256 i; i < attendedBookingIds.length; ++i) {
            Booking storage booking = _bookings[attendedBookingIds[i]];
            require(booking.eventRunId == eventRunId && booking.status == BOOKED, "Invalid booking");
            booking.status = CAME;
            emit BookingCompleted(attendedBookingIds[i], booking.user, booking.userStake);
            _pay(booking.user, booking.userStake);
        }
        uint256 forfeits;
        for (uint256 i; i < run.bookings.length; ++i) {
            Booking storage booking = _bookings[run.bookings[i]];
            if (booking.status != BOOKED) continue;
            booking.status = NO_SHOW;
            forfeits += booking.userStake;
            emit BookingNoShow(run.bookings[i], booking.user, booking.userStake);
        }
        uint256 revenue = run.pricePerSeat * run.seatsBooked;
        uint256 fee = revenue * _feePercent() / 100;
        _fees += fee;
        uint256 hostPayout = revenue - fee + _forfeit(forfeits);
        emit EventCompleted(eventRunId, hostPayout, run.hostStake);
        _pay(run.host, hostPayout + run.hostStake);
    }

    function cancelEvent(uint256 eventRunId) external {
        Run storage run = _open(eventRunId);
        require(msg.sender == owner || block.timestamp < run.eventTimestamp, "Event has started");
        run.status = CANCELLED;
        uint256 refunds;
        for (uint256 i; i < run.bookings.length; ++i) {
            Booking storage booking = _bookings[run.bookings[i]];
            booking.status = REFUNDED;
            uint256 refund = booking.totalPayment + booking.userStake;
            refunds += refund;
            _pay(booking.user, refund);
        }
        emit EventCancelled(eventRunId, refunds);
        _pay(run.host, run.hostStake);
    }

    function withdrawPlatformFees() external virtual {
        require(msg.sender == owner, "Only owner");
        uint256 fees = _fees;
        require(fees > 0, "Nothing to withdraw");
        _fees = 0;
        _pay(owner, fees);
    }

    function calculateRequiredStake(uint256 pricePerSeat, uint256 seats) public pure returns (uint256) {
        return pricePerSeat * seats * _stakePercent() / 100;
    }

    function calculateBookingCost(uint256 eventRunId, uint256 seatCount)
        public
        view
        returns (uint256 payment, uint256 stake, uint256 total)
    {
        payment = _runs[eventRunId].pricePerSeat * seatCount;
        stake = payment * _stakePercent() / 100;
        total = payment + stake;
    }

    function getEventRun(uint256 id) external view returns (EventRunView memory) {
        Run storage run = _runs[id];
        return EventRunView({
            eventRunId: id,
            host: run.host,
            experienceId: run.experienceId,
            pricePerSeat: run.pricePerSeat,
            maxSeats: run.maxSeats,
            seatsBooked: run.seatsBooked,
            hostStake: run.hostStake,
            eventTimestamp: run.eventTimestamp,
            status: run.status,
            hostStakeWithdrawn: run.status > FULL,
            createdAt: run.createdAt
        });
    }

    function getBooking(uint256 id) external view returns (BookingView memory) {
        Booking storage booking = _bookings[id];
        return BookingView({
            bookingId: id,
            eventRunId: booking.eventRunId,
            user: booking.user,
            seatCount: booking.seatCount,
            totalPayment: booking.totalPayment,
            userStake: booking.userStake,
            status: booking.status,
            bookedAt: booking.bookedAt
        });
    }

    function getEventBookings(uint256 eventRunId) external view returns (uint256[] memory) {
        return _runs[eventRunId].bookings;
    }

    function getUserBookings(address user) external view returns (uint256[] memory) {
        return _userBookings[user];
    }

    function getHostEvents(address host) external view returns (uint256[] memory) {
        return _hostEvents[host];
    }

    function _open(uint256 eventRunId) private view returns (Run storage run) {
        run = _runs[eventRunId];
        _checkCaller(run.host);
        require(run.status == ACTIVE || run.status == FULL, "Event not open");
    }

    /// @notice What could not be paid out.
    function claim(address payable to) external {
        uint256 amount = _unclaimed[msg.sender];
        require(amount > 0, "Nothing to claim");
        _unclaimed[msg.sender] = 0;
        (bool paid,) = to.call{value: amount}("");
        require(paid, "Transfer failed");
    }

    function _checkCaller(address host) internal view virtual {
        require(msg.sender == host || msg.sender == owner, "Not authorized");
    }

    function _checkPaid(uint256 due) internal virtual {
        require(msg.value == due, "Incorrect payment");
    }

    function _maxSeats() internal view virtual returns (uint256) {
        return MAX_SEATS;
    }

    function _feePercent() internal view virtual returns (uint256) {
        return 5;
    }

    function _stakePercent() internal pure virtual returns (uint256) {
        return 20;
    }

    /// @dev Returns what of it is the host's.
    function _forfeit(uint256 stakes) internal virtual returns (uint256) {
        _fees += stakes;
        return 0;
    }

    /// @dev Without copying what the receiver returns.
    function _pay(address to, uint256 amount) internal virtual {
        bool paid;
        uint256 stipend = PUSH_GAS;
        assembly ("memory-safe") {
            paid := call(stipend, to, amount, 0, 0, 0, 0)
        }
        if (!paid) _unclaimed[to] += amount;
    }
}
