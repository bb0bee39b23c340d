// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {IEventStake} from "../../IEventStake.sol";

/// @notice The whole interface by another make, right by the same rules: a run or booking is read as a whole, changed and
/// written back; payouts are collected first and then paid. Full is stored. A run has at most 120 seats. What is virtual is
/// where the sound contracts of OtherMakes.sol differ. For tests: not one to deploy.
contract OtherMake is IEventStake, Ownable2Step, Pausable, ReentrancyGuard {
    struct Run {
        address host;
        uint256 start;
        uint256 price;
        uint256 seats;
        uint256 taken;
        uint256 createdAt;
        RunStatus status;
    }

    struct Ticket {
        address user;
        uint256 runId;
        uint256 seats;
        uint256 bookedAt;
        BookingStatus status;
    }

    struct Payout {
        address to;
        uint256 amount;
    }

    Terms private _terms;
    uint256 private _lastRun;
    uint256 private _lastTicket;
    uint256 private _escrow;
    uint256 private _credits;
    uint256 public platformBalance;
    mapping(address account => uint256) public creditOf;
    mapping(address account => bool) public isOperator;

    mapping(uint256 runId => Run) private _runs;
    mapping(uint256 runId => string) private _experiences;
    mapping(uint256 ticketId => Ticket) private _tickets;
    mapping(uint256 runId => uint256[]) private _all;
    mapping(uint256 runId => uint256[]) private _active;
    mapping(uint256 ticketId => uint256) private _place;
    mapping(address user => uint256[]) private _ofUser;
    mapping(address host => uint256[]) private _ofHost;

    constructor(address platform, Terms memory terms_) Ownable(platform) {
        if (
            terms_.stakeBps > 5_000 || terms_.feeBps > 1_000 || terms_.forfeitToHostBps > 10_000
                || terms_.cancellationCutoff > 30 days || terms_.completionGrace < 1 hours
                || terms_.completionGrace > 90 days
        ) _fail(abi.encodeWithSelector(InvalidTerms.selector));
        _terms = terms_;
        emit Deployed(terms_);
    }

    // ---------------------------------------------------------------- money in

    function createEventRun(string calldata experienceId, uint256 pricePerSeat, uint256 maxSeats, uint256 eventTimestamp)
        external
        payable
        whenNotPaused
        returns (uint256)
    {
        return _create(msg.sender, experienceId, pricePerSeat, maxSeats, eventTimestamp);
    }

    function createEventRunFor(
        address host,
        string calldata experienceId,
        uint256 pricePerSeat,
        uint256 maxSeats,
        uint256 eventTimestamp
    ) external payable returns (uint256) {
        if (!isOperator[msg.sender]) _checkOwner();
        _requireNotPaused();
        _checkPayable(host);
        return _create(host, experienceId, pricePerSeat, maxSeats, eventTimestamp);
    }

    function bookEvent(uint256 eventRunId, uint256 seatCount) external payable whenNotPaused returns (uint256) {
        return _book(msg.sender, _known(eventRunId), eventRunId, seatCount);
    }

    function bookEventFor(address attendee, uint256 eventRunId, uint256 seatCount) external payable returns (uint256) {
        if (!isOperator[msg.sender]) _checkOwner();
        _requireNotPaused();
        Run memory run = _known(eventRunId);
        _checkPayable(attendee);
        return _book(attendee, run, eventRunId, seatCount);
    }

    // --------------------------------------------------------------- money out

    function completeEvent(uint256 eventRunId, uint256[] calldata attendedBookingIds) external nonReentrant {
        Run memory run = _open(eventRunId, true);
        if (block.timestamp < run.start) _fail(abi.encodeWithSelector(TooEarly.selector, run.start));
        _checkBefore(run.start + _terms.completionGrace);
        Payout[] memory payouts = new Payout[](attendedBookingIds.length + 1);
        uint256 kept;
        for (uint256 i; i < attendedBookingIds.length; ++i) {
            payouts[i] = _attended(run, eventRunId, attendedBookingIds[i]);
            kept += payouts[i].amount;
        }
        uint256 forfeits = _noShows(run, eventRunId);
        uint256 revenue = run.price * run.taken;
        uint256 fee = _part(revenue, _terms.feeBps);
        uint256 forfeitsToHost = _part(forfeits, _terms.forfeitToHostBps);
        uint256 stake = _stake(run.price * run.seats);
        _escrow -= revenue + kept + forfeits + stake;
        platformBalance += fee + forfeits - forfeitsToHost;
        _close(run, eventRunId, RunStatus.Completed);
        emit EventCompleted(eventRunId, revenue - fee + forfeitsToHost, stake);
        payouts[attendedBookingIds.length] = Payout(run.host, revenue - fee + forfeitsToHost + stake);
        _payAll(payouts);
    }

    function cancelEvent(uint256 eventRunId) external nonReentrant {
        Run memory run = _open(eventRunId, true);
        bool late = _isPlatform() && block.timestamp >= run.start;
        _checkBefore(late ? run.start + _terms.completionGrace : run.start);
        uint256 stake = _stake(run.price * run.seats);
        (Payout[] memory payouts, uint256 refunds,) = _refunds(run, eventRunId, 0);
        payouts[payouts.length - 1] = Payout(run.host, stake);
        _escrow -= refunds + stake;
        _close(run, eventRunId, RunStatus.Cancelled);
        emit EventCancelled(eventRunId, refunds);
        _payAll(payouts);
    }

    function cancelBooking(uint256 bookingId) external nonReentrant {
        Ticket memory ticket = _ticket(bookingId);
        if (ticket.user == address(0)) _fail(abi.encodeWithSelector(UnknownBooking.selector, bookingId));
        if (msg.sender != ticket.user && !_isPlatform()) _fail(abi.encodeWithSelector(NotAuthorized.selector, msg.sender));
        _checkActive(bookingId, ticket);
        Run memory run = _run(ticket.runId);
        uint256 cutoff = _terms.cancellationCutoff;
        if (block.timestamp + cutoff > run.start) _fail(abi.encodeWithSelector(TooLate.selector, run.start - cutoff));
        uint256 refund = _paid(run, ticket);
        run.taken -= ticket.seats;
        run.status = RunStatus.Active;
        _writeRun(ticket.runId, run);
        ticket.status = BookingStatus.Cancelled;
        _writeTicket(bookingId, ticket);
        _forget(_active[ticket.runId], bookingId);
        _escrow -= refund;
        emit BookingCancelled(bookingId, ticket.user, refund);
        _pay(ticket.user, refund);
    }

    function expireEvent(uint256 eventRunId) external nonReentrant {
        Run memory run = _open(eventRunId, false);
        uint256 opens = run.start + _terms.completionGrace;
        if (block.timestamp < opens) _fail(abi.encodeWithSelector(TooEarly.selector, opens));
        uint256 stake = _stake(run.price * run.seats);
        (Payout[] memory payouts, uint256 refunds, uint256 shares) = _refunds(run, eventRunId, stake);
        if (payouts.length == 1) payouts[0] = Payout(run.host, stake);
        uint256 rest = payouts.length == 1 ? 0 : stake - shares;
        _escrow -= refunds + stake;
        platformBalance += rest;
        _close(run, eventRunId, RunStatus.Expired);
        emit EventExpired(eventRunId, refunds, shares, rest);
        _payAll(payouts);
    }

    function withdraw() external {
        withdrawTo(payable(msg.sender));
    }

    function withdrawTo(address payable to) public nonReentrant {
        _checkPayable(to);
        uint256 amount = creditOf[msg.sender];
        if (amount == 0) _fail(abi.encodeWithSelector(NothingToWithdraw.selector));
        delete creditOf[msg.sender];
        _credits -= amount;
        emit CreditWithdrawn(msg.sender, to, amount);
        _send(to, amount);
    }

    function withdrawPlatformFees() external onlyOwner nonReentrant {
        uint256 amount = platformBalance;
        if (amount == 0) _fail(abi.encodeWithSelector(NothingToWithdraw.selector));
        platformBalance = 0;
        emit PlatformFeesWithdrawn(msg.sender, amount);
        _send(msg.sender, amount);
    }

    // ---------------------------------------------------------------- platform

    function pause() external onlyOwner {
        _pause();
    }

    function unpause() external onlyOwner {
        _unpause();
    }

    function setOperator(address account, bool allowed) external onlyOwner {
        isOperator[account] = allowed;
        emit OperatorSet(account, allowed);
    }

    function renounceOwnership() public view override onlyOwner {
        _fail(abi.encodeWithSelector(OwnershipRequired.selector));
    }

    // ------------------------------------------------------------------- views

    function calculateRequiredStake(uint256 pricePerSeat, uint256 seats) external view returns (uint256) {
        return _stake(pricePerSeat * seats);
    }

    function calculateBookingCost(uint256 eventRunId, uint256 seatCount)
        external
        view
        returns (uint256 payment, uint256 stake, uint256 total)
    {
        payment = _known(eventRunId).price * seatCount;
        stake = _stake(payment);
        total = payment + stake;
    }

    function getEventRun(uint256 id) external view returns (EventRun memory) {
        Run memory run = _known(id);
        return EventRun({
            eventRunId: id,
            host: run.host,
            experienceId: _experiences[id],
            pricePerSeat: run.price,
            maxSeats: run.seats,
            seatsBooked: run.taken,
            hostStake: _stake(run.price * run.seats),
            eventTimestamp: run.start,
            status: uint8(run.status),
            hostStakeWithdrawn: run.status > RunStatus.Full,
            createdAt: run.createdAt
        });
    }

    function getBooking(uint256 id) external view returns (Booking memory) {
        Ticket memory ticket = _ticket(id);
        if (ticket.user == address(0)) _fail(abi.encodeWithSelector(UnknownBooking.selector, id));
        uint256 payment = _run(ticket.runId).price * ticket.seats;
        return Booking({
            bookingId: id,
            eventRunId: ticket.runId,
            user: ticket.user,
            seatCount: ticket.seats,
            totalPayment: payment,
            userStake: _stake(payment),
            status: uint8(ticket.status),
            bookedAt: ticket.bookedAt
        });
    }

    function getEventBookings(uint256 eventRunId) external view returns (uint256[] memory) {
        return _all[eventRunId];
    }

    function getUserBookings(address user) external view returns (uint256[] memory) {
        return _ofUser[user];
    }

    function getHostEvents(address host) external view returns (uint256[] memory) {
        return _ofHost[host];
    }

    function totalLiabilities() external view returns (uint256) {
        return _escrow + _credits + platformBalance;
    }

    function terms() external view returns (Terms memory) {
        return _terms;
    }

    // ----------------------------------------------------------------- workings

    function _create(address host, string calldata experienceId, uint256 price, uint256 seats, uint256 start)
        private
        returns (uint256 id)
    {
        if (bytes(experienceId).length == 0) _fail(abi.encodeWithSelector(InvalidExperience.selector));
        if (price == 0 || price >= 2 ** 128) _fail(abi.encodeWithSelector(InvalidPrice.selector, price));
        if (seats == 0 || seats > _maxSeats()) _fail(abi.encodeWithSelector(InvalidSeats.selector, seats));
        if (start <= block.timestamp || start >= 2 ** 40) _fail(abi.encodeWithSelector(InvalidStart.selector, start));
        uint256 stake = _stake(price * seats);
        _take(stake);
        id = ++_lastRun;
        _writeRun(id, Run(host, start, price, seats, 0, block.timestamp, RunStatus.Active));
        _experiences[id] = experienceId;
        _ofHost[host].push(id);
        emit EventRunCreated(id, host, experienceId, price, seats, stake);
        emit EventRunScheduled(id, start);
    }

    function _book(address user, Run memory run, uint256 runId, uint256 seats) private returns (uint256 id) {
        if (run.status != RunStatus.Active) _fail(abi.encodeWithSelector(EventNotOpen.selector, runId, run.status));
        _checkBefore(run.start);
        if (seats == 0) _fail(abi.encodeWithSelector(InvalidSeats.selector, seats));
        uint256 free = run.seats - run.taken;
        if (seats > free) _fail(abi.encodeWithSelector(NotEnoughSeats.selector, seats, free));
        uint256 payment = run.price * seats;
        uint256 stake = _stake(payment);
        _take(payment + stake);
        id = ++_lastTicket;
        run.taken += seats;
        if (seats == free) run.status = RunStatus.Full;
        _writeRun(runId, run);
        _writeTicket(id, Ticket(user, runId, seats, block.timestamp, BookingStatus.Active));
        _place[id] = _active[runId].length;
        _active[runId].push(id);
        _all[runId].push(id);
        _ofUser[user].push(id);
        emit BookingCreated(id, runId, user, seats, payment, stake);
    }

    function _take(uint256 amount) private {
        if (_escrow + _credits + amount >= 2 ** 96) _fail(abi.encodeWithSelector(AmountTooLarge.selector, amount));
        if (msg.value != amount) _fail(abi.encodeWithSelector(WrongValue.selector, msg.value, amount));
        _escrow += amount;
    }

    function _attended(Run memory run, uint256 runId, uint256 id) private returns (Payout memory) {
        Ticket memory ticket = _ticket(id);
        if (ticket.runId != runId) _fail(abi.encodeWithSelector(BookingNotOfRun.selector, id, runId));
        _checkActive(id, ticket);
        ticket.status = BookingStatus.Completed;
        _writeTicket(id, ticket);
        uint256 stake = _stake(run.price * ticket.seats);
        emit BookingCompleted(id, ticket.user, stake);
        return Payout(ticket.user, stake);
    }

    function _noShows(Run memory run, uint256 runId) private returns (uint256 forfeits) {
        uint256[] storage ids = _active[runId];
        for (uint256 i; i < ids.length; ++i) {
            Ticket memory ticket = _ticket(ids[i]);
            if (ticket.status != BookingStatus.Active) continue;
            ticket.status = BookingStatus.NoShow;
            _writeTicket(ids[i], ticket);
            uint256 stake = _stake(run.price * ticket.seats);
            forfeits += stake;
            emit BookingNoShow(ids[i], ticket.user, stake);
        }
    }

    /// @dev Marks the active bookings as refunded. The last payout is left to the caller, unless there is only one.
    function _refunds(Run memory run, uint256 runId, uint256 hostStake)
        private
        returns (Payout[] memory payouts, uint256 refunds, uint256 shares)
    {
        uint256[] storage ids = _active[runId];
        payouts = new Payout[](ids.length + 1);
        for (uint256 i; i < ids.length; ++i) {
            Ticket memory ticket = _ticket(ids[i]);
            ticket.status = BookingStatus.Cancelled;
            _writeTicket(ids[i], ticket);
            uint256 refund = _paid(run, ticket);
            uint256 share = hostStake * ticket.seats / run.taken;
            refunds += refund;
            shares += share;
            payouts[i] = Payout(ticket.user, refund + share);
        }
    }

    function _close(Run memory run, uint256 runId, RunStatus status) private {
        run.status = status;
        _writeRun(runId, run);
    }

    function _forget(uint256[] storage ids, uint256 id) private {
        uint256 last = ids[ids.length - 1];
        uint256 place = _place[id];
        (ids[place], _place[last]) = (last, place);
        ids.pop();
    }

    function _part(uint256 amount, uint256 bps) private pure returns (uint256) {
        return amount * bps / 10_000;
    }

    function _stake(uint256 amount) private view returns (uint256) {
        return _part(amount, _terms.stakeBps);
    }

    function _paid(Run memory run, Ticket memory ticket) private view returns (uint256) {
        return run.price * ticket.seats + _stake(run.price * ticket.seats);
    }

    // ------------------------------------------------------------------ checks

    function _known(uint256 id) private view returns (Run memory run) {
        run = _run(id);
        if (run.host == address(0)) _fail(abi.encodeWithSelector(UnknownEventRun.selector, id));
    }

    function _open(uint256 id, bool byParty) private view returns (Run memory run) {
        run = _known(id);
        if (byParty && msg.sender != run.host && !_isPlatform()) {
            _fail(abi.encodeWithSelector(NotAuthorized.selector, msg.sender));
        }
        if (run.status > RunStatus.Full) _fail(abi.encodeWithSelector(EventNotOpen.selector, id, run.status));
    }

    function _isPlatform() private view returns (bool) {
        return msg.sender == owner() || isOperator[msg.sender];
    }

    function _checkBefore(uint256 deadline) private view {
        if (block.timestamp >= deadline) _fail(abi.encodeWithSelector(TooLate.selector, deadline));
    }

    function _checkActive(uint256 id, Ticket memory ticket) private pure {
        if (ticket.status != BookingStatus.Active) {
            _fail(abi.encodeWithSelector(BookingNotActive.selector, id, ticket.status));
        }
    }

    function _checkPayable(address receiver) private view {
        if (receiver == address(0) || receiver == address(this)) {
            _fail(abi.encodeWithSelector(InvalidReceiver.selector, receiver));
        }
    }

    // ---------------------------------------------------- where others differ

    function _maxSeats() internal pure virtual returns (uint256) {
        return 120;
    }

    function _run(uint256 id) internal view virtual returns (Run memory) {
        return _runs[id];
    }

    function _writeRun(uint256 id, Run memory run) internal virtual {
        _runs[id] = run;
    }

    function _ticket(uint256 id) internal view virtual returns (Ticket memory) {
        return _tickets[id];
    }

    function _writeTicket(uint256 id, Ticket memory ticket) internal virtual {
        _tickets[id] = ticket;
    }

    function _payAll(Payout[] memory payouts) internal virtual {
        for (uint256 i; i < payouts.length; ++i) _pay(payouts[i].to, payouts[i].amount);
    }

    function _pay(address to, uint256 amount) internal virtual {
        if (amount == 0) return;
        if (gasleft() < 90_000) _fail(abi.encodeWithSelector(InsufficientGas.selector));
        bool paid;
        assembly ("memory-safe") {
            paid := call(30000, to, amount, 0, 0, 0, 0)
        }
        if (!paid) _credit(to, amount);
    }

    function _credit(address to, uint256 amount) internal {
        creditOf[to] += amount;
        _credits += amount;
        emit PaymentDeferred(to, amount);
    }

    function _send(address to, uint256 amount) private {
        bool paid;
        assembly ("memory-safe") {
            paid := call(gas(), to, amount, 0, 0, 0, 0)
        }
        if (!paid) _fail(abi.encodeWithSelector(TransferFailed.selector, to, amount));
    }

    /// @param error as it is encoded
    function _fail(bytes memory error) internal pure virtual {
        assembly ("memory-safe") {
            revert(add(error, 32), mload(error))
        }
    }
}
