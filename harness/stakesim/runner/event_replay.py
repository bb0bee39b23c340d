"""The contract's state as its events tell it, replayed from zero.

All amounts are wei, all times seconds since 1970. Accounts are called by the name of their party.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeAlias

from stakesim.evm.abi import Event
from stakesim.model.rules import NOBODY
from stakesim.model.state import BookingStatus, RunStatus

Args: TypeAlias = Mapping[str, Any]
"""Arguments of an event by name."""


class ReplayedRun(NamedTuple):
    """An event run by its events. `start` is None until an event says it."""

    host: str
    experience: str
    price: int
    max_seats: int
    host_stake: int
    created_at: int
    start: int | None = None
    seats_booked: int = 0
    status: int = RunStatus.ACTIVE

    @property
    def open(self) -> bool:
        """It is neither completed, cancelled nor expired."""
        return self.status in (RunStatus.ACTIVE, RunStatus.FULL)


class ReplayedBooking(NamedTuple):
    """A booking by its events."""

    run_id: int
    user: str
    seats: int
    payment: int
    stake: int
    booked_at: int
    status: int = BookingStatus.ACTIVE


class WrongAmount(NamedTuple):
    """An amount in an event that is not the one due.

    Attributes:
        name: Which amount of which event.
        due: Wei that follow from the events before it.
        logged: Wei in the event.
    """

    name: str
    due: int
    logged: int


@dataclass
class EventReplay:
    """Replays the contract's events.

    Attributes:
        runs: By id.
        bookings: By id.
        credits: Deferred payouts in wei by party.
        platform_balance: Wei that the platform can withdraw.
        terms: The contract's terms; None until an event says them.
        owner: Who owns the contract.
        pending_owner: Whom the ownership was offered to; None: nobody.
        operators: Who acts for the platform beside the owner.
        paused: Whether new runs and bookings are stopped.
        last_run_id: Id of the run that was created last.
        last_booking_id: Id of the booking that was made last.
        impossible: Events about what does not exist, was closed already, or is so already.
        wrong_amounts: Amounts in events that are not those due.
    """

    runs: dict[int, ReplayedRun] = field(default_factory=dict)
    bookings: dict[int, ReplayedBooking] = field(default_factory=dict)
    credits: dict[str, int] = field(default_factory=dict)
    platform_balance: int = 0
    terms: tuple[int, ...] | None = None
    owner: str | None = None
    pending_owner: str | None = None
    operators: set[str] = field(default_factory=set)
    paused: bool = False
    impossible: list[Event] = field(default_factory=list)
    wrong_amounts: list[WrongAmount] = field(default_factory=list)
    last_run_id: int = 0
    last_booking_id: int = 0
    _time: int = 0

    def set_ids(self, runs: int | None, bookings: int | None) -> None:
        """Notes that the contract's counters were set in its storage, which no event says."""
        self.last_run_id = self.last_run_id if runs is None else runs
        self.last_booking_id = self.last_booking_id if bookings is None else bookings

    def replay(self, events: Iterable[Event], time: int = 0) -> list[Event]:
        """Replays the events of one transaction, in the contract's order: those of bookings before that of their run.

        Args:
            events: The events.
            time: Time of their block; without it, the times of runs and bookings are 0.

        Returns:
            The events that are possible.
        """
        possible = []
        self._time = time
        for event in events:
            if not self._is_possible(event):
                self.impossible.append(event)
                continue
            possible.append(event)
            self.wrong_amounts += [
                WrongAmount(f"{name} of {event.name}", due, event.args[name])
                for name, due in self._amounts_due(event)
                if event.args.get(name) != due
            ]
            handler = self._HANDLERS.get(event.name)
            if handler is not None:
                handler(self, event.args)
        return possible

    def _active_bookings(self, run_id: int) -> list[tuple[int, ReplayedBooking]]:
        return [
            (booking_id, booking)
            for booking_id, booking in self.bookings.items()
            if booking.run_id == run_id and booking.status == BookingStatus.ACTIVE
        ]

    def _set_booking_status(self, booking_id: int, status: BookingStatus) -> None:
        self.bookings[booking_id] = self.bookings[booking_id]._replace(status=status)

    def _set_run_status(self, run_id: int, status: RunStatus) -> None:
        self.runs[run_id] = self.runs[run_id]._replace(status=status)

    def _add_seats(self, run_id: int, seats: int) -> None:
        run = self.runs[run_id]
        booked = run.seats_booked + seats
        status = RunStatus.FULL if booked == run.max_seats else RunStatus.ACTIVE
        self.runs[run_id] = run._replace(seats_booked=booked, status=status)

    # What each event does

    def _run_created(self, args: Args) -> None:
        self.last_run_id = args["event_run_id"]
        self.runs[args["event_run_id"]] = ReplayedRun(
            args["host"],
            args["experience_id"],
            args["price_per_seat"],
            args["max_seats"],
            args["host_stake"],
            self._time,
        )

    def _run_scheduled(self, args: Args) -> None:
        run_id = args["event_run_id"]
        self.runs[run_id] = self.runs[run_id]._replace(start=args["event_timestamp"])

    def _booking_created(self, args: Args) -> None:
        self.last_booking_id = args["booking_id"]
        self.bookings[args["booking_id"]] = ReplayedBooking(
            args["event_run_id"],
            args["user"],
            args["seat_count"],
            args["total_payment"],
            args["user_stake"],
            self._time,
        )
        self._add_seats(args["event_run_id"], args["seat_count"])

    def _booking_cancelled(self, args: Args) -> None:
        self._set_booking_status(args["booking_id"], BookingStatus.CANCELLED)
        booking = self.bookings[args["booking_id"]]
        self._add_seats(booking.run_id, -booking.seats)

    def _booking_completed(self, args: Args) -> None:
        self._set_booking_status(args["booking_id"], BookingStatus.COMPLETED)

    def _booking_no_show(self, args: Args) -> None:
        self._set_booking_status(args["booking_id"], BookingStatus.NO_SHOW)

    def _run_completed(self, args: Args) -> None:
        """The platform keeps what the host does not get of revenue and forfeits."""
        run_id = args["event_run_id"]
        self._set_run_status(run_id, RunStatus.COMPLETED)
        settled = [
            booking
            for booking in self.bookings.values()
            if booking.run_id == run_id and booking.status in (BookingStatus.COMPLETED, BookingStatus.NO_SHOW)
        ]
        revenue = sum(booking.payment for booking in settled)
        forfeits = sum(booking.stake for booking in settled if booking.status == BookingStatus.NO_SHOW)
        self.platform_balance += revenue + forfeits - args["host_payout"]

    def _run_cancelled(self, args: Args) -> None:
        self._refund_all(args["event_run_id"], RunStatus.CANCELLED)

    def _run_expired(self, args: Args) -> None:
        self._refund_all(args["event_run_id"], RunStatus.EXPIRED)
        self.platform_balance += args["to_platform"]

    def _refund_all(self, run_id: int, status: RunStatus) -> None:
        for booking_id, _ in self._active_bookings(run_id):
            self._set_booking_status(booking_id, BookingStatus.CANCELLED)
        self._set_run_status(run_id, status)

    def _payment_deferred(self, args: Args) -> None:
        self.credits[args["receiver"]] = self.credits.get(args["receiver"], 0) + args["amount"]

    def _credit_withdrawn(self, args: Args) -> None:
        self.credits[args["creditor"]] -= args["amount"]

    def _fees_withdrawn(self, args: Args) -> None:
        self.platform_balance -= args["amount"]

    def _deployed(self, args: Args) -> None:
        self.terms = tuple(args["terms"])

    def _ownership_offered(self, args: Args) -> None:
        self.pending_owner = None if args["new_owner"] == NOBODY else args["new_owner"]

    def _ownership_transferred(self, args: Args) -> None:
        self.owner, self.pending_owner = args["new_owner"], None

    def _operator_set(self, args: Args) -> None:
        (self.operators.add if args["allowed"] else self.operators.discard)(args["account"])

    def _paused(self, args: Args) -> None:
        self.paused = True

    def _unpaused(self, args: Args) -> None:
        self.paused = False

    _HANDLERS: ClassVar[Mapping[str, Callable[[EventReplay, Args], None]]] = {
        "EventRunCreated": _run_created,
        "EventRunScheduled": _run_scheduled,
        "BookingCreated": _booking_created,
        "BookingCancelled": _booking_cancelled,
        "BookingCompleted": _booking_completed,
        "BookingNoShow": _booking_no_show,
        "EventCompleted": _run_completed,
        "EventCancelled": _run_cancelled,
        "EventExpired": _run_expired,
        "PaymentDeferred": _payment_deferred,
        "CreditWithdrawn": _credit_withdrawn,
        "PlatformFeesWithdrawn": _fees_withdrawn,
        "Deployed": _deployed,
        "OwnershipTransferStarted": _ownership_offered,
        "OwnershipTransferred": _ownership_transferred,
        "OperatorSet": _operator_set,
        "Paused": _paused,
        "Unpaused": _unpaused,
    }

    # What an event must say, and when it is possible

    def _amounts_due(self, event: Event) -> Iterator[tuple[str, int]]:
        """Amounts that the event must have, as they follow from the events before it."""
        run_id, booking_id = event.args.get("event_run_id", 0), event.args.get("booking_id", 0)
        match event.name:
            case "BookingCompleted":
                yield "stake_returned", self.bookings[booking_id].stake
            case "BookingNoShow":
                yield "stake_forfeit", self.bookings[booking_id].stake
            case "BookingCancelled":
                yield "refund", self.bookings[booking_id].payment + self.bookings[booking_id].stake
            case "EventCompleted":
                yield "host_stake_returned", self.runs[run_id].host_stake
            case "EventCancelled" | "EventExpired":
                active = [booking for _, booking in self._active_bookings(run_id)]
                yield "refunds_issued", sum(booking.payment + booking.stake for booking in active)
                if event.name == "EventExpired":
                    seats, stake = sum(booking.seats for booking in active), self.runs[run_id].host_stake
                    compensation = sum(stake * booking.seats // seats for booking in active)
                    yield "compensation", compensation
                    yield "to_platform", stake - compensation if active else 0

    def _is_possible(self, event: Event) -> bool:
        """A new run or booking has the next id; what is closed was open; every other event is about what exists.

        A run is scheduled once. The ownership passes from the owner to whom it was offered, first of all to the first.
        """
        run_id, booking_id, args = event.args.get("event_run_id"), event.args.get("booking_id"), event.args
        match event.name:
            case "EventRunCreated":
                return bool(run_id == self.last_run_id + 1)
            case "BookingCreated":
                return run_id in self.runs and bool(booking_id == self.last_booking_id + 1)
            case "EventRunScheduled":
                return run_id in self.runs and self.runs[run_id].start is None
            case "OwnershipTransferred" if self.owner is not None:
                return bool(args["previous_owner"] == self.owner and args["new_owner"] == self.pending_owner)
            case "Paused" | "Unpaused":
                return self.paused == (event.name == "Unpaused")
            case "CreditWithdrawn":
                return args["creditor"] in self.credits
            case "EventCompleted" | "EventCancelled" | "EventExpired":
                return run_id in self.runs and self.runs[run_id].open
            case "BookingCompleted" | "BookingNoShow" | "BookingCancelled":
                return booking_id in self.bookings and self.bookings[booking_id].status == BookingStatus.ACTIVE
        return (run_id is None or run_id in self.runs) and (booking_id is None or booking_id in self.bookings)
