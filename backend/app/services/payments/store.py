"""The table `payments`: every change of a payment's state.

    created    quoted; nothing is paid
    captured   the gateway has the money; it waits to be used
    used       it pays for an operation, which is stored in the same transaction
    refunding  a refund is owed: there is a row in `refunds`
    refunded   the gateway has carried the refund out
    failed     an attempt to pay failed; another one may succeed until it expires
    expired    it was not paid in time; if it is paid nevertheless, it is captured, and goes back

Each change is one statement that names the states it may change from. So of two workers, of which one uses a payment
and the other gives it back, one changes nothing. News may come twice, late and in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Interval,
    Numeric,
    Text,
    Uuid,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from app.core.errors import NotPaid, PaymentUnusable
from app.db.statements import Compiled
from app.db.tables import in_states, payments, refunds, users
from app.services.operation_types import Use
from app.services.payments.gateway import Capture, DisputeNews
from app.services.payments.types import Amounts, Payment, Seal

_p = payments.c
NOW = func.clock_timestamp()
BATCH = 200
"""Maximum number of rows that one statement of a round changes."""
IS_UNDISPUTED: ColumnElement[bool] = _p.dispute.is_(None) | (_p.dispute == "won")
"""The money is the platform's, as far as anybody knows. Nothing is used or given back before that is decided."""
CaptureResult = Literal["captured", "repeated", "unexpected", "unknown"]

_SELECT = select(payments)
_FIND = Compiled(_SELECT.where(_p.id == bindparam("of_id", type_=Uuid)))
_OF_ORDER = Compiled(_SELECT.where(_p.gateway == bindparam("of_gateway"), _p.gateway_order_id == bindparam("of_order")))


_IN_TIME = _p.usable_until > NOW
_FIND_IN_TIME = Compiled(select(payments, _IN_TIME).where(_p.id == bindparam("of_id", type_=Uuid)))


def in_state(*states: str) -> ColumnElement[bool]:
    """Returns the condition that a payment is in one of the states, as literals, so that indexes on them are used."""
    return in_states(states, _p.state)


def find(connection: Connection, payment_id: UUID) -> Payment | None:
    """Returns a payment; None if there is none with this id."""
    row = connection.execute(_FIND, {"of_id": payment_id}).one_or_none()
    return None if row is None else Payment(*row)


_OF_OPERATION = Compiled(_SELECT.where(_p.operation_key == bindparam("of_operation")))


def find_of_operation(connection: Connection, operation_key: str) -> Payment | None:
    """Returns the payment that was used for an operation; None if none was."""
    row = connection.execute(_OF_OPERATION, {"of_operation": operation_key}).one_or_none()
    return None if row is None else Payment(*row)


_QUOTE_COLUMNS = ("id", "purpose", "quoted", "gateway", "seal", *Amounts._fields)
_EXPIRES_AT = NOW + bindparam("quote_for", type_=Interval)
_INSERT_QUOTE = Compiled(
    insert(payments)
    .from_select(
        ["user_id", *_QUOTE_COLUMNS, "expires_at", "usable_until"],
        select(
            users.c.id,
            *(bindparam(f"new_{name}", type_=_p[name].type) for name in _QUOTE_COLUMNS),
            _EXPIRES_AT,
            _EXPIRES_AT + bindparam("use_within", type_=Interval),
        ).where(users.c.id == bindparam("of_user", type_=Uuid)),
    )
    .returning(payments)
)


def insert_quote(
    connection: Connection, user_id: UUID, quote_for: timedelta, use_within: timedelta, values: dict[str, Any]
) -> Payment | None:
    """Stores a quote (-> created), and returns it; None if there is no such user.

    Args:
        connection: A connection to the database.
        user_id: Who pays.
        quote_for: Time in which the quote must be paid.
        use_within: Time after that in which the payment must be used.
        values: Values of `_QUOTE_COLUMNS`.
    """
    parameters: dict[str, Any] = {f"new_{name}": value for name, value in values.items()}
    parameters |= {"of_user": user_id, "quote_for": quote_for, "use_within": use_within}
    row = connection.execute(_INSERT_QUOTE, parameters).one_or_none()
    return None if row is None else Payment(*row)


_ADD_ORDER = (
    update(payments)
    .where(_p.id == bindparam("of_id", type_=Uuid), _p.gateway_order_id.is_(None))
    .values(gateway_order_id=bindparam("new_order"), updated_at=NOW)
)
_SET_ORDER = Compiled(_ADD_ORDER.where(in_state("created")))
_SET_ORDER_LATE = Compiled(_ADD_ORDER.where(in_state("created", "expired")))


def set_order(connection: Connection, payment_id: UUID, order_id: str, *, is_late: bool = False) -> bool:
    """Stores the gateway's order of a payment that has none. Returns whether it did.

    Args:
        connection: A connection to the database.
        payment_id: Id of the payment.
        order_id: The gateway's id of the order.
        is_late: Whether the payment may have expired, as one that was paid without an order.
    """
    statement = _SET_ORDER_LATE if is_late else _SET_ORDER
    return connection.execute(statement, {"of_id": payment_id, "new_order": order_id}).rowcount == 1


_PAID_AT = bindparam("new_paid_at", type_=DateTime(timezone=True))
_OTHER = payments.alias("other")
_CAPTURE = Compiled(
    update(payments)
    .where(_p.gateway == bindparam("of_gateway"), _p.gateway_order_id == bindparam("of_order"))
    .where(in_state("created", "failed", "expired"), _p.amount_inr == bindparam("of_amount", type_=Numeric))
    .where(~exists().where(_OTHER.c.gateway == _p.gateway, _OTHER.c.gateway_payment_id == bindparam("new_payment")))
    .values(
        state="captured",
        gateway_payment_id=bindparam("new_payment"),
        paid_at=_PAID_AT,
        seal=bindparam("new_seal"),
        usable_until=case((_p.expires_at < _PAID_AT, NOW), else_=_p.usable_until),
        updated_at=NOW,
    )
)
_UNEXPECTED = Compiled(
    insert(payments)
    .from_select(
        [
            *("user_id", "purpose", "state", "amount_inr"),
            *("gateway", "gateway_payment_id", "paid_at", "expires_at", "usable_until"),
        ],
        select(
            _p.user_id,
            literal_column("'unexpected'"),
            literal_column("'captured'::payment_state"),
            bindparam("of_amount", type_=Numeric),
            _p.gateway,
            bindparam("new_payment", type_=Text),
            _PAID_AT,
            NOW,
            NOW,
        ).where(
            _p.gateway == bindparam("of_gateway"),
            _p.gateway_order_id == bindparam("of_order"),
            _p.gateway_payment_id.is_distinct_from(bindparam("new_payment", type_=Text)),
        ),
    )
    .on_conflict_do_nothing(index_elements=[_p.gateway, _p.gateway_payment_id])
    .returning(_p.id)
)


def capture(connection: Connection, gateway: str, news: Capture, make_seal: Callable[[Payment], Seal]) -> CaptureResult:
    """Stores that a payment is captured (created, failed, expired -> captured).

    Money that the order did not ask for (another amount, a second payment) is stored as a payment of its own, which
    can't be used, and goes back.

    Args:
        connection: A connection to the database.
        gateway: Name of the gateway.
        news: What it says. The currency must be INR.
        make_seal: Returns the seal of a payment's capture; None if the payment can't be used, and goes back.

    Returns:
        What the news are: `captured`; `repeated`, without a change; `unexpected` money; or of an `unknown` order,
        without a change.
    """
    parameters: dict[str, Any] = {"of_gateway": gateway, "of_order": news.order_id, "of_amount": news.amount}
    parameters |= {"new_payment": news.payment_id, "new_paid_at": news.paid_at}
    row = connection.execute(_OF_ORDER, {"of_gateway": gateway, "of_order": news.order_id}).one_or_none()
    if row is None:
        return "unknown"
    if connection.execute(_CAPTURE, parameters | {"new_seal": make_seal(Payment(*row))}).rowcount:
        return "captured"
    # whichever payment the order has by now: the statement compares it again
    return "unexpected" if connection.execute(_UNEXPECTED, parameters).all() else "repeated"


_FAIL = Compiled(
    update(payments)
    .where(_p.gateway == bindparam("of_gateway"), _p.gateway_order_id == bindparam("of_order"), in_state("created"))
    .values(state="failed", updated_at=NOW)
)


def fail(connection: Connection, gateway: str, order_id: str) -> None:
    """Stores that an attempt to pay failed (created -> failed)."""
    connection.execute(_FAIL, {"of_gateway": gateway, "of_order": order_id})


_EXPIRED = select(_p.id, _p.gateway_order_id).where(
    in_state("created", "failed"),
    _p.expires_at <= NOW,
    (_p.gateway == bindparam("of_gateway")) | _p.gateway_order_id.is_(None),
)
_EXPIRE = Compiled(
    update(payments)
    .where(_p.id == bindparam("of_id", type_=Uuid), in_state("created", "failed"), _p.expires_at <= NOW)
    .values(state="expired", updated_at=NOW)
)


def overdue(connection: Connection, gateway: str) -> list[tuple[UUID, str | None]]:
    """Returns the ids and orders of payments that were not captured in time, the oldest first.

    Args:
        connection: A connection to the database.
        gateway: Name of the gateway that can be asked. Orders of another one are left out: they may be paid.
    """
    rows = connection.execute(_EXPIRED.order_by(_p.expires_at).limit(BATCH), {"of_gateway": gateway})
    return [(row.id, row.gateway_order_id) for row in rows]


def expire(connection: Connection, payment_id: UUID) -> None:
    """Stores that a payment was not captured in time (created, failed -> expired)."""
    connection.execute(_EXPIRE, {"of_id": payment_id})


_USE = (
    update(payments)
    .where(_p.id == bindparam("of_id", type_=Uuid), in_state("captured"), _IN_TIME, IS_UNDISPUTED)
    .values(
        state="used",
        operation_key=bindparam("key"),
        to_custody=bindparam("new_to_custody"),
        look_at=NOW,
        updated_at=NOW,
    )
)


def use_of(payment_id: UUID, to_custody: bool) -> Use:
    """Returns the use of a payment for an operation (captured -> used), to be stored with the operation.

    Its check raises `NotPaid` if the payment is not captured yet, and `PaymentUnusable` if it can't be used any more.

    Args:
        payment_id: Id of the payment.
        to_custody: Whether the contract returns what it owes to the custody address.
    """

    def check(connection: Connection) -> None:
        *columns, is_in_time = connection.execute(_FIND_IN_TIME, {"of_id": payment_id}).one()
        payment = Payment(*columns)
        raise_unusable(payment)
        if not is_in_time:
            until = payment.usable_until.isoformat()
            raise PaymentUnusable(f"The payment {payment_id} must have been used by {until}.")

    return Use(_USE, {"of_id": payment_id, "new_to_custody": to_custody}, check)


_WHY_UNUSABLE = {
    "used": "has paid for another request",
    "refunding": "is being refunded",
    "refunded": "is refunded",
    "expired": "was not paid in time",
}


def raise_unusable(payment: Payment) -> None:
    """Raises `NotPaid` or `PaymentUnusable` if a payment's row says that it can't be used."""
    if payment.state in ("created", "failed"):
        raise NotPaid(f"The payment {payment.id} is not captured: {payment.amount_inr} INR are to be paid.")
    if payment.state != "captured":
        raise PaymentUnusable(f"The payment {payment.id} {_WHY_UNUSABLE[payment.state]}.")
    if payment.dispute not in (None, "won"):
        raise PaymentUnusable(f"The payment {payment.id} is disputed at the gateway.")


_DISPUTE_ID = bindparam("new_dispute_id", type_=Text)
_DISPUTES = _p.disputes.concat(func.jsonb_build_object(_DISPUTE_ID, bindparam("new_dispute", type_=Text)))
_PATHS: list[Any] = [literal_column(f"""'$.* ? (@ == "{outcome}")'::jsonpath""") for outcome in ("lost", "open")]
_HAS_LOST, _HAS_OPEN = (func.jsonb_path_exists(_DISPUTES, path) for path in _PATHS)
_DISPUTE = (
    update(payments)
    .where(_p.gateway == bindparam("of_gateway"), _p.gateway_payment_id == bindparam("of_payment"))
    .where(func.coalesce(_p.disputes[_DISPUTE_ID].astext, "open") == "open")
    .values(
        dispute=case((_HAS_LOST, "lost"), (_HAS_OPEN, "open"), else_="won"),
        dispute_id=_DISPUTE_ID,
        disputes=_DISPUTES,
        updated_at=NOW,
    )
    .returning(_p.id, _p.state)
    .cte("disputed")
)
_STOP_REFUND = (
    update(refunds)
    .where(refunds.c.payment_id == _DISPUTE.c.id, refunds.c.state == "due", bindparam("new_dispute") == "lost")
    .values(next_at=None, problem="The payment was charged back.", updated_at=NOW)
    .cte("stopped")
)


def dispute(connection: Connection, gateway: str, news: DisputeNews) -> str | None:
    """Stores what became of a dispute. A decided one stays so, whatever older news come later.

    Returns:
        The payment's state; None if nothing was changed.
    """
    parameters = {"of_gateway": gateway, "of_payment": news.payment_id}
    parameters |= {"new_dispute": news.outcome, "new_dispute_id": news.dispute_id}
    state: str | None = connection.execute(select(_DISPUTE.c.state).add_cte(_STOP_REFUND), parameters).scalar()
    return state
