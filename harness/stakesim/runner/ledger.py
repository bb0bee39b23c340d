"""The ledger: one tidy table with a row for each action, and a row for each payout that it caused.

Wei are exact: Python integers in memory and in the DataFrame, strings in CSV and JSON lines, decimal128 in Parquet.
Nothing that differs between two runs of one seed, or between engines, is in it but the transaction hash.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stakesim.errors import StakesimError
from stakesim.json_text import parse_json
from stakesim.runner.tables import read_parquet, write_parquet
from stakesim.scenario.actions import PLATFORM
from stakesim.units import WEI_PER_ETH

if TYPE_CHECKING:
    import pandas as pd


class LedgerRow(NamedTuple):
    """One row of the ledger.

    Attributes:
        run: Number of the scenario within its campaign.
        scenario: Its name.
        seed: Its seed.
        step: Number of the action within the scenario, from 1.
        time: Of the block, in seconds since 1970.
        action: As in the scenario, or "payout".
        actor: Who acted, or who was paid.
        outcome: Of an action: ok, rejected (before anything was sent), reverted (on chain) or skipped. Of a payout:
            pushed, deferred (refused, now a credit) or withdrawn (a credit taken out). What was received is pushed +
            deferred; what left the contract is pushed + withdrawn.
        error: The contract's or the backend's name for it.
        wei_in: Wei paid into the contract.
        wei_out: Wei paid out of it, or credited; only of payouts.
        gas: Units of gas.
        rate: INR per ETH at that moment, a decimal string.
        inr_captured: INR that people paid for what the platform sends, a decimal string; only of actions.
        inr_refunded: INR that went back to them, a decimal string; only of actions.
        tx_hash: None where nothing was sent, or the transaction was not signed.
    """

    run: int
    scenario: str
    seed: int
    step: int
    time: int
    action: str
    actor: str
    outcome: str
    error: str | None
    wei_in: int
    wei_out: int
    gas: int
    rate: str
    inr_captured: str
    inr_refunded: str
    tx_hash: str | None


NO_INR = "0.00"
_WEI_COLUMNS = ("wei_in", "wei_out")
_NAME_COLUMNS = ("scenario", "action", "actor", "outcome", "error")
_TEXT_COLUMNS = (*_NAME_COLUMNS, "rate", "inr_captured", "inr_refunded", "tx_hash")
FORMATS = ("csv", "jsonl", "parquet")
"""Endings of files that a ledger can be written to."""


def received(rows: Iterable[LedgerRow]) -> Counter[str]:
    """Wei that each actor received, pushed or as a credit; a credit counts when it arises, not when it is withdrawn."""
    wei_by_actor: Counter[str] = Counter()
    for row in rows:
        if row.outcome != "withdrawn":
            wei_by_actor[row.actor] += row.wei_out
    return wei_by_actor


def by_party(rows: Iterable[LedgerRow]) -> dict[str, Counter[str]]:
    """Sums by party: "platform", "hosts", and "attendees and others".

    Returns:
        By party, wei that were "paid" in, "pushed", "deferred" and "withdrawn", and "paise": what was received in INR
        x 100, at the rate of that moment. What is withdrawn to another address is of the party whose credit it was, so
        that no party has withdrawn more than was deferred for it.
    """
    rows = list(rows)
    hosts = {(row.run, row.scenario, row.actor) for row in rows if row.action == "create_run"}
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    acting = ""
    for row in rows:
        if row.action != "payout":
            acting = row.actor
        actor = acting if row.outcome == "withdrawn" else row.actor
        is_host = (row.run, row.scenario, actor) in hosts
        party = PLATFORM if actor == PLATFORM else "hosts" if is_host else "attendees and others"
        sums[party]["paid"] += row.wei_in
        if row.action == "payout":
            sums[party][row.outcome] += row.wei_out
            rate = Decimal(row.rate)
            if rate.is_finite() and rate > 0 and row.outcome != "withdrawn":
                sums[party]["paise"] += int(row.wei_out * rate * 100 / WEI_PER_ETH)
    return sums


def to_frame(rows: Iterable[LedgerRow]) -> pd.DataFrame:
    """The ledger as a DataFrame.

    Wei are Python integers, so that sums stay exact; `time` is a datetime in UTC, and columns of few names are
    categories.
    """
    import pandas as pd

    return _typed(_with_times(pd.DataFrame(list(rows), columns=list(LedgerRow._fields))))


def _with_times(frame: pd.DataFrame) -> pd.DataFrame:
    """Turns seconds into datetimes in UTC."""
    return frame.assign(time=(frame["time"].astype("int64") * 1_000).astype("datetime64[ms]").dt.tz_localize("UTC"))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Gives the columns of a ledger their types, whatever a reader made of them."""
    frame["seed"] = frame["seed"].map(int)
    for name in _WEI_COLUMNS:
        frame[name] = frame[name].map(int).astype(object)
    return frame.astype(dict.fromkeys(_TEXT_COLUMNS, "string")).astype(dict.fromkeys(_NAME_COLUMNS, "category"))


def read(file: str | Path) -> pd.DataFrame:
    """Reads a ledger file of any of `FORMATS` into the table that `to_frame` makes.

    pandas' own reader of JSON turns wei that are more than an int64 holds into floats without a word.

    Raises:
        StakesimError: There is no such file, it is no ledger, or has another ending.
        NotInstalled: It ends in .parquet, and pyarrow is not installed.
    """
    import pandas as pd

    file = Path(file)
    text = dict.fromkeys(("seed", *_WEI_COLUMNS, *_TEXT_COLUMNS), str)
    try:
        match file.suffix:
            case ".csv":
                frame = _with_times(pd.read_csv(file, dtype=text, keep_default_na=False))
                for name in ("error", "tx_hash"):
                    frame[name] = frame[name].mask(frame[name] == "")
            case ".jsonl":
                lines = file.read_text(encoding="utf-8").splitlines()
                frame = _with_times(pd.DataFrame([parse_json(line) for line in lines], columns=list(LedgerRow._fields)))
            case ".parquet":
                frame = read_parquet(file)
            case _:
                raise StakesimError(f"{file} is no ledger: give a file that ends in {', '.join(FORMATS)}")
        return _typed(frame)
    except (OSError, ValueError, KeyError) as error:
        raise StakesimError(f"{file} can't be read as a ledger: {error}") from error


def write(rows: Sequence[LedgerRow], path: Path) -> None:
    """Writes the ledger in the format of the file's ending: .csv, .jsonl or .parquet.

    Args:
        rows: The ledger.
        path: Folders are made if they are not there.

    Raises:
        ValueError: The file has another ending.
        NotInstalled: It ends in .parquet, and pyarrow is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(LedgerRow._fields)
                writer.writerows(rows)
        case ".jsonl":
            lines = ({**row._asdict(), "wei_in": str(row.wei_in), "wei_out": str(row.wei_out)} for row in rows)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        case ".parquet":
            write_parquet(to_frame(rows), path)
        case other:
            raise ValueError(
                f"a ledger can't be written as {other or 'a file without ending'}: use .csv, .jsonl or .parquet"
            )
