"""Says in a sentence what a step did to an operation, or would do."""

from __future__ import annotations

from collections.abc import Collection

from app.services.operation_types import Operation


def describe_step(before: Operation, after: Operation, sent: Collection[str], confirmations: int) -> str:
    """Returns what one or several steps did, as the end of a sentence in the present tense.

    Args:
        before: The operation before.
        after: The operation afterwards.
        sent: Hashes of the transactions that were sent.
        confirmations: Number of blocks after which a block is final.
    """
    parts = [*_describe_nonce(before, after), *_describe_attempts(before, after, sent), *_describe_end(before, after)]
    other = [tx_hash for tx_hash in sent if tx_hash not in {attempt.tx_hash for attempt in after.attempts}]
    if other:
        parts.append(f"sends {', '.join(other)} with an earlier nonce")
    if after.held is not None:
        word = "stays held" if after.held_cause == before.held_cause else "is held"
        parts.append(f"{word} ({after.held_cause}): {after.held}")
    if parts:
        return ", ".join(parts)
    if after.state == "mined" and after.block_number is not None:
        return f"nothing until block {after.block_number + confirmations - 1}, when block {after.block_number} is final"
    if after.abandoned_at is not None:
        return "nothing, as it is abandoned: it is looked for only"
    return "nothing: it waits to be mined"


def _describe_nonce(before: Operation, after: Operation) -> list[str]:
    if after.nonce == before.nonce:
        return []
    if after.nonce is None:
        return [f"starts over, as its nonce {before.nonce} was used without its effect"]
    return [f"is signed with nonce {after.nonce}"]


def _describe_attempts(before: Operation, after: Operation, sent: Collection[str]) -> list[str]:
    if not after.attempts or after.closed or after.state == "mined":
        return []
    last, is_sent = after.attempts[-1], after.attempts[-1].tx_hash in sent
    if len(after.attempts) == len(before.attempts) or after.nonce != before.nonce:
        return [f"sends {last.tx_hash}" + (" again" if before.attempts else "")] if is_sent else []
    if last.no_effect:
        return [f"gives its nonce up with {last.tx_hash}, which has no effect"]
    if last.tx_hash not in sent:
        return [f"finds its own transaction {last.tx_hash}, which was not stored"]
    return [
        f"raises its fees to {last.max_fee_per_gas} and {last.priority_fee_per_gas} wei per gas with {last.tx_hash}"
    ]


def _describe_end(before: Operation, after: Operation) -> list[str]:
    parts = []
    if before.state == "mined" and after.block_hash != before.block_hash and not after.closed:
        parts.append(f"is put back, as block {before.block_number} is not in the chain any more")
    if after.state == "mined" and after.block_hash != before.block_hash:
        parts.append(f"adopts the receipt of {after.tx_hash} in block {after.block_number}")
    if after.state == "confirmed":
        parts.append(f"is confirmed by {after.tx_hash} in block {after.block_number}")
    if after.state in ("failed", "rejected") and after.error is not None:
        parts.append(f"is {after.state}: {after.error['message'].rstrip('.')}")
    return parts
