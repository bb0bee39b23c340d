// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// @notice Stands where a stake contract is expected and fails in every way a contract can, by the number of seats.
contract Grumbler {
    error Unheard(uint256 seats);

    event BookingCreated(
        uint256 indexed bookingId,
        uint256 indexed eventRunId,
        address indexed user,
        uint256 seatCount,
        uint256 totalPayment,
        uint256 userStake
    );
    event CreditWithdrawn(address indexed creditor, address indexed to, uint256 amount);

    /// @notice Makes it look like a contract with all of `EventStake`.
    function totalLiabilities() external pure returns (uint256) {
        return 0;
    }

    function withdrawPlatformFees() external {} // and says nothing

    function withdraw() external {
        emit CreditWithdrawn(address(this), msg.sender, 1); // and says it was somebody else's
    }

    function bookEvent(uint256 eventRunId, uint256 seats) external payable returns (uint256) {
        if (seats == 1) revert("the quota is used up");
        if (seats == 2) assert(false);
        if (seats == 3) revert Unheard(seats);
        if (seats == 4) revert();
        if (seats == 5) return 7; // and says nothing
        if (seats == 6) {
            new Stranger(eventRunId); // what it says is not ours
            emit BookingCreated(42, eventRunId, msg.sender, seats, 0, 0);
            return 42;
        }
        if (seats == 9) emit BookingCreated(43, eventRunId + 1, msg.sender, seats, 0, 0);
        if (seats == 9) return 43; // and says it was of another run
        for (uint256 i; i < 2; ++i) emit BookingCreated(i, eventRunId, msg.sender, seats, 0, 0);
        return 0;
    }
}

/// @notice Emits what looks like a booking, from another address.
contract Stranger {
    event BookingCreated(
        uint256 indexed bookingId,
        uint256 indexed eventRunId,
        address indexed user,
        uint256 seatCount,
        uint256 totalPayment,
        uint256 userStake
    );
    event Unknown(uint256 indexed anything);

    constructor(uint256 eventRunId) {
        emit Unknown(1);
        emit BookingCreated(41, eventRunId, msg.sender, 6, 0, 0);
    }
}
