// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {AnyState} from "./AnyState.sol";
import {Svm} from "./Cheats.sol";
import {IEventStake} from "../IEventStake.sol";

/// @notice Takes a payment, and calls any function of the payer with anything while it is paid.
contract Reentrant {
    receive() external payable {
        Svm svm = Svm(0xF3993A62377BCd56AE39D773740A5390411E8BC9);
        bytes memory data = svm.createCalldata("EventStake");
        (bool done,) = msg.sender.call{value: svm.createUint(96, "returned")}(data);
        require(done || svm.createBool("accepts"));
    }
}

/// @notice Calls while it is paid all that lets money out, and remembers whether anything of it worked.
contract Intruder {
    bool public entered;
    bool private _isPaid;

    receive() external payable {
        if (_isPaid) return; // once is enough
        _isPaid = true;
        bytes[7] memory calls = [
            abi.encodeCall(IEventStake.completeEvent, (2, new uint256[](0))),
            abi.encodeCall(IEventStake.cancelEvent, (2)),
            abi.encodeCall(IEventStake.expireEvent, (2)),
            abi.encodeCall(IEventStake.cancelBooking, (2)),
            abi.encodeCall(IEventStake.withdraw, ()),
            abi.encodeCall(IEventStake.withdrawTo, (payable(address(0xE0A)))),
            abi.encodeCall(IEventStake.withdrawPlatformFees, ())
        ];
        for (uint256 i; i < 7; ++i) {
            (bool done,) = msg.sender.call(calls[i]);
            if (done) entered = true;
        }
    }
}

/// @notice Induction: whatever function is called, from any state, balance less liabilities is after it what it was
/// before. So no sequence of calls makes a contract insolvent that was deployed with nothing owed.
contract SurplusProof is AnyState {
    /// @custom:halmos --default-bytes-lengths 1
    function check_surplus_any_other_call(address sender) public {
        Books memory old = _books();
        _anyOtherCall(sender);
        _assertSurplusIsKept(old);
    }

    function check_surplus_complete(bool came) public {
        _givenActiveBookings(1);
        Books memory old = _books();
        _asOperator();
        _complete(1, [came, false, false]);
        _assertSurplusIsKept(old);
    }

    function check_surplus_cancel(address sender) public {
        _givenActiveBookings(1);
        Books memory old = _books();
        VM.prank(sender);
        stake.cancelEvent(RUN);
        _assertSurplusIsKept(old);
    }

    function check_surplus_expire(address sender) public {
        _givenActiveBookings(1);
        Books memory old = _books();
        VM.prank(sender);
        stake.expireEvent(RUN);
        _assertSurplusIsKept(old);
    }

    function check_surplus_cancel_booking(address sender) public {
        _givenActiveBookings(3);
        Books memory old = _books();
        VM.prank(sender);
        stake.cancelBooking(2);
        _assertSurplusIsKept(old);
    }

    /// @dev While a run or a booking is settled nothing else lets money out.
    function check_no_reentry_of_settlement(uint8 kind) public {
        Intruder intruder = new Intruder();
        (receivers[0], receivers[1]) = (address(intruder), address(intruder));
        _givenActiveBookings(1);
        VM.assume(kind < 4);
        _asOperator();
        if (kind == 0) _complete(1, [false, false, false]);
        if (kind == 1) stake.cancelEvent(RUN);
        if (kind == 2) stake.expireEvent(RUN);
        if (kind == 3) stake.cancelBooking(1);
        assert(!intruder.entered());
    }

    /// @dev Nor while a credit is withdrawn.
    function check_no_reentry_of_withdrawal() public {
        Intruder intruder = new Intruder();
        stake.withdrawTo(payable(address(intruder)));
        assert(!intruder.entered());
    }
}

contract LongSurplusProof is AnyState {
    /// @dev The host's contract calls whatever it likes while it is paid.
    /// @custom:halmos --default-bytes-lengths 1 --default-array-lengths 1
    function check_surplus_reentrant() public {
        receivers[0] = address(new Reentrant());
        _givenActiveBookings(0);
        _givenNextRunIsBlank();
        Books memory old = _books();
        _asOperator();
        stake.cancelEvent(RUN);
        _assertSurplusIsKept(old);
    }
}
