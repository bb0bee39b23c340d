// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {SoundEventStake} from "../SoundEventStake.sol";

// Only the interface that is deployed on Sepolia, with strings for errors; the difference is in the comment.

/// @notice Nothing is pushed: everybody claims what is theirs, and nothing tells of it before.
contract ClaimedPayments is SoundEventStake {
    function _pay(address to, uint256 amount) internal override {
        _unclaimed[to] += amount;
    }
}

/// @notice A stake of 10%, a fee of 3%, and a quarter of the forfeits for the host.
contract OtherPercentages is SoundEventStake {
    uint256 public constant stakePercentage = 10;
    uint256 public constant platformFeePercentage = 3;
    uint256 public constant forfeitToHostPercentage = 25;

    function _stakePercent() internal pure override returns (uint256) {
        return stakePercentage;
    }

    function _feePercent() internal pure override returns (uint256) {
        return platformFeePercentage;
    }

    function _forfeit(uint256 stakes) internal override returns (uint256 toHost) {
        toHost = stakes * forfeitToHostPercentage / 100;
        _fees += stakes - toHost;
    }
}

/// @notice A run has at most 12 seats.
contract SmallRuns is SoundEventStake {
    function _maxSeats() internal pure override returns (uint256) {
        return 12;
    }
}
