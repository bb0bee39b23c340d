"""Daily values from a CSV file: closes of ETH, one's own or the synthetic ones of `scenarios/`, or gas prices."""

import csv
import hashlib
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, ValidationInfo

from stakesim.project import current_project
from stakesim.schema.errors import FileError, InputError, place
from stakesim.schema.fields import parse_gwei, parse_rate
from stakesim.schema.text_file import read_text
from stakesim.schema.yaml_file import FOLDER

SYNTHETIC = "series/eth-inr-synthetic.csv"
CLOSE, GWEI = "close", "gwei"
MAX_SIZE = 1_000_000
"""Bytes of a file: closes of a century."""
MIN_CLOSES = 2
"""Closes that one return needs."""


class Closes(NamedTuple):
    """The values of consecutive days.

    Attributes:
        first: The first day.
        rates: INR for one ETH at the close of each day, or gwei per gas.
    """

    first: date
    rates: tuple[Decimal, ...]

    @property
    def last(self) -> date:
        """The last day."""
        return self.first + timedelta(days=len(self.rates) - 1)


def read_closes(file: str | Path, column: str = CLOSE) -> Closes:
    """Reads the values in a CSV file with the columns `date` (2024-01-31) and `close` (INR for one ETH), or `gwei`.

    Args:
        file: The file. A relative path counts from the working directory or, if there is no such file, from the
            project's scenarios and then from those that ship with the library.
        column: `CLOSE` or `GWEI`.

    Raises:
        InputError: There is no such file, or it has an error; the message names the line of the first one.
    """
    path = _find(file)
    return _parse(str(path), _text_of(path), column)


def content_hash(file: str | Path) -> str:
    """Returns a hash of what is in a CSV file, which is found as by `read_closes`.

    Raises:
        InputError: There is no such file, or it can't be read.
    """
    return hashlib.sha256(_text_of(_find(file)).encode()).hexdigest()[:24]


def _found_beside(file: str, info: ValidationInfo) -> str:
    """The path of a file that counts from the folder of the file that names it, if it is there.

    In a folder of scenarios it counts from that folder, so that it is found from anywhere in the project.
    """
    folder = (info.context or {}).get(FOLDER)
    if folder is None or not (path := (folder / file).resolve()).is_file():
        return file
    folders = [each for each in current_project().scenario_folders if path.is_relative_to(each.resolve())]
    return str(path.relative_to(folders[0].resolve()) if folders else path)


CsvFile = Annotated[str, AfterValidator(_found_beside)]
"""The path of a series in another file: it counts from that file's folder, else as `read_closes` says."""


def _find(file: str | Path) -> Path:
    for path in (Path(file), *(folder / file for folder in current_project().scenario_folders)):
        if path.is_file():
            return path
    raise InputError(f"{file}: there is no such file, here or in scenarios/; give the path of a CSV file")


def _text_of(file: Path) -> str:
    return read_text(file, "CSV file", MAX_SIZE)


@lru_cache(maxsize=8)
def _parse(file: str, text: str, column: str) -> Closes:
    """Reads the values in a text; `file` is its name for errors."""
    first: date | None = None
    rates: list[Decimal] = []
    for line, day, rate in _rows(file, csv.reader(text.splitlines()), column):
        first = first or day
        if (expected := first + timedelta(days=len(rates))) != day:
            where = place(file, line, "date")
            raise FileError(f"{where}: {day} is where {expected} should be; give one line a day, in order")
        rates.append(rate)
    if first is None or len(rates) < MIN_CLOSES:
        raise InputError(f"{file}: has {len(rates)} {_PLURALS[column]}; give at least {MIN_CLOSES}")
    return Closes(first, tuple(rates))


_PLURALS = {CLOSE: "closes", GWEI: "gas prices"}
_PARSERS = {CLOSE: parse_rate, GWEI: parse_gwei}


def _rows(file: str, lines: Iterable[list[str]], column: str) -> Iterator[tuple[int, date, Decimal]]:
    """The line number, the day and the value of each row."""
    numbered = enumerate(lines, start=1)
    names = [name.strip().lower() for name in next(numbered, (1, []))[1]]
    for name in ("date", column):
        if name not in names:
            raise FileError(f"{place(file, 1)}: has no column {name!r}; begin the file with `date,{column}`")
    columns = [names.index(name) for name in ("date", column)]
    for line, cells in numbered:
        if not cells:
            continue
        if len(cells) <= max(columns):
            raise FileError(f"{place(file, line)}: has {len(cells)} cells; give a date and a {column}")
        day, close = (cells[column].strip() for column in columns)
        try:
            yield line, _parse_day(day), _PARSERS[column](close)
        except ValueError as error:
            raise FileError(f"{place(file, line)}: {error}") from None


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a date; write year-month-day (2024-01-31)") from None
