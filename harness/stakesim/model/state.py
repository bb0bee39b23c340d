"""What the reference model knows of the world: the state between two actions, and what an action came to.

All amounts are wei, all times seconds since 1970. A party is an address, called by its actor's name; actors
without a wallet share the platform's. States are immutable: an action makes a new one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Literal, TypeAlias

from stakesim.scenario.actions import PLATFORM, Actor, ErrorName, Terms

Party: TypeAlias = str


class RunStatus(IntEnum):
    CREATED = 0  # unused: a run is ACTIVE from the start
    ACTIVE = 1
    FULL = 2
    COMPLETED = 3
    CANCELLED = 4
    EXPIRED = 5


class BookingStatus(IntEnum):
    ACTIVE = 0
    COMPLETED = 1
    NO_SHOW = 2
    CANCELLED = 3


OPEN = (RunStatus.ACTIVE, RunStatus.FULL)


@dataclass(frozen=True, slots=True)
class Run:
    """actor: who hosts; host: the address on chain. seats_booked stays as it was when the run became final. direct:
    made past the service, which does not know it."""

    id: int
    label: str
    actor: str
    host: Party
    price: int
    max_seats: int
    host_stake: int
    start: int
    created_at: int
    seats_booked: int = 0
    status: RunStatus = RunStatus.ACTIVE
    direct: bool = False

    @property
    def open(self) -> bool:
        return self.status in OPEN


@dataclass(frozen=True, slots=True)
class Booking:
    """run: its label. actor: who booked; attendee: the address on chain. direct: made past the service."""

    id: int
    label: str
    run: str
    actor: str
    attendee: Party
    seats: int
    payment: int
    stake: int
    booked_at: int
    status: BookingStatus = BookingStatus.ACTIVE
    direct: bool = False

    @property
    def active(self) -> bool:
        return self.status == BookingStatus.ACTIVE

    @property
    def paid(self) -> int:
        return self.payment + self.stake


@dataclass(frozen=True, slots=True)
class PriceReading:
    """A rate that `set_price` gave. as_of: when it was true; None: the feed keeps it fresh."""

    rate: Decimal
    as_of: int | None


@dataclass(frozen=True, slots=True)
class State:
    """The contract, the wallets and the price feed at one moment.

    epoch: time of the scenario's second 0. now: time of the last action.
    runs, bookings: by label, in the order of their ids, which count from 1.
    paid_in, received, wallet_flow: by party; received counts what was pushed or became a credit, wallet_flow is the
        change of the wallet apart from gas.
    paid_out: wei that left the contract. forced: wei forced into it, part of contract_balance and of no paid_in.
    feed: overrides the market's rate. last_rate: the last one accepted for a quote.
    full_interface: whether the contract has all of `EventStake`, or only the interface that is deployed on Sepolia:
        runs that never expire can be completed for ever, and how large a run may be is the contract's own affair.
    """

    terms: Terms
    actors: Mapping[str, Actor]
    epoch: int
    now: int
    runs: Mapping[str, Run]
    bookings: Mapping[str, Booking]
    credits: Mapping[Party, int]
    paid_in: Mapping[Party, int]
    received: Mapping[Party, int]
    wallet_flow: Mapping[Party, int]
    platform_balance: int = 0
    contract_balance: int = 0
    paid_out: int = 0
    forced: int = 0
    feed: PriceReading | None = None
    last_rate: Decimal | None = None
    full_interface: bool = True

    def bookings_of(self, run: Run) -> Iterator[Booking]:
        return (b for b in self.bookings.values() if b.run == run.label)

    def active_bookings_of(self, run: Run) -> list[Booking]:
        return [b for b in self.bookings_of(run) if b.active]


def initial_state(terms: Terms, actors: Mapping[str, Actor], epoch: int, full_interface: bool = True) -> State:
    """A freshly deployed contract. epoch: time of the scenario's second 0, in seconds since 1970."""
    return State(terms, actors, epoch, epoch, {}, {}, {}, {}, {}, {}, full_interface=full_interface)


def party_of(state: State, actor: str) -> Party:
    """The address an actor is entered under: the platform's, for one without a wallet."""
    return PLATFORM if actor == PLATFORM or state.actors[actor].wallet == "none" else actor


def escrow(state: State) -> int:
    """Payments and stakes of active bookings and the hosts' stakes of open runs."""
    held = sum(b.paid for b in state.bookings.values() if b.active)
    return held + sum(r.host_stake for r in state.runs.values() if r.open)


def liabilities(state: State) -> int:
    """Everything the contract owes: escrow, credits and what the platform earned."""
    return escrow(state) + sum(state.credits.values()) + state.platform_balance


Reason: TypeAlias = Literal[
    "stake returned",
    "refund",
    "refund and compensation",
    "host payout",
    "host stake returned",
    "credit withdrawn",
    "platform fees",
]


@dataclass(frozen=True, slots=True)
class Payout:
    """Wei for a party. deferred: could not be pushed and became a credit. A "host payout" includes the stake."""

    to: Party
    wei: int
    reason: Reason
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedOutcome:
    """What an action came to.

    status: "rejected" is what an estimate or the service refuses, and what reverts if it is sent all the same;
        "skipped" names a run or booking that does not exist, so that nothing is sent.
    actor: who takes the action. signer: the address that sends it, and pays; None where no transaction is sent.
    error, args: as the contract's custom error has them, with addresses as parties and enums as numbers.
    value: wei sent along, which come back if it fails. paid_in: wei of runs and bookings that stayed.
    price: wei a seat that `create_run` asked for.
    optional: the contract may refuse it as well.
    """

    status: Literal["ok", "rejected", "skipped"]
    actor: str | None = None
    signer: Party | None = None
    error: ErrorName | None = None
    args: tuple[int | str, ...] = ()
    value: int = 0
    paid_in: int = 0
    price: int | None = None
    payouts: tuple[Payout, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """An action as the contract sees it: who sends it, with how much, and how much is due.

    price: wei a seat, where a run is created.
    """

    actor: str
    sender: Party
    value: int = 0
    due: int = 0
    price: int | None = None


class RefusedError(Exception):
    """An action must fail, with this error and these arguments."""

    def __init__(self, error: ErrorName, *args: int | str) -> None:
        super().__init__(error, *args)
        self.error: ErrorName = error
        self.arguments = args


RuleResult: TypeAlias = tuple[State, tuple[Payout, ...]]
"""What a rule comes to: the state after it, and the payouts made."""
