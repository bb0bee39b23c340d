"""One step of a scenario, before and after: all that invariants look at.

All amounts are wei, all times seconds since 1970. Accounts are called by the name of their party.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stakesim.backend import Rows
from stakesim.evm.abi import Event
from stakesim.model.reference import Booking, ExpectedOutcome, Run, State
from stakesim.runner.observe import ContractState, EventReplay
from stakesim.scenario.actions import Action


class MinedTransaction(NamedTuple):
    """A transaction in a block. hash: None where it was not signed. sender: party, or address where it is none. fee:
    wei paid for gas."""

    hash: str | None
    sender: str
    ok: bool
    gas_used: int
    fee: int
    events: tuple[Event, ...]


@dataclass(frozen=True)
class ActualOutcome:
    """What an action came to in the system under test.

    status: ok, skipped, "rejected" before anything was sent, or "reverted" on chain. args: as the error has them, with
    accounts called by their party.
    """

    status: str
    error: str | None = None
    args: tuple[Any, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class Step:
    """One action, before and after, in the model, on the chain, in the database and by the events.

    fees: wei each party has paid for gas since the scenario began. blocked: exits that are shut, found at the end on
    a snapshot, and the wei behind them. own_errors: whether the contract fails with the errors that the rules name.
    rows: None where no database is driven.
    """

    action: Action
    expected: ExpectedOutcome
    observed: ActualOutcome
    sent: Sequence[MinedTransaction]
    model_before: State
    model: State
    first: ContractState
    before: ContractState
    after: ContractState
    books: EventReplay
    rows: Rows | None
    fees: Mapping[str, int] = field(default_factory=dict)
    budget: int | None = None
    blocked: Sequence[tuple[str, int]] = ()
    own_errors: bool = True

    @property
    def ok(self) -> bool:
        return self.observed.status == "ok"

    def fee(self, party: str) -> int:
        """Wei this party paid for gas in this step."""
        return sum(sent.fee for sent in self.sent if sent.sender == party)

    def gain(self, party: str) -> int:
        """Wei this party got out of the contract in this step, less what it paid in: wallet and credit together."""
        return self.wallet_gain(party) + self.after.credits[party] - self.before.credits[party]

    def wallet_gain(self, party: str) -> int:
        """Change of the wallet in this step apart from gas."""
        return self.after.wallets[party] - self.before.wallets[party] + self.fee(party)

    def events(self, name: str) -> list[Event]:
        return [event for sent in self.sent for event in sent.events if event.name == name]

    def run(self, label: str) -> Run | None:
        return self.model.runs.get(label)

    def booking(self, label: str) -> Booking | None:
        return self.model.bookings.get(label)
