// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {ControlledAccount} from "../support/ControlledAccount.sol";

/// @notice Takes no ether.
contract RefusingReceiver is ControlledAccount {
    error NoThanks();

    receive() external payable {
        if (accepting) return;
        revert NoThanks();
    }
}

/// @notice Burns all gas it is given.
contract BurningReceiver is ControlledAccount {
    receive() external payable {
        if (accepting) return;
        assembly ("memory-safe") {
            invalid()
        }
    }
}

/// @notice Reverts with as much data as the gas allows: up to a megabyte, which costs its caller dearly to copy.
contract FloodingReceiver is ControlledAccount {
    receive() external payable {
        if (accepting) return;
        uint256 size = gasleft() > 3_000_000 ? 1_000_000 : 90_000;
        assembly ("memory-safe") {
            revert(0, size)
        }
    }
}

/// @notice Calls back into the contract that pays it, then takes the ether.
contract ReenteringReceiver is ControlledAccount {
    address private immutable TARGET;
    bytes private _call;

    /// @notice How often a call made while being paid succeeded. Any number but 0 is a finding.
    uint256 public reentered;

    /// @param call_ selector and arguments of what to call
    constructor(address target, bytes memory call_) {
        TARGET = target;
        _call = call_;
    }

    receive() external payable {
        if (accepting) return;
        if (msg.sender != TARGET) return;
        (bool done,) = TARGET.call(_call);
        if (done) ++reentered;
    }
}

/// @notice Does with ether what it was last told to, which a scenario changes as it goes.
contract ScriptedReceiver is ControlledAccount {
    enum How {
        Accepts,
        Refuses,
        BurnsGas,
        Floods,
        SpendsLittle,
        SpendsMuch,
        NeedsStipend
    }

    /// @dev What a smart wallet may need to take ether, and what no push has to give it.
    uint256 private constant LITTLE = 20_000;
    uint256 private constant MUCH = 100_000;
    /// @dev What is left of a push's whole stipend here, or a little less.
    uint256 private constant STIPEND = 27_000;

    /// @dev Kept for what follows the call, also if it uses up all that it gets.
    uint256 private constant GAS_TO_END = 12_000;
    /// @dev The same for what follows a look.
    uint256 private constant GAS_TO_TELL = 4_000;

    address private immutable TARGET;
    How private _how;
    uint88 private _value;
    bytes private _call;
    /// @dev What it looks at while being paid, if it calls nothing: selector and argument of a view; 0: nothing.
    uint256 private _look;

    /// @notice A call that was made while being paid has ended.
    event Reentered(bool done);
    /// @notice What the views of the contract said while it was paying, and the hash of what the view said that was
    /// looked at.
    event Saw(bytes32 hash, uint256 platformBalance, uint256 totalLiabilities);

    error NoThanks();

    constructor(address target) {
        TARGET = target;
    }

    /// @param value wei sent along with the call
    /// @param call_ selector and arguments of what to call first; empty: nothing
    /// @param view_ selector and argument, of at most 224 bits, of a view to look at if it accepts and calls nothing;
    /// empty: none
    function script(How how, uint88 value, bytes calldata call_, bytes calldata view_) external {
        if (msg.sender != CONTROLLER) revert NotController();
        (_how, _value, _call) = (how, value, call_);
        _look = view_.length == 0 ? 0 : uint256(bytes32(view_[:4])) | uint256(bytes32(view_[4:]));
    }

    receive() external payable {
        How how = _how;
        if (how == How.Refuses) revert NoThanks();
        if (how == How.BurnsGas) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        if (how == How.Floods) {
            uint256 size = gasleft() > 3_000_000 ? 1_000_000 : 90_000;
            assembly ("memory-safe") {
                revert(0, size)
            }
        }
        if (how == How.NeedsStipend) {
            if (gasleft() < STIPEND) revert NoThanks();
        } else if (how >= How.SpendsLittle) _spend(how == How.SpendsLittle ? LITTLE : MUCH);
        if (gasleft() < GAS_TO_END) return; // as with the stipend of `transfer`
        if (msg.sender != TARGET) return;
        if (_call.length == 0) {
            if (_look != 0 && how == How.Accepts) _tell(_look);
            return;
        }
        uint256 value = _value;
        bytes memory call_ = _call;
        uint256 left = gasleft();
        (bool done,) = TARGET.call{value: value, gas: left > GAS_TO_END ? left - GAS_TO_END : 0}(call_);
        emit Reentered(done);
    }

    /// @notice Calls `target` as this contract, whoever asks for it.
    function act(address target, uint256 value, bytes calldata data) external returns (bytes memory) {
        (bool done, bytes memory returned) = target.call{value: value}(data);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(returned, 32), mload(returned))
            }
        }
        return returned;
    }

    function _tell(uint256 look) private {
        (bool done, bytes memory seen) = _view(abi.encodeWithSelector(bytes4(bytes32(look)), look << 32 >> 32));
        if (!done) return;
        (bool told, bytes memory fees) = _view(abi.encodeWithSignature("platformBalance()"));
        (bool known, bytes memory owed) = _view(abi.encodeWithSignature("totalLiabilities()"));
        if (told && known) emit Saw(keccak256(seen), abi.decode(fees, (uint256)), abi.decode(owed, (uint256)));
    }

    function _view(bytes memory call_) private view returns (bool done, bytes memory said) {
        uint256 left = gasleft();
        if (left > GAS_TO_TELL) (done, said) = TARGET.staticcall{gas: left - GAS_TO_TELL}(call_);
    }

    function _spend(uint256 amount) private view {
        uint256 begin = gasleft();
        while (begin - gasleft() < amount) {}
    }
}

/// @notice Forces ether on a contract that takes none.
contract EtherForcer {
    constructor(address payable target) payable {
        selfdestruct(target);
    }
}
