"""What did happen, as one tidy table: a row for each action, and a row for each payout it caused.

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

from stakesim.errors import NotInstalled
from stakesim.scenario.actions import PLATFORM

if TYPE_CHECKING:
    import pandas as pd


class LedgerRow(NamedTuple):
    """One line of the ledger.

    run: number of the scenario within the campaign. step: number of the action within the scenario, from 1.
    time: seconds since 1970, of the block. action: as in the scenario, or "payout". actor: who acted, or who was paid.
    outcome: ok | rejected (before anything was sent) | reverted (on chain) | skipped; for a payout: pushed,
    deferred (refused, now a credit) or withdrawn (a credit taken out: received = pushed + deferred, left the contract =
    pushed + withdrawn).
    error: the contract's or the service's name for it. wei_in: paid into the contract. wei_out: paid out of it, or
    credited, only on payouts. gas: units used. rate: INR per ETH at that moment, a decimal string.
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
    tx_hash: str | None


WEI_PER_ETH = 10**18
_WEI = ("wei_in", "wei_out")
FORMATS = ("csv", "jsonl", "parquet")


def received(rows: Iterable[LedgerRow]) -> Counter[str]:
    """Wei that each actor got, pushed or as a credit: one taken out was received when it arose."""
    got: Counter[str] = Counter()
    for row in rows:
        if row.outcome != "withdrawn":
            got[row.actor] += row.wei_out
    return got


def by_party(rows: Iterable[LedgerRow]) -> dict[str, Counter[str]]:
    """Wei paid in, pushed, deferred and withdrawn, and INR of what was got in paise, by host, attendee and platform."""
    rows = list(rows)
    hosts = {(row.run, row.scenario, row.actor) for row in rows if row.action == "create_run"}
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        host = (row.run, row.scenario, row.actor) in hosts
        party = PLATFORM if row.actor == PLATFORM else "hosts" if host else "attendees and others"
        sums[party]["paid"] += row.wei_in
        if row.action == "payout":
            sums[party][row.outcome] += row.wei_out
            rate = Decimal(row.rate)
            if rate.is_finite() and rate > 0 and row.outcome != "withdrawn":
                sums[party]["paise"] += int(row.wei_out * rate * 100 / WEI_PER_ETH)
    return sums


def to_frame(rows: Iterable[LedgerRow]) -> pd.DataFrame:
    """The ledger as a DataFrame; wei columns hold Python integers, so that sums stay exact."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(LedgerRow._fields))
    return frame.astype(dict.fromkeys(_WEI, object))


def write(rows: Sequence[LedgerRow], path: Path) -> None:
    """Writes the ledger in the format the file's ending names: .csv, .jsonl or .parquet.

    Raises `ValueError` for another ending, or for Parquet where pyarrow is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(LedgerRow._fields)
                writer.writerows(rows)
        case ".jsonl":
            lines = (row._replace(wei_in=str(row.wei_in), wei_out=str(row.wei_out))._asdict() for row in rows)  # type: ignore[arg-type]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        case ".parquet":
            _write_parquet(rows, path)
        case other:
            raise ValueError(
                f"a ledger can't be written as {other or 'a file without ending'}: use .csv, .jsonl or .parquet"
            )


def _write_parquet(rows: Sequence[LedgerRow], path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise NotInstalled("Writing Parquet", "pyarrow", "economics", "write .csv") from None
    kinds = {"run": pa.int64(), "seed": pa.int64(), "step": pa.int64(), "time": pa.int64(), "gas": pa.int64()}
    schema = pa.schema(
        [(name, pa.decimal128(38, 0) if name in _WEI else kinds.get(name, pa.string())) for name in LedgerRow._fields]
    )
    columns = {name: [getattr(row, name) for row in rows] for name in LedgerRow._fields}
    pq.write_table(pa.table(columns, schema=schema), path)
