// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {YardstickTest} from "./Yardstick.t.sol";

/// The handler can make the calls that each bug needs, and the invariant sees it after the last one, not before.
contract KnownTest is YardstickTest {
    function test_3() public {
        _create();
        _book(4);
        handler.check();
        _cancel(0);
        _checkFails();
    }

    function test_6() public {
        _create();
        _book(4);
        _cancel(0);
        _book(4);
        _cancel(0);
        handler.check();
        handler.cancelRun(0, false);
        _checkFails();
    }

    function test_10() public {
        handler.createRun(0, 5, 1e17, 3 days, false);
        _book(1);
        _book(2);
        _cancel(0);
        _book(2);
        _cancel(0);
        _book(1);
        _book(2);
        _cancel(1);
        handler.check();
        handler.cancelRun(0, false);
        _checkFails();
    }

    function test_15() public {
        _create();
        _book(1);
        _cancel(0);
        _book(2);
        _complete(0);
        for (uint256 i; i < 2; ++i) {
            _create();
            _book(1);
            _cancel(0);
            _book(1);
            handler.check();
            if (i == 0) _complete(1);
        }
        handler.expire(0);
        _checkFails();
    }

    function test_25() public {
        _create();
        _book(1);
        _book(3);
        _complete(3);
        _create();
        _book(1);
        _cancel(0);
        _book(1);
        handler.cancelRun(0, false);
        _create();
        _book(1);
        _complete(0);
        _create();
        _book(4);
        _cancel(0);
        _book(4);
        handler.expire(0);
        _create();
        _book(1);
        _book(1);
        _cancel(1);
        _book(3);
        _complete(3);
        _create();
        handler.check();
        handler.cancelRun(0, false);
        _checkFails();
    }

    function _create() private {
        handler.createRun(0, 4, 1e17, 3 days, false);
    }

    function _book(uint256 seats) private {
        handler.book(0, 0, seats, false);
    }

    function _cancel(uint256 place) private {
        handler.cancelBooking(0, place, false);
    }

    function _complete(uint8 came) private {
        handler.complete(0, came, 0, false);
    }

    function _checkFails() private view {
        try handler.check() {
            revert("the invariant does not see it");
        } catch {}
    }
}
