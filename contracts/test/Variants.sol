// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {SoundEventStake} from "./SoundEventStake.sol";

// Sound contracts that differ from the usual one in what each may decide for itself. None must have a finding.

contract OtherTerms is SoundEventStake {
    function _stakePercent() internal pure override returns (uint256) {
        return 10;
    }

    function _feePercent() internal pure override returns (uint256) {
        return 3;
    }
}

contract SharesForfeits is SoundEventStake {
    function _forfeitToHostPercent() internal pure override returns (uint256) {
        return 50;
    }
}

contract FewSeats is SoundEventStake {
    function _maxSeats() internal pure override returns (uint256) {
        return 5;
    }
}

/// @notice Pushes nothing but the fees: everybody claims what they are due.
contract PaysByCredit is SoundEventStake {
    function withdrawPlatformFees() external override {
        require(msg.sender == owner && _fees > 0, "Nothing to withdraw");
        uint256 fees = _fees;
        _fees = 0;
        (bool paid,) = owner.call{value: fees}("");
        require(paid, "Transfer failed");
    }

    function _pay(address to, uint256 amount) internal override {
        _unclaimed[to] += amount;
    }
}
