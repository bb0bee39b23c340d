"""A platform's own bookings: a CSV file, or a DataFrame with the same columns.

docs/DECIDE.md documents the columns. A row is a booking, or a run that nobody booked.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stakesim.model.rules import MAX_SEATS
from stakesim.schema.errors import FileError, InputError, place, suggestion
from stakesim.schema.fields import parse_inr
from stakesim.schema.text_file import read_text
from stakesim.units import BPS, DAY, HOUR

if TYPE_CHECKING:
    import pandas as pd

MAX_SIZE = 50_000_000
"""Bytes of a file: some half a million bookings."""
MAX_PROBLEMS = 20
OUTCOMES = ("attended", "no_show", "cancelled", "run_cancelled", "unknown")
"""What became of a booking. `unknown`: nobody noted who attended. `run_cancelled`: the host cancelled the run."""
RUN_COLUMNS = ("experience", "opened_at", "starts_at", "run_seats", "price_inr", "stake_bps")
COLUMNS = ("run", *RUN_COLUMNS, "booked_at", "seats", "outcome", "cancelled_at")
OPTIONAL = ("experience", "cancelled_at")
SHORTEST_LEAD = timedelta(hours=3)


def read_bookings(file: str | Path, cutoff: int = DAY) -> pd.DataFrame:
    """Reads a CSV file of bookings.

    Args:
        file: The file.
        cutoff: Seconds before a run's start until which people could cancel.

    Returns:
        The bookings with typed columns; see `check_bookings`.

    Raises:
        InputError: The file can't be read, or rows are not valid; the message has a line for each problem.
    """
    file = Path(file)
    lines = csv.reader(read_text(file, "CSV file of bookings", MAX_SIZE).splitlines())
    header = [name.strip().lower() for name in next(lines, [])]
    if len(header) < 2 and ";" in "".join(header):
        raise FileError(f"{place(file, 1)}: cells are divided by ';'; save the file with commas")
    _check_header(header, place(file, 1))
    rows = ((place(file, number), cells) for number, cells in enumerate(lines, start=2) if any(map(str.strip, cells)))
    return _parse(_with_names(header, rows), cutoff, str(file))


def check_bookings(frame: pd.DataFrame, cutoff: int = DAY) -> pd.DataFrame:
    """Checks a table of bookings, as `read_bookings` does with a file.

    Returns:
        A table with the columns `COLUMNS`: text for `run`, `experience` and `outcome`, datetimes, integers for seats
        and basis points, and `price_inr` as Decimal. Rows of runs without bookings have no `booked_at`.

    Raises:
        InputError: A column is missing, or rows are not valid.
    """
    _check_header([str(name) for name in frame.columns], "the table")
    records = frame[[name for name in COLUMNS if name in frame]].to_dict("records")
    rows = ((f"row {number}", {str(k): _text(v) for k, v in row.items()}) for number, row in enumerate(records))
    return _parse(rows, cutoff, "the table")


def _text(value: Any) -> str:
    if value is None or value != value or str(value) == "NaT":
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _check_header(names: list[str], where: str) -> None:
    missing = [name for name in COLUMNS if name not in names and name not in OPTIONAL]
    if missing:
        others = [name for name in names if name not in COLUMNS]
        hint = suggestion(missing[0], others) if others else ""
        hint = hint if hint.startswith("did") else f"docs/DECIDE.md has the columns, which are {', '.join(COLUMNS)}"
        raise FileError(f"{where}: has no column {', '.join(map(repr, missing))}; {hint}")


def _with_names(header: list[str], rows: Iterable[tuple[str, list[str]]]) -> Iterator[tuple[str, dict[str, str]]]:
    for where, cells in rows:
        if len(cells) != len(header):
            yield where, {"": f"has {len(cells)} cells where the first line has {len(header)}; give each a value"}
        else:
            yield where, dict(zip(header, map(str.strip, cells), strict=True))


def _parse(rows: Iterable[tuple[str, dict[str, str]]], cutoff: int, source: str) -> pd.DataFrame:
    """Reads all rows, and raises `FileError` with the first MAX_PROBLEMS problems."""
    import pandas as pd

    problems: list[str] = []
    parsed: list[dict[str, Any]] = []
    first_of_run: dict[str, tuple[str, dict[str, Any]]] = {}
    is_aware: bool | None = None
    for where, texts in rows:
        row, faults = _parse_row(texts, cutoff)
        aware = next((value.tzinfo is not None for value in row.values() if isinstance(value, datetime)), is_aware)
        is_aware = aware if is_aware is None else is_aware
        if aware is not is_aware:
            faults.append("opened_at: some times have an offset from UTC and others have none; write all alike")
        elif not faults:
            first_where, first = first_of_run.setdefault(row["run"], (where, row))
            faults += [
                f"{name}: {texts.get(name, '')!r} is another one than at {first_where}, which is of the same run"
                for name in RUN_COLUMNS
                if row[name] != first[name]
            ]
        problems += [f"{where}: {fault}" for fault in faults]
        row["experience"] = row.get("experience") or row.get("run", "")
        parsed.append(row)
    if not problems:
        problems += _overbooked(parsed, source)
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise FileError(*problems[:MAX_PROBLEMS], *([f"{source}: and {more} more problems"] if more > 0 else []))
    if not any(row["booked_at"] for row in parsed):
        raise InputError(f"{source}: has no bookings; give at least one")
    frame = pd.DataFrame(parsed, columns=list(COLUMNS))
    for name in ("opened_at", "starts_at", "booked_at", "cancelled_at"):
        frame[name] = pd.to_datetime(frame[name], utc=bool(is_aware))
    return frame


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "run": lambda text: _some(text),
    "experience": str,
    "opened_at": lambda text: _time(text),
    "starts_at": lambda text: _time(text),
    "run_seats": lambda text: _whole(text, 1, MAX_SEATS),
    "price_inr": parse_inr,
    "stake_bps": lambda text: _whole(text, 0, BPS),
    "booked_at": lambda text: _time(text) if text else None,
    "seats": lambda text: _whole(text, 0, 1_000_000) if text else 0,
    "outcome": lambda text: _outcome(text) if text else "",
    "cancelled_at": lambda text: _time(text) if text else None,
}


def _parse_row(texts: Mapping[str, str], cutoff: int) -> tuple[dict[str, Any], list[str]]:
    """The values of a row, and what is wrong with them."""
    if "" in texts and len(texts) == 1:
        return {}, [texts[""]]
    row: dict[str, Any] = {}
    faults = []
    for name, parse in _PARSERS.items():
        try:
            row[name] = parse(texts.get(name, ""))
        except ValueError as error:
            faults.append(f"{name}: {error}")
    return row, faults or list(_contradictions(row, cutoff))


def _contradictions(row: Mapping[str, Any], cutoff: int) -> Iterator[str]:
    opened, starts, booked, cancelled = (row[name] for name in ("opened_at", "starts_at", "booked_at", "cancelled_at"))
    times = [time for time in (opened, starts, booked, cancelled) if time]
    if len({time.tzinfo is None for time in times}) > 1:
        yield "opened_at: some times have an offset from UTC and others have none; write all alike"
        return
    if starts - opened < SHORTEST_LEAD:
        yield "starts_at: is less than 3 hours after opened_at; leave such runs out"
    if booked is None:
        if row["seats"] or row["outcome"] or cancelled:
            yield "booked_at: is empty; write the time, or leave seats, outcome and cancelled_at empty as well"
        return
    if not opened <= booked < starts:
        yield "booked_at: is not between opened_at and starts_at; correct it"
    if not row["seats"]:
        yield "seats: is empty or 0; write how many seats the booking has"
    if not row["outcome"]:
        yield f"outcome: is empty; write one of {', '.join(OUTCOMES)}"
    if (row["outcome"] == "cancelled") != (cancelled is not None):
        yield "cancelled_at: is there exactly if the outcome is 'cancelled'; correct one of them"
    elif cancelled is not None and cancelled <= booked:
        yield "cancelled_at: is not after booked_at; correct it"
    elif cancelled is not None and cancelled > starts - timedelta(seconds=cutoff):
        hours = f"{cutoff / HOUR:g} hours"
        yield f"cancelled_at: is later than {hours} before the start; give the cutoff that was in force, or 'no_show'"


def _overbooked(rows: Iterable[Mapping[str, Any]], source: str) -> list[str]:
    """A problem for each run whose bookings, but for the cancelled ones, have more seats than it has."""
    taken: dict[str, int] = {}
    seats: dict[str, int] = {}
    for row in rows:
        seats[row["run"]] = row["run_seats"]
        taken[row["run"]] = taken.get(row["run"], 0) + row["seats"] * (row["outcome"] != "cancelled")
    return [
        f"{source}: run {run!r} has {seats[run]} seats, and {count} are booked; correct run_seats"
        for run, count in taken.items()
        if count > seats[run]
    ]


def _some(text: str) -> str:
    if not text:
        raise ValueError("is empty; write the run's name or number")
    return text


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write it as 2026-03-01T18:30 or 2026-03-01T18:30+05:30") from None


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text[:12]) <= most):
        raise ValueError(f"{text!r} is not a whole number from {least:,} to {most:,}; write digits")
    return int(text)


def _outcome(text: str) -> str:
    if text not in OUTCOMES:
        raise ValueError(f"{text!r} is no outcome; {suggestion(text, OUTCOMES)}")
    return text


def write_bookings(frame: pd.DataFrame, file: str | Path) -> None:
    """Writes a table of bookings as a CSV file that `read_bookings` reads.

    Raises:
        OutputError: It can't be written.
    """
    from stakesim.economics.output import whole_file

    with whole_file(Path(file)) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for row in frame[list(COLUMNS)].to_dict("records"):
            writer.writerow([f"{cell:f}" if isinstance(cell, Decimal) else _text(cell) for cell in row.values()])
