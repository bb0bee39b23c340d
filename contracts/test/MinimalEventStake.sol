// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @notice Stands in for the contract that is deployed on Sepolia: its ABI, and what is known of its behaviour.
/// @dev Its weaknesses are part of that, and stay:
/// - views give zeros for ids that do not exist;
/// - a value that is too high is taken, and what is too much stays in the contract;
/// - a run may have any number of seats;
/// - payouts are pushed by `transfer`, so that one receiver who needs more than 2,300 gas stops the settlement;
/// - the owner can change both percentages at any time, and the fee is that of the settlement;
/// - plain ether is taken.
/// Host and attendee sign for themselves. The host alone may cancel; host or owner complete, at any time from the start
/// on. It reverts with strings. For tests: not one to deploy.
contract MinimalEventStake {
    enum RunStatus {
        Created,
        Active,
        Full,
        Completed,
        Cancelled
    }

    enum BookingStatus {
        Active,
        Completed,
        NoShow,
        Cancelled
    }

    struct EventRun {
        uint256 eventRunId;
        address host;
        string experienceId;
        uint256 pricePerSeat;
        uint256 maxSeats;
        uint256 seatsBooked;
        uint256 hostStake;
        uint256 eventTimestamp;
        RunStatus status;
        bool hostStakeWithdrawn;
        uint256 createdAt;
    }

    struct Booking {
        uint256 bookingId;
        uint256 eventRunId;
        address user;
        uint256 seatCount;
        uint256 totalPayment;
        uint256 userStake;
        BookingStatus status;
        uint256 bookedAt;
    }

    address public owner;
    /// @notice Percent of the event value, and of a ticket's price.
    uint256 public stakePercentage = 20;
    /// @notice Percent of the ticket revenue.
    uint256 public platformFeePercentage = 5;

    uint256 private _runCount;
    uint256 private _bookingCount;
    uint256 private _platformFees;
    mapping(uint256 => EventRun) private _runs;
    mapping(uint256 => Booking) private _bookings;
    mapping(uint256 => uint256[]) private _eventBookings;
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

    modifier onlyOwner() {
        require(msg.sender == owner, "Only owner");
        _;
    }

    constructor() {
        owner = msg.sender;
    }

    receive() external payable {}

    function createEventRun(string calldata experienceId, uint256 pricePerSeat, uint256 maxSeats, uint256 eventTimestamp)
        external
        payable
        returns (uint256 eventRunId)
    {
        require(pricePerSeat > 0, "Price must be positive");
        require(maxSeats > 0, "Seats must be positive");
        require(eventTimestamp > block.timestamp, "Event must be in the future");
        uint256 stake = calculateRequiredStake(pricePerSeat, maxSeats);
        require(msg.value >= stake, "Insufficient stake");

        eventRunId = ++_runCount;
        _runs[eventRunId] = EventRun({
            eventRunId: eventRunId,
            host: msg.sender,
            experienceId: experienceId,
            pricePerSeat: pricePerSeat,
            maxSeats: maxSeats,
            seatsBooked: 0,
            hostStake: stake,
            eventTimestamp: eventTimestamp,
            status: RunStatus.Active,
            hostStakeWithdrawn: false,
            createdAt: block.timestamp
        });
        _hostEvents[msg.sender].push(eventRunId);
        emit EventRunCreated(eventRunId, msg.sender, experienceId, pricePerSeat, maxSeats, stake);
    }

    function bookEvent(uint256 eventRunId, uint256 seatCount) external payable returns (uint256 bookingId) {
        EventRun storage run = _runs[eventRunId];
        require(run.status == RunStatus.Active, "Event not open");
        require(block.timestamp < run.eventTimestamp, "Event has started");
        require(seatCount > 0, "Seats must be positive");
        require(run.seatsBooked + seatCount <= run.maxSeats, "Not enough seats");
        (uint256 payment, uint256 stake, uint256 total) = calculateBookingCost(eventRunId, seatCount);
        require(msg.value >= total, "Insufficient payment");

        bookingId = ++_bookingCount;
        _bookings[bookingId] = Booking({
            bookingId: bookingId,
            eventRunId: eventRunId,
            user: msg.sender,
            seatCount: seatCount,
            totalPayment: payment,
            userStake: stake,
            status: BookingStatus.Active,
            bookedAt: block.timestamp
        });
        _eventBookings[eventRunId].push(bookingId);
        _userBookings[msg.sender].push(bookingId);
        run.seatsBooked += seatCount;
        if (run.seatsBooked == run.maxSeats) run.status = RunStatus.Full;
        emit BookingCreated(bookingId, eventRunId, msg.sender, seatCount, payment, stake);
    }

    function completeEvent(uint256 eventRunId, uint256[] calldata attendedBookingIds) external {
        EventRun storage run = _runs[eventRunId];
        require(msg.sender == run.host || msg.sender == owner, "Not authorized");
        _requireOpen(run);
        require(block.timestamp >= run.eventTimestamp, "Event has not started");
        run.status = RunStatus.Completed;
        run.hostStakeWithdrawn = true;

        for (uint256 i; i < attendedBookingIds.length; ++i) {
            Booking storage booking = _bookings[attendedBookingIds[i]];
            require(booking.eventRunId == eventRunId && booking.status == BookingStatus.Active, "Invalid booking");
            booking.status = BookingStatus.Completed;
            emit BookingCompleted(booking.bookingId, booking.user, booking.userStake);
            payable(booking.user).transfer(booking.userStake);
        }
        uint256 revenue;
        uint256 forfeited;
        uint256[] storage ids = _eventBookings[eventRunId];
        for (uint256 i; i < ids.length; ++i) {
            Booking storage booking = _bookings[ids[i]];
            revenue += booking.totalPayment;
            if (booking.status != BookingStatus.Active) continue;
            booking.status = BookingStatus.NoShow;
            forfeited += booking.userStake;
            emit BookingNoShow(booking.bookingId, booking.user, booking.userStake);
        }
        uint256 fee = revenue * platformFeePercentage / 100;
        _platformFees += fee + forfeited;
        emit EventCompleted(eventRunId, revenue - fee, run.hostStake);
        payable(run.host).transfer(revenue - fee + run.hostStake);
    }

    function cancelEvent(uint256 eventRunId) external {
        EventRun storage run = _runs[eventRunId];
        require(msg.sender == run.host, "Only host");
        _requireOpen(run);
        require(block.timestamp < run.eventTimestamp, "Event has started");
        run.status = RunStatus.Cancelled;
        run.hostStakeWithdrawn = true;

        uint256 refunds;
        uint256[] storage ids = _eventBookings[eventRunId];
        for (uint256 i; i < ids.length; ++i) {
            Booking storage booking = _bookings[ids[i]];
            booking.status = BookingStatus.Cancelled;
            uint256 refund = booking.totalPayment + booking.userStake;
            refunds += refund;
            payable(booking.user).transfer(refund);
        }
        emit EventCancelled(eventRunId, refunds);
        payable(run.host).transfer(run.hostStake);
    }

    function withdrawPlatformFees() external onlyOwner {
        uint256 fees = _platformFees;
        require(fees > 0, "No fees to withdraw");
        _platformFees = 0;
        payable(owner).transfer(fees);
    }

    function setStakePercentage(uint256 percentage) external onlyOwner {
        require(percentage <= 100, "Invalid percentage");
        stakePercentage = percentage;
    }

    function setPlatformFeePercentage(uint256 percentage) external onlyOwner {
        require(percentage <= 100, "Invalid percentage");
        platformFeePercentage = percentage;
    }

    function calculateRequiredStake(uint256 pricePerSeat, uint256 seats) public view returns (uint256) {
        return pricePerSeat * seats * stakePercentage / 100;
    }

    function calculateBookingCost(uint256 eventRunId, uint256 seatCount)
        public
        view
        returns (uint256 payment, uint256 stake, uint256 total)
    {
        payment = _runs[eventRunId].pricePerSeat * seatCount;
        stake = payment * stakePercentage / 100;
        total = payment + stake;
    }

    function getEventRun(uint256 eventRunId) external view returns (EventRun memory) {
        return _runs[eventRunId];
    }

    function getBooking(uint256 bookingId) external view returns (Booking memory) {
        return _bookings[bookingId];
    }

    function getEventBookings(uint256 eventRunId) external view returns (uint256[] memory) {
        return _eventBookings[eventRunId];
    }

    function getUserBookings(address user) external view returns (uint256[] memory) {
        return _userBookings[user];
    }

    function getHostEvents(address host) external view returns (uint256[] memory) {
        return _hostEvents[host];
    }

    function _requireOpen(EventRun storage run) private view {
        require(run.status == RunStatus.Active || run.status == RunStatus.Full, "Event not open");
    }
}
