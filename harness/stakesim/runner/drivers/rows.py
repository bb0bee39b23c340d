"""The rows that an adapter gives, checked for their types: what is compared has to be what the seam says it is."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeVar

from stakesim.backend import BookingRow, NotStored, Rows, RunRow

Row = TypeVar("Row", RunRow, BookingRow)


def checked(rows: Any) -> Rows:
    """The same rows as lists, wei as integers where a database gave whole decimals.

    Raises:
        TypeError: A value is none of those that `stakesim.backend` says; in a sentence.
    """
    if not isinstance(rows, Rows):
        raise TypeError(f"`rows` gave {rows!r}: give a `stakesim.backend.Rows`.")
    return Rows(_all(rows.runs, RunRow), _all(rows.bookings, BookingRow))


def _all(rows: Iterable[Any], kind: type[Row]) -> list[Row]:
    found = list(rows)
    for row in found:
        if not isinstance(row, kind):
            raise TypeError(f"`rows` has {row!r} where a {kind.__name__} must be.")
    return [_row(row) for row in found]


def _row(row: Row) -> Row:
    changes = {name: _value(row, name, value) for name, value in row._asdict().items()}
    return row._replace(**changes)


def _value(row: RunRow | BookingRow, name: str, value: Any) -> Any:
    if name.endswith("_wei") or name == "seats" or name.startswith("onchain"):
        whole = isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value()
        if whole:
            value = int(value)
        missing = value is None or (isinstance(value, NotStored) and name.endswith("_wei"))
        right = (isinstance(value, int) and not isinstance(value, bool)) or (missing and name != "seats")
        wanted = "an integer"
    elif name == "confirmed":
        right, wanted = isinstance(value, bool), "True or False"
    elif name == "status":
        right, wanted = isinstance(value, str), "text"
    else:  # INR, and the rate
        positive = name != "inr_per_eth" or not isinstance(value, Decimal) or value > 0
        right = value is None or (isinstance(value, Decimal) and value.is_finite() and positive)
        wanted = "a positive Decimal" if name == "inr_per_eth" else "a Decimal"
    if not right:
        raise TypeError(f"{name} of a {type(row).__name__} is {value!r}: give {wanted}.")
    return value
