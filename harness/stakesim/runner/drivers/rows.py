"""Checks the types of the rows that an adapter returns, so that only what `stakesim.backend` describes is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from stakesim.backend import BookingRow, NotStored, PaymentRow, Rows, RunRow

Row = TypeVar("Row", RunRow, BookingRow, PaymentRow)


def checked_rows(rows: Any) -> Rows:
    """Checks rows.

    Args:
        rows: What an adapter's `rows` returned.

    Returns:
        The same rows as lists; whole decimals, as databases return for wei, are integers.

    Raises:
        TypeError: A value is of another type than `stakesim.backend` says.
    """
    if not isinstance(rows, Rows):
        raise TypeError(f"`rows` gave {rows!r}: give a `stakesim.backend.Rows`.")
    payments = None if rows.payments is None else _checked(rows.payments, PaymentRow)
    shown = None if rows.shown is None else checked_rows(rows.shown)
    return Rows(_checked(rows.runs, RunRow), _checked(rows.bookings, BookingRow), payments, shown)


def _checked(rows: Iterable[Any], kind: type[Row]) -> list[Row]:
    rows = list(rows)
    for row in rows:
        if not isinstance(row, kind):
            raise TypeError(f"`rows` has {row!r} where a {kind.__name__} must be.")
    return [_checked_row(row) for row in rows]


def _checked_row(row: Row) -> Row:
    changed = {}
    for name, value in zip(row._fields, row, strict=True):
        column = _COLUMNS[name]
        if type(value) is column.plain:  # all of its values are accepted as they are
            continue
        if column.plain is int:
            changed[name] = value = _whole_as_int(value)
        if not column.accepts(value):
            raise TypeError(f"{name} of a {type(row).__name__} is {value!r}: give {column.type_name}.")
    return row._replace(**changed) if changed else row


def _whole_as_int(value: Any) -> Any:
    whole = isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value()
    return int(value) if whole else value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_decimal(value: Any) -> bool:
    return value is None or (isinstance(value, Decimal) and value.is_finite())


def _is_paise(value: Any) -> bool:
    return value is not None and _is_decimal(value) and value.scaleb(2) == value.scaleb(2).to_integral_value()


class _Column(NamedTuple):
    """What a column takes.

    Attributes:
        accepts: Whether it takes a value.
        type_name: What to give, for the error.
        plain: A type all of whose values it takes; None if there is none.
    """

    accepts: Callable[[Any], bool]
    type_name: str
    plain: type | None = None


_ID = _Column(lambda value: value is None or _is_int(value), "an integer", int)
_WEI = _Column(lambda value: value is None or isinstance(value, NotStored) or _is_int(value), "an integer", int)
_NUMBER = _Column(lambda value: isinstance(value, NotStored) or _is_int(value), "an integer", int)
_INR = _Column(_is_decimal, "a Decimal")
_AMOUNT = _Column(_is_paise, "a Decimal of whole paise")
_BOOL = _Column(lambda value: isinstance(value, bool), "True or False", bool)
_TEXT = _Column(lambda value: isinstance(value, str), "text", str)
_COLUMNS: Mapping[str, _Column] = {
    "onchain_run_id": _ID,
    "onchain_booking_id": _ID,
    "onchain_id": _ID,
    "confirmed": _BOOL,
    "disputed": _BOOL,
    "status": _TEXT,
    "user": _Column(lambda value: isinstance(value, str | NotStored), "text", str),
    "purpose": _TEXT,
    "state": _TEXT,
    "captured_inr": _AMOUNT,
    "refunded_inr": _AMOUNT,
    "seats": _Column(_is_int, "an integer", int),
    "run_id": _WEI,
    "max_seats": _NUMBER,
    "seats_booked": _NUMBER,
    "starts_at": _NUMBER,
    "price_inr": _INR,
    "total_inr": _INR,
    "price_wei": _WEI,
    "stake_wei": _WEI,
    "payment_wei": _WEI,
    "inr_per_eth": _Column(lambda value: _is_decimal(value) and (value is None or value > 0), "a positive Decimal"),
}
