"""One step of a scenario, before and after: all that invariants look at.

All amounts are wei, all times seconds since 1970. Accounts are called by the name of their party.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from stakesim.backend import Rows
from stakesim.evm.abi import Event
from stakesim.model.reference import Booking, ExpectedOutcome, Run, State
from stakesim.runner.causes import Cause
from stakesim.runner.event_replay import EventReplay
from stakesim.runner.observe import ContractState
from stakesim.scenario.actions import Action

_READ_AT_TIMES = ("booking_lists", "seat_costs")
"""Parts of the contract's state that are not read after every step."""


class MinedTransaction(NamedTuple):
    """A transaction in a block.

    Attributes:
        hash: None where it was not signed.
        sender: The party; or the address where it belongs to no party.
        ok: It did not revert.
        gas_used: Units of gas.
        fee: Wei paid for gas.
        events: Decoded events of the stake contract.
    """

    hash: str | None
    sender: str
    ok: bool
    gas_used: int
    fee: int
    events: tuple[Event, ...]


class BlockedExit(NamedTuple):
    """A way for money to leave the contract that is shut.

    Attributes:
        message: Which exit is shut, and why.
        locked: Wei behind it.
        cause: `OUT_OF_GAS` where the exit needs more gas than there is.
    """

    message: str
    locked: int
    cause: Cause | None = None


@dataclass(frozen=True)
class ActualOutcome:
    """What an action did in the system under test.

    Attributes:
        status: "ok", "skipped", "rejected" before anything was sent, or "reverted" on chain.
        error: Name of the error.
        args: Arguments of the error, with accounts called by their party.
        message: The error in words.
    """

    status: str
    error: str | None = None
    args: tuple[Any, ...] = ()
    message: str = ""

    @property
    def failed(self) -> bool:
        """It was rejected or reverted."""
        return self.status in ("rejected", "reverted")


@dataclass(frozen=True)
class Step:
    """One action, before and after: in the model, on the chain, in the database and by the events.

    Attributes:
        action: What was to be done.
        expected: What the model says must happen.
        actual: What happened.
        transactions: All that were mined in this step, whoever sent them.
        model_before: The model before the action.
        model: The model after it.
        initial: The contract's state at the start of the scenario.
        before: The contract's state before the action.
        after: The contract's state after it.
        replay: The contract's events so far.
        rows: Rows of the backend; None where no database is driven.
        gas_paid: Wei paid for gas since the start of the scenario, by party.
        gas_budget: Units of gas that a transaction may use; None without a budget.
        blocked_exits: Exits found shut at the end of the scenario.
        has_specified_errors: The contract fails with the errors that the rules name; else with words of its own.
    """

    action: Action
    expected: ExpectedOutcome
    actual: ActualOutcome
    transactions: Sequence[MinedTransaction]
    model_before: State
    model: State
    initial: ContractState
    before: ContractState
    after: ContractState
    replay: EventReplay
    rows: Rows | None
    gas_paid: Mapping[str, int] = field(default_factory=dict)
    gas_budget: int | None = None
    blocked_exits: Sequence[BlockedExit] = ()
    has_specified_errors: bool = True

    @property
    def ok(self) -> bool:
        """The action succeeded."""
        return self.actual.status == "ok"

    def fee(self, party: str) -> int:
        """Wei that this party paid for gas in this step."""
        return sum(transaction.fee for transaction in self.transactions if transaction.sender == party)

    def gain(self, party: str) -> int:
        """Wei that this party got out of the contract in this step, in wallet and credit, less what it paid in."""
        return self.wallet_gain(party) + self.after.credits[party] - self.before.credits[party]

    def wallet_gain(self, party: str) -> int:
        """Change of the wallet in this step in wei, gas apart."""
        return self.after.wallets[party] - self.before.wallets[party] + self.fee(party)

    def events(self, name: str) -> list[Event]:
        """Events of this name in this step."""
        return [event for transaction in self.transactions for event in transaction.events if event.name == name]

    def run(self, label: str) -> Run | None:
        """The model's run of this label."""
        return self.model.runs.get(label)

    def booking(self, label: str) -> Booking | None:
        """The model's booking of this label."""
        return self.model.bookings.get(label)

    def changes(self) -> Iterator[str]:
        """Names of the parts of the contract's state that this step changed, gas apart."""
        for part in fields(ContractState):
            if part.name in _READ_AT_TIMES:
                continue
            before, after = getattr(self.before, part.name), getattr(self.after, part.name)
            if part.name == "wallets":
                after = {party: wei + self.fee(party) for party, wei in after.items()}
            if before != after:
                yield part.name.replace("_", " ")
