"""The seam between the library and a backend: everything that a backend must offer to be tested.

The library never imports a backend. A project writes an adapter, and names it in its `pyproject.toml`:

    [tool.stakesim]
    backend = "my_adapter:open_backend"

`open_backend()` takes no arguments and returns a `Backend`. For each scenario the library

1. deploys the contract on a chain of its own,
2. calls `Backend.start` with a `ScenarioSetup`, which returns a `BackendSession`,
3. calls one method of the session for each action of the scenario,
4. calls `BackendSession.rows` after each action, and compares the rows with the contract and the reference model.

Amounts are in wei unless a name ends in `_inr`. Times are in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from stakesim.errors import StakesimError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3


class BackendError(StakesimError):
    """The backend can't be used: its database is down, a package is missing, or its settings are wrong.

    An adapter raises it in `open_backend` or `Backend.start`, with one sentence that says what to do. The campaign ends
    with this sentence and exit code 2; if some scenarios have run already, it becomes a finding of the next one.
    """


class Refused(StakesimError):
    """The backend, or the contract, refused a request. A method of a `BackendSession` raises it.

    A refusal is an expected outcome: the reference model decides whether it is the right one. Any other exception is
    a failure of the backend.

    Attributes:
        error: Name of the contract's custom error, such as "WrongValue"; "PriceError" if the rate can't be used;
            "NotPaid", "PaymentUnusable" (too late) or "PaymentTooSmall" (below 1 INR) of payments in INR; else a name
            of the backend's choice.
        message: Text for people; `error` if there is none.
        arguments: Arguments of the contract's error, in order. Addresses are checksummed.
        outcome: "rejected" if no transaction was sent; "reverted" if a transaction was mined and reverted, so gas was
            paid.
    """

    def __init__(
        self,
        error: str,
        message: str = "",
        args: Sequence[Any] = (),
        outcome: Literal["rejected", "reverted"] = "rejected",
    ) -> None:
        super().__init__(message or error)
        self.error, self.message, self.outcome = error, message or error, outcome
        self.arguments = tuple(args)


class User(NamedTuple):
    """A host or attendee.

    Attributes:
        name: Name in the scenario.
        address: Checksummed address of the user's own wallet; None if the platform acts for the user.
    """

    name: str
    address: str | None


class NotStored(Enum):
    """The type of `NOT_STORED`."""

    NOT_STORED = "not stored"

    def __repr__(self) -> str:
        return self.value


NOT_STORED = NotStored.NOT_STORED
"""Stands for a value that the backend's database has no column for. The library does not compare it.

None means that the database has a column and no value in it. The library compares None, and finds the value missing.
"""
Wei = int | None | NotStored
"""An amount in a row of the backend's database."""
Number = int | NotStored
"""A number in a row of the backend's database that is never missing."""


class RunRow(NamedTuple):
    """An event run in the backend's database.

    Attributes:
        onchain_run_id: The contract's number for the run; None if the backend does not know it yet.
        confirmed: Whether the backend considers the run to be on chain. Other rows are not compared.
        status: "active", "full", "completed", "cancelled" or "expired".
        price_inr: Listed price of one seat, in INR.
        price_wei: Price of one seat.
        stake_wei: The host's stake.
        inr_per_eth: Rate at which the price was converted, in INR per ETH.
        max_seats: Number of seats.
        seats_booked: Number of booked seats. A final run keeps its number.
        starts_at: Start of the event, in seconds since 1970.
    """

    onchain_run_id: int | None
    confirmed: bool
    status: str
    price_inr: Decimal | None = None
    price_wei: Wei = NOT_STORED
    stake_wei: Wei = NOT_STORED
    inr_per_eth: Decimal | None = None
    max_seats: Number = NOT_STORED
    seats_booked: Number = NOT_STORED
    starts_at: Number = NOT_STORED


class BookingRow(NamedTuple):
    """A booking in the backend's database.

    Attributes:
        onchain_booking_id: The contract's number for the booking; None if the backend does not know it yet.
        confirmed: Whether the backend considers the booking to be on chain. Other rows are not compared.
        status: "active", "completed", "no_show" or "cancelled".
        seats: Number of seats.
        total_inr: Quoted total of payment and stake, in INR.
        payment_wei: Price of all seats.
        stake_wei: The attendee's stake.
        inr_per_eth: Rate of the quote, in INR per ETH.
        run_id: The contract's number for its run.
        user: Name of the attendee.
    """

    onchain_booking_id: int | None
    confirmed: bool
    status: str
    seats: int
    total_inr: Decimal | None = None
    payment_wei: Wei = NOT_STORED
    stake_wei: Wei = NOT_STORED
    inr_per_eth: Decimal | None = None
    run_id: Wei = NOT_STORED
    user: str | NotStored = NOT_STORED


class PaymentRow(NamedTuple):
    """A payment in INR: a quote that somebody was to pay, or money that arrived without one.

    Where the adapter has a gateway of its own, the amounts are what that gateway moved, whatever the database says.

    Attributes:
        user: Name of the user who pays.
        purpose: "run" or "booking", whose host's stake or cost it pays; "unexpected" for money that goes back.
        onchain_id: The contract's number of the run or booking that it has paid for; None if it paid for none.
        state: "created" (to be paid), "expired" (was not paid in time), "captured" (waits to be used), "used",
            "refunding" (a refund is due), or "refunded" (whole or in part).
        captured_inr: What was captured, in INR.
        refunded_inr: What went back, in INR.
        disputed: Whether the money was charged back.
    """

    user: str
    purpose: str
    onchain_id: int | None
    state: str
    captured_inr: Decimal
    refunded_inr: Decimal
    disputed: bool = False


class Rows(NamedTuple):
    """All event runs, bookings and payments in the backend's database, in any order.

    Attributes:
        runs: The event runs.
        bookings: The bookings.
        payments: The payments; None if the backend takes no payments in INR.
        shown: The same rows as the backend shows them to a client; None if nothing was asked for. The library compares
            them like those of the database.
    """

    runs: Sequence[RunRow] = ()
    bookings: Sequence[BookingRow] = ()
    payments: Sequence[PaymentRow] | None = None
    shown: Rows | None = None


def _no_reorganisation(reconcile: Callable[[], None]) -> None:
    """The chain stays as it is."""


@dataclass(frozen=True, kw_only=True)
class ScenarioSetup:
    """What one scenario gives the backend.

    Attributes:
        w3: A web3 client of the chain. Its node mines each transaction immediately.
        contract_address: Checksummed address of the stake contract.
        abi: The contract's ABI.
        platform: The account that owns the contract. The backend signs with its key.
        users: Everybody who hosts or books.
        experience_id: A UUID: the experience's id that the backend must pass to `createEventRun`.
        price_feed: Returns the current rate in INR per ETH, and the time since which it applies.
        clock: Returns the timestamp of the block that the next transaction is mined in. The backend must use no other
            clock, or the run is not reproducible.
        reorganise: Called by a session that has `survives_reorganisations`, with a function that lets the backend's own
            reconciliation run until nothing is left to be done. The session calls it once in each use case, after the
            transaction is final for the backend, and before anything follows from it, such as refunds. Where a scenario
            asks for it, the transaction's block is then replaced by another one, and the function is called before and
            after that. Otherwise nothing happens.
    """

    w3: Web3
    contract_address: str
    abi: Sequence[dict[str, Any]]
    platform: LocalAccount
    users: Sequence[User]
    experience_id: str
    price_feed: Callable[[], tuple[Decimal, int]]
    clock: Callable[[], int]
    reorganise: Callable[[Callable[[], None]], None] = _no_reorganisation


class BackendSession(Protocol):
    """The backend during one scenario, with a method for each use case.

    Each method does what the backend does when a user sends this request, and returns when the request is finished:
    where it sends a transaction, after that is mined and the database is up to date.

    Event runs, bookings and users have the names that the scenario gives them. The adapter maps them to the backend's
    own ids: `create_run` and `book` introduce the name of a run or booking, later calls refer to it.

    A backend without a use case leaves its method out. Scenarios then skip such actions, and the report says so.

    Common arguments:
        by: Name of the user who sends the request; "platform" for the platform itself.
        signer: Account of a user who pays and signs with their own key; None if the platform pays and signs.
        key: The client's idempotency key. A client that did not receive a response repeats the request with the same
            key. None if the client sends no key. A backend without idempotency keys ignores it.

    Attributes:
        takes_payments: Whether users pay INR for what the platform sends. A session without this attribute takes none.
            If it is True, `create_run` and `book` get one more argument, `payment`, and `rows` returns the payments:

            The user asks for a quote, pays it as `payment` says, and sends the request for it: "in_time"; "never";
            "late", after the quote expired; "twice"; "too_little", one paisa less; in "other_currency"; "forged": not
            at all, but somebody sends an unsigned webhook that says so; "webhook_late": in time, but the backend hears
            of it only after the request; "charged_back": in time, and the bank takes the money back after the request.
            If the platform does not sign, nobody pays.

            When a method returns or raises, nothing is left to be done: every refund that is due is made, and what was
            not paid is expired, as if the time for both had passed.

        answers_again: Whether a request with the key of an earlier one, other than a withdrawal, has the outcome of the
            first. Without this attribute, what was done the first time may be refused the second time.
        survives_reorganisations: Whether the use cases call `ScenarioSetup.reorganise`. A session without this
            attribute does not, and scenarios then skip actions that are reorganised.

    Every method except `refresh` and `rows` raises `Refused` if the backend or the contract refuses the request. Any
    other exception becomes a finding, with its message and the place where it was raised.
    """

    def create_run(
        self,
        run: str,
        *,
        by: str,
        price_inr: Decimal,
        seats: int,
        starts_at: int,
        signer: LocalAccount | None,
        key: str | None,
    ) -> None:
        """Creates an event run of the host `by`, and pays in the host's stake.

        `price_inr` is the price of one seat. The backend converts it to wei once, at the current rate. `starts_at` is
        the start of the event, in seconds since 1970.
        """
        ...

    def book(
        self, booking: str, *, run: str, by: str, seats: int, signer: LocalAccount | None, key: str | None
    ) -> None:
        """Books seats of a run for the attendee `by`, and pays in payment and stake."""
        ...

    def cancel_booking(self, booking: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Cancels a booking, which refunds it in full."""
        ...

    def cancel_run(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Cancels an event run, which refunds everybody in full."""
        ...

    def complete(
        self, run: str, *, attended: Sequence[str], by: str, signer: LocalAccount | None, key: str | None
    ) -> None:
        """Completes an event run, and pays everybody.

        `attended` names the bookings whose attendees attended. All other active bookings are no-shows.
        """
        ...

    def expire(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Expires an event run that was not completed in time, which compensates its attendees."""
        ...

    def withdraw(self, *, by: str, to: str | None, signer: LocalAccount, key: str | None) -> None:
        """Withdraws the signer's credit, payouts that the signer could not receive, to the address `to`.

        If `to` is None, the signer's own address receives the ether.
        """
        ...

    def withdraw_fees(self, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Withdraws what the platform has earned."""
        ...

    def refresh(self, run: str) -> None:
        """Updates a run and its bookings in the database from the chain.

        The library calls it after somebody has changed the run on chain without the backend, and only for runs that
        the backend has created. It stands for the backend's own synchronization.
        """
        ...

    def rows(self) -> Rows:
        """Returns what the database holds. Without this method the database is not compared."""
        ...


class Backend(Protocol):
    """A system under test. It is opened once and used for one scenario after another.

    Attributes:
        drivers: Names of the ways to call the backend, as `--driver` takes them, such as `("services", "api")`. The
            first is the default. "contract" is reserved for the library.
        packages: Optional: names of the packages of the backend's own code. Which of their branches ran steers the
            guided search.
    """

    drivers: Sequence[str]

    def start(self, setup: ScenarioSetup, driver: str) -> BackendSession:
        """Prepares the backend for a scenario.

        The database must be as good as new: it has these users, and nothing of an earlier scenario. The library does
        not use the session of the earlier scenario any more.

        Args:
            setup: The scenario's chain, contract, users, prices and clock.
            driver: One of `drivers`: how the session must call the backend.

        Raises:
            BackendError: The backend can't be used.
        """
        ...

    def close(self) -> None:
        """Releases what the backend holds, such as its database connections. Called once, after the last scenario."""
        ...
