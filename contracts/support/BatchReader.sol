// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @notice Many balances, and many views of one contract, in one call. Part of the library, not of production.
/// @dev Asked after every step of every scenario, so it is written to run few instructions, and packs its data:
///
/// calldata: target (20 bytes), number of accounts (1 byte), accounts (20 bytes each), then for each view the length of
/// its calldata (2 bytes) and the calldata.
/// returned: balances (32 bytes each), then for each view the length of what it returned (32 bytes) and that. The highest
/// bit of the length is set when the view reverts; what follows then is the revert's data.
contract BatchReader {
    fallback() external {
        assembly {
            let target := shr(96, calldataload(0))
            let input := 21
            let output := 0
            let views := add(input, mul(20, byte(0, calldataload(20))))
            for {} lt(input, views) { input := add(input, 20) } {
                mstore(output, balance(shr(96, calldataload(input))))
                output := add(output, 32)
            }
            for {} lt(input, calldatasize()) {} {
                let length := shr(240, calldataload(input))
                input := add(input, 2)
                calldatacopy(output, input, length)
                input := add(input, length)
                let reverted := iszero(staticcall(gas(), target, output, length, 0, 0))
                mstore(output, or(shl(255, reverted), returndatasize()))
                output := add(output, 32)
                returndatacopy(output, 0, returndatasize())
                output := add(output, returndatasize())
            }
            return(0, output)
        }
    }
}
