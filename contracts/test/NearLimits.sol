// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {EventStake} from "../EventStake.sol";

/// @notice An `EventStake` whose counts of runs and bookings are set when it is deployed, to try its last ids.
contract NearLimits is EventStake {
    uint256 private constant TOTALS_SLOT = 2;

    constructor(address platform, Terms memory terms_, uint32 lastRunId, uint32 lastBookingId)
        EventStake(platform, terms_)
    {
        uint256 totals = uint256(lastRunId) << 192 | uint256(lastBookingId) << 224;
        assembly ("memory-safe") {
            sstore(TOTALS_SLOT, totals)
        }
    }
}
