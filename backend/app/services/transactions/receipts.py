"""Reads receipts: where a transaction was mined, whether it is final, and why it failed."""

from __future__ import annotations

import logging
from typing import Any

from web3 import Web3
from web3.exceptions import ContractLogicError

from app.core.errors import ChainUnavailable
from app.services import rpc
from app.services.codec import Revert, event_stake_codec
from app.services.operation_types import Attempt, Operation
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable, decode_revert
from app.services.rpc_types import Receipt
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.states import error_from_json, log_fields

log = logging.getLogger(__name__)


def block_columns(receipt: Receipt) -> dict[str, Any]:
    """Returns the columns of `operations` that say where the transaction was mined."""
    return {
        "tx_hash": receipt.tx_hash,
        "block_number": receipt.block_number,
        "block_hash": receipt.block_hash,
    }


def find_attempt(operation: Operation, receipt: Receipt) -> Attempt:
    """Returns the attempt that the receipt is of."""
    tx_hash = receipt.tx_hash
    return next(attempt for attempt in operation.attempts if attempt.tx_hash == tx_hash)


def read_receipt(w3: Web3, operation: Operation, attempt: Attempt) -> Receipt | None:
    """Returns the receipt of one attempt; None if it is not mined."""
    to = operation.sender if attempt.no_effect else operation.to_address
    return rpc.receipt(w3, attempt.tx_hash, sender=operation.sender, to=to)


def find_receipt(w3: Web3, operation: Operation) -> Receipt | None:
    """Returns the receipt of the attempt that was mined, newest first, those without effect last; None if none was.

    Attempts with an earlier nonce count only if they succeeded: a reorganisation that is deeper than the confirmations
    brought them back after the nonce had been given up. Those that ran out of gas stay without effect.
    """
    newest_first = operation.attempts[::-1]
    for attempt in sorted(newest_first, key=lambda attempt: attempt.no_effect):
        receipt = read_receipt(w3, operation, attempt)
        has_effect = receipt is not None and receipt.succeeded and not attempt.no_effect
        if has_effect or (receipt is not None and attempt.nonce == operation.nonce):
            return receipt
    return None


def is_final(w3: Web3, receipt: Receipt, policy: TransactionPolicy, latest_block: int | None) -> bool:
    """Returns whether the receipt's block is in the chain, as deep as the policy's confirmations require.

    No single wrong answer makes a dropped block final: the receipt is newer than the head, and the header of its block
    newer than both. A receipt that was read first could be of a branch that was dropped before the head was read.

    Args:
        w3: Connection to the node.
        receipt: The receipt.
        policy: Confirmations.
        latest_block: Number of the latest block, read before the receipt; None if it was not read.
    """
    if policy.confirmations == 1:
        return True
    if latest_block is None or policy.final_block(latest_block) < receipt.block_number:
        return False
    header = rpc.block_header(w3, receipt.block_number)
    return header is not None and header.hash == receipt.block_hash


def revert_reason(w3: Web3, operation: Operation, receipt: Receipt) -> Revert:
    """Returns why a mined transaction failed: repeats it as a call on the state at the end of its block."""
    tx_hash, gas_used = receipt.tx_hash, receipt.gas_used
    gas_limit = next(attempt.gas_limit for attempt in operation.attempts if attempt.tx_hash == tx_hash)
    to, data, block = operation.to_address, operation.data, receipt.block_number
    try:
        rpc.call(w3, to, data, block, sender=receipt.sender, value=operation.value_wei, gas=gas_limit)
    except ContractLogicError as error:
        if revert := decode_revert(error, event_stake_codec()):
            return revert
    except NODE_ERRORS:
        log.warning("The node does not say why %s failed", tx_hash, extra=log_fields(operation))
    if gas_used >= gas_limit:
        return Revert("OutOfGas", (gas_used,), f"out of gas after {gas_used}")
    return Revert("Unknown", ("0x",), "the reason can't be found any more")


def receipt_or_error(w3: Web3, operation: Operation, receipt: Receipt | None) -> Receipt:
    """Returns the receipt of a closed operation that succeeded; reads it from the node if it is None.

    Raises:
        AppError: The stored error of an operation that did not succeed.
        ChainUnavailable: The node does not show the receipt.
    """
    if receipt is None and operation.tx_hash:
        try:
            attempt = next(attempt for attempt in operation.attempts if attempt.tx_hash == operation.tx_hash)
            receipt = read_receipt(w3, operation, attempt)
        except NODE_ERRORS as error:
            raise as_chain_unavailable(operation.kind, error, operation.key) from error
    if operation.error is not None:
        raise error_from_json(operation.error, receipt)
    if receipt is None:
        message = f"{operation.kind} is final, but the node does not show its receipt at present."
        raise ChainUnavailable(message, operation.key)
    return receipt
