// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {IEventStake} from "../IEventStake.sol";
import {ControlledAccount} from "../support/ControlledAccount.sol";

/// @notice Says what a stake contract shows at the moment it pays, or calls back into it.
contract Witness is ControlledAccount {
    IEventStake private immutable STAKE;

    uint64 private _runId;
    uint64 private _bookingId;
    bool private _refuses;
    bytes private _call;

    event Saw(uint256 owed, uint256 held, uint256 credit, uint8 runStatus, uint256 seatsBooked, uint8 bookingStatus);
    event Reentered(bool done);

    constructor(address stake) {
        STAKE = IEventStake(stake);
    }

    /// @param call_ what it calls while it is paid; nothing: it only looks
    function set(uint64 runId, uint64 bookingId, bool refuses, bytes calldata call_) external {
        _runId = runId;
        _bookingId = bookingId;
        _refuses = refuses;
        _call = call_;
    }

    receive() external payable {
        if (_refuses) revert();
        if (_call.length > 0) {
            (bool done,) = msg.sender.call(_call);
            emit Reentered(done);
        } else if (_runId > 0) {
            IEventStake.EventRun memory run = STAKE.getEventRun(_runId);
            uint8 bookingStatus = STAKE.getBooking(_bookingId).status;
            uint256 credit = STAKE.creditOf(address(this));
            emit Saw(
                STAKE.totalLiabilities(), address(STAKE).balance, credit, run.status, run.seatsBooked, bookingStatus
            );
        }
    }
}
