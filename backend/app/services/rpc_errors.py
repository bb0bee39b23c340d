"""Classifies a node's errors, decodes reverts, and converts both to the services' errors.

Nodes use the codes -32000 and -32603 both for reverts and for their own failures, so the text of the message decides.
An unknown message proves nothing: the caller must read the chain to find out whether the transaction was accepted.
"""

from __future__ import annotations

import re
from enum import Enum

from requests import RequestException
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception

from app.core.errors import ChainUnavailable, ContractRejected
from app.services.codec import Codec, Revert, revert_data

NODE_ERRORS = (Web3Exception, RequestException, OSError)
"""Errors that web3 and its providers raise if a node is unreachable or responds with an error."""
NO_REVERT_DATA = "no data"
"""web3's message for a revert without a reason."""


class RefusalKind(Enum):
    """Why a node refused a transaction.

    Each pattern matches the messages, in lower case, of geth, Nethermind, Besu, Erigon, reth and anvil.
    """

    KNOWN = r"already (known|imported|in (the )?(mem)?pool|exists)|known transaction|alreadyknown"
    NONCE_TOO_LOW = r"nonce (is )?too low|oldnonce|nonce has already been used"
    NONCE_TOO_HIGH = r"nonce (is )?too high|nonce ?gap|nonce too distant"
    UNDERPRICED = r"underpriced|replacement (fee|transaction|gas price).*too low|feetoolowtocompete"
    FEE_TOO_LOW = r"(max ?fee|fee ?cap|gas ?price).*(less than|below|lower than).*base ?fee|feetoolow"
    NO_FUNDS = r"insufficient (funds|balance)|not enough (funds|balance)|out of ?funds|lacks? (of )?funds"


def classify(error: Exception | str) -> RefusalKind | None:
    """Returns why the node refused a transaction, from the text of its error; None if the text is unknown."""
    text = str(error).lower()
    return next((kind for kind in RefusalKind if re.search(kind.value, text)), None)


def decode_revert(error: ContractLogicError, codec: Codec) -> Revert | None:
    """Returns why the contract reverted; None if web3 took another error of the node for a revert."""
    data = revert_data(error)
    if data:
        return codec.revert(data)
    message = str(error.message)
    if "revert" not in message.lower():
        return None
    reason = message.removeprefix("execution reverted").strip(": ")
    return Revert("Error", (reason,), reason) if reason and reason != NO_REVERT_DATA else codec.revert(b"")


def as_contract_rejected(action: str, error: ContractLogicError, codec: Codec) -> ContractRejected | None:
    """Returns a revert before sending as the services' error; None if the contract did not revert."""
    revert = decode_revert(error, codec)
    return revert and ContractRejected(revert.name, revert.args, rejection_message(action, revert))


def rejection_message(action: str, revert: Revert) -> str:
    """Returns the sentence that tells a user why the contract rejected an action."""
    return f"{action} was refused by the contract: {revert.reason.rstrip('.')}."


def as_chain_unavailable(action: str, error: Exception, operation_key: str | None = None) -> ChainUnavailable:
    """Returns one of `NODE_ERRORS` as the services' error, without the node's URL, which may contain a key.

    Args:
        action: What failed, in words, such as the contract's function.
        error: The node's error.
        operation_key: Key of the operation that continues; None if there is none.
    """
    if isinstance(error, RequestException | OSError):
        problem = f"the node can't be reached ({type(error).__name__})"
    elif isinstance(error, TransactionNotFound):
        problem = "sent, but not mined in time; it may be mined yet"
    else:
        problem = f"the node says: {error}".rstrip(".")
    return ChainUnavailable(f"{action}: {problem}.", operation_key)
