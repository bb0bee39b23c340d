// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @notice Takes ether if it has almost all of the gas that a payout must give it (30,000, and 2,300 for the value).
contract Spender {
    receive() external payable {
        require(gasleft() > 32_000, "starved");
    }
}
