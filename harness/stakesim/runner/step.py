"""One step of a scenario, before and after: all that invariants look at.

All amounts are wei, all times seconds since 1970. Accounts are called by the name of their party.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from app.services.codec import Event

from stakesim.runner.picture import Books, Picture
from stakesim.scenario.actions import Action
from stakesim.scenario.model import Booking, Outcome, Run, State


class Sent(NamedTuple):
    """One transaction as the chain saw it. sender: party, or address where it is none. fee: wei paid for gas."""

    hash: str
    sender: str
    ok: bool
    gas_used: int
    fee: int
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Observed:
    """What an action came to in the service and on the chain.

    status: rejected before anything was sent, or reverted on chain. args: as the error has them.
    """

    status: str
    error: str | None = None
    args: tuple[Any, ...] = ()
    message: str = ""


class RunRow(NamedTuple):
    """A run in the database. amounts in wei; rate in INR per ETH, as quoted when the run was created."""

    chain_id: int | None
    confirmed: bool
    status: str
    price_inr: Decimal
    price_wei: int | None
    stake_wei: int | None
    rate: Decimal | None


class BookingRow(NamedTuple):
    """A booking in the database. amounts in wei; total_inr as quoted, at `rate` INR per ETH."""

    chain_id: int | None
    confirmed: bool
    status: str
    total_inr: Decimal | None
    payment_wei: int | None
    stake_wei: int | None
    rate: Decimal | None
    seats: int


class Rows(NamedTuple):
    runs: Sequence[RunRow] = ()
    bookings: Sequence[BookingRow] = ()


@dataclass(frozen=True)
class Step:
    """One action, before and after, in the model, on the chain, in the database and by the events.

    fees: wei each party has paid for gas since the scenario began. blocked: exits that are shut, found at the end on
    a snapshot, and the wei behind them. own_errors: whether the contract fails with the errors that the rules name.
    """

    action: Action
    expected: Outcome
    observed: Observed
    sent: Sequence[Sent]
    model_before: State
    model: State
    first: Picture
    before: Picture
    after: Picture
    books: Books
    rows: Rows
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
