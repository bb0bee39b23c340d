"""What the contract's transactions cost: sentences and numbers, in `tests/gas.json`, reviewed like code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from stakesim.errors import StakesimError
from stakesim.evm.compiler import compiler_version
from stakesim.project import current_project
from stakesim.runner.environment import Environment
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import (
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
from stakesim.scenario.scenario import Scenario
from stakesim.schema.fields import UNITS

TOLERANCE_BPS = 50
"""A number may change by half a percent, either way, before it has to be reviewed."""
GUESTS = [f"guest{number}" for number in range(1, 11)]
_DAY = UNITS["d"]


class GasError(StakesimError, ValueError):
    """What it costs can't be measured, or the reviewed table can't be read."""


class Change(NamedTuple):
    """was, now: gas; None where there is no such transaction."""

    sentence: str
    was: int | None
    now: int | None

    @property
    def accepted(self) -> bool:
        if self.was is None or self.now is None:
            return False
        return abs(self.now - self.was) * 10_000 <= TOLERANCE_BPS * self.was


def _open(seats: int = 10) -> CreateRun:
    return CreateRun(run="run1", by="host", price_inr=Decimal(20_000), seats=seats, starts=9 * _DAY)


def _booked() -> list[Action]:
    return [_open(), *(Book(booking=f"of-{guest}", run="run1", by=guest, seats=1) for guest in GUESTS)]


def _complete(*attended: str) -> Complete:
    return Complete(at=9 * _DAY, run="run1", attended=tuple(f"of-{guest}" for guest in attended))


_REFUSED: list[Action] = [
    _open(1),
    Book(booking="of-refuser", run="run1", by="refuser", seats=1),
    CancelRun(run="run1"),
    Withdraw(by="refuser", to="host"),
]
LIFECYCLES: Mapping[str, tuple[list[Action], Mapping[int, str]]] = {
    "everybody-comes": (
        [*_booked(), _complete(*GUESTS), WithdrawFees()],
        {
            1: "the platform opens a run for a host",
            2: "the platform books a seat for an attendee, the first one of the run",
            3: "the platform books another seat for another attendee",
            11: "the last seat of ten is booked, the run is full",
            12: "a run of ten bookings is completed, everybody came",
            13: "the platform withdraws its fees",
        },
    ),
    "half-come": ([*_booked(), _complete(*GUESTS[:5])], {12: "a run of ten bookings is completed, five came"}),
    "nobody-comes": ([*_booked(), _complete()], {12: "a run of ten bookings is completed, nobody came"}),
    "cancelled": ([*_booked(), CancelRun(run="run1")], {12: "a run of ten bookings is cancelled"}),
    "booking-cancelled": ([*_booked(), CancelBooking(booking="of-guest5")], {12: "a booking is cancelled"}),
    "expired": ([*_booked(), Expire(at=20 * _DAY, run="run1")], {12: "a run of ten bookings expires"}),
    "refused": (
        _REFUSED,
        {
            3: "a run is cancelled whose one attendee takes no ether",
            4: "a deferred payout is withdrawn to another account",
        },
    ),
    "by-themselves": (
        [
            CreateRun(run="run1", by="payer", price_inr=Decimal(20_000), seats=2, starts=9 * _DAY),
            Book(booking="of-payer", run="run1", by="payer", seats=1),
        ],
        {1: "a host opens a run", 2: "an attendee books a seat"},
    ),
}


def measure(environment: Environment) -> dict[str, int]:
    """Gas by sentence, of those that the contract can do. Raises `GasError` where a scenario of it has findings."""
    return dict(_measured(environment))


def _measured(environment: Environment) -> Iterator[tuple[str, int]]:
    actors = {"host": Actor(), "payer": Actor(pays="self"), "refuser": Actor(receiver="refuses")}
    actors |= {guest: Actor() for guest in GUESTS}
    for name, (actions, sentences) in LIFECYCLES.items():
        scenario = Scenario(
            name=name, story="What it costs.", strict=False, actors=_only(actors, actions), actions=tuple(actions)
        )
        played = run_scenario(environment, scenario)
        if played.findings:
            raise GasError(f"{name}: {played.findings[0].message}")
        spent = {row.step: row.gas for row in played.rows if row.action != "payout" and row.outcome == "ok"}
        yield from ((sentence, spent[step]) for step, sentence in sentences.items() if spent.get(step))


def _only(actors: Mapping[str, Actor], actions: list[Action]) -> dict[str, Actor]:
    named = {getattr(action, field, None) for action in actions for field in ("by", "to")}
    return {name: actor for name, actor in actors.items() if name in named}


def table() -> Path:
    """The project's committed gas table: `gas` in `[tool.stakesim]`, else `gas.json` at its root."""
    project = current_project()
    return project.gas or project.root / "gas.json"


def committed(file: Path | None = None) -> dict[str, int]:
    """Gas by sentence, as it was last reviewed; empty where that was for another compiler.

    Raises:
        GasError: The file is no such table.
    """
    file = file or table()
    if not file.exists():
        return {}
    try:
        reviewed: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        gas, compiler = reviewed["gas"], reviewed["compiler"]
        known = {str(sentence): int(units) for sentence, units in gas.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise GasError(f"{file} is no gas table: remove it, then `stakesim gas --write` writes one.") from None
    return known if compiler == compiler_version() else {}


def write(gas: Mapping[str, int], file: Path | None = None) -> None:
    reviewed = {
        "unit": "gas used by the transaction",
        "compiler": compiler_version(),
        "tolerance_bps": TOLERANCE_BPS,
        "gas": dict(gas),
    }
    (file or table()).write_text(json.dumps(reviewed, indent=2) + "\n")


def changes(was: Mapping[str, int], now: Mapping[str, int]) -> list[Change]:
    """One for each sentence of either."""
    return [Change(sentence, was.get(sentence), now.get(sentence)) for sentence in {**was, **now}]
