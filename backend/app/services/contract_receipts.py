"""Reads the result of a transaction from its receipt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from app.core.errors import UnexpectedReceipt
from app.services.codec import Event
from app.services.contract_types import DeferredPayout, EventCompleted, PlatformFeesWithdrawn, TransactionResult
from app.services.rpc_types import Receipt

_ONCHAIN_NAMES = {"event_run_id": "onchain_run_id", "booking_id": "onchain_booking_id"}
"""Names in `contract_types`, by the names in the contract's events."""
_Result = TypeVar("_Result", bound=TransactionResult)


def read_result(kind: type[_Result], receipt: Receipt, events: Sequence[Event], **known_fields: Any) -> _Result:
    """Returns the result that the one event with the name of `kind` describes.

    Args:
        kind: Class of the result.
        receipt: Receipt of a transaction that succeeded.
        events: The contract's events in the receipt.
        known_fields: Fields of the result that the caller knows. An event that has other values does not count.

    Raises:
        UnexpectedReceipt: There is not exactly one such event.
    """
    matches = []
    for event in events:
        if event.name == kind.__name__:
            args = {_ONCHAIN_NAMES.get(name, name): value for name, value in event.args.items()}
            if all(args.get(name, value) == value for name, value in known_fields.items()):
                matches.append(args)
    if len(matches) != 1:
        raise unexpected_count(receipt.tx_hash, kind.__name__, len(matches))
    return kind(**_transaction_fields(receipt, events), **{**known_fields, **matches[0]})


def read_event_completed(receipt: Receipt, events: Sequence[Event]) -> EventCompleted:
    """Returns the result of `completeEvent`. Arguments and errors as for `read_result`."""
    attended = [event.args for event in events if event.name == "BookingCompleted"]
    no_shows = [event.args for event in events if event.name == "BookingNoShow"]
    return read_result(
        EventCompleted,
        receipt,
        events,
        stakes_returned={args["booking_id"]: args["stake_returned"] for args in attended},
        stakes_forfeited={args["booking_id"]: args["stake_forfeit"] for args in no_shows},
    )


def read_fees_withdrawn(
    receipt: Receipt, events: Sequence[Event], *, has_full_interface: bool
) -> PlatformFeesWithdrawn:
    """Returns the result of `withdrawPlatformFees`.

    Args:
        receipt: Receipt of a transaction that succeeded.
        events: The contract's events in the receipt.
        has_full_interface: Whether the contract emits an event for it.

    Raises:
        UnexpectedReceipt: The contract emits an event for it, and there is not exactly one.
    """
    amounts = [event.args["amount"] for event in events if event.name == "PlatformFeesWithdrawn"]
    if has_full_interface and len(amounts) != 1:
        raise unexpected_count(receipt.tx_hash, "PlatformFeesWithdrawn", len(amounts))
    return PlatformFeesWithdrawn(**_transaction_fields(receipt, events), amount=amounts[0] if amounts else None)


def _transaction_fields(receipt: Receipt, events: Sequence[Event]) -> dict[str, Any]:
    return {
        "tx_hash": receipt.tx_hash,
        "block_number": receipt.block_number,
        "gas_used": receipt.gas_used,
        "gas_price": receipt.gas_price,
        "deferred": tuple(DeferredPayout(**event.args) for event in events if event.name == "PaymentDeferred"),
    }


def unexpected_count(tx_hash: str, event_name: str, count: int) -> UnexpectedReceipt:
    """Returns the error for a transaction that does not have exactly one event of a name."""
    return UnexpectedReceipt(f"Transaction {tx_hash} has {count} events {event_name} where one must be.")
