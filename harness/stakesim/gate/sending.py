"""Sends transactions so that none is lost: from the moment of sending, each error names the transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eth_account.datastructures import SignedTransaction
from web3 import Web3
from web3.exceptions import Web3RPCError
from web3.types import TxReceipt

from stakesim.errors import StakesimError
from stakesim.evm.errors import EngineError
from stakesim.gate.node import MINED_WITHIN_S, NODE_ERRORS, node_error


class NotSentError(EngineError):
    """The node refused the transaction, so that it is not on its way."""


def ignore(tx_hash: str) -> None:
    """Does nothing with the hash of a transaction."""


@contextmanager
def sent(tx_hash: str, action: str, effect: str = "") -> Iterator[None]:
    """Context in which a transaction may be on its way: each error names it.

    Args:
        tx_hash: Of the transaction.
        action: What it does, as the beginning of a sentence: "Deploying the contract".
        effect: What is so once it is mined, after a comma: ", with the contract at 0x...".

    Raises:
        NotSentError: As the context raises it.
        EngineError: The node or a file fails, or something is wrong with what was done.
    """
    try:
        yield
    except NotSentError:
        raise
    except (StakesimError, *NODE_ERRORS) as error:
        failed = error if isinstance(error, StakesimError) else node_error(action, error)
        raise EngineError(
            f"{failed} The transaction {tx_hash} may be on its way or mined{effect}: look there before you "
            "send another one."
        ) from error


def send_signed(w3: Web3, signed: SignedTransaction, after_sending: Callable[[str], None] = ignore) -> TxReceipt:
    """Sends a transaction, and waits until it is mined. Call it within `sent`.

    Args:
        w3: Connected to the node.
        signed: The transaction.
        after_sending: Called with its hash at once when the node has it.

    Raises:
        NotSentError: The node refused it.
        EngineError: It was mined, and failed.
    """
    try:
        w3.eth.send_raw_transaction(signed.raw_transaction)
    except Web3RPCError as error:
        if "known" in str(error).lower():  # "already known": the node has it
            raise
        raise NotSentError(str(node_error("Sending the transaction", error))) from error
    after_sending(signed.hash.to_0x_hex())
    receipt = w3.eth.wait_for_transaction_receipt(signed.hash, timeout=MINED_WITHIN_S, poll_latency=0.2)
    if receipt["status"] != 1:
        raise EngineError("The transaction failed: it ran out of gas, or was refused.")
    return receipt
