// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @title What an engine must get right, one function each: the conformance suite in `tests/engines` calls these.
contract Probe {
    error Refused(address who, uint256 wanted, string why);

    event Noted(uint256 indexed number, address indexed who, string text, uint256 value);

    uint256 public recordedTime;
    uint256[] private _pile;

    // --- Failing

    function failWithText() external pure {
        revert("no luck");
    }

    function failWithError(uint256 wanted) external view {
        revert Refused(msg.sender, wanted, "not today");
    }

    /// @dev Panic 0x12.
    function failWithPanic(uint256 divisor) external pure returns (uint256) {
        return 1 / divisor;
    }

    function failSilently() external pure {
        revert();
    }

    /// @dev Not a revert: every unit of gas is gone, and there is no data.
    function failHard() external pure {
        assembly ("memory-safe") {
            invalid()
        }
    }

    // --- Money and events

    function note(uint256 number, string calldata text) external payable {
        emit Noted(number, msg.sender, text, msg.value);
    }

    /// @dev Two events in one transaction.
    function noteTwice(uint256 number) external {
        emit Noted(number, msg.sender, "first", 0);
        emit Noted(number, msg.sender, "second", 0);
    }

    // --- Time

    function time() external view returns (uint256 timestamp, uint256 number) {
        return (block.timestamp, block.number);
    }

    function recordTime() external {
        recordedTime = block.timestamp;
    }

    function recordTimeAt(uint256 timestamp) external {
        require(block.timestamp == timestamp, "wrong second");
        recordedTime = block.timestamp;
    }

    // --- Gas

    /// @dev Succeeds with a limit well above what it uses, and only then.
    function needGas(uint256 gas) external {
        require(gasleft() >= gas, "too little gas");
        recordedTime = 1;
    }

    function fill(uint256 count) external {
        for (uint256 i = 0; i < count; i++) {
            _pile.push(i + 1);
        }
    }

    /// @dev Gets refunds: the limit must be above the gas used.
    function clear() external {
        delete _pile;
    }

    /// @dev Calls itself so deep, each call with 63/64 of the gas left; the deepest writes `count` slots.
    function forward(uint256 depth, uint256 count) external {
        if (depth == 0) {
            this.fill(count);
        } else {
            this.forward(depth - 1, count);
        }
    }

    /// @dev Sets a slot and sets it back, as a reentrancy guard in storage does; the last write is cheap, but needs 2,300 left.
    function guarded() external {
        recordedTime = 2;
        recordedTime = 1;
    }
}
