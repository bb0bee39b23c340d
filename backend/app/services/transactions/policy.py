"""How transactions are sent: fees, confirmations, waiting times and limits."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.functions import SIGNABLE_FUNCTIONS
from app.core.units import WEI_PER_GWEI
from app.services.transactions.limits import Amounts

MIN_BUMP_PERCENT = 10
"""Percent by which nodes require both fees to be raised before they replace a transaction."""


@dataclass(frozen=True)
class TransactionPolicy:
    """Fees, confirmations, waiting times and limits of a `TransactionSender`.

    Attributes:
        confirmations: Number of blocks, including the transaction's own, after which a transaction is final.
        max_fee_per_gas: Maximum fee of any attempt, in wei per gas.
        priority_fee_per_gas: Priority fee of the first attempt, in wei per gas.
        bump_percent: Percent by which fees are raised; at least 10.
        bump_after: Seconds without a receipt after which fees are raised, if `bump_blocks` were mined as well.
        bump_blocks: Number of blocks that must be mined after an attempt was signed before its fees are raised.
        resend_after: Seconds without a receipt after which the same attempt is sent again. After a refusal for which
            the operation is held, also the seconds until the next try.
        hold_after: Seconds of failing estimates after which an operation is held.
        replace_after: Seconds for which a refused operation is held before a transaction without effect gets its nonce.
        expire_after: Seconds for which an operation without a nonce is held before it is rejected.
        give_up_after: Seconds after which `TransactionSender.finish` stops waiting.
        min_pause: Seconds from the first step of `finish` to the second.
        max_pause: Maximum seconds between two steps of `finish`.
        looks_before_rejecting: Whether transactions whose commits the database lost are looked for before an operation
            is rejected: its own one may be why the contract refuses it. Takes two RPC calls for each rejection.
        head_max_age: Seconds for which the latest block that was read may be used again. 0 where blocks come with the
            transactions, as on an engine in the same process.
        functions: Names of the contract's functions that are signed.
        amounts: How much the platform's account spends without approval; None for any amount.
        needs_payments: Whether the platform's accounts sign orders only that are paid for.
    """

    confirmations: int = 1
    max_fee_per_gas: int = 200 * WEI_PER_GWEI
    priority_fee_per_gas: int = WEI_PER_GWEI
    bump_percent: int = 12
    bump_after: float = 60
    bump_blocks: int = 3
    resend_after: float = 15
    hold_after: float = 60
    replace_after: float = 600
    expire_after: float = 1800
    give_up_after: float = 120
    min_pause: float = 0.001
    max_pause: float = 1
    looks_before_rejecting: bool = False
    head_max_age: float = 0
    functions: frozenset[str] = SIGNABLE_FUNCTIONS
    amounts: Amounts | None = None
    needs_payments: bool = False

    def __post_init__(self) -> None:
        if (
            self.bump_percent < MIN_BUMP_PERCENT
            or self.confirmations < 1
            or self.priority_fee_per_gas > self.max_fee_per_gas
        ):
            raise ValueError(
                "A policy needs bumps of at least 10 percent, a confirmation, and a priority fee below the maximum fee."
            )

    def final_block(self, latest_block: int) -> int:
        """Returns the number of the latest final block; negative on a chain that is too short to have one."""
        return latest_block - self.confirmations + 1
