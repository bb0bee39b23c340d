"""Fees and gas limits of transactions (EIP-1559). Fees are in wei per gas."""

from __future__ import annotations

from typing import NamedTuple

from app.services.transactions.policy import MIN_BUMP_PERCENT, TransactionPolicy

TRANSACTION_GAS_CAP = 16_777_216
"""Maximum gas limit of a transaction (EIP-7825)."""
GAS_MARGIN = 40_000
"""Gas added to the estimate, besides a fifth of it. A booking that is mined after other bookings may write two storage
slots for the first time that were not empty in the estimate, 34,200 gas. Unused gas is not paid."""


class Fees(NamedTuple):
    """Fees of a transaction in wei per gas."""

    max_fee_per_gas: int
    priority_fee_per_gas: int


def gas_limit(estimate: int, *, retried: bool) -> int:
    """Returns the gas limit for an estimate, in units of gas; more than twice the estimate if `retried`."""
    margin = (estimate if retried else estimate // 5) + GAS_MARGIN
    return min(estimate + margin, TRANSACTION_GAS_CAP)


def initial_fees(base_fee: int, policy: TransactionPolicy) -> Fees | None:
    """Returns the fees of a first attempt, or None if base fee and priority fee exceed the policy's maximum.

    The maximum fee allows for a doubled base fee. `base_fee` is that of the latest block, in wei per gas.
    """
    priority_fee, cap = policy.priority_fee_per_gas, policy.max_fee_per_gas
    if base_fee + priority_fee > cap:
        return None
    return Fees(min(2 * base_fee + priority_fee, cap), priority_fee)


def raised_fees(last: Fees, base_fee: int, policy: TransactionPolicy) -> Fees | None:
    """Returns fees with which nodes replace the last attempt, or None if the policy's maximum does not allow them.

    Nodes require both fees to be raised by at least `MIN_BUMP_PERCENT`. `base_fee` is that of the latest block, in wei
    per gas.
    """
    priority_fee = _raised(last.priority_fee_per_gas, policy.bump_percent)
    max_fee = max(_raised(last.max_fee_per_gas, policy.bump_percent), 2 * base_fee + priority_fee)
    max_fee = min(max_fee, policy.max_fee_per_gas)
    if max_fee < _raised(last.max_fee_per_gas, MIN_BUMP_PERCENT) or priority_fee > max_fee:
        return None
    return Fees(max_fee, priority_fee)


def _raised(fee: int, percent: int) -> int:
    return -(-fee * (100 + percent) // 100)  # rounded up
