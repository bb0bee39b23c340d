// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @notice Makes a call once two of its members have approved it, as a multisig wallet does. For tests.
contract Multisig {
    mapping(address => bool) public isMember;
    mapping(bytes32 => address) public approvedBy;

    constructor(address[] memory members) {
        for (uint256 i; i < members.length; ++i) isMember[members[i]] = true;
    }

    function approve(address to, uint256 value, bytes calldata data) external {
        require(isMember[msg.sender], "not a member");
        bytes32 id = keccak256(abi.encode(to, value, data));
        address first = approvedBy[id];
        require(first != msg.sender, "approved already");
        approvedBy[id] = first == address(0) ? msg.sender : address(0);
        if (first == address(0)) return;
        (bool done,) = to.call{value: value}(data);
        require(done, "the call failed");
    }
}
