// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {EventStake} from "../EventStake.sol";
import {IEventStake} from "../IEventStake.sol";
import {Svm, Vm} from "./Cheats.sol";

/// @notice Takes a payment or refuses it, anew each time: the contract sees no more of whatever code a receiver has.
contract Receiver {
    receive() external payable {
        require(Svm(0xF3993A62377BCd56AE39D773740A5390411E8BC9).createBool("accepts"));
    }
}

/// @notice An `EventStake` with any terms that it takes, in any state at all, at any time. A property chooses how many
/// active bookings the run has that it settles (ids 1 to 3, each of another receiver, of any number of seats), and
/// nothing else: price, seats, status, start, credits, totals, roles and pause are symbolic.
abstract contract AnyState {
    struct Terms {
        uint256 stakeBps;
        uint256 feeBps;
        uint256 forfeitToHostBps;
        uint256 cutoff;
        uint256 grace;
    }

    struct Books {
        uint256 balance;
        uint256 escrow;
        uint256 credits;
        uint256 platform;
    }

    Vm internal constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    Svm internal constant SVM = Svm(0xF3993A62377BCd56AE39D773740A5390411E8BC9);
    uint256 internal constant RUN = 1;
    /// @dev Storage slots: tests/gate/test_proofs.py compares them with the compiler's layout.
    uint256 internal constant OWNER = 0;
    /// @dev Behind the pending owner.
    uint256 internal constant PAUSED = 1;
    uint256 internal constant TOTALS = 2;
    uint256 internal constant RUNS = 3;
    uint256 internal constant BOOKINGS = 4;
    uint256 internal constant RUN_BOOKINGS = 5;
    uint256 internal constant OPERATORS = 10;

    EventStake internal stake;
    Terms internal terms;
    /// @dev The host's, then those of the three bookings.
    address[4] internal receivers;

    receive() external payable {}

    function setUp() public virtual {
        terms.stakeBps = SVM.createUint(16, "stakeBps");
        terms.feeBps = SVM.createUint(16, "feeBps");
        terms.forfeitToHostBps = SVM.createUint(16, "forfeitToHostBps");
        terms.cutoff = SVM.createUint(32, "cutoff");
        terms.grace = SVM.createUint(32, "grace");
        stake = new EventStake(
            address(this),
            IEventStake.Terms({
                stakeBps: uint16(terms.stakeBps),
                feeBps: uint16(terms.feeBps),
                forfeitToHostBps: uint16(terms.forfeitToHostBps),
                cancellationCutoff: uint32(terms.cutoff),
                completionGrace: uint32(terms.grace)
            })
        );
        for (uint256 i; i < 4; ++i) receivers[i] = address(new Receiver());
        SVM.enableSymbolicStorage(address(stake)); // but for what the constructor wrote
        _store(OWNER, abi.encodePacked(uint96(0), SVM.createAddress("owner")));
        _store(PAUSED, abi.encodePacked(uint88(0), SVM.createBool("paused"), SVM.createAddress("pendingOwner")));
        VM.deal(address(stake), SVM.createUint(96, "balance"));
        VM.warp(SVM.createUint(40, "now"));
    }

    // ------------------------------------------------------------------- state

    function _load(uint256 slot) internal view returns (uint256) {
        return uint256(VM.load(address(stake), bytes32(slot)));
    }

    function _store(uint256 slot, bytes memory packed) internal {
        VM.store(address(stake), bytes32(slot), bytes32(packed));
    }

    function _slot(uint256 key, uint256 mappingSlot) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(key, mappingSlot)));
    }

    function _givenActiveBookings(uint256 active) internal {
        uint256 word = _load(_slot(RUN, RUNS));
        _store(
            _slot(RUN, RUNS),
            abi.encodePacked(uint8(word >> 248), uint32(word >> 216), uint8(active), uint48(word >> 160), receivers[0])
        );
        word = _load(_slot(RUN, RUN_BOOKINGS));
        _store(_slot(RUN, RUN_BOOKINGS), abi.encodePacked(uint160(word >> 96), uint32(3), uint32(2), uint32(1)));
        for (uint256 id = 1; id <= active; ++id) {
            word = _load(_slot(id, BOOKINGS));
            _store(
                _slot(id, BOOKINGS),
                abi.encodePacked(
                    uint8(word >> 248), uint8(0), uint8(word >> 232), uint32(RUN), uint40(word >> 160), receivers[id]
                )
            );
        }
    }

    function _givenPaused() internal {
        uint256 word = _load(PAUSED);
        _store(PAUSED, abi.encodePacked(uint88(word >> 168), uint8(1), uint160(word)));
    }

    /// @dev Nothing was ever written where the next run will be.
    function _givenNextRunIsBlank() internal {
        uint32 last = uint32(_load(TOTALS) >> 192);
        VM.assume(last < type(uint32).max);
        unchecked {
            _store(_slot(last + 1, RUNS) + 2, abi.encodePacked(uint256(0)));
        }
    }

    function _asOperator() internal {
        _store(_slot(uint160(address(this)), OPERATORS), abi.encodePacked(uint256(1)));
    }

    // ------------------------------------------------------------------- views

    function _isPaused() internal view returns (bool) {
        return uint8(_load(PAUSED) >> 160) != 0;
    }

    function _price(uint256 run) internal view returns (uint256) {
        return uint128(_load(_slot(run, RUNS) + 1));
    }

    function _maxSeats(uint256 run) internal view returns (uint256) {
        return uint8(_load(_slot(run, RUNS) + 1) >> 168);
    }

    function _seatsBooked(uint256 run) internal view returns (uint256) {
        return uint8(_load(_slot(run, RUNS)) >> 200);
    }

    function _runStatus(uint256 run) internal view returns (uint256) {
        return uint8(_load(_slot(run, RUNS)) >> 248);
    }

    function _host(uint256 run) internal view returns (address) {
        return address(uint160(_load(_slot(run, RUNS))));
    }

    function _seats(uint256 booking) internal view returns (uint256) {
        return uint8(_load(_slot(booking, BOOKINGS)) >> 232);
    }

    function _bookingStatus(uint256 booking) internal view returns (uint256) {
        return uint8(_load(_slot(booking, BOOKINGS)) >> 240);
    }

    function _stakeOf(uint256 amount) internal view returns (uint256) {
        unchecked {
            return amount * terms.stakeBps / 10_000;
        }
    }

    /// @dev What an account has or may withdraw.
    function _wealth(uint256 i) internal view returns (uint256) {
        unchecked {
            return receivers[i].balance + stake.creditOf(receivers[i]);
        }
    }

    // ------------------------------------------------------------------- books

    function _books() internal view returns (Books memory) {
        uint256 totals = _load(TOTALS);
        return Books(address(stake).balance, uint96(totals), uint96(totals >> 96), stake.platformBalance());
    }

    /// @dev Balance less liabilities stays what it was, modulo 2^96: more wei than exist.
    function _assertSurplusIsKept(Books memory old) internal view {
        Books memory now_ = _books();
        unchecked {
            uint256 paid = old.balance - now_.balance;
            uint256 credited = now_.credits - old.credits;
            uint256 earned = now_.platform - old.platform;
            assert(uint96(paid + credited + earned) == uint96(old.escrow - now_.escrow));
        }
    }

    // ------------------------------------------------------------------- calls

    /// @dev A call of any function that changes anything, but for those that settle a run's bookings.
    function _anyOtherCall(address sender) internal returns (bool done) {
        bytes memory data = SVM.createCalldata("EventStake");
        bytes4 f = bytes4(data);
        VM.assume(f != IEventStake.completeEvent.selector && f != IEventStake.cancelEvent.selector);
        VM.assume(f != IEventStake.expireEvent.selector && f != IEventStake.cancelBooking.selector);
        VM.assume(sender != address(stake));
        _givenNextRunIsBlank();
        uint256 value = SVM.createUint(96, "value");
        VM.deal(sender, value);
        VM.prank(sender);
        (done,) = address(stake).call{value: value}(data);
    }

    /// @dev The host, or an operator, completes the run: each booking attended or not.
    function _complete(uint256 active, bool[3] memory came) internal {
        uint256 count;
        for (uint256 i; i < active; ++i) if (came[i]) ++count;
        uint256[] memory ids = new uint256[](count);
        count = 0;
        for (uint256 i; i < active; ++i) if (came[i]) ids[count++] = i + 1;
        stake.completeEvent(RUN, ids);
    }
}
