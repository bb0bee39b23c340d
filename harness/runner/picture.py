"""What a stake contract says about itself, and what its events say: the two views that invariants hold together.

All amounts are wei, all times seconds since 1970. Accounts are called by the name of their party.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from eth_abi.abi import decode, encode
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector
from web3 import Web3

from harness.scenario.model import BookingStatus, RunStatus


class RunView(NamedTuple):
    """`getEventRun`, field by field, and `getEventBookings`."""

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
    booking_ids: tuple[int, ...] = ()

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
class Picture:
    """The contract and all wallets at one moment."""

    balance: int
    wallets: Mapping[str, int]
    credits: Mapping[str, int] = field(default_factory=dict)
    platform_balance: int = 0
    liabilities: int = 0
    terms: tuple[int, ...] = ()
    runs: Mapping[int, RunView] = field(default_factory=dict)
    bookings: Mapping[int, BookingView] = field(default_factory=dict)

    def bookings_of(self, run_id: int) -> list[BookingView]:
        return [b for b in self.bookings.values() if b.run_id == run_id]

    def active_bookings_of(self, run_id: int) -> list[BookingView]:
        return [b for b in self.bookings_of(run_id) if b.active]

    @property
    def owed(self) -> int:
        """Payments and stakes of active bookings, stakes of open runs, credits, platform balance."""
        return (
            sum(b.payment + b.stake for b in self.bookings.values() if b.active)
            + sum(r.host_stake for r in self.runs.values() if r.open)
            + sum(self.credits.values())
            + self.platform_balance
        )


def _type(item: Mapping[str, Any]) -> str:
    """The ABI type of a parameter as `eth_abi` writes it, tuples spelled out."""
    if not item["type"].startswith("tuple"):
        return str(item["type"])
    inside = ",".join(_type(part) for part in item["components"])
    return f"({inside}){item['type'][5:]}"


@dataclass(frozen=True)
class Event:
    """A decoded log. Addresses are lower-case hex."""

    name: str
    args: Mapping[str, Any]


class Codec:
    """Calls, results and logs of one ABI, with selectors and topics computed once."""

    def __init__(self, abi: Sequence[Mapping[str, Any]]) -> None:
        functions = [item for item in abi if item["type"] == "function"]
        self._inputs = {f["name"]: [_type(i) for i in f["inputs"]] for f in functions}
        self._outputs = {f["name"]: [_type(o) for o in f["outputs"]] for f in functions}
        self._selectors = {f["name"]: function_abi_to_4byte_selector(f) for f in functions}  # type: ignore[arg-type]
        self._events = {
            event_abi_to_log_topic(item): item  # type: ignore[arg-type]
            for item in abi
            if item["type"] == "event"
        }

    def __contains__(self, function: str) -> bool:
        return function in self._selectors

    def call(self, function: str, *args: Any) -> bytes:
        return self._selectors[function] + encode(self._inputs[function], args)

    def result(self, function: str, data: bytes) -> tuple[Any, ...]:
        return tuple(decode(self._outputs[function], data))

    def events(self, logs: Iterable[Mapping[str, Any]], address: str) -> list[Event]:
        """Those of the logs that `address` emitted and the ABI knows, in order."""
        found = []
        for log in logs:
            item = self._events.get(bytes(log["topics"][0])) if log["topics"] else None
            if item is None or log["address"].lower() != address.lower():
                continue
            indexed = [i for i in item["inputs"] if i["indexed"]]
            plain = [i for i in item["inputs"] if not i["indexed"]]
            args = {
                i["name"]: decode([i["type"]], bytes(topic))[0]
                for i, topic in zip(indexed, log["topics"][1:], strict=True)
            }
            values = decode([_type(i) for i in plain], bytes(log["data"]))
            found.append(Event(item["name"], args | dict(zip((i["name"] for i in plain), values, strict=True))))
        return found


class Camera:
    """Takes pictures of a stake contract: one call of the lens for all its views and all wallets."""

    def __init__(self, w3: Web3, lens: str, lens_codec: Codec, stake: str, codec: Codec, extended: bool) -> None:
        self._w3, self._lens, self._lens_codec = w3, lens, lens_codec
        self._stake, self._codec, self._extended = stake, codec, extended

    def take(self, run_ids: Iterable[int], booking_ids: Iterable[int], parties: Mapping[str, str]) -> Picture:
        """parties: address by name. Raises web3's contract errors when a run or booking is not there."""
        names = {address.lower(): name for name, address in parties.items()}
        extras = [("platformBalance",), ("totalLiabilities",), ("terms",)] if self._extended else []
        credits = [("creditOf", address) for address in parties.values()] if self._extended else []
        runs = [(view, id) for id in run_ids for view in ("getEventRun", "getEventBookings")]
        asked = [*extras, *credits, *runs, *(("getBooking", id) for id in booking_ids)]
        results, wallets = self._ask([self._codec.call(*view) for view in asked], list(parties.values()))
        answers = iter(self._codec.result(view[0], data) for view, data in zip(asked, results, strict=True))
        picture = Picture(
            balance=wallets.pop(),
            wallets=dict(zip(parties, wallets, strict=True)),
            credits=dict.fromkeys(parties, 0),
        )
        if self._extended:
            (platform_balance,), (liabilities,), (terms,) = next(answers), next(answers), next(answers)
            picture = replace(
                picture,
                platform_balance=platform_balance,
                liabilities=liabilities,
                terms=tuple(terms),
                credits={name: next(answers)[0] for name in parties},
            )
        seen_runs = {}
        for id in run_ids:
            values, (ids,) = next(answers), next(answers)
            run = RunView(*values, booking_ids=tuple(ids))
            seen_runs[id] = run._replace(host=names.get(run.host.lower(), run.host))
        bookings = (BookingView(*next(answers)) for _ in booking_ids)
        return replace(
            picture,
            runs=seen_runs,
            bookings={b.id: b._replace(user=names.get(b.user.lower(), b.user)) for b in bookings},
        )

    def _ask(self, views: list[bytes], accounts: list[str]) -> tuple[list[bytes], list[int]]:
        data = self._lens_codec.call("read", self._stake, views, [*accounts, self._stake])
        answer = self._w3.eth.call({"to": self._lens, "data": data})  # type: ignore[typeddict-item]
        results, balances = self._lens_codec.result("read", bytes(answer))
        return list(results), list(balances)


@dataclass
class Books:
    """The contract's state as its events tell it, replayed from zero."""

    stake_bps: int
    runs: dict[int, tuple[str, int, int, int]] = field(default_factory=dict)  # host, price, max seats, host stake
    run_status: dict[int, int] = field(default_factory=dict)
    bookings: dict[int, tuple[int, str, int, int, int]] = field(default_factory=dict)  # run, user, seats, pay, stake
    booking_status: dict[int, int] = field(default_factory=dict)
    credits: dict[str, int] = field(default_factory=dict)
    platform_balance: int = 0

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

    def enter(self, events: Iterable[Event]) -> None:
        """Replays the events of one transaction. The order among them is the contract's: bookings before the run."""
        for event in events:
            a = event.args
            match event.name:
                case "EventRunCreated":
                    self.runs[a["eventRunId"]] = (a["host"], a["pricePerSeat"], a["maxSeats"], a["hostStake"])
                    self.run_status[a["eventRunId"]] = RunStatus.ACTIVE
                case "BookingCreated":
                    booking = (a["eventRunId"], a["user"], a["seatCount"], a["totalPayment"], a["userStake"])
                    self.bookings[a["bookingId"]] = booking
                    self.booking_status[a["bookingId"]] = BookingStatus.ACTIVE
                    self._fill(a["eventRunId"])
                case "BookingCancelled":
                    self.booking_status[a["bookingId"]] = BookingStatus.CANCELLED
                    self._fill(self.bookings[a["bookingId"]][0])
                case "BookingCompleted":
                    self.booking_status[a["bookingId"]] = BookingStatus.COMPLETED
                case "BookingNoShow":
                    self.booking_status[a["bookingId"]] = BookingStatus.NO_SHOW
                case "EventCompleted":
                    self._complete(a["eventRunId"], a["hostPayout"])
                case "EventCancelled":
                    self._refund_all(a["eventRunId"], RunStatus.CANCELLED)
                case "EventExpired":
                    self._refund_all(a["eventRunId"], RunStatus.EXPIRED)
                    self.platform_balance += a["toPlatform"]
                case "PaymentDeferred":
                    self.credits[a["receiver"]] = self.credits.get(a["receiver"], 0) + a["amount"]
                case "CreditWithdrawn":
                    self.credits[a["creditor"]] -= a["amount"]
                case "PlatformFeesWithdrawn":
                    self.platform_balance -= a["amount"]

    def _complete(self, run_id: int, host_payout: int) -> None:
        """The platform keeps what the host does not get of revenue and forfeits."""
        self.run_status[run_id] = RunStatus.COMPLETED
        settled = [(b, self.booking_status[id]) for id, b in self.bookings.items() if b[0] == run_id]
        revenue = sum(b[3] for b, status in settled if status in (BookingStatus.COMPLETED, BookingStatus.NO_SHOW))
        forfeits = sum(b[4] for b, status in settled if status == BookingStatus.NO_SHOW)
        self.platform_balance += revenue + forfeits - host_payout
