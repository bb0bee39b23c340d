"""What the fields of a scenario file may hold: times, wei, INR, rates and labels.

Each type reads what a person writes ("7d - 1s", "2500.50"), refuses what would be inexact, and is written
back in the same notation. Every message says what to write instead.
"""

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""Seconds in a day, an hour, a minute and a second."""
HOUR, DAY = UNITS["h"], UNITS["d"]
_MOST_DIGITS = 40
"""Before or after the point of an amount in INR: more than fits in 2^128 wei at any rate worth a thought."""
_PART = re.compile(r"\s*([+-]?)\s*(\d+)\s*([dhms]?)\s*")


class StrictModel(BaseModel):
    """A piece of a scenario: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_time(value: object) -> int:
    """Seconds of `90`, "90m", "7d", or a sum of such parts: "7d - 1s"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    advice = 'write seconds (90) or a sum of parts in d, h, m, s ("7d - 1s")'
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is not a time; {advice}")
    seconds, position = 0, 0
    while position < len(value):
        part = _PART.match(value, position)
        if part is None or (position and not part[1]):
            raise ValueError(f"{value!r} is not a time; {advice}")
        seconds += (-1 if part[1] == "-" else 1) * int(part[2]) * UNITS[part[3] or "s"]
        position = part.end()
    return seconds


def format_time(seconds: int) -> int | str:
    """The shortest sum of parts, as `parse_time` reads it: 518401 -> "6d+1s". Below a minute the plain
    number."""
    if seconds < 60:
        return seconds
    parts = []
    for unit, size in UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "+".join(parts)


def _not_negative(seconds: int) -> int:
    if seconds < 0:
        raise ValueError(f"{seconds} s is before the scenario begins; times count from 0")
    return seconds


def parse_wei(value: object) -> int:
    """Wei as an integer or a string of digits, with a sign where one is allowed."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
        return int(value)
    raise ValueError(f'{value!r} is not an amount in wei; write a whole number ("40000000000000000")')


def _decimal(value: object, example: str) -> Decimal:
    if isinstance(value, float):
        raise ValueError(f'{value!r} is a float, which is not exact; put the number in quotes ("{example}")')
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        try:
            number = Decimal(value)
        except InvalidOperation:
            pass
        else:
            if not number.is_finite() or abs(number.adjusted()) <= _MOST_DIGITS:
                return number
    raise ValueError(f'{value!r} is not a decimal number; write it in quotes ("{example}")')


def parse_inr(value: object) -> Decimal:
    """An INR price: more than zero, with at most two digits for the paise."""
    inr = _decimal(value, "2500.50")
    if not inr.is_finite() or inr <= 0:
        raise ValueError(f'{inr} is not a price; write an amount above zero ("2500.50")')
    if (Fraction(inr) * 100).denominator != 1:
        raise ValueError(f'{inr} has fractions of a paisa; write at most two decimals ("2500.50")')
    return inr


def parse_rate(value: object) -> Decimal:
    """INR for one ETH: finite, more than zero and below 10^20, as a market has it."""
    rate = _decimal(value, "200000")
    if not rate.is_finite() or not 0 < rate < 10**20:
        raise ValueError(f'{rate} is not a rate; write INR per ETH above zero ("200000")')
    return rate


def parse_feed_rate(value: object) -> str:
    """What a price feed may say: any decimal, zero, negative, NaN and Infinity too. Kept as text: NaN is not
    equal to itself, and two equal scenarios must be equal."""
    rate = _decimal(value, "200000")
    if rate.is_snan():
        raise ValueError(f'{value!r} is no rate of a feed; write INR per ETH ("200000", "0", "NaN")')
    return str(rate)


def _label(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", value):
        raise ValueError(f"{value!r} is not a name; use small letters, digits, - and _, a letter first")
    return value


def _schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema(schema)


def _text(value: object) -> str:
    return str(value)


_MONEY = {"anyOf": [{"type": "string", "pattern": r"^\d+(\.\d+)?$"}, {"type": "integer", "minimum": 0}]}

Seconds = Annotated[
    int,
    BeforeValidator(parse_time),
    AfterValidator(_not_negative),
    PlainSerializer(format_time),
    _schema(
        anyOf=[{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[\s\d+dhms-]+$"}],
        description="seconds, or a sum of parts in d, h, m, s such as 7d - 1s",
    ),
]
Wei = Annotated[
    int,
    BeforeValidator(parse_wei),
    _schema(anyOf=[{"type": "integer"}, {"type": "string", "pattern": r"^[+-]?\d+$"}], description="wei"),
]
Inr = Annotated[
    Decimal,
    BeforeValidator(parse_inr),
    PlainSerializer(_text),
    _schema(**_MONEY, description="INR"),
]
Rate = Annotated[
    Decimal,
    BeforeValidator(parse_rate),
    PlainSerializer(_text),
    _schema(**_MONEY, description="INR per ETH"),
]
FeedRate = Annotated[
    str,
    BeforeValidator(parse_feed_rate),
    _schema(anyOf=[{"type": "string"}, {"type": "integer"}], description="INR per ETH; any number, or NaN"),
]
Label = Annotated[str, AfterValidator(_label)]
Seats = Annotated[int, Field(strict=True, ge=0)]
