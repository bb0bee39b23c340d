"""Types of the fields of input files: times, wei, INR, rates and labels.

Each type accepts the notation that people write ("7d - 1s", "2500.50"), refuses what would not be exact, and is written
back in the same notation. Every error message says what to write instead.
"""

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from stakesim.units import DAY, HOUR, MINUTE

_SECONDS_PER_UNIT = {"d": DAY, "h": HOUR, "m": MINUTE, "s": 1}
_MAX_DIGITS = 40
"""Digits before or after the decimal point of an amount in INR; 2^128 wei need fewer at any sensible rate."""
_TIME_PART = re.compile(r"\s*([+-]?)\s*([0-9]{1,20})\s*([dhms]?)\s*", re.ASCII)
_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{2 * _MAX_DIGITS}}}")
_DECIMAL = re.compile(rf"[+-]?[0-9]{{1,{_MAX_DIGITS}}}(?:\.[0-9]{{1,{2 * _MAX_DIGITS}}})?")
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


class StrictModel(BaseModel):
    """A pydantic model that is immutable and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_time(value: object) -> int:
    """Reads a time as seconds: 90, "90m", "7d", or a sum of such parts, "7d - 1s".

    Raises:
        ValueError: The value is no time.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value.strip():
        raise _not_a_time(value)
    seconds, position = 0, 0
    while position < len(value):
        part = _TIME_PART.match(value, position)
        if part is None or (position and not part[1]):
            raise _not_a_time(value)
        seconds += (-1 if part[1] == "-" else 1) * int(part[2]) * _SECONDS_PER_UNIT[part[3] or "s"]
        position = part.end()
    return seconds


def _not_a_time(value: object) -> ValueError:
    return ValueError(f'{value!r} is not a time; write seconds (90) or a sum of parts in d, h, m, s ("7d - 1s")')


def format_time(seconds: int) -> int | str:
    """Writes seconds as the shortest sum that `parse_time` reads: 518401 is "6d+1s"; below a minute the number."""
    if seconds < 60:
        return seconds
    parts = []
    for unit, size in _SECONDS_PER_UNIT.items():
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "+".join(parts)


def _not_negative(seconds: int) -> int:
    if seconds < 0:
        raise ValueError(f"{seconds} s is before the scenario begins; times count from 0")
    return seconds


def parse_wei(value: object) -> int:
    """Reads wei from an integer, or from text with digits and an optional sign.

    Raises:
        ValueError: The value is no whole number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    raise ValueError(f'{value!r} is not an amount in wei; write a whole number ("40000000000000000")')


def _parse_decimal(value: object, example: str, also: tuple[str, ...] = ()) -> Decimal:
    if isinstance(value, float):
        raise ValueError(f'{value!r} is a float, which is not exact; put the number in quotes ("{example}")')
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    if not isinstance(value, bool) and (text in also or _DECIMAL.fullmatch(text)):
        return Decimal(text)
    raise ValueError(f'{value!r} is not a decimal number; write digits 0 to 9 in quotes ("{example}")')


def parse_inr(value: object) -> Decimal:
    """Reads a price in INR: more than zero, in whole paise.

    Raises:
        ValueError: The value is no such price.
    """
    inr = _parse_decimal(value, "2500.50")
    if inr <= 0:
        raise ValueError(f'{inr} is not a price; write an amount above zero ("2500.50")')
    if (Fraction(inr) * 100).denominator != 1:
        raise ValueError(f'{inr} has fractions of a paisa; write at most two decimals ("2500.50")')
    return inr


def parse_rate(value: object) -> Decimal:
    """Reads a market's rate in INR per ETH: finite, more than zero, below 10^20.

    Raises:
        ValueError: The value is no such rate.
    """
    rate = _parse_decimal(value, "200000")
    if not 0 < rate < 10**20:
        raise ValueError(f'{rate} is not a rate; write INR per ETH above zero ("200000")')
    return rate


def parse_gwei(value: object) -> Decimal:
    """Reads a gas price in gwei: finite, more than zero, at most a million.

    Raises:
        ValueError: The value is no such price.
    """
    gwei = _parse_decimal(value, "0.01")
    if not 0 < gwei <= 10**6:
        raise ValueError(f'{gwei} is not a gas price; write gwei above zero, up to a million ("0.01")')
    return gwei


def parse_feed_rate(value: object) -> str:
    """Reads the rate that a price feed gives, in INR per ETH: any decimal, also zero, negative, NaN or Infinity.

    The rate stays text, so that two equal scenarios with a NaN are equal.

    Raises:
        ValueError: The value is no decimal.
    """
    return str(_parse_decimal(value, "200000", also=_NOT_FINITE))


def _check_label(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", value):
        raise ValueError(f"{value!r} is not a name; use small letters, digits, - and _, a letter first")
    return value


_AS_TEXT = PlainSerializer(lambda amount: f"{amount:f}")
_MONEY = {"anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}, {"type": "integer", "minimum": 0}]}

Seconds = Annotated[
    int,
    BeforeValidator(parse_time),
    AfterValidator(_not_negative),
    PlainSerializer(format_time),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[ 0-9+dhms-]+$"}],
            "description": "seconds, or a sum of parts in d, h, m, s such as 7d - 1s",
        }
    ),
]
Wei = Annotated[
    int,
    BeforeValidator(parse_wei),
    WithJsonSchema(
        {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[+-]?[0-9]+$"}], "description": "wei"}
    ),
]
Inr = Annotated[
    Decimal,
    BeforeValidator(parse_inr),
    _AS_TEXT,
    WithJsonSchema(_MONEY | {"description": "INR"}),
]
Rate = Annotated[
    Decimal,
    BeforeValidator(parse_rate),
    _AS_TEXT,
    WithJsonSchema(_MONEY | {"description": "INR per ETH"}),
]
Gwei = Annotated[
    Decimal,
    BeforeValidator(parse_gwei),
    _AS_TEXT,
    WithJsonSchema(_MONEY | {"description": "gwei per gas"}),
]
FeedRate = Annotated[
    str,
    BeforeValidator(parse_feed_rate),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "integer"}], "description": "INR per ETH; any number, or NaN"}
    ),
]
Label = Annotated[str, AfterValidator(_check_label)]
"""The name of an actor, a run or a booking within a scenario."""
Whole = Annotated[int, Field(strict=True)]
"""A whole number: no text, of which pydantic would read `1_000` and the digits of any script."""
Number = Annotated[float, Field(strict=True)]
"""A number: no text, as `Whole`."""
Count = Annotated[Whole, Field(ge=0)]
MOST_SEATS = 1_000_000
"""More than contracts take, and not more than the stakes of which somebody could pay."""
Seats = Annotated[Count, Field(le=MOST_SEATS)]
"""Seats of a run or booking."""
Probability = Annotated[Number, Field(ge=0, le=1)]
