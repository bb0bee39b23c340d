"""What a stake contract says about itself, and what its events say: the two views that invariants compare.

All amounts are wei, all times seconds since 1970. Accounts are called by the name of their party.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from stakesim.evm.abi import ContractAbi, Event
from stakesim.evm.client import ChainClient
from stakesim.model.reference import BookingStatus, RunStatus


class RunView(NamedTuple):
    """`getEventRun`, field by field."""

    id: int
    host: str
    experience: str
    price: int
    max_seats: int
    seats_booked: int
    host_stake: int
    start: int
    status: int
    stake_withdrawn: bool
    created_at: int

    @property
    def open(self) -> bool:
        return self.status in (RunStatus.ACTIVE, RunStatus.FULL)


class BookingView(NamedTuple):
    """`getBooking`, field by field."""

    id: int
    run_id: int
    user: str
    seats: int
    payment: int
    stake: int
    status: int
    booked_at: int

    @property
    def active(self) -> bool:
        return self.status == BookingStatus.ACTIVE


@dataclass(frozen=True)
class ContractState:
    """The contract and all wallets at one moment, in wei.

    lists: `getEventBookings` by run, where it was asked for. costs: `calculateBookingCost` of one seat by run, for runs
    that are read for the first time.
    """

    balance: int
    wallets: Mapping[str, int]
    credits: Mapping[str, int] = field(default_factory=dict)
    platform_balance: int = 0
    liabilities: int = 0
    terms: tuple[int, ...] = ()
    runs: Mapping[int, RunView] = field(default_factory=dict)
    bookings: Mapping[int, BookingView] = field(default_factory=dict)
    lists: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    costs: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)

    def bookings_of(self, run_id: int) -> list[BookingView]:
        return [b for b in self.bookings.values() if b.run_id == run_id]

    def active_bookings_of(self, run_id: int) -> list[BookingView]:
        return [b for b in self.bookings_of(run_id) if b.active]

    def into_wallets(self, first: ContractState, fees: Mapping[str, int]) -> int:
        """Wei that went into all wallets since the first state, less what went out of them; gas (`fees`) apart."""
        return sum(wei - first.wallets[party] + fees.get(party, 0) for party, wei in self.wallets.items())

    @property
    def owed(self) -> int:
        """Payments and stakes of active bookings, stakes of open runs, credits, platform balance."""
        return (
            sum(b.payment + b.stake for b in self.bookings.values() if b.active)
            + sum(r.host_stake for r in self.runs.values() if r.open)
            + sum(self.credits.values())
            + self.platform_balance
        )


View: TypeAlias = tuple[Any, ...]
"""Name of a view function, and its arguments."""


class StateReader:
    """Reads a stake contract and wallets: all views asked for and all balances in one call of `BatchReader.sol`."""

    def __init__(
        self,
        chain: ChainClient,
        batch_reader: str,
        stake: str,
        abi: ContractAbi,
        parties: Mapping[str, str],
        full_interface: bool,
    ) -> None:
        self._chain, self._batch_reader = chain, batch_reader
        self._stake, self._abi, self._full = stake, abi, full_interface
        self._parties = parties
        self._names: dict[str, str] = {address: name for name, address in parties.items()}

    def read(
        self,
        last: ContractState | None,
        runs: Collection[int],
        bookings: Collection[int],
        creditors: Collection[str],
        wallets: Collection[str],
        lists: bool = True,
    ) -> ContractState:
        """A state in which these runs, bookings, credits and wallets are read anew, and what the contract has and owes;
        all else is as in the last one.

        Args:
            last: The state read before; None for the first.
            lists: Also read the contract's terms and the runs' lists of bookings.

        Raises:
            CallReverted: A view reverts, as for a run that does not exist.
            AbiError: A view returns something else than the ABI says.
        """
        creditors = creditors if self._full else ()
        views: list[View] = [("getEventRun", id) for id in runs]
        views += [("getBooking", id) for id in bookings]
        views += [("creditOf", self._parties[name]) for name in creditors]
        views += [("getEventBookings", id) for id in runs if lists]
        known = last.runs if last is not None else {}
        new = [id for id in runs if id not in known]
        views += [("calculateBookingCost", id, 1) for id in new]
        if self._full:
            views += [("platformBalance",), ("totalLiabilities",)]
            views += [("terms",)] if lists else []
        results, (*balances, balance) = self._ask(views, wallets)
        answers = iter([self._abi.decode(view[0], data) for view, data in zip(views, results, strict=True)])
        before = last or ContractState(0, {}, dict.fromkeys(self._parties, 0))
        new_runs = {id: self._run(next(answers)[0]) for id in runs}
        new_bookings = {id: self._booking(next(answers)[0]) for id in bookings}
        credits = {name: next(answers)[0] for name in creditors}
        listed = {id: tuple(next(answers)[0]) for id in runs if lists}
        costs = {id: next(answers) for id in new}
        return ContractState(
            balance=balance,
            wallets={**before.wallets, **dict(zip(wallets, balances, strict=True))},
            credits={**before.credits, **credits},
            platform_balance=next(answers)[0] if self._full else 0,
            liabilities=next(answers)[0] if self._full else 0,
            terms=(tuple(next(answers)[0]) if lists else before.terms) if self._full else (),
            runs={**before.runs, **new_runs},
            bookings={**before.bookings, **new_bookings},
            lists=listed,
            costs=costs,
        )

    def _run(self, values: tuple[Any, ...]) -> RunView:
        run = RunView(*values)
        return run._replace(host=self._names.get(run.host, run.host))

    def _booking(self, values: tuple[Any, ...]) -> BookingView:
        booking = BookingView(*values)
        return booking._replace(user=self._names.get(booking.user, booking.user))

    def _ask(self, views: list[View], parties: Collection[str]) -> tuple[list[bytes], list[int]]:
        """What each view returned, and the wei of these parties and of the contract; see `BatchReader.sol`."""
        accounts = [*(self._parties[name] for name in parties), self._stake]
        asked = [self._abi.encode(*view) for view in views]
        data = b"".join(
            [
                _bytes20(self._stake),
                len(accounts).to_bytes(1, "big"),
                *map(_bytes20, accounts),
                *(len(data).to_bytes(2, "big") + data for data in asked),
            ]
        )
        answer = self._chain.call(self._batch_reader, data)
        words = len(accounts) * 32
        balances = [int.from_bytes(answer[i : i + 32], "big") for i in range(0, words, 32)]
        results, rest = [], answer[words:]
        while rest:
            end = 32 + int.from_bytes(rest[:32], "big")
            results.append(rest[32:end])
            rest = rest[end:]
        return results, balances


def _bytes20(address: str) -> bytes:
    return bytes.fromhex(address[2:])


@dataclass
class EventReplay:
    """The contract's state as its events tell it, replayed from zero."""

    runs: dict[int, tuple[str, int, int, int]] = field(default_factory=dict)  # host, price, max seats, host stake
    run_status: dict[int, int] = field(default_factory=dict)
    bookings: dict[int, tuple[int, str, int, int, int]] = field(default_factory=dict)  # run, user, seats, pay, stake
    booking_status: dict[int, int] = field(default_factory=dict)
    credits: dict[str, int] = field(default_factory=dict)
    platform_balance: int = 0
    strange: list[Event] = field(default_factory=list)
    """Events of runs and bookings that there are not, or that were over already."""
    wrong: list[tuple[str, int, int]] = field(default_factory=list)
    """Amounts in events that are not those due: which, wei due, wei told."""

    def _active(self, run_id: int) -> list[int]:
        return [
            id
            for id, (run, *_) in self.bookings.items()
            if run == run_id and self.booking_status[id] == BookingStatus.ACTIVE
        ]

    def seats_booked(self, run_id: int) -> int:
        """Of an open run."""
        return sum(self.bookings[id][2] for id in self._active(run_id))

    def _fill(self, run_id: int) -> None:
        full = self.seats_booked(run_id) == self.runs[run_id][2]
        self.run_status[run_id] = RunStatus.FULL if full else RunStatus.ACTIVE

    def _refund_all(self, run_id: int, status: RunStatus) -> None:
        for id in self._active(run_id):
            self.booking_status[id] = BookingStatus.CANCELLED
        self.run_status[run_id] = status

    def enter(self, events: Iterable[Event]) -> list[Event]:
        """Replays the events of one transaction and returns them, without those that are strange. The
        order among them is the contract's: bookings before the run."""
        understood = []
        for event in events:
            a = event.args
            if not self._knows(event):
                self.strange.append(event)
                continue
            understood.append(event)
            self.wrong += [
                (f"{name} of {event.name}", due, a[name]) for name, due in self._due(event) if a.get(name) != due
            ]
            match event.name:
                case "EventRunCreated":
                    self.runs[a["event_run_id"]] = (a["host"], a["price_per_seat"], a["max_seats"], a["host_stake"])
                    self.run_status[a["event_run_id"]] = RunStatus.ACTIVE
                case "BookingCreated":
                    booking = (a["event_run_id"], a["user"], a["seat_count"], a["total_payment"], a["user_stake"])
                    self.bookings[a["booking_id"]] = booking
                    self.booking_status[a["booking_id"]] = BookingStatus.ACTIVE
                    self._fill(a["event_run_id"])
                case "BookingCancelled":
                    self.booking_status[a["booking_id"]] = BookingStatus.CANCELLED
                    self._fill(self.bookings[a["booking_id"]][0])
                case "BookingCompleted":
                    self.booking_status[a["booking_id"]] = BookingStatus.COMPLETED
                case "BookingNoShow":
                    self.booking_status[a["booking_id"]] = BookingStatus.NO_SHOW
                case "EventCompleted":
                    self._complete(a["event_run_id"], a["host_payout"])
                case "EventCancelled":
                    self._refund_all(a["event_run_id"], RunStatus.CANCELLED)
                case "EventExpired":
                    self._refund_all(a["event_run_id"], RunStatus.EXPIRED)
                    self.platform_balance += a["to_platform"]
                case "PaymentDeferred":
                    self.credits[a["receiver"]] = self.credits.get(a["receiver"], 0) + a["amount"]
                case "CreditWithdrawn":
                    self.credits[a["creditor"]] -= a["amount"]
                case "PlatformFeesWithdrawn":
                    self.platform_balance -= a["amount"]
        return understood

    def _due(self, event: Event) -> Iterator[tuple[str, int]]:
        """Amounts that the event has to tell, as they follow from the events before it."""
        run_id, id = event.args.get("event_run_id", 0), event.args.get("booking_id", 0)
        match event.name:
            case "BookingCompleted":
                yield "stake_returned", self.bookings[id][4]
            case "BookingNoShow":
                yield "stake_forfeit", self.bookings[id][4]
            case "BookingCancelled":
                yield "refund", self.bookings[id][3] + self.bookings[id][4]
            case "EventCompleted":
                yield "host_stake_returned", self.runs[run_id][3]
            case "EventCancelled" | "EventExpired":
                active = [self.bookings[id] for id in self._active(run_id)]
                yield "refunds_issued", sum(payment + stake for _, _, _, payment, stake in active)
                if event.name == "EventExpired":
                    seats, stake = sum(booking[2] for booking in active), self.runs[run_id][3]
                    compensation = sum(stake * booking[2] // seats for booking in active)
                    yield "compensation", compensation
                    yield "to_platform", stake - compensation if active else 0

    def _knows(self, event: Event) -> bool:
        """What is made is new, and by the next number; what ends was open; everything else is about what was made."""
        run, booking, args = event.args.get("event_run_id"), event.args.get("booking_id"), event.args
        if event.name == "EventRunCreated":
            return bool(run == len(self.runs) + 1)
        if event.name == "BookingCreated":
            return run in self.runs and bool(booking == len(self.bookings) + 1)
        if event.name == "CreditWithdrawn":
            return args["creditor"] in self.credits
        if event.name in ("EventCompleted", "EventCancelled", "EventExpired"):
            return run in self.runs and self.run_status[run] in (RunStatus.ACTIVE, RunStatus.FULL)
        if event.name in ("BookingCompleted", "BookingNoShow", "BookingCancelled"):
            return booking in self.bookings and self.booking_status[booking] == BookingStatus.ACTIVE
        return (run is None or run in self.runs) and (booking is None or booking in self.bookings)

    def _complete(self, run_id: int, host_payout: int) -> None:
        """The platform keeps what the host does not get of revenue and forfeits."""
        self.run_status[run_id] = RunStatus.COMPLETED
        settled = [(b, self.booking_status[id]) for id, b in self.bookings.items() if b[0] == run_id]
        revenue = sum(b[3] for b, status in settled if status in (BookingStatus.COMPLETED, BookingStatus.NO_SHOW))
        forfeits = sum(b[4] for b, status in settled if status == BookingStatus.NO_SHOW)
        self.platform_balance += revenue + forfeits - host_payout
