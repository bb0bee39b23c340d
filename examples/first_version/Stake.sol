// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// @notice Hosts and attendees put down 20%; who comes gets it back. Everybody signs for themselves.
contract Stake {
    enum RunStatus { Created, Active, Full, Completed, Cancelled }
    enum BookingStatus { Active, Completed, NoShow, Cancelled }

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

    event EventRunCreated(uint256 indexed eventRunId, address indexed host, string experienceId, uint256 pricePerSeat, uint256 maxSeats, uint256 hostStake);
    event BookingCreated(uint256 indexed bookingId, uint256 indexed eventRunId, address indexed user, uint256 seatCount, uint256 totalPayment, uint256 userStake);
    event BookingCompleted(uint256 indexed bookingId, address indexed user, uint256 stakeReturned);
    event BookingNoShow(uint256 indexed bookingId, address indexed user, uint256 stakeForfeit);
    event EventCompleted(uint256 indexed eventRunId, uint256 hostPayout, uint256 hostStakeReturned);
    event EventCancelled(uint256 indexed eventRunId, uint256 refundsIssued);

    uint256 public constant stakePercentage = 20;
    uint256 public constant platformFeePercentage = 5;
    address public immutable owner = msg.sender;

    uint256 private lastRunId;
    uint256 private lastBookingId;
    uint256 private fees;
    mapping(uint256 => EventRun) private runs;
    mapping(uint256 => Booking) private bookings;
    mapping(uint256 => uint256[]) private bookingsOfRun;
    mapping(address => uint256[]) private bookingsOfUser;
    mapping(address => uint256[]) private runsOfHost;
    mapping(address => uint256) public owed;

    function createEventRun(string calldata experienceId, uint256 pricePerSeat, uint256 maxSeats, uint256 eventTimestamp)
        external
        payable
        returns (uint256 id)
    {
        require(pricePerSeat > 0, "Price must be positive");
        require(maxSeats > 0 && maxSeats <= 200, "Between 1 and 200 seats");
        require(eventTimestamp > block.timestamp, "Event must be in the future");
        require(msg.value == calculateRequiredStake(pricePerSeat, maxSeats), "Wrong stake");
        id = ++lastRunId;
        runs[id] = EventRun({
            eventRunId: id,
            host: msg.sender,
            experienceId: experienceId,
            pricePerSeat: pricePerSeat,
            maxSeats: maxSeats,
            seatsBooked: 0,
            hostStake: msg.value,
            eventTimestamp: eventTimestamp,
            status: RunStatus.Active,
            hostStakeWithdrawn: false,
            createdAt: block.timestamp
        });
        runsOfHost[msg.sender].push(id);
        emit EventRunCreated(id, msg.sender, experienceId, pricePerSeat, maxSeats, msg.value);
    }

    function bookEvent(uint256 eventRunId, uint256 seatCount) external payable returns (uint256 id) {
        EventRun storage run = runs[eventRunId];
        require(run.status == RunStatus.Active, "Event is not open");
        require(block.timestamp < run.eventTimestamp, "Event has started");
        require(seatCount > 0, "Book at least one seat");
        require(seatCount <= run.maxSeats - run.seatsBooked, "Not enough seats");
        (uint256 payment, uint256 stake, uint256 total) = calculateBookingCost(eventRunId, seatCount);
        require(msg.value == total, "Wrong payment");
        id = ++lastBookingId;
        bookings[id] = Booking(id, eventRunId, msg.sender, seatCount, payment, stake, BookingStatus.Active, block.timestamp);
        bookingsOfRun[eventRunId].push(id);
        bookingsOfUser[msg.sender].push(id);
        run.seatsBooked += seatCount;
        if (run.seatsBooked == run.maxSeats) run.status = RunStatus.Full;
        emit BookingCreated(id, eventRunId, msg.sender, seatCount, payment, stake);
    }

    function completeEvent(uint256 eventRunId, uint256[] calldata attendedBookingIds) external {
        EventRun storage run = openRun(eventRunId);
        require(block.timestamp >= run.eventTimestamp, "Event has not started");
        run.status = RunStatus.Completed;
        run.hostStakeWithdrawn = true;
        for (uint256 i = 0; i < attendedBookingIds.length; i++) {
            Booking storage booking = bookings[attendedBookingIds[i]];
            require(booking.eventRunId == eventRunId, "Booking of another event");
            require(booking.status == BookingStatus.Active, "Booking is not active");
            booking.status = BookingStatus.Completed;
            emit BookingCompleted(booking.bookingId, booking.user, booking.userStake);
            pay(booking.user, booking.userStake);
        }
        uint256[] storage all = bookingsOfRun[eventRunId];
        for (uint256 i = 0; i < all.length; i++) {
            Booking storage booking = bookings[all[i]];
            if (booking.status != BookingStatus.Active) continue;
            booking.status = BookingStatus.NoShow;
            fees += booking.userStake;
            emit BookingNoShow(booking.bookingId, booking.user, booking.userStake);
        }
        uint256 revenue = run.pricePerSeat * run.seatsBooked;
        uint256 fee = revenue * platformFeePercentage / 100;
        fees += fee;
        emit EventCompleted(eventRunId, revenue - fee, run.hostStake);
        pay(run.host, revenue - fee + run.hostStake);
    }

    function cancelEvent(uint256 eventRunId) external {
        EventRun storage run = openRun(eventRunId);
        require(msg.sender == owner || block.timestamp < run.eventTimestamp, "Event has started");
        run.status = RunStatus.Cancelled;
        run.hostStakeWithdrawn = true;
        uint256 refunds = 0;
        uint256[] storage all = bookingsOfRun[eventRunId];
        for (uint256 i = 0; i < all.length; i++) {
            Booking storage booking = bookings[all[i]];
            booking.status = BookingStatus.Cancelled;
            refunds += booking.totalPayment + booking.userStake;
            pay(booking.user, booking.totalPayment + booking.userStake);
        }
        emit EventCancelled(eventRunId, refunds);
        pay(run.host, run.hostStake);
    }

    function withdrawPlatformFees() external {
        require(msg.sender == owner, "Only the owner");
        require(fees > 0, "No fees");
        uint256 amount = fees;
        fees = 0;
        pay(owner, amount);
    }

    /// @notice For who could not be paid at once.
    function claim(address payable to) external {
        uint256 amount = owed[msg.sender];
        require(amount > 0, "Nothing owed");
        owed[msg.sender] = 0;
        (bool paid,) = to.call{value: amount}("");
        require(paid, "Transfer failed");
    }

    function calculateRequiredStake(uint256 pricePerSeat, uint256 seats) public pure returns (uint256) {
        return pricePerSeat * seats * stakePercentage / 100;
    }

    function calculateBookingCost(uint256 eventRunId, uint256 seatCount)
        public
        view
        returns (uint256 payment, uint256 stake, uint256 total)
    {
        payment = runs[eventRunId].pricePerSeat * seatCount;
        stake = payment * stakePercentage / 100;
        total = payment + stake;
    }

    function getEventRun(uint256 eventRunId) external view returns (EventRun memory) {
        return runs[eventRunId];
    }

    function getBooking(uint256 bookingId) external view returns (Booking memory) {
        return bookings[bookingId];
    }

    function getEventBookings(uint256 eventRunId) external view returns (uint256[] memory) {
        return bookingsOfRun[eventRunId];
    }

    function getUserBookings(address user) external view returns (uint256[] memory) {
        return bookingsOfUser[user];
    }

    function getHostEvents(address host) external view returns (uint256[] memory) {
        return runsOfHost[host];
    }

    function openRun(uint256 eventRunId) private view returns (EventRun storage run) {
        run = runs[eventRunId];
        require(msg.sender == run.host || msg.sender == owner, "Not your event");
        require(run.status == RunStatus.Active || run.status == RunStatus.Full, "Event is not open");
    }

    /// @dev With little gas and without the receiver's answer, so that nobody can hold the others up.
    function pay(address to, uint256 amount) private {
        bool paid;
        assembly ("memory-safe") {
            paid := call(30000, to, amount, 0, 0, 0, 0)
        }
        if (!paid) owed[to] += amount;
    }
}
