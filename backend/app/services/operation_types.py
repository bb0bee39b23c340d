"""Types of operations: the row and its attempts, drafts of new rows, and effects on other rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import CTE, Connection, Row, Table, Update

from app.services.codec import Call
from app.services.rpc_types import Transaction

CREATIONS = ("createEventRun", "createEventRunFor", "bookEvent", "bookEventFor")
"""Functions that create the row that their operation is about. All others close or pay out what is there."""
CLOSED_STATES = ("confirmed", "failed", "rejected")
SENT_STATES = ("signed", "submitted", "mined")
"""States in which the operation has a nonce, and is not final."""


class HeldCause(StrEnum):
    """Kind of the reason for which an operation is held, as the column `held_cause` stores it.

    Attributes:
        NO_FUNDS: The sender cannot pay for gas and value.
        BASE_FEE: The base fee is above the cap.
        FEES_AT_CAP: The transaction needs higher fees than the cap allows.
        ORPHAN: Its effect, or the account's next nonce, may be that of a transaction that is in no row.
        CONTRACT: The contract is paused, or it changed.
        REFUSED: The node refuses the transaction; `held` quotes its words.
        ESTIMATE: The node can't estimate its gas; `held` quotes its words.
        NONCE_GAP: An earlier nonce of the account is in no transaction. It is being filled.
        EARLIER: An operation with a lower nonce is held.
        NO_BLOCKS: No block has been mined since it was signed.
        REORG: A deep reorganisation brought an attempt with an earlier nonce back, and its nonce must not be used as
            well; or it dropped the run or booking that the call names.
        SIGNER: The remote signer gives no signature, or not the one that was asked for; `held` quotes its words.
        LIMIT: It is not what the services store, or asks for what they never sign.
        ABOVE_LIMIT: It costs more than a limit of the settings allows, and nobody has approved it.
        UNPAID: The platform sends wei with it, and nobody's captured payment is used for exactly that.
        PAUSED: An operator paused the service; only exits are signed.
    """

    NO_FUNDS = "no_funds"
    BASE_FEE = "base_fee"
    FEES_AT_CAP = "fees_at_cap"
    ORPHAN = "orphan"
    CONTRACT = "contract"
    REFUSED = "refused"
    ESTIMATE = "estimate"
    NONCE_GAP = "nonce_gap"
    EARLIER = "earlier"
    NO_BLOCKS = "no_blocks"
    REORG = "reorg"
    SIGNER = "signer"
    LIMIT = "limit"
    ABOVE_LIMIT = "above_limit"
    UNPAID = "unpaid"
    PAUSED = "paused"


FILL_NONCE_GAP = "fillNonceGap"
"""Kind of the operations that fill a gap: a transaction of no wei to the sender itself. No function has this name."""
NOT_HELD: dict[str, Any] = {"held": None, "held_cause": None, "held_at": None}
"""Columns of an operation that is not held."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A signed transaction. Attempts of one operation with the same nonce exclude each other.

    They differ in fees and gas limit, or are without effect (`no_effect`).

    Attributes:
        tx_hash: Hash of the transaction.
        raw_transaction: The signed transaction in hex, as it is sent.
        nonce: Nonce of the transaction.
        gas_limit: Units of gas.
        max_fee_per_gas: Maximum fee in wei per gas.
        priority_fee_per_gas: Priority fee in wei per gas.
        latest_block: Number of the latest block when the nonce was taken.
        signed_block: Number of the latest block when it was signed; None if that is `latest_block`.
        no_effect: Whether it sends no wei to the sender itself, so that only the nonce is used.
    """

    tx_hash: str
    raw_transaction: str
    nonce: int
    gas_limit: int
    max_fee_per_gas: int
    priority_fee_per_gas: int
    latest_block: int
    signed_block: int | None = None
    no_effect: bool = False

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Attempt:
        """Reads an element of the column `attempts`."""
        attempt = cls(*(stored[key] for key in _JSON_KEYS))
        if "signed" not in stored and "no_effect" not in stored:
            return attempt
        return replace(attempt, signed_block=stored.get("signed"), no_effect=stored.get("no_effect", False))

    def to_json(self) -> dict[str, Any]:
        """Returns an element of the column `attempts`."""
        stored = {key: getattr(self, name) for key, name in _JSON_KEYS.items()}
        if self.signed_block is not None:
            stored["signed"] = self.signed_block
        if self.no_effect:
            stored["no_effect"] = True
        return stored


_JSON_KEYS = {
    "hash": "tx_hash",
    "raw": "raw_transaction",
    "nonce": "nonce",
    "gas": "gas_limit",
    "max_fee": "max_fee_per_gas",
    "tip": "priority_fee_per_gas",
    "block": "latest_block",
}
"""Keys of the stored JSON that each attempt has, in the order of the attributes."""


@dataclass(frozen=True)
class Operation:
    """A row of `operations`.

    Attributes:
        key: The idempotency key of the request, after its caller's id; or a random one.
        request: Hash of the request; the same key with another hash is refused.
        kind: Name of the contract's function.
        subject: Id of the row of `event_runs` or `event_run_bookings` that it is about; None if there is none.
        chain_id: Id of the network (EIP-155).
        sender: Address of the account that sends the transaction.
        to_address: Address of the contract.
        data: Call data.
        value_wei: Wei that the transaction sends.
        state: One of `OPERATION_STATES`; `app.services.operations` describes them.
        nonce: Nonce of the attempts that may still be mined; None in the states prepared and rejected.
        attempts: All transactions that were signed for it, oldest first.
        requeued: How often it got a new nonce.
        reorged: Whether it was mined in a block that was dropped from the chain.
        held: Why it cannot proceed at present, in a sentence; None if it can.
        held_cause: Kind of that reason, a `HeldCause`; None if it is not held.
        held_at: Since when it is held without a break.
        seal: Proves that a process with the platform's key stored it; see `app.services.transactions.limits`.
        tx_hash: Hash of the attempt that was mined.
        block_number: Number of the block in which it was mined.
        block_hash: Hash of that block.
        gas_used: Units of gas that it used.
        gas_price_wei: Wei per gas that were paid.
        error: Code and message, and name, args and outcome of a contract's rejection; None without an error.
        created_at: When it was stored.
        updated_at: When the row was changed last.
        abandoned_at: When an operator decided that it is not carried on; None if it is.
        person: Id of the user for whom it sends wei; None if it is about nobody. The seal covers it.
        spending: What was counted against the limits when it was signed; see `app.services.transactions.spending`.
    """

    key: str
    request: str
    kind: str
    subject: UUID | None
    chain_id: int
    sender: str
    to_address: str
    data: bytes
    value_wei: int
    state: str
    nonce: int | None
    attempts: Sequence[Attempt]
    requeued: int
    reorged: bool
    held: str | None
    held_cause: str | None
    held_at: datetime | None
    tx_hash: str | None
    block_number: int | None
    block_hash: str | None
    gas_used: int | None
    gas_price_wei: int | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    seal: str | None = None
    abandoned_at: datetime | None = None
    person: str | None = None
    spending: dict[str, Any] | None = None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Operation:
        """Reads a row of `select(operations)`."""
        columns = row._asdict()
        columns["attempts"] = [Attempt.from_json(attempt) for attempt in columns["attempts"]]
        return cls(**columns)

    @property
    def closed(self) -> bool:
        """Whether the state is one of `CLOSED_STATES`."""
        return self.state in CLOSED_STATES

    @property
    def given_up(self) -> bool:
        """Whether its last attempt is one without effect, so that it does not start over with a new nonce."""
        return bool(self.attempts) and self.attempts[-1].no_effect


class UsedNonce(NamedTuple):
    """A transaction of the account in a final block. `transaction` is None if only its receipt was read."""

    tx_hash: str
    block_number: int
    transaction: Transaction | None = None

    @property
    def block(self) -> dict[str, Any]:
        """Columns of an operation that has no effect because of it: if its block is dropped, that is open again."""
        return {
            "block_number": self.block_number,
            "block_hash": self.transaction and self.transaction.block_hash,
        }


@dataclass(frozen=True)
class NoEffect:
    """Proof that the operation has no effect, and never will with this nonce.

    Only `transactions.conclusions` makes one.

    Attributes:
        operation: The operation, with all its attempts.
        used: The transaction that used the nonce.
    """

    operation: Operation
    used: UsedNonce


class Use(NamedTuple):
    """What pays for an operation. It is used by the statement that stores the operation: both happen, or neither.

    Attributes:
        statement: Updates the row of what pays, or none. The operation's key is its bind parameter `key`.
        parameters: Its other bind parameters.
        check: Raises the reason for which it can't be used; called if nothing was stored.
    """

    statement: Update
    parameters: dict[str, Any]
    check: Callable[[Connection], None]


class NewRow(NamedTuple):
    """A row to insert together with the operation that creates it on chain.

    Attributes:
        table: Its table.
        values: Its columns.
        use: What pays for the operation; None if nothing does.
    """

    table: Table
    values: dict[str, Any]
    use: Use | None = None


EffectStatement = Callable[[CTE], Update]
"""Builds the update of other rows. Its argument selects the operation's row if that was closed, and otherwise none."""


class Effect(NamedTuple):
    """An update of other rows, executed by the statement that closes an operation.

    Attributes:
        statement: Builds the update.
        parameters: Its bind parameters; their names must not be names of the operation's columns.
    """

    statement: EffectStatement
    parameters: dict[str, Any]


class Draft(NamedTuple):
    """An operation that is not stored yet.

    Attributes:
        call: The contract call.
        chain_id: Id of the network (EIP-155).
        sender: Address of the account that sends it.
        subject: Id of the row that it is about, or that row if it is new; None if there is none.
        seal: Returns the operation's seal, by its columns; None to store it without one, so that it is never signed.
        person: Id of the user for whom it sends wei; None if it is about nobody.
    """

    call: Call
    chain_id: int
    sender: str
    subject: UUID | NewRow | None = None
    seal: Callable[[Mapping[str, Any]], str] | None = None
    person: str | None = None
