// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {ControlledAccount} from "../support/ControlledAccount.sol";

/// @notice Takes no ether.
contract RefusingReceiver is ControlledAccount {
    error NoThanks();

    receive() external payable {
        if (accepting) return;
        revert NoThanks();
    }
}

/// @notice Burns all gas it is given.
contract BurningReceiver is ControlledAccount {
    receive() external payable {
        if (accepting) return;
        assembly ("memory-safe") {
            invalid()
        }
    }
}

/// @notice Reverts with as much data as the gas allows: up to a megabyte, which costs its caller dearly to copy.
contract FloodingReceiver is ControlledAccount {
    receive() external payable {
        if (accepting) return;
        uint256 size = gasleft() > 3_000_000 ? 1_000_000 : 90_000;
        assembly ("memory-safe") {
            revert(0, size)
        }
    }
}

/// @notice Calls back into the contract that pays it, then takes the ether.
contract ReenteringReceiver is ControlledAccount {
    address private immutable TARGET;
    bytes private _call;

    /// @notice How often a call made while being paid succeeded. Any number but 0 is a finding.
    uint256 public reentered;

    /// @param call_ selector and arguments of what to call
    constructor(address target, bytes memory call_) {
        TARGET = target;
        _call = call_;
    }

    receive() external payable {
        if (accepting) return;
        if (msg.sender != TARGET) return;
        (bool done,) = TARGET.call(_call);
        if (done) ++reentered;
    }
}

/// @notice Forces ether on a contract that takes none.
contract EtherForcer {
    constructor(address payable target) payable {
        selfdestruct(target);
    }
}
