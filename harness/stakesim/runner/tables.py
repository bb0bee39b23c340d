"""Tables as files. Amounts are Python integers in a DataFrame, and decimal128 in Parquet: both are exact.

pandas has no integer type beyond 64 bits, and 9.3 ETH are more wei than those hold. `docs/TABLES.md` shows how to work
with such columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stakesim.errors import NotInstalled, StakesimError

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 38
"""Digits of an amount in Parquet; all ether that there is has 27 digits in wei."""


def write_parquet(frame: pd.DataFrame, file: Path) -> None:
    """Writes a table.

    Args:
        frame: The table. Columns of the dtype object hold Python integers.
        file: The file.

    Raises:
        NotInstalled: pyarrow is missing.
        StakesimError: An amount has more than 38 digits.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise NotInstalled("Writing Parquet", "pyarrow", "economics", "write .csv") from None
    exact = [str(name) for name, dtype in frame.dtypes.items() if dtype.name == "object"]
    table = pa.Table.from_pandas(frame.drop(columns=exact), preserve_index=False)
    for name in exact:
        if any(abs(amount) >= 10**DIGITS for amount in frame[name]):
            raise StakesimError(f"{name} has an amount of more than {DIGITS} digits, too many for Parquet: write .csv")
        table = table.append_column(name, pa.array(frame[name].tolist(), pa.decimal128(DIGITS, 0)))
    pq.write_table(table.select(list(frame.columns)), file)


def read_parquet(file: Path) -> pd.DataFrame:
    """Reads a table that `write_parquet` wrote: columns of decimals become Python integers again.

    Raises:
        NotInstalled: pyarrow is missing.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise NotInstalled("Reading Parquet", "pyarrow", "economics", "read .csv") from None
    table = pq.read_table(file)
    frame: pd.DataFrame = table.to_pandas()
    for field in table.schema:
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            frame[field.name] = frame[field.name].map(int).astype(object)
    return frame
