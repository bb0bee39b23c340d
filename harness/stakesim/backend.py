"""What a backend must offer to be tested: the seam between the library and a system under test.

The library never imports a backend. A project names an adapter in its `pyproject.toml`:

    [tool.stakesim]
    backend = "my_adapter:open_backend"

`open_backend()` takes no arguments and returns a `Backend`. Before each scenario the library deploys the contract, and
asks the backend for a `BackendSession` on it; each action of the scenario is then one call of the session.
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
    """The backend can't be opened: its database is down, something is not installed, its settings are wrong."""


class Refused(Exception):
    """The backend, or the contract through it, said no.

    Attributes:
        error: The contract's own error, such as "WrongValue"; "PriceError" for a rate that is not good enough; else
            any name of the backend's.
        args: The arguments of that error in order; addresses checksummed.
        outcome: "rejected" before anything was sent, "reverted" on chain, where gas was paid.
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
    """Somebody who uses the platform. address: of the own wallet; None: the platform acts in their place."""

    name: str
    address: str | None


class NotStored(Enum):
    """A backend has no place for a value, so it is not compared. None, in contrast, is a value that is missing."""

    NOT_STORED = "not stored"

    def __repr__(self) -> str:
        return self.value


NOT_STORED = NotStored.NOT_STORED
Wei = int | None | NotStored


class RunRow(NamedTuple):
    """An event run in the backend's database. Amounts: wei. inr_per_eth: the rate that the price was converted at."""

    onchain_run_id: int | None
    confirmed: bool
    status: str
    price_inr: Decimal | None = None
    price_wei: Wei = NOT_STORED
    stake_wei: Wei = NOT_STORED
    inr_per_eth: Decimal | None = None


class BookingRow(NamedTuple):
    """A booking in the backend's database. total_inr: as quoted, payment and stake together."""

    onchain_booking_id: int | None
    confirmed: bool
    status: str
    seats: int
    total_inr: Decimal | None = None
    payment_wei: Wei = NOT_STORED
    stake_wei: Wei = NOT_STORED
    inr_per_eth: Decimal | None = None


class Rows(NamedTuple):
    """All runs and bookings that the backend has.

    status: of a run one of active, full, completed, cancelled, expired; of a booking active, completed, no_show,
    cancelled. confirmed: the backend holds that it is on chain; rows that are not confirmed are not compared.
    """

    runs: Sequence[RunRow] = ()
    bookings: Sequence[BookingRow] = ()


@dataclass(frozen=True, kw_only=True)
class ScenarioSetup:
    """What one scenario gives the backend to work on.

    Attributes:
        w3: The chain; its node mines each transaction at once.
        contract_address: Checksummed.
        abi: Of the contract.
        platform: Owner of the contract, whose key the backend signs with.
        users: Everybody who hosts or books, by name.
        experience_id: A UUID; what `createEventRun` is to be given as the experience's id.
        price_feed: INR for one ETH now, and since when that is true, in seconds since 1970.
        clock: Seconds since 1970, of the block that the next transaction lands in. A backend must ask no other clock.
    """

    w3: Web3
    contract_address: str
    abi: Sequence[dict[str, Any]]
    platform: LocalAccount
    users: Sequence[User]
    experience_id: str
    price_feed: Callable[[], tuple[Decimal, int]]
    clock: Callable[[], int]


class BackendSession(Protocol):
    """The backend during one scenario. Runs, bookings and users are called by their names in the scenario.

    Each method does what the backend does when that person asks for it, and returns when it is done.

    Args:
        by: Who asks.
        signer: The own key of whoever pays and signs for themselves; None: the platform signs.
        key: The client's idempotency key, the same again when it repeats a request whose answer it did not hear; None:
            the client sends none. A backend that knows no such keys ignores it.

    Raises:
        Refused: The backend or the contract said no.

    A backend that lacks one of them leaves it out: then such actions are not played, and the report says so.
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
        """Opens an event run. price_inr: of a seat. starts_at: seconds since 1970."""
        ...

    def book(
        self, booking: str, *, run: str, by: str, seats: int, signer: LocalAccount | None, key: str | None
    ) -> None: ...

    def cancel_booking(self, booking: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None: ...

    def cancel_run(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None: ...

    def complete(
        self, run: str, *, attended: Sequence[str], by: str, signer: LocalAccount | None, key: str | None
    ) -> None:
        """Completes a run. attended: the bookings that were attended; all others are no-shows."""
        ...

    def expire(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None: ...

    def withdraw(self, *, by: str, to: str | None, signer: LocalAccount, key: str | None) -> None:
        """Takes out the signer's credit. to: an address; None: to the signer."""
        ...

    def withdraw_fees(self, *, by: str, signer: LocalAccount | None, key: str | None) -> None: ...

    def refresh(self, run: str) -> None:
        """The chain says more of this run than the backend knows, as somebody acted past it; called for runs of the
        backend's own."""
        ...

    def rows(self) -> Rows:
        """What the database holds. Where it is left out, nothing is compared with a database."""
        ...


class Backend(Protocol):
    """A system under test, opened once and used for one scenario after another.

    Attributes:
        drivers: Names of the ways to call it, as `--driver` takes them; the first is the default. "contract" is the
            library's own.
    """

    drivers: Sequence[str]

    def start(self, setup: ScenarioSetup, driver: str) -> BackendSession:
        """Puts everything as a scenario begins: an empty database, these users. What it says of a run or booking that
        the session before made is forgotten."""
        ...

    def close(self) -> None: ...
