"""`stakesim gas`."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from stakesim.commands.options import Engine
from stakesim.commands.terminal import console, finish

if TYPE_CHECKING:
    from rich.table import Table

    from stakesim.gas_table import GasChange


def gas(
    write: Annotated[
        bool, typer.Option("--write", help="Accept the measured gas, and write it to the project's gas table.")
    ] = False,
    engine: Engine = "py-evm",
) -> None:
    """Measure the gas of each transaction, and compare it with the project's reviewed table (tests/gas.json here)."""
    from stakesim import gas_table
    from stakesim.runner.environment import open_environment

    with closing(open_environment(engine)) as environment:
        measured = gas_table.measure(environment)
    changes = gas_table.changes(gas_table.reviewed(), measured)
    console().print(_table(changes))
    if write:
        gas_table.write(measured)
    elif not (file := gas_table.table_file()).exists():
        raise gas_table.GasError(
            f"There is no reviewed table {file} to compare with: write one with `stakesim gas --write`."
        )
    to_review = sum(not change.accepted for change in changes)
    advice = ": look at them, then `stakesim gas --write`" if to_review and not write else ""
    tolerance = gas_table.TOLERANCE_BPS / 100
    console().print(f"{to_review} of {len(changes)} changed by more than {tolerance}%{advice}")
    finish(ok=write or not to_review)


def _table(changes: list[GasChange]) -> Table:
    from rich.table import Table

    table = Table("transaction", "reviewed", "now", "change")
    for change in changes:
        difference = "new"
        if change.reviewed and change.measured:
            difference = f"{(change.measured - change.reviewed) / change.reviewed:+.2%}"
        table.add_row(
            change.transaction,
            f"{change.reviewed or ''}",
            f"{change.measured or ''}",
            difference,
            style=None if change.accepted else "red",
        )
    return table
