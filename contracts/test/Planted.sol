// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {SoundEventStake} from "./SoundEventStake.sol";

// One weakness each, as contracts in the wild have them, for the harness to find and to name.

contract OwnerTakesEscrow is SoundEventStake {
    function emergencyWithdraw(uint256 amount) external {
        require(msg.sender == owner, "Only owner");
        _pay(owner, amount);
    }
}

contract FeesAreTheBalance is SoundEventStake {
    function withdrawPlatformFees() external override {
        require(msg.sender == owner, "Only owner");
        _pay(owner, address(this).balance);
    }
}

contract KeepsOverpayment is SoundEventStake {
    function _checkPaid(uint256 due) internal override {
        require(msg.value >= due, "Not enough");
    }
}

contract TermsChange is SoundEventStake {
    uint256 private _percent = 5;

    function setFeePercent(uint256 percent) external {
        require(msg.sender == owner && percent <= 100, "Only owner");
        _percent = percent;
    }

    function _feePercent() internal view override returns (uint256) {
        return _percent;
    }
}

contract ReceiverBlocksAll is SoundEventStake {
    function _pay(address to, uint256 amount) internal override {
        (bool paid,) = to.call{value: amount}("");
        require(paid, "Transfer failed");
    }
}

contract FundsStayLocked is SoundEventStake {
    function _checkCaller(address host) internal view override {
        require(msg.sender == host, "Only host");
    }
}

contract RunsTooLarge is SoundEventStake {
    function _maxSeats() internal pure override returns (uint256) {
        return type(uint32).max;
    }
}

contract FullRunNeedsTooMuch is SoundEventStake {
    function _maxSeats() internal pure override returns (uint256) {
        return 350;
    }
}

contract NobodysStakes is SoundEventStake {
    function _forfeit(uint256) internal override returns (uint256) {}
}

contract PayoutsAreDropped is SoundEventStake {
    function _pay(address to, uint256 amount) internal override {
        (bool paid,) = to.call{value: amount, gas: 30_000}("");
        paid;
    }
}

contract PayoutsComeTwice is SoundEventStake {
    function takeOut() external {
        (bool paid,) = msg.sender.call{value: _unclaimed[msg.sender]}("");
        require(paid, "Transfer failed");
    }
}

contract HostCantCancel is SoundEventStake {
    function _checkCaller(address) internal view override {
        require(msg.sender == owner, "Only owner");
    }
}

contract AttendeesLoseAWei is SoundEventStake {
    function _pay(address to, uint256 amount) internal override {
        super._pay(to, to == owner || amount % 2 == 1 ? amount : amount - 1);
    }
}
