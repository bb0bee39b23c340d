"""Orphans: transactions from the service's account that are in no row, as after a database lost its last commits.

`createEventRun` and `bookEvent` carry no key, so nobody can read from the chain whose order an orphan was. Until that
is known, no order for the same effect is signed: it would pay a second time. An order with exactly the orphan's call
and value takes it over as its own transaction; one that differs in amounts only is held until a person decides.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_hash.auto import keccak
from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.db.database import Database
from app.db.tables import IS_OPEN_ORPHAN, operations, orphans
from app.services.codec import event_stake_codec
from app.services.operation_types import CREATIONS, NOT_HELD, Attempt, Operation
from app.services.rpc_answers import call_data, value
from app.services.rpc_types import Transaction

ORDERS = (
    *CREATIONS,
    *("completeEvent", "cancelEvent", "cancelBooking", "expireEvent"),
)
"""Functions whose orphans may be the effect of an order. Others, such as `pause`, an owner calls by hand."""

log = logging.getLogger(__name__)
_o, _orphans = operations.c, orphans.c


class HeldForOrphan(Exception):
    """An operation must not be signed at present: its effect, or the account's next nonce, may be an orphan's.

    Attributes:
        reason: Why, as the end of a sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Orphan:
    """A row of `orphans`, as far as it decides what may be signed."""

    tx_hash: str
    sender: str
    nonce: int
    subject: str
    data: bytes
    value_wei: int


def effect_of(sender: str, to: str | None, data: bytes) -> str | None:
    """Returns what a call brings about, without its amounts; None if it calls no known function.

    Two calls with equal effects open the same run, book the same seats for the same attendee, or close the same run.
    """
    call = event_stake_codec().decode_call(data)
    if call is None:
        return None
    name, args = call.name, dict(call.args)
    party = sender
    if name.endswith("For"):  # the plain function acts for its sender
        name, party = name.removesuffix("For"), args.pop("host", None) or args.pop("attendee")
    args.pop("price_per_seat", None)
    return json.dumps([to, name, party, args], sort_keys=True)


def is_known(connection: Connection, chain_id: int, transaction: Transaction) -> bool:
    """Returns whether a transaction is an attempt of an operation, or an orphan that was found before."""
    has_hash = _o.attempts.contains([{"hash": transaction.hash}])
    by_nonce = select(_o.key).where(_o.chain_id == chain_id, _o.sender == transaction.sender, has_hash)
    queries = (
        by_nonce.where(_o.nonce == transaction.nonce),
        select(_orphans.tx_hash).where(_orphans.tx_hash == transaction.hash),
        by_nonce,  # an operation that has another nonce by now; reads the whole table, so it comes last
    )
    return any(connection.execute(query.limit(1)).one_or_none() is not None for query in queries)


def record(connection: Connection, chain_id: int, transaction: Transaction, *, succeeded: bool) -> None:
    """Stores a mined transaction that is in no row, and says so.

    Args:
        connection: A connection to the database.
        chain_id: Id of the network (EIP-155).
        transaction: The transaction.
        succeeded: Whether it had an effect.
    """
    call = event_stake_codec().decode_call(call_data(transaction))
    values = {
        "tx_hash": transaction.hash,
        "chain_id": chain_id,
        "sender": transaction.sender,
        "nonce": transaction.nonce,
        "block_number": transaction.block_number,
        "to_address": transaction.to,
        "kind": call.name if call and call.name in ORDERS else None,
        "args": call and call.args,
        "subject": effect_of(transaction.sender, transaction.to, call_data(transaction)),
        "data": call_data(transaction),
        "value_wei": value(transaction),
        "succeeded": succeeded,
        "dismissed": False,
    }
    statement = insert(orphans).values(values).on_conflict_do_nothing().returning(_orphans.tx_hash)
    if connection.execute(statement).one_or_none() is not None:
        what = f"{call.name} {call.args}" if call else "no call of the contract"
        message = "orphan: %s with nonce %s from %s is in no operation: %s, %s wei"
        log.error(message, transaction.hash, transaction.nonce, transaction.sender, what, value(transaction))


_COLUMNS = (_orphans.tx_hash, _orphans.sender, _orphans.nonce, _orphans.subject, _orphans.data, _orphans.value_wei)


def open_orphans(connection: Connection, chain_id: int, senders: Sequence[str]) -> list[Orphan]:
    """Returns the accounts' orphans that may be the effect of an order, by nonce."""
    is_open = (_orphans.chain_id == chain_id) & _orphans.sender.in_(senders) & IS_OPEN_ORPHAN
    rows = connection.execute(select(*_COLUMNS).where(is_open).order_by(_orphans.nonce)).all()
    return [Orphan(*row) for row in rows]


def find_match(operation: Operation, candidates: Collection[Orphan]) -> Orphan | None:
    """Returns the orphan that is exactly the operation's transaction; None if none has the operation's effect.

    Raises:
        HeldForOrphan: An orphan has the operation's effect, but other amounts; or the operation has attempts already.
    """
    effect = effect_of(operation.sender, operation.to_address, operation.data)
    same = [orphan for orphan in candidates if orphan.subject == effect]
    content = (operation.data, operation.value_wei)
    exact = [orphan for orphan in same if (orphan.data, orphan.value_wei) == content and not operation.attempts]
    if same and not exact:
        hashes = ", ".join(orphan.tx_hash for orphan in same)
        raise HeldForOrphan(f"it may be what {hashes} has done already, which is in no operation: decide by hand")
    return exact[0] if exact else None


def adopt(database: Database, operation: Operation, orphan: Orphan, attempt: Attempt) -> bool:
    """Makes an orphan the operation's attempt (prepared -> signed), and its account the operation's.

    Args:
        database: Where both are stored.
        operation: The operation, with the sender of the orphan and the seal for it.
        orphan: The orphan.
        attempt: The orphan's transaction.

    Returns:
        Whether it was; not if somebody else changed one of them meanwhile.
    """
    with database.transaction() as connection:
        taken = update(orphans).where(_orphans.tx_hash == orphan.tx_hash, IS_OPEN_ORPHAN)
        if connection.execute(taken.values(operation_key=operation.key)).rowcount != 1:
            return False
        changed = connection.execute(
            update(operations)
            .where(_o.key == operation.key, _o.state == "prepared", func.jsonb_array_length(_o.attempts) == 0)
            .values(
                state="signed",
                sender=operation.sender,
                seal=operation.seal,
                nonce=orphan.nonce,
                attempts=[attempt.to_json()],
                updated_at=func.clock_timestamp(),
                **NOT_HELD,
            )
        )
        if changed.rowcount != 1:
            connection.rollback()
            return False
    log.error("%s takes over the orphan %s", operation.kind, orphan.tx_hash, extra={"operation": operation.key})
    return True


def as_attempt(transaction: Transaction) -> Attempt | None:
    """Returns a mined transaction as an attempt; None if its bytes can't be rebuilt from what the node says."""
    fields = transaction.fields
    try:
        signed = {
            "type": fields["type"],
            "chainId": fields["chainId"],
            "nonce": fields["nonce"],
            "to": transaction.to,
            "value": fields["value"],
            "data": fields["input"],
            "gas": fields["gas"],
            "maxFeePerGas": fields["maxFeePerGas"],
            "maxPriorityFeePerGas": fields["maxPriorityFeePerGas"],
            "accessList": fields.get("accessList") or (),
            "v": fields.get("yParity") or fields["v"],
            "r": fields["r"],
            "s": fields["s"],
        }
        numbers = {name: int(value, 16) for name, value in signed.items() if name not in ("to", "data", "accessList")}
        raw = TypedTransaction.from_dict(signed | numbers).encode()
    except (KeyError, TypeError, ValueError):
        return None
    if "0x" + keccak(raw).hex() != transaction.hash:
        return None
    fees = (numbers["gas"], numbers["maxFeePerGas"], numbers["maxPriorityFeePerGas"])
    return Attempt(transaction.hash, "0x" + raw.hex(), transaction.nonce, *fees, transaction.block_number or 0)
