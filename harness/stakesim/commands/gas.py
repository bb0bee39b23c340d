"""`stakesim gas`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from stakesim.commands.options import EngineOrPyEvm, Hardfork, option_text, reports
from stakesim.commands.terminal import console, finish, print_finding

if TYPE_CHECKING:
    from rich.table import Table

    from stakesim.gas_table import GasChange


@reports
def gas(
    write: Annotated[
        bool, typer.Option("--write", help="Accept the measured gas, and write it to the project's gas table.")
    ] = False,
    engine: EngineOrPyEvm = None,
    hardfork: Hardfork = None,
) -> None:
    """Measure the gas of each transaction, and compare it with the project's reviewed table (tests/gas.json here).

    The file has a table for each hard fork that was measured and written.
    """
    from stakesim import gas_table
    from stakesim.evm.engines import engine_with_rules
    from stakesim.runner.environment import open_environment

    with closing(open_environment(engine_with_rules(engine, hardfork) or "py-evm")) as environment:
        measured, rules = gas_table.measure(environment), gas_table.measured_hardfork(environment)
    tables = gas_table.reviewed_tables()
    changes = gas_table.changes(tables.get(rules, {}), measured)
    console().print(_table(changes, rules, {name: gas for name, gas in tables.items() if name != rules}))
    if write:
        gas_table.write(measured, hardfork=rules)
    elif not (file := gas_table.table_file()).exists():
        raise gas_table.GasError(
            f"There is no reviewed table {file} to compare with: write one with `stakesim gas --write`."
        )
    to_review = sum(not change.accepted for change in changes)
    command = f"stakesim gas{option_text(hardfork=hardfork)} --write"
    advice = f": look at them, then `{command}`" if to_review and not write else ""
    tolerance = gas_table.TOLERANCE_BPS / 100
    console().print(f"{to_review} of {len(changes)} changed by more than {tolerance}%{advice}")
    for change in changes:
        if not (change.accepted or write):
            text = f"{change.reviewed or 'new'} reviewed, {change.measured or 'none'} now"
            print_finding(change.transaction, text, reviewed=change.reviewed, measured=change.measured)
    finish(ok=write or not to_review, hardfork=rules, transactions=len(changes))


def _table(changes: list[GasChange], rules: str, others: Mapping[str, Mapping[str, int]]) -> Table:
    """The changes under the measured rules, beside the reviewed gas under those of other hard forks."""
    from rich.table import Table

    table = Table("transaction", *(f"reviewed ({name})" for name in (*others, rules)), f"now ({rules})", "change")
    for change in changes:
        difference = "new"
        if change.reviewed and change.measured:
            difference = f"{(change.measured - change.reviewed) / change.reviewed:+.2%}"
        table.add_row(
            change.transaction,
            *(f"{gas.get(change.transaction, '')}" for gas in others.values()),
            f"{change.reviewed or ''}",
            f"{change.measured or ''}",
            difference,
            style=None if change.accepted else "red",
        )
    return table
