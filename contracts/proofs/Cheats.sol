// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @dev Foundry's cheat codes, as far as the proofs need them.
interface Vm {
    function deal(address account, uint256 balance) external;
    function warp(uint256 timestamp) external;
    function assume(bool condition) external;
    function prank(address sender) external;
    function load(address account, bytes32 slot) external view returns (bytes32);
    function store(address account, bytes32 slot, bytes32 value) external;
}

/// @dev halmos's own.
interface Svm {
    function createUint(uint256 bits, string memory name) external returns (uint256);
    function createAddress(string memory name) external returns (address);
    function createBool(string memory name) external returns (bool);
    function createCalldata(string memory contractName) external returns (bytes memory);
    function enableSymbolicStorage(address account) external;
}
