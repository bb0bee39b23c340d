"""Classifies a node's errors, decodes reverts, and converts both to the services' errors.

Nodes use the codes -32000 and -32603 both for reverts and for their own failures, so the text of the message decides.
An unknown message proves nothing: the caller must read the chain to find out whether the transaction was accepted.
"""

from __future__ import annotations

from requests import RequestException
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception, Web3RPCError

from app.core.errors import ChainUnavailable, ContractRejected
from app.services.codec import Codec, Revert, revert_data
from app.services.rpc_answers import printable
from app.services.rpc_refusals import RefusalKind, refusal_kind
from app.services.rpc_types import MalformedAnswer, NodeError

NODE_ERRORS = (Web3Exception, RequestException, OSError)
"""Errors that web3 and its providers raise if a node is unreachable or responds with an error."""
NO_REVERT_DATA = "no data"
"""web3's message for a revert without a reason."""


class Refused(NodeError):
    """A node refused a transaction: its answer about the transaction, and not its trouble.

    A refusal that nobody foresaw proves nothing. The node may have accepted the transaction nevertheless.

    Attributes:
        kind: Why; None if the words are unknown.
        words: What the node said.
    """

    def __init__(self, kind: RefusalKind | None, words: str, code: int = 0) -> None:
        super().__init__(words, code)
        self.kind = kind


def classify(error: Exception | str) -> RefusalKind | None:
    """Returns why a node refused a transaction, from its error or the message in full; None if that is unknown.

    None also for everything that is no error answer of a node, such as a lost connection.
    """
    if isinstance(error, Refused):
        return error.kind
    if isinstance(error, str):
        return refusal_kind(printable(error))
    if isinstance(error, NodeError):
        return refusal_kind(error.words)
    if isinstance(error, Web3RPCError) and error.rpc_response:  # raised by web3 itself
        return classify(str(error.rpc_response["error"]["message"]))
    return None


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
    elif isinstance(error, MalformedAnswer):
        problem = f"the node's answer is malformed: {error}"
    elif isinstance(error, TransactionNotFound):
        problem = "sent, but not mined in time; it may be mined yet"
    else:
        problem = f"the node says: {error}".rstrip(".")
    return ChainUnavailable(f"{action}: {problem}.", operation_key)
