// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @notice A contract account that does what its controller says. The hostile receivers differ in how they take ether.
/// @dev For tests and simulation. Never deployed live.
abstract contract ControlledAccount {
    address internal immutable CONTROLLER = msg.sender;

    /// @dev Whether it takes ether like anybody else, as long as it acts itself.
    bool internal transient accepting;

    error NotController();

    /// @notice As `execute`, and takes ether meanwhile: shows whether money can be had by whoever wants it.
    function executeAccepting(address target, uint256 value, bytes calldata data)
        external
        payable
        returns (bytes memory returned)
    {
        accepting = true;
        returned = execute(target, value, data);
        accepting = false;
    }

    /// @notice Calls `target` as this contract and hands on whatever it reverts with.
    function execute(address target, uint256 value, bytes calldata data) public payable returns (bytes memory) {
        if (msg.sender != CONTROLLER) revert NotController();
        (bool done, bytes memory returned) = target.call{value: value}(data);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(returned, 32), mload(returned))
            }
        }
        return returned;
    }
}
