"""The contract's functions that may be signed at all."""

SIGNABLE_FUNCTIONS = frozenset(
    {
        "createEventRun",
        "createEventRunFor",
        "bookEvent",
        "bookEventFor",
        "completeEvent",
        "cancelEvent",
        "cancelBooking",
        "expireEvent",
        "withdraw",
        "withdrawTo",
        "withdrawPlatformFees",
    }
)
"""Functions that may be signed at most. Ownership, operators and the contract's pause are none of them."""
