"""Takes the steps of an operation, and says in a sentence what they did or would do."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from app.services.operation_types import Operation
from app.services.transactions.sender import TransactionSender


def take_steps(sender: TransactionSender, operation: Operation) -> Iterator[Operation]:
    """Steps an operation as long as its state changes, and yields it after each step.

    Raises:
        ChainUnavailable: The node does not answer.
    """
    state = ""
    while not operation.closed and operation.state != state:
        state, operation = operation.state, sender.step(operation)
        yield operation


def describe_steps(
    before: Operation, after: Operation, sent: Collection[str], confirmations: int, *, rehearsed: bool = False
) -> str:
    """Returns what steps did, as the end of a sentence in the present tense.

    Args:
        before: The operation before.
        after: The operation afterwards.
        sent: Hashes of the transactions that were sent, in order.
        confirmations: Number of blocks after which a block is final.
        rehearsed: Whether the steps were rehearsed, so that nonces and hashes of new transactions mean nothing.
    """
    parts = [
        *_describe_end(before, after),
        *_describe_new(before, after, sent, rehearsed),
        *_describe_sent(before, after, sent),
    ]
    if after.held is not None and not after.closed:
        word = "stays held" if after.held_cause == before.held_cause else "is held"
        parts.append(f"{word} ({after.held_cause}): {after.held}")
    if parts:
        return ", ".join(parts)
    if after.state == "mined" and after.block_number is not None:
        final_at = after.block_number + confirmations - 1
        return f"nothing until block {final_at}, with which block {after.block_number} is final"
    if after.abandoned_at is not None:
        return "nothing, as it is abandoned: it is only looked for"
    return "nothing: it waits to be mined"


def _describe_end(before: Operation, after: Operation) -> list[str]:
    """Describes what was found out about its transactions."""
    parts = []
    is_moved = after.block_hash != before.block_hash
    if before.state == "mined" and is_moved:
        parts.append(f"is put back, as block {before.block_number} is not in the chain any more")
    if after.state == "mined" and is_moved:
        parts.append(f"adopts the receipt of {after.tx_hash} in block {after.block_number}")
    if after.state == "confirmed":
        parts.append(f"is confirmed by {after.tx_hash} in block {after.block_number}")
    if after.state in ("failed", "rejected") and after.error is not None:
        parts.append(f"is {after.state}: {after.error['message'].rstrip('.')}")
    if before.nonce is not None and after.nonce != before.nonce:
        parts.append(f"starts over, as its nonce {before.nonce} was used without its effect")
    return parts


def _describe_new(before: Operation, after: Operation, sent: Collection[str], rehearsed: bool) -> list[str]:
    """Describes its new transactions."""
    if len(after.attempts) == len(before.attempts):
        return []
    last = after.attempts[-1]
    named = "" if rehearsed else f" ({last.tx_hash})"
    if after.nonce != before.nonce:
        return ["is signed with the next nonce" if rehearsed else f"is signed with nonce {after.nonce}{named}"]
    if last.no_effect:
        return [f"gives its nonce up{named}, without effect"]
    if last.tx_hash not in sent:
        return [f"finds its own transaction {last.tx_hash}, which was not stored"]
    return [f"raises its fees to {last.max_fee_per_gas} and {last.priority_fee_per_gas} wei per gas{named}"]


def _describe_sent(before: Operation, after: Operation, sent: Collection[str]) -> list[str]:
    """Describes what was sent, besides new transactions."""
    known = {attempt.tx_hash for attempt in before.attempts}
    new = {attempt.tx_hash for attempt in after.attempts} - known
    parts = [f"sends {tx_hash} again" for tx_hash in dict.fromkeys(sent) if tx_hash in known]
    if new & set(sent):
        parts.append("sends it")
    others = sum(tx_hash not in known | new for tx_hash in set(sent))
    return [*parts, f"sends {others} transactions with earlier nonces"] if others else parts
