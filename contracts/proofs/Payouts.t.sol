// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {EventStake} from "../EventStake.sol";
import {IEventStake} from "../IEventStake.sol";
import {Vm} from "./Cheats.sol";

/// @notice A run from its creation on, with the default terms and any price. The platform owns the contract and pays in
/// for all. Every `check_` of these files is a property that halmos proves: `stakesim opinions` runs it.
abstract contract Payouts {
    Vm internal constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 internal constant START = 10 days;
    address internal constant HOST = address(0x1001);
    address internal constant FIRST = address(0x2001);
    address internal constant SECOND = address(0x2002);
    address internal constant THIRD = address(0x2003);

    EventStake internal _stake;

    receive() external payable {}

    function setUp() public {
        _stake = new EventStake(
            address(this),
            IEventStake.Terms({
                stakeBps: 2_000,
                feeBps: 500,
                forfeitToHostBps: 0,
                cancellationCutoff: 1 days,
                completionGrace: 7 days
            })
        );
        VM.deal(address(this), type(uint128).max);
        VM.warp(1 days);
    }

    function _open(uint256 price, uint256 seats) internal {
        _stake.createEventRunFor{value: price * seats * 2_000 / 10_000}(HOST, "x", price, seats, START);
    }

    function _book(address attendee, uint256 price, uint256 seats) internal {
        uint256 payment = price * seats;
        _stake.bookEventFor{value: payment + payment * 2_000 / 10_000}(attendee, 1, seats);
    }

    function _completed(uint256 price, bool firstCame, bool secondCame) internal {
        VM.assume(price > 0);
        _open(price, 2);
        _book(FIRST, price, 1);
        _book(SECOND, price, 1);
        VM.warp(START);
        uint256[] memory came = new uint256[]((firstCame ? 1 : 0) + (secondCame ? 1 : 0));
        uint256 count;
        if (firstCame) came[count++] = 1;
        if (secondCame) came[count++] = 2;
        _stake.completeEvent(1, came);
    }
}

contract PayoutsProof is Payouts {
    /// @dev Two bookings, any attendance: who came gets the stake that was asked for (see check_costs), a
    /// no-show nothing.
    function check_who_came_gets_the_stake(uint96 price, bool firstCame, bool secondCame) public {
        _completed(price, firstCame, secondCame);
        (, uint256 stake,) = _stake.calculateBookingCost(1, 1);
        assert(FIRST.balance == (firstCame ? stake : 0));
        assert(SECOND.balance == (secondCame ? stake : 0));
    }

    /// @dev The host gets all of what was paid in that the platform (see below) and who came (see above) do not get.
    function check_host_gets_the_rest(uint96 price, bool firstCame, bool secondCame) public {
        uint256 before = address(this).balance;
        _completed(price, firstCame, secondCame);
        uint256 paidIn = before - address(this).balance;
        assert(HOST.balance + FIRST.balance + SECOND.balance + _stake.platformBalance() == paidIn);
    }

    /// @dev The platform earns floor(5%) and the stakes of those who did not come.
    function check_platform_gets_fee_and_forfeits(uint96 price, bool firstCame, bool secondCame) public {
        _completed(price, firstCame, secondCame);
        uint256 forfeits = firstCame ? 0 : uint256(price) * 2_000 / 10_000;
        forfeits += secondCame ? 0 : uint256(price) * 2_000 / 10_000;
        assert(_stake.platformBalance() == uint256(price) * 2 * 500 / 10_000 + forfeits);
    }

    /// @dev A cancelled run returns exactly what everybody paid in, and the platform earns nothing.
    function check_cancellation(uint96 price, uint8 seats) public {
        VM.assume(price > 0 && seats > 0 && seats < 4);
        _open(price, 4);
        _book(FIRST, price, seats);
        _book(SECOND, price, 1);
        _stake.cancelEvent(1);
        assert(FIRST.balance == uint256(price) * seats + uint256(price) * seats * 2_000 / 10_000);
        assert(SECOND.balance == uint256(price) + uint256(price) * 2_000 / 10_000);
        assert(HOST.balance == uint256(price) * 4 * 2_000 / 10_000);
        assert(_stake.platformBalance() == 0);
        assert(address(_stake).balance == 0);
    }

    /// @dev The stake asked for is floor(value x 20%), and a booking costs payment and stake.
    function check_costs(uint96 price, uint8 seats) public {
        VM.assume(price > 0 && seats > 0 && seats <= 200);
        _open(price, 200);
        (uint256 payment, uint256 stake, uint256 total) = _stake.calculateBookingCost(1, seats);
        assert(payment == uint256(price) * seats);
        assert(stake == payment * 2_000 / 10_000);
        assert(total == payment + stake);
        assert(_stake.calculateRequiredStake(price, seats) == stake);
    }

    /// @dev Any other value than the exact one is refused.
    function check_value_is_exact(uint96 price, uint128 value) public {
        VM.assume(price > 0);
        _open(price, 2);
        uint256 due = uint256(price) + uint256(price) * 2_000 / 10_000;
        VM.assume(value != due);
        (bool done,) = address(_stake).call{value: value}(abi.encodeCall(IEventStake.bookEvent, (1, 1)));
        assert(!done);
    }

    /// @dev Nobody but host and platform completes or cancels a run, whoever they are.
    function check_authority(uint96 price, address who) public {
        VM.assume(price > 0 && who != HOST && who != address(this));
        _open(price, 1);
        VM.prank(who);
        (bool cancelled,) = address(_stake).call(abi.encodeCall(IEventStake.cancelEvent, (1)));
        assert(!cancelled);
        VM.warp(START);
        VM.prank(who);
        (bool completed,) = address(_stake).call(abi.encodeCall(IEventStake.completeEvent, (1, new uint256[](0))));
        assert(!completed);
    }

    /// @dev The platform cancels at any time before the grace is over, if it sends gas enough, and never from then on.
    function check_last_moment_of_the_platform(uint40 time) public {
        VM.assume(time >= 1 days);
        _open(1_000, 1);
        VM.warp(time);
        (bool done, bytes memory reason) = address(_stake).call(abi.encodeCall(IEventStake.cancelEvent, (1)));
        assert(!done || time < START + 7 days);
        assert(done || time >= START + 7 days || bytes4(reason) == IEventStake.InsufficientGas.selector);
    }

    /// @dev What is paid in is held to the wei, whatever the price, or refused: no amount is cut to its 96 bits.
    function check_payment_is_held_or_refused(uint128 price, uint128 value) public {
        VM.deal(address(this), value);
        (bool done,) = address(_stake).call{value: value}(
            abi.encodeCall(IEventStake.createEventRunFor, (HOST, "x", price, 200, START))
        );
        assert(_stake.totalLiabilities() == (done ? value : 0));
    }

    /// @dev An operator can't withdraw what the platform earned, nor become more than an operator.
    function check_operator_takes_nothing(uint96 price, address operator) public {
        VM.assume(operator != address(this));
        _stake.setOperator(operator, true);
        _completed(price, false, true);
        bytes[4] memory calls = [
            abi.encodeCall(IEventStake.withdrawPlatformFees, ()),
            abi.encodeCall(IEventStake.setOperator, (THIRD, true)),
            abi.encodeWithSignature("transferOwnership(address)", operator),
            abi.encodeWithSignature("pause()")
        ];
        for (uint256 i; i < 4; ++i) {
            VM.prank(operator);
            (bool done,) = address(_stake).call(calls[i]);
            assert(!done);
        }
    }
}

contract LongPayoutsProof is Payouts {
    /// @dev Three bookings: whatever was paid in is paid out or earned by the platform, to the wei.
    function check_conservation(uint96 price, bool firstCame, bool secondCame, bool thirdCame) public {
        VM.assume(price > 0);
        uint256 before = address(this).balance;
        _open(price, 3);
        _book(FIRST, price, 1);
        _book(SECOND, price, 1);
        _book(THIRD, price, 1);
        uint256 paidIn = before - address(this).balance;
        VM.warp(START);
        uint256[] memory came = new uint256[]((firstCame ? 1 : 0) + (secondCame ? 1 : 0) + (thirdCame ? 1 : 0));
        uint256 count;
        if (firstCame) came[count++] = 1;
        if (secondCame) came[count++] = 2;
        if (thirdCame) came[count++] = 3;
        _stake.completeEvent(1, came);
        uint256 paidOut = HOST.balance + FIRST.balance + SECOND.balance + THIRD.balance;
        assert(paidOut + address(_stake).balance == paidIn);
        assert(address(_stake).balance == _stake.platformBalance());
    }
}
