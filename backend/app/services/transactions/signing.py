"""Finds the account that signs an operation, and signs its transaction."""

from __future__ import annotations

from typing import Any

from eth_account.signers.local import LocalAccount

from app.services.operation_types import Attempt, Operation
from app.services.transactions.fees import Fees


def find_account(operation: Operation, *accounts: LocalAccount | None) -> LocalAccount | None:
    """Returns the account of `operation.sender`; None if it is not among these."""
    return next((account for account in accounts if account and account.address == operation.sender), None)


def sign_attempt(
    operation: Operation, account: LocalAccount, nonce: int, gas_limit: int, fees: Fees, latest_block: int
) -> Attempt:
    """Signs the operation's transaction. For the parameters see `Attempt`."""
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": operation.chain_id,
        "to": operation.to_address,
        "value": operation.value_wei,
        "data": operation.data,
        "nonce": nonce,
        "gas": gas_limit,
        "maxFeePerGas": fees.max_fee_per_gas,
        "maxPriorityFeePerGas": fees.priority_fee_per_gas,
    }
    signed = account.sign_transaction(fields)
    return Attempt(signed.hash.to_0x_hex(), signed.raw_transaction.to_0x_hex(), nonce, gas_limit, *fees, latest_block)
