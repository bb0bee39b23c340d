"""The gas table: what each kind of transaction of the contract costs, measured, and compared with a reviewed file.

The file, `tests/gas.json` in this repository, is committed and reviewed like code. It has a table for the rules of each
hard fork that was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, get_args

from stakesim.errors import StakesimError
from stakesim.evm.compiler import compiler_version
from stakesim.evm.hardfork import DEFAULT_HARDFORK, Hardfork
from stakesim.evm.rules import network_rules
from stakesim.json_text import parse_json
from stakesim.project import current_project
from stakesim.runner.environment import Environment
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import (
    ACTOR_FIELDS,
    Action,
    Actor,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.administration import SetOperator
from stakesim.scenario.scenario import Scenario
from stakesim.units import DAY

TOLERANCE_BPS = 50
"""Change, in basis points of the reviewed gas and in either direction, that needs no review."""
ATTENDEES = [f"guest{number}" for number in range(1, 11)]
_START = 9 * DAY
"""Start of each measured run, in seconds from the start of its scenario."""


class GasError(StakesimError, ValueError):
    """The gas can't be measured, or the file is no gas table."""


class GasChange(NamedTuple):
    """Reviewed and measured gas of one kind of transaction.

    Attributes:
        transaction: Description of the transaction.
        reviewed: Gas in the file; None if the file does not have this transaction.
        measured: Gas now; None if the contract does not have this transaction.
    """

    transaction: str
    reviewed: int | None
    measured: int | None

    @property
    def accepted(self) -> bool:
        """Whether both are there and the change is within the tolerance."""
        if self.reviewed is None or self.measured is None:
            return False
        return abs(self.measured - self.reviewed) * 10_000 <= TOLERANCE_BPS * self.reviewed


class Measurement(NamedTuple):
    """A scenario, and which of its transactions are measured.

    Attributes:
        actions: All actions of the scenario.
        transactions: Description of each measured transaction, by number of its action, from 1.
    """

    actions: Sequence[Action]
    transactions: Mapping[int, str]


def _create(seats: int = 10) -> CreateRun:
    return CreateRun(run="run1", by="host", price_inr=Decimal(20_000), seats=seats, starts=_START)


def _create_and_fill() -> list[Action]:
    return [_create(), *(Book(booking=f"of-{name}", run="run1", by=name, seats=1) for name in ATTENDEES)]


def _complete(*attended: str) -> Complete:
    return Complete(at=_START, run="run1", attended=tuple(f"of-{name}" for name in attended))


_BY_OPERATOR: dict[str, Any] = {"direct": True, "paid_by": "payer"}

MEASUREMENTS: Mapping[str, Measurement] = {
    "all-attend": Measurement(
        [*_create_and_fill(), _complete(*ATTENDEES), WithdrawFees()],
        {
            1: "the platform opens a run for a host",
            2: "the platform books a seat for an attendee, the first one of the run",
            3: "the platform books another seat for another attendee",
            11: "the last seat of ten is booked, the run is full",
            12: "a run of ten bookings is completed, everybody came",
            13: "the platform withdraws its fees",
        },
    ),
    "half-attend": Measurement(
        [*_create_and_fill(), _complete(*ATTENDEES[:5])], {12: "a run of ten bookings is completed, five came"}
    ),
    "none-attend": Measurement(
        [*_create_and_fill(), _complete()], {12: "a run of ten bookings is completed, nobody came"}
    ),
    "cancelled": Measurement([*_create_and_fill(), CancelRun(run="run1")], {12: "a run of ten bookings is cancelled"}),
    "booking-cancelled": Measurement(
        [*_create_and_fill(), CancelBooking(booking="of-guest5")], {12: "a booking is cancelled"}
    ),
    "expired": Measurement(
        [*_create_and_fill(), Expire(at=20 * DAY, run="run1")], {12: "a run of ten bookings expires"}
    ),
    "refused": Measurement(
        [
            _create(seats=1),
            Book(booking="of-refuser", run="run1", by="refuser", seats=1),
            CancelRun(run="run1"),
            Withdraw(by="refuser", to="host"),
        ],
        {
            3: "a run is cancelled whose one attendee takes no ether",
            4: "a deferred payout is withdrawn to another account",
        },
    ),
    "by-themselves": Measurement(
        [
            CreateRun(run="run1", by="payer", price_inr=Decimal(20_000), seats=2, starts=_START),
            Book(booking="of-payer", run="run1", by="payer", seats=1),
        ],
        {1: "a host opens a run", 2: "an attendee books a seat"},
    ),
    "by-an-operator": Measurement(
        [
            SetOperator(operator="payer"),
            _create().model_copy(update=_BY_OPERATOR),
            *(
                Book(booking=f"of-{name}", run="run1", by=name, seats=1, **_BY_OPERATOR)
                for name in ("guest1", "guest2", "guest3")
            ),
            CancelBooking(booking="of-guest2", by="payer", direct=True),
            Complete(at=_START, run="run1", by="payer", attended=("of-guest1",), direct=True),
        ],
        {
            1: "the owner names an operator",
            2: "an operator opens a run for a host",
            3: "an operator books a seat for an attendee, the first one of the run",
            4: "an operator books another seat for another attendee",
            6: "an operator cancels a booking",
            7: "an operator completes a run of two bookings, one came",
        },
    ),
}
"""Measured scenarios by name."""


def measure(environment: Environment) -> dict[str, int]:
    """Gas by description of the transaction, of those that the contract has.

    Raises:
        GasError: A measured scenario has findings.
    """
    gas_by_transaction: dict[str, int] = {}
    actors = {"host": Actor(), "payer": Actor(pays="self"), "refuser": Actor(receiver="refuses")}
    actors |= {name: Actor() for name in ATTENDEES}
    for name, (actions, transactions) in MEASUREMENTS.items():
        scenario = Scenario(
            name=name, story="Gas is measured.", strict=False, actors=_used(actors, actions), actions=tuple(actions)
        )
        result = run_scenario(environment, scenario)
        if result.findings:
            raise GasError(f"{name}: {result.findings[0].message}")
        gas_by_step = {row.step: row.gas for row in result.rows if row.action != "payout" and row.outcome == "ok"}
        for step, description in transactions.items():
            if gas := gas_by_step.get(step):
                gas_by_transaction[description] = gas
    return gas_by_transaction


def measured_hardfork(environment: Environment) -> Hardfork:
    """The hard fork whose rules the environment's chain has; the default one if it does not say."""
    rules = network_rules(environment.engine.w3)
    return rules.hardfork if rules and rules.hardfork else DEFAULT_HARDFORK


def _used(actors: Mapping[str, Actor], actions: Sequence[Action]) -> dict[str, Actor]:
    names = {getattr(action, field, None) for action in actions for field in ACTOR_FIELDS}
    return {name: actor for name, actor in actors.items() if name in names}


def table_file() -> Path:
    """The project's reviewed gas table: `gas` in `[tool.stakesim]`, else `gas.json` at the project's root."""
    project = current_project()
    return project.gas or project.root / "gas.json"


def reviewed(file: Path | None = None, hardfork: Hardfork = DEFAULT_HARDFORK) -> dict[str, int]:
    """Reviewed gas by description of the transaction, under the rules of one hard fork; see `reviewed_tables`."""
    return reviewed_tables(file).get(hardfork, {})


def reviewed_tables(file: Path | None = None) -> dict[str, dict[str, int]]:
    """Reviewed gas by hard fork and description of the transaction. Empty without a file, or with another compiler's.

    Args:
        file: By default `table_file()`.

    Raises:
        GasError: The file is no gas table.
    """
    file = file or table_file()
    if not file.exists():
        return {}
    try:
        table: dict[str, Any] = parse_json(file.read_text(encoding="utf-8"))
        gas, compiler = table["gas"], table["compiler"]
        if all(isinstance(value, int) for value in gas.values()):  # from before there were several tables
            gas = {DEFAULT_HARDFORK: gas}
        tables: dict[str, dict[str, int]] = {hardfork: dict(table) for hardfork, table in gas.items()}
        if not all(type(units) is int and units > 0 for table in tables.values() for units in table.values()):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise GasError(f"{file} is no gas table: remove it, then `stakesim gas --write` writes one.") from None
    return tables if compiler == compiler_version() else {}


def write(gas: Mapping[str, int], file: Path | None = None, hardfork: Hardfork = DEFAULT_HARDFORK) -> None:
    """Writes the gas table of one hard fork, and keeps the others.

    Args:
        gas: Gas by description of the transaction.
        file: By default `table_file()`.
        hardfork: Whose rules it was measured under.

    Raises:
        GasError: The file is there, and is no gas table.
    """
    tables = reviewed_tables(file) | {hardfork: dict(gas)}
    table = {
        "unit": "gas used by the transaction",
        "compiler": compiler_version(),
        "tolerance_bps": TOLERANCE_BPS,
        "gas": {name: tables[name] for name in get_args(Hardfork) if name in tables},
    }
    (file or table_file()).write_text(json.dumps(table, indent=2) + "\n")


def changes(reviewed: Mapping[str, int], measured: Mapping[str, int]) -> list[GasChange]:
    """One change, perhaps of zero, for each transaction in either of the two."""
    descriptions = {**reviewed, **measured}
    return [GasChange(name, reviewed.get(name), measured.get(name)) for name in descriptions]
