// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {IEventStake} from "../IEventStake.sol";

/// @notice Everything a stake contract says about itself, in one call. Part of the harness, not of production.
contract StakeLens {
    struct Run {
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

    struct Picture {
        uint256 balance;
        uint256 platformBalance;
        uint256 totalLiabilities;
        Run[] runs;
        Booking[] bookings;
        uint256[] wallets;
        uint256[] credits;
    }

    /// @param runIds runs to read
    /// @param bookingIds bookings to read
    /// @param parties accounts whose wallets and credits to read
    /// @param extended whether the contract has credits, platform balance and liabilities at all
    function read(
        IEventStake stake,
        uint256[] calldata runIds,
        uint256[] calldata bookingIds,
        address[] calldata parties,
        bool extended
    ) external view returns (Picture memory picture) {
        picture.balance = address(stake).balance;
        picture.runs = new Run[](runIds.length);
        for (uint256 i; i < runIds.length; ++i) {
            picture.runs[i] = _run(stake, runIds[i]);
        }
        picture.bookings = new Booking[](bookingIds.length);
        for (uint256 i; i < bookingIds.length; ++i) {
            picture.bookings[i] = _booking(stake, bookingIds[i]);
        }
        picture.wallets = new uint256[](parties.length);
        for (uint256 i; i < parties.length; ++i) picture.wallets[i] = parties[i].balance;
        if (!extended) return picture;
        picture.platformBalance = stake.platformBalance();
        picture.totalLiabilities = stake.totalLiabilities();
        picture.credits = new uint256[](parties.length);
        for (uint256 i; i < parties.length; ++i) picture.credits[i] = stake.creditOf(parties[i]);
    }

    function _run(IEventStake stake, uint256 id) private view returns (Run memory r) {
        (
            r.eventRunId,
            r.host,
            r.experienceId,
            r.pricePerSeat,
            r.maxSeats,
            r.seatsBooked,
            r.hostStake,
            r.eventTimestamp,
            r.status,
            r.hostStakeWithdrawn,
            r.createdAt
        ) = stake.getEventRun(id);
    }

    function _booking(IEventStake stake, uint256 id) private view returns (Booking memory b) {
        (
            b.bookingId,
            b.eventRunId,
            b.user,
            b.seatCount,
            b.totalPayment,
            b.userStake,
            b.status,
            b.bookedAt
        ) = stake.getBooking(id);
    }
}
