"""Operations and orphans as the operator's commands print them, in JSON and for people.

`backend/operations.schema.json` is the JSON Schema of the output of `stakesim operations --json`.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime

from app.services.operation_list import Intervention, OrphanRow, Page
from app.services.operation_types import Attempt, Operation
from pydantic import BaseModel, Field

WIDEST = 120
"""Maximum number of characters in a line on a terminal."""


class AttemptView(BaseModel):
    """A transaction that was signed for an operation."""

    hash: str
    nonce: int
    gas_limit: int
    max_fee_per_gas: str = Field(description="Maximum fee in wei per gas, in digits.")
    priority_fee_per_gas: str = Field(description="Priority fee in wei per gas, in digits.")
    signed_block: int = Field(description="Number of the latest block when it was signed.")
    no_effect: bool = Field(description="Whether it only uses the nonce.")
    node: str | None = Field(
        default=None, description="What the node knows of it now; null in lists, or without a node."
    )


class HeldView(BaseModel):
    """Why an operation can't proceed."""

    cause: str
    reason: str
    seconds: int = Field(description="For how long it has been held without a break.")


class ErrorView(BaseModel):
    """Why an operation had no effect."""

    code: str
    message: str


class InterventionView(BaseModel):
    """What an operator did."""

    at: datetime
    operator: str
    command: str
    outcome: str | None = Field(description="null if the command was killed.")


class OperationView(BaseModel):
    """An operation."""

    key: str
    kind: str = Field(description="The contract's function.")
    subject: str | None = Field(description="Id of the event run or booking that it is about.")
    chain_id: int
    sender: str
    value_wei: str = Field(description="Wei that it sends, in digits.")
    state: str = Field(description="prepared, signed, submitted, mined, confirmed, failed or rejected.")
    nonce: int | None
    age_seconds: int
    held: HeldView | None
    abandoned: bool = Field(description="Whether an operator decided that it is not carried on.")
    cancelling: bool = Field(description="Whether a transaction without effect is to use its nonce.")
    tx_hash: str | None = Field(description="Hash of the attempt that was mined.")
    block_number: int | None
    error: ErrorView | None
    attempts: list[AttemptView]
    next_step: str | None = Field(
        default=None, description="What the service does next; null in lists, or without a node."
    )
    commands: list[str] | None = Field(default=None, description="Commands that may be used on it; null in lists.")
    history: list[InterventionView] | None = Field(default=None, description="What operators did to it; null in lists.")


class OperationsDocument(BaseModel):
    """Output of `stakesim operations --json` and `stakesim operations show KEY --json`."""

    operations: list[OperationView] = Field(description="Oldest first.")
    next: str | None = Field(description="Key to give as --after for the next page; null if this is the last one.")
    orphans: int = Field(description="Number of the platform's transactions that are in no operation.")


def view_operation(operation: Operation, now: datetime) -> OperationView:
    """Returns an operation as it is in a list; `now` is the time of the database."""
    held = None
    if operation.held is not None:
        since = operation.held_at or operation.updated_at
        held = HeldView(cause=operation.held_cause or "", reason=operation.held, seconds=_seconds(now, since))
    error = operation.error
    return OperationView(
        key=operation.key,
        kind=operation.kind,
        subject=str(operation.subject) if operation.subject else None,
        chain_id=operation.chain_id,
        sender=operation.sender,
        value_wei=str(operation.value_wei),
        state=operation.state,
        nonce=operation.nonce,
        age_seconds=_seconds(now, operation.created_at),
        held=held,
        abandoned=operation.abandoned_at is not None,
        cancelling=operation.given_up and not operation.closed,
        tx_hash=operation.tx_hash,
        block_number=operation.block_number,
        error=ErrorView(code=error["code"], message=error["message"]) if error and operation.closed else None,
        attempts=[_view_attempt(attempt) for attempt in operation.attempts],
    )


def view_page(page: Page, orphans: int) -> OperationsDocument:
    """Returns a page of operations; `orphans` is the number of open ones."""
    shown = [view_operation(operation, page.now) for operation in page.operations]
    return OperationsDocument(operations=shown, next=page.next, orphans=orphans)


def view_history(history: Sequence[Intervention]) -> list[InterventionView]:
    """Returns what operators did."""
    return [InterventionView(**vars(one)) for one in history]


def _view_attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(
        hash=attempt.tx_hash,
        nonce=attempt.nonce,
        gas_limit=attempt.gas_limit,
        max_fee_per_gas=str(attempt.max_fee_per_gas),
        priority_fee_per_gas=str(attempt.priority_fee_per_gas),
        signed_block=attempt.latest_block if attempt.signed_block is None else attempt.signed_block,
        no_effect=attempt.no_effect,
    )


def _seconds(now: datetime, then: datetime) -> int:
    return max(int((now - then).total_seconds()), 0)


# -------------------------------------------------------------------------------------------------- text for people


def describe_list(document: OperationsDocument, *, everything: bool) -> Iterator[str]:
    """Yields the lines of a list: one line each if they are piped, and a paragraph each on a terminal."""
    if not document.operations:
        yield "There are no such operations." if everything else "No operation is open, so nothing is held."
    for view in document.operations:
        yield from _lay_out(view.key, _describe_state(view), _describe_reason(view))
    if document.next is not None:
        yield f"There are more: give --after '{document.next}' for the next page."
    if document.orphans:
        yield f"Transactions in no operation: {document.orphans}. See `stakesim orphans`."


def describe_operation(view: OperationView) -> Iterator[str]:
    """Yields the lines of `stakesim operations show`."""
    yield from _lay_out(view.key, _describe_state(view), _describe_reason(view))
    yield from _wrap(f"sender: {view.sender}, {view.value_wei} wei, on chain {view.chain_id}")
    if view.subject:
        yield from _wrap(f"about: {view.subject}")
    for number, attempt in enumerate(view.attempts, 1):
        what = "a transaction without effect" if attempt.no_effect else "its transaction"
        fees = f"{attempt.max_fee_per_gas} and {attempt.priority_fee_per_gas} wei per gas"
        node = f": {attempt.node}" if attempt.node else ""
        text = f"attempt {number}: {attempt.hash}, {what} with nonce {attempt.nonce}, fees of {fees}"
        yield from _wrap(f"{text}, signed after block {attempt.signed_block}{node}")
    for one in view.history or ():
        outcome = one.outcome or "it did not end"
        yield from _wrap(f"{one.at:%Y-%m-%d %H:%M:%S %Z} {one.operator}: {one.command}: {outcome}")
    if view.next_step:
        yield from _wrap(f"next: {view.next_step}")
    if view.commands is not None:
        names = ", ".join(view.commands) or "none"
        yield from _wrap(f"commands: {names}")


def describe_orphans(orphans: Sequence[OrphanRow], *, everything: bool) -> Iterator[str]:
    """Yields the lines of `stakesim orphans`."""
    if not orphans:
        yield "There are no such transactions." if everything else "Every known transaction is in an operation."
    for orphan in orphans:
        arguments = ", ".join(f"{name} {value}" for name, value in (orphan.args or {}).items())
        call = f"{orphan.kind or 'no call of the contract'}{f' ({arguments})' if arguments else ''}"
        decided = ""
        if orphan.operation_key is not None:
            decided = f"taken over by {orphan.operation_key}"
        elif orphan.dismissed:
            decided = "dismissed"
        where = f"nonce {orphan.nonce}, block {orphan.block_number}, {orphan.value_wei} wei"
        yield from _lay_out(orphan.tx_hash, f"{call}, {where}{'' if orphan.succeeded else ', reverted'}", decided)


def _describe_state(view: OperationView) -> str:
    nonce = "" if view.nonce is None else f", nonce {view.nonce}"
    return f"{view.kind}, {view.state}{nonce}, {duration(view.age_seconds)} old"


def _describe_reason(view: OperationView) -> str:
    if view.abandoned:
        return "abandoned: it is only looked for"
    parts = ["being cancelled"] if view.cancelling else []
    if view.held is not None:
        parts.append(f"held for {duration(view.held.seconds)} ({view.held.cause}): {view.held.reason}")
    if view.error is not None:
        parts.append(f"{view.error.code}: {view.error.message}")
    return "; ".join(parts)


def duration(seconds: int) -> str:
    """Returns seconds in the largest unit that fits, such as 3 h."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _lay_out(title: str, *details: str) -> Iterator[str]:
    given = [detail for detail in details if detail]
    if not sys.stdout.isatty():
        yield "  ".join([title, *given])  # so that `grep` shows all of it
        return
    yield title
    for detail in given:
        yield from _wrap(detail)


def _wrap(text: str) -> list[str]:
    """Returns an indented paragraph: on a terminal as narrow as that is, otherwise in one line."""
    if not sys.stdout.isatty():
        return [f"  {text}"]
    width = min(shutil.get_terminal_size().columns, WIDEST)
    return textwrap.wrap(
        text,
        max(width, 20),
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )
