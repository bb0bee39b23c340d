"""One step of a scenario, before and after: the input of all invariants.

All amounts are in wei, all times in seconds since 1970. Names of parties stand for addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeAlias

from stakesim.backend import Rows
from stakesim.evm.abi import Event
from stakesim.model.state import Booking, ExpectedOutcome, Run, State
from stakesim.runner.causes import Cause
from stakesim.runner.event_replay import EventReplay
from stakesim.runner.observe import ContractState
from stakesim.scenario.actions import Action

_READ_AT_TIMES = ("booking_lists", "seat_costs")
"""Parts of the contract's state that are not read after every step."""


class MinedTransaction(NamedTuple):
    """A transaction in a block.

    Attributes:
        hash: Transaction hash; None if it was not signed.
        sender: The party; the address if it belongs to no party.
        ok: Whether it succeeded.
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


WayOut: TypeAlias = Literal["complete", "cancel", "expire", "credit", "fees"]
"""How money leaves the contract: a run is closed, a credit or the fees are withdrawn."""


class BlockedExit(NamedTuple):
    """A call that must pay out money, and fails.

    Attributes:
        message: Which exit is blocked, and why.
        locked: Wei that must leave the contract.
        way: What kind of exit: "complete", "cancel", "expire" for a run, "credit" or "fees".
        locks_run: The run can't be closed in any other way either, unless its host does it.
        obtained: Wei that left the contract all the same.
        party: Whose credit it is.
        cause: `OUT_OF_GAS` if the exit needs more gas than a transaction may have.
    """

    message: str
    locked: int
    way: WayOut
    locks_run: bool = False
    obtained: int = 0
    party: str | None = None
    cause: Cause | None = None


@dataclass(frozen=True)
class ActualOutcome:
    """Outcome of an action in the system under test.

    Attributes:
        status: "ok", "skipped", "rejected" before a transaction was sent, or "reverted" on chain.
        error: Name of the error.
        args: Arguments of the error, with names of parties for addresses.
        message: The error in words.
    """

    status: str
    error: str | None = None
    args: tuple[Any, ...] = ()
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether the action was rejected or reverted."""
        return self.status in ("rejected", "reverted")


@dataclass(frozen=True)
class Step:
    """One action, before and after: in the model, on the chain, in the database and by the events.

    Attributes:
        action: The action.
        expected: Outcome in the model.
        actual: Outcome in the system under test.
        transactions: All transactions mined in this step, of any sender.
        model_before: The model before the action.
        model: The model after it.
        initial: The contract's state at the start of the scenario.
        before: The contract's state before the action.
        after: The contract's state after it.
        replay: State of the contract, replayed from all events so far.
        rows: Rows of the backend's database; None without a database.
        gas_paid: Wei paid for gas since the start of the scenario, by party.
        gas_budget: Units of gas that a transaction may use; None without a budget.
        blocked_exits: Exits that were blocked at the end of the scenario; empty at any other step.
        wrong_views: A sentence for each view that said something else while a receiver was paid than after it, and at
            the end of the scenario for each one that does not say what the model says.
        has_specified_errors: The contract reverts with the errors that the rules name; else with errors of its own.
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
    wrong_views: Sequence[str] = ()
    has_specified_errors: bool = True

    @property
    def ok(self) -> bool:
        """Whether the action succeeded."""
        return self.actual.status == "ok"

    def fee(self, party: str) -> int:
        """Wei that this party paid for gas in this step."""
        return sum(transaction.fee for transaction in self.transactions if transaction.sender == party)

    def gain(self, party: str) -> int:
        """Wei that this party received in this step, in wallet and credit, less the wei that it paid in."""
        return self.wallet_gain(party) + self.after.credits[party] - self.before.credits[party]

    def wallet_gain(self, party: str) -> int:
        """Change of the wallet in this step, in wei, without the gas fees."""
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
        """Names of the parts of the contract's state that this step changed. Gas fees are no change."""
        for part in fields(ContractState):
            if part.name in _READ_AT_TIMES:
                continue
            before, after = getattr(self.before, part.name), getattr(self.after, part.name)
            if part.name == "wallets":
                after = {party: wei + self.fee(party) for party, wei in after.items()}
            if before != after:
                yield part.name.replace("_", " ")
