"""What a node says when it does not do what it was asked, and what that means.

The codes -32000 and -32603 stand for reverts and for trouble alike, so the words decide. What is not known here is
unknown: the chain has to be asked before anything is concluded.
"""

from __future__ import annotations

import re
from enum import Enum

from requests import RequestException
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception

from app.core.errors import ChainUnavailable, ContractRejected
from app.services.codec import Codec, Revert, revert_data

TROUBLE = (Web3Exception, RequestException, OSError)
"""What web3 and its providers raise when a node is out of reach or answers with an error."""
NO_DATA = "no data"
"""What web3 says where a revert gives no reason."""


class Answer(Enum):
    """What a node's refusal of a transaction means. The patterns are the words of geth, Nethermind, Besu, Erigon, reth
    and anvil."""

    KNOWN = r"already (known|imported|in (the )?(mem)?pool|exists)|known transaction|alreadyknown"
    NONCE_TOO_LOW = r"nonce (is )?too low|oldnonce|nonce has already been used"
    NONCE_TOO_HIGH = r"nonce (is )?too high|nonce ?gap|nonce too distant"
    UNDERPRICED = r"underpriced|replacement (fee|transaction|gas price).*too low|feetoolowtocompete"
    FEE_TOO_LOW = r"(max ?fee|fee ?cap|gas ?price).*(less than|below|lower than).*base ?fee|feetoolow"
    NO_FUNDS = r"insufficient (funds|balance)|not enough (funds|balance)|out of ?funds|lacks? (of )?funds"


def meaning(error: Exception) -> Answer | None:
    """What the node's words mean; None: unknown."""
    said = str(error).lower()
    return next((answer for answer in Answer if re.search(answer.value, said)), None)


def decode_revert(error: ContractLogicError, codec: Codec) -> Revert | None:
    """Why, out of what web3 raises for a revert. None: it was none, whatever web3 took the node's error for."""
    data = revert_data(error)
    if data:
        return codec.revert(data)
    said = str(error.message)
    if "revert" not in said.lower():
        return None
    text = said.removeprefix("execution reverted").strip(": ")
    return Revert("Error", (text,), text) if text and text != NO_DATA else codec.revert(b"")


def rejected(action: str, error: ContractLogicError, codec: Codec) -> ContractRejected | None:
    """The contract's refusal of what was asked, before anything was sent; None where it was not the contract's."""
    revert = decode_revert(error, codec)
    return revert and ContractRejected(revert.name, revert.args, refusal(action, revert))


def refusal(action: str, revert: Revert) -> str:
    return f"{action} was refused by the contract: {revert.reason.rstrip('.')}."


def unavailable(action: str, error: Exception, operation: str | None = None) -> ChainUnavailable:
    """The node's trouble in a sentence; not the node's address, which may hold a key."""
    if isinstance(error, RequestException | OSError):
        said = f"the node can't be reached ({type(error).__name__})"
    elif isinstance(error, TransactionNotFound):
        said = "sent, but not mined in time; it may be mined yet"
    else:
        said = f"the node says: {error}".rstrip(".")
    return ChainUnavailable(f"{action}: {said}.", operation)
