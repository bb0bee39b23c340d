// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

interface Vm {
    function warp(uint256 at) external;
    function deal(address who, uint256 amount) external;
    function prank(address sender) external;
    function readFile(string calldata path) external view returns (string memory);
    function parseJsonBytes(string calldata json, string calldata key) external pure returns (bytes memory);
}

interface Stake {
    function createEventRun(string calldata, uint256, uint256, uint256) external payable returns (uint256);
    function bookEvent(uint256, uint256) external payable returns (uint256);
    function completeEvent(uint256, uint256[] calldata) external;
    function platformBalance() external view returns (uint256);
}

struct Terms {
    uint256 stakeBps;
    uint256 feeBps;
    uint256 forfeitToHostBps;
    uint256 cutoff;
    uint256 grace;
}

/// The lifecycle of benchmarks/lifecycle.yaml as one action of the fuzzer: eight calls, every payout checked.
contract Handler {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    address constant HOST = address(0xBEEF0001);
    uint256 constant PRICE = 0.1 ether;
    uint256 constant SEATS = 6;
    Stake immutable stake;
    uint256 public played;

    constructor(Stake stake_) {
        stake = stake_;
    }

    function lifecycle() external {
        uint256 start = block.timestamp + 7 days;
        vm.deal(HOST, 0.12 ether);
        vm.prank(HOST);
        uint256 run = stake.createEventRun{value: 0.12 ether}("pottery", PRICE, SEATS, start);
        uint256[] memory came = new uint256[](5);
        for (uint160 i; i < SEATS; ++i) {
            vm.deal(address(0xBEEF0002 + i), 0.12 ether);
            vm.prank(address(0xBEEF0002 + i));
            uint256 booking = stake.bookEvent{value: 0.12 ether}(run, 1);
            if (i < 5) came[i] = booking;
        }
        uint256 earned = stake.platformBalance();
        vm.warp(start);
        vm.prank(HOST);
        stake.completeEvent(run, came);
        require(HOST.balance == 0.69 ether, "host");
        for (uint160 i; i < SEATS; ++i) {
            require(address(0xBEEF0002 + i).balance == (i < 5 ? 0.02 ether : 0), "attendee");
        }
        require(stake.platformBalance() - earned == 0.05 ether, "platform");
        ++played;
    }
}

contract LifecycleTest {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    Handler handler;

    function setUp() public {
        string memory json = vm.readFile("../../../backend/app/contracts/EventStake.json");
        bytes memory terms = abi.encode(address(0xBEEF0000), Terms(2_000, 500, 0, 1 days, 7 days));
        bytes memory code = abi.encodePacked(vm.parseJsonBytes(json, ".bytecode"), terms);
        address made;
        assembly {
            made := create(0, add(code, 32), mload(code))
        }
        require(made != address(0), "not deployed");
        handler = new Handler(Stake(made));
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_lifecycles() public view {}
}
