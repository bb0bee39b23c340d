"""Daily closes from a CSV file: the user's own, or the synthetic ones in `scenarios/series/`."""

import csv
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from stakesim.project import current_project
from stakesim.schema.errors import ScenarioError
from stakesim.schema.fields import parse_rate

SYNTHETIC = "series/eth-inr-synthetic.csv"
COLUMNS = ("date", "close")
FEWEST = 2
"""Closes that make a return."""


class Closes(NamedTuple):
    """INR for one ETH at the close of consecutive days."""

    first: date
    rates: tuple[Decimal, ...]

    @property
    def last(self) -> date:
        return self.first + timedelta(days=len(self.rates) - 1)


def read(file: str | Path) -> Closes:
    """The closes in a CSV file with the columns `date` (2024-01-31) and `close` (INR for one ETH); others are ignored.

    file: a relative path counts from the working directory or, where there is no such file, from `scenarios/`.
    Raises ScenarioError, with the line, for the first fault.
    """
    found = find(file)
    return _read(found, found.stat().st_mtime_ns)


def find(file: str | Path) -> Path:
    """Raises ScenarioError where there is no such file."""
    for place in (Path(file), *(folder / file for folder in current_project().scenario_folders)):
        if place.is_file():
            return place
    raise ScenarioError(f"{file}: there is no such file, here or in scenarios/; give the path of a CSV file")


@lru_cache(maxsize=8)
def _read(file: Path, changed: int) -> Closes:
    """changed: so that a file written anew is read anew."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{file}: can't be read: {error}; give the path of a CSV file in UTF-8") from error
    first: date | None = None
    rates: list[Decimal] = []
    for line, day, rate in _rows(file, csv.reader(text.splitlines())):
        first = first or day
        if (due := first + timedelta(days=len(rates))) != day:
            raise ScenarioError(
                f"{file}, line {line}, date: {day} comes where {due} is due; give one line a day, in order"
            )
        rates.append(rate)
    if first is None or len(rates) < FEWEST:
        raise ScenarioError(f"{file}: has {len(rates)} closes; give at least {FEWEST}")
    return Closes(first, tuple(rates))


def _rows(file: Path, lines: Iterable[list[str]]) -> Iterator[tuple[int, date, Decimal]]:
    numbered = enumerate(lines, start=1)
    names = [name.strip().lower() for name in next(numbered, (1, []))[1]]
    for name in COLUMNS:
        if name not in names:
            raise ScenarioError(f"{file}, line 1: has no column {name!r}; begin the file with `date,close`")
    places = [names.index(name) for name in COLUMNS]
    for line, cells in numbered:
        if not cells:
            continue
        if len(cells) <= max(places):
            raise ScenarioError(f"{file}, line {line}: has {len(cells)} cells; give a date and a close")
        day, close = (cells[place].strip() for place in places)
        try:
            yield line, _day(day), parse_rate(close)
        except ValueError as error:
            raise ScenarioError(f"{file}, line {line}: {error}") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a date; write year-month-day (2024-01-31)") from None
