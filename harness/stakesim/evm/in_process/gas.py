"""The gas that a transaction costs before any code runs, and the base fee per gas."""

from __future__ import annotations

_TRANSACTION = 21_000
_CREATION = 32_000
_INIT_CODE_WORD = 2
_TOKEN = 4
_TOKEN_FLOOR = 10


def floor_gas(data: bytes) -> int:
    """Returns the least gas that a transaction with this data is charged (EIP-7623)."""
    return _TRANSACTION + _TOKEN_FLOOR * _tokens(data)


def intrinsic_gas(data: bytes, *, creates: bool) -> int:
    """Returns the gas limit below which a node refuses a transaction.

    This is the intrinsic gas (yellow paper, EIP-2028, EIP-3860), or `floor_gas` where that is more.

    Args:
        data: Call data, or the init code of a contract.
        creates: Whether the transaction creates a contract.
    """
    words = -(-len(data) // 32)
    creation = _CREATION + _INIT_CODE_WORD * words if creates else 0
    return max(_TRANSACTION + creation + _TOKEN * _tokens(data), floor_gas(data))


def next_base_fee(base_fee: int, gas_used: int, gas_limit: int) -> int:
    """Returns the base fee per gas of a block, in wei, from those three figures of the block before (EIP-1559)."""
    target = gas_limit // 2
    change = base_fee * abs(gas_used - target) // target // 8
    if gas_used > target:
        return base_fee + max(change, 1)
    return base_fee - change


def _tokens(data: bytes) -> int:
    """Counts a zero byte as one token and any other byte as four (EIP-7623)."""
    return 4 * len(data) - 3 * data.count(0)
