"""The data of the reference model: the state between two actions, and the outcome that an action must have.

All amounts are wei, all times seconds since 1970. Rules change a `State` in place. They replace its runs, bookings and
payments and never change them, so that a copy keeps what it shows.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import IntEnum
from typing import Any, Literal, NamedTuple, TypeAlias

from stakesim.scenario.actions import PLATFORM, Actor, ReceiverMode, Terms
from stakesim.scenario.base_action import ErrorName

EXPERIENCE_ID = str(uuid.uuid5(uuid.UUID("6f8c1f5e-6f0a-5d0b-9c55-0a1d2f3b4c5d"), "experience"))
"""Id of the one experience of every scenario. Always the same, as it goes on chain and so into gas."""

MAX_SEATS = 200
"""Seats of the largest run that `EventStake` takes."""

Party: TypeAlias = str
"""An address on chain, named after its actor. Actors without a wallet share the platform's."""


def readable(value: Any) -> Any:
    """A value as it is read from the chain: in a text, what is no UTF-8 is replaced."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return tuple(map(readable, value)) if isinstance(value, tuple) else value


Reason: TypeAlias = Literal[
    "stake returned",
    "refund",
    "refund and compensation",
    "host payout",
    "host stake returned",
    "credit withdrawn",
    "platform fees",
]
"""What a payout is."""

Liberty: TypeAlias = Reason | Literal["excess", "ether", "no experience"]
"""What a contract that has only the interface deployed on Sepolia does otherwise than the rules.

- A `Reason`: a payout of this kind that its receiver refuses makes the whole call fail.
- "excess": wei beyond what is due are taken, and belong to nobody.
- "ether": plain ether is taken, and belongs to nobody.
- "no experience": a run needs no experience id.
"""


class RunStatus(IntEnum):
    """The status of a run, with the contract's numbers."""

    CREATED = 0
    """Unused: a run is active from its creation."""
    ACTIVE = 1
    FULL = 2
    COMPLETED = 3
    CANCELLED = 4
    EXPIRED = 5


class BookingStatus(IntEnum):
    """The status of a booking, with the contract's numbers."""

    ACTIVE = 0
    COMPLETED = 1
    """The attendee attended."""
    NO_SHOW = 2
    CANCELLED = 3
    """The attendee was refunded: the booking or the run was cancelled, or the run expired."""


OPEN = (RunStatus.ACTIVE, RunStatus.FULL)


@dataclass(frozen=True, slots=True)
class Run:
    """An event run.

    Attributes:
        id: The contract's id, counted from 1.
        label: The scenario's label.
        actor: The actor who hosts the run.
        host: The host's address.
        experience: The id of what is hosted.
        price: Price of a seat in wei.
        max_seats: Seats of the run.
        host_stake: The host's stake in wei.
        start: Start of the event.
        created_at: Time of creation.
        seats_booked: Seats of the active bookings. A run that is final keeps its number.
        status: The status.
        direct: Whether a direct action created the run, so that the backend does not know it.
    """

    id: int
    label: str
    actor: str
    host: Party
    experience: str
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
        """Whether the run is not final."""
        return self.status in OPEN


@dataclass(frozen=True, slots=True)
class Booking:
    """A booking.

    Attributes:
        id: The contract's id, counted from 1.
        label: The scenario's label.
        run: The label of the run.
        actor: The actor who booked.
        attendee: The attendee's address.
        seats: Seats of the booking.
        payment: Price of the seats in wei.
        stake: The attendee's stake in wei.
        booked_at: Time of the booking.
        status: The status.
        direct: Whether a direct action created the booking, so that the backend does not know it.
    """

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
        """Whether the booking is not final."""
        return self.status == BookingStatus.ACTIVE

    @property
    def paid(self) -> int:
        """Payment and stake in wei."""
        return self.payment + self.stake


@dataclass(frozen=True, slots=True)
class InrPayment:
    """What somebody was to pay, or paid, for a run or booking that the platform sends the wei for. Amounts are paise.

    Attributes:
        payer: The actor who pays.
        purpose: What it is for; "unexpected": for nothing, as nobody asked for this amount.
        label: The label of the run or booking.
        captured: What the platform got.
        refunded: What went back.
        status: "expired": it was not paid; "used": the platform sent wei for it; "refunded": it went back, whole or in
            part.
        stake: The part that is the stake.
        to_custody: Whether the contract pays the platform's address, so that the person gets INR instead.
        disputed: Whether the bank took the INR back.
    """

    payer: str
    purpose: Literal["run", "booking", "unexpected"]
    label: str
    captured: int = 0
    refunded: int = 0
    status: Literal["expired", "used", "refunded"] = "expired"
    stake: int = 0
    to_custody: bool = False
    disputed: bool = False


@dataclass(frozen=True, slots=True)
class PriceReading:
    """A rate that `set_price` gave the price feed.

    Attributes:
        rate: INR per ETH.
        as_of: When the rate was true; None: the feed keeps it fresh.
    """

    rate: Decimal
    as_of: int | None


class ReceiverScript(NamedTuple):
    """What a contract that can be told to do so does with ether that is sent to it.

    Attributes:
        how: See `ReceiverMode`.
        call: What it calls first, as the sender; None: nothing.
        look: The view that it looks at, and its arguments; None: none.
    """

    how: ReceiverMode
    call: ContractCall | None = None
    look: tuple[str, tuple[Any, ...]] | None = None


@dataclass(slots=True)
class State:
    """The contract, the wallets and the price feed between two actions.

    Attributes:
        terms: The terms that the contract was deployed with.
        actors: The actors by name.
        epoch: Time of the scenario's second 0.
        now: Time of the last action.
        runs: Runs by label, in the order of their ids.
        bookings: Bookings by label, in the order of their ids.
        last_run_id: The id of the run that was created last.
        last_booking_id: The id of the booking that was made last.
        run_labels: Labels of runs by id.
        booking_labels: Labels of bookings by id.
        bookings_by_run: Labels of all bookings of each run, by the run's label, in the order of their ids.
        receivers: What contracts that can be told to do so do with ether, by party; for others see `Actor.receiver`.
        escrow: Payments and stakes of active bookings, and the hosts' stakes of open runs, in wei.
        credits: Wei that each party can withdraw.
        paid_in: Wei that each party paid for runs and bookings.
        received: Wei that each party received, pushed or as a credit.
        wallet_flow: The change of each party's wallet in wei, without gas.
        platform_balance: Wei that the platform earned and did not withdraw.
        contract_balance: The contract's balance in wei.
        paid_out: Wei that left the contract.
        forced_wei: Wei that were forced into the contract; part of `contract_balance`, but of no `paid_in`.
        price_reading: What `set_price` gave the price feed; None: the feed follows the market.
        last_accepted_rate: The last rate in INR per ETH that a quote was made from.
        payments: Payments in INR, in the order in which they were asked for.
        takes_payments: Whether people pay INR for what the platform sends.
        owner: Who owns the contract.
        pending_owner: Whom the ownership was offered to; None: nobody.
        operators: Who acts for the platform beside the owner.
        paused: Whether new runs and bookings are stopped.
        full_interface: Whether the contract has all functions of `EventStake`. If not, it has only the interface that
            is deployed on Sepolia: a run can't expire but can be completed at any later time.
        max_seats: Seats of the largest run that the contract takes.
        pays_by_credit: Whether the contract pushes no payout: everybody withdraws what they are paid.
        fees_by_credit: Whether the platform's fees, too, are then a credit of the owner.
        liberties: What the contract does otherwise than the rules, and is nevertheless judged by: see `Liberty`.
    """

    terms: Terms
    actors: Mapping[str, Actor]
    epoch: int
    now: int
    runs: dict[str, Run] = field(default_factory=dict)
    bookings: dict[str, Booking] = field(default_factory=dict)
    last_run_id: int = 0
    last_booking_id: int = 0
    run_labels: dict[int, str] = field(default_factory=dict)
    booking_labels: dict[int, str] = field(default_factory=dict)
    bookings_by_run: dict[str, tuple[str, ...]] = field(default_factory=dict)
    receivers: dict[Party, ReceiverScript] = field(default_factory=dict)
    escrow: int = 0
    credits: dict[Party, int] = field(default_factory=dict)
    paid_in: dict[Party, int] = field(default_factory=dict)
    received: dict[Party, int] = field(default_factory=dict)
    wallet_flow: dict[Party, int] = field(default_factory=dict)
    platform_balance: int = 0
    contract_balance: int = 0
    paid_out: int = 0
    forced_wei: int = 0
    price_reading: PriceReading | None = None
    last_accepted_rate: Decimal | None = None
    payments: tuple[InrPayment, ...] = ()
    takes_payments: bool = True
    owner: Party = PLATFORM
    pending_owner: Party | None = None
    operators: frozenset[Party] = frozenset()
    paused: bool = False
    full_interface: bool = True
    max_seats: int = MAX_SEATS
    pays_by_credit: bool = False
    fees_by_credit: bool = False
    liberties: frozenset[Liberty] = frozenset()

    def copy(self) -> State:
        """Returns a state that later changes of this one do not reach."""
        return replace(
            self,
            runs=self.runs.copy(),
            bookings=self.bookings.copy(),
            run_labels=self.run_labels.copy(),
            booking_labels=self.booking_labels.copy(),
            bookings_by_run=self.bookings_by_run.copy(),
            receivers=self.receivers.copy(),
            credits=self.credits.copy(),
            paid_in=self.paid_in.copy(),
            received=self.received.copy(),
            wallet_flow=self.wallet_flow.copy(),
        )

    def bookings_of(self, run: Run) -> list[Booking]:
        """All bookings of a run, in the order of their ids."""
        return [self.bookings[label] for label in self.bookings_by_run.get(run.label, ())]

    def active_bookings_of(self, run: Run) -> list[Booking]:
        """The active bookings of a run, in the order of their ids."""
        return [booking for booking in self.bookings_of(run) if booking.active]

    def acts_for_platform(self, party: Party) -> bool:
        """Whether the party is the owner or an operator."""
        return party == self.owner or party in self.operators


def initial_state(
    terms: Terms,
    actors: Mapping[str, Actor],
    epoch: int,
    *,
    full_interface: bool = True,
    takes_payments: bool = True,
    max_seats: int = MAX_SEATS,
    pays_by_credit: bool = False,
    fees_by_credit: bool = False,
    liberties: frozenset[Liberty] = frozenset(),
) -> State:
    """The state of a contract that was just deployed.

    Args:
        terms: The terms that it was deployed with.
        actors: The scenario's actors by name.
        epoch: Time of the scenario's second 0, in seconds since 1970.
        full_interface: Whether it has all functions of `EventStake`.
        takes_payments: Whether people pay INR for what the platform sends.
        max_seats: Seats of the largest run that the contract takes.
        pays_by_credit: Whether the contract pushes no payout.
        fees_by_credit: Whether the platform's fees, too, are then a credit.
        liberties: What the contract does otherwise than the rules.
    """
    return State(
        terms,
        actors,
        epoch,
        epoch,
        full_interface=full_interface,
        takes_payments=takes_payments,
        max_seats=max_seats,
        pays_by_credit=pays_by_credit,
        fees_by_credit=fees_by_credit,
        liberties=liberties,
    )


def party_of(state: State, actor: str) -> Party:
    """The address that stands for an actor on chain: the platform's for an actor without a wallet."""
    return PLATFORM if actor == PLATFORM or state.actors[actor].wallet == "none" else actor


def liabilities(state: State) -> int:
    """Everything that the contract owes, in wei: escrow, credits, and what the platform earned."""
    return state.escrow + sum(state.credits.values()) + state.platform_balance


@dataclass(frozen=True, slots=True)
class Payout:
    """Wei that the contract pays to a party.

    Attributes:
        to: The receiver.
        wei: The amount.
        reason: What is paid. A "host payout" includes the host's stake.
        deferred: Whether the receiver refused the ether, so that the amount became a credit.
    """

    to: Party
    wei: int
    reason: Reason
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class ExpectedOutcome:
    """The outcome that an action must have by the rules.

    Attributes:
        status: "ok"; "rejected": the backend or the gas estimate refuses the action, and it reverts if it is sent all
            the same; "skipped": the run or booking does not exist, so that nothing is sent.
        actor: Who takes the action; None for those that nobody takes.
        signer: The address that sends the transaction and pays for it; None where none is sent.
        error: The error of a rejected action.
        args: The error's arguments; addresses are parties, enums numbers.
        value: Wei sent along, which come back if the action fails.
        paid_in: Wei of the run or booking that the action paid for.
        price: Price of a seat in wei, where a run is created.
        payouts: What the contract pays.
        events: What the contract logs; empty if it fails.
        wrong_reentries: See `Effects`.
        optional: Whether a contract other than `EventStake` may refuse the action.
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
    events: tuple[ExpectedEvent, ...] = ()
    wrong_reentries: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """An action as the contract sees it.

    Attributes:
        actor: Who takes the action.
        sender: The address that sends the transaction.
        value: Wei sent along.
        due: Wei that the contract demands.
        price: Price of a seat in wei, where a run is created.
    """

    actor: str
    sender: Party
    value: int = 0
    due: int = 0
    price: int | None = None


class RefusedError(Exception):
    """The rules refuse an action, with a contract error and its arguments."""

    def __init__(self, error: ErrorName, *args: int | str) -> None:
        super().__init__(error, *args)
        self.error: ErrorName = error
        self.arguments = args


class ContractCall(NamedTuple):
    """A call of the contract.

    Attributes:
        sender: The address that sends it.
        function: The function's name.
        args: Its arguments; addresses are parties.
        value: Wei sent along.
        label: The label of the run or booking that it makes; None: its id.
        actor: The actor who makes it; None: the party that it is for.
        direct: Whether the backend does not know what it makes.
    """

    sender: Party
    function: str
    args: tuple[Any, ...] = ()
    value: int = 0
    label: str | None = None
    actor: str | None = None
    direct: bool = True


ExpectedEvent: TypeAlias = tuple[Any, ...]
"""An event that the contract must emit: its name and its arguments; addresses are parties."""


@dataclass(slots=True)
class Effects:
    """What a successful call did.

    Attributes:
        payouts: What the contract paid, in the model's order, which need not be the contract's.
        events: What it must log, in the model's order.
        returned: The id that it returns; None: it returns nothing.
        wrong_reentries: Calls made by receivers while they were paid that must have failed, and did not.
    """

    payouts: list[Payout] = field(default_factory=list)
    events: list[ExpectedEvent] = field(default_factory=list)
    returned: int | None = None
    wrong_reentries: list[str] = field(default_factory=list)
