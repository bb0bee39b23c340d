// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @notice Many views of one contract, and many balances, in one call. Part of the harness, not of production.
contract Lens {
    error ViewFailed(uint256 index, bytes data);

    /// @param target whom to ask
    /// @param views selectors and arguments
    /// @param accounts whose balances to read, in wei
    /// @return results what each view returned, still encoded
    function read(address target, bytes[] calldata views, address[] calldata accounts)
        external
        view
        returns (bytes[] memory results, uint256[] memory balances)
    {
        results = new bytes[](views.length);
        for (uint256 i; i < views.length; ++i) {
            (bool done, bytes memory data) = target.staticcall(views[i]);
            if (!done) revert ViewFailed(i, data);
            results[i] = data;
        }
        balances = new uint256[](accounts.length);
        for (uint256 i; i < accounts.length; ++i) balances[i] = accounts[i].balance;
    }
}
