"""A scenario's actions as calls of the backend's services."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from app.bootstrap.container import Services
from app.core.errors import AppError, ContractRejected, PriceError
from eth_account.signers.local import LocalAccount
from stakesim.backend import Refused, Rows


@contextmanager
def refusals() -> Iterator[None]:
    """The backend's errors as the library's `Refused`."""
    try:
        yield
    except ContractRejected as error:
        raise Refused(error.name, error.message, error.args, error.outcome) from error
    except PriceError as error:
        raise Refused("PriceError", error.message) from error
    except AppError as error:
        raise Refused(error.code, error.message) from error


class ServicesSession:
    """See `stakesim.backend.BackendSession`."""

    def __init__(
        self, services: Services, experience: UUID, users: Mapping[str, UUID], read_rows: Callable[[], Rows]
    ) -> None:
        self.services, self.experience, self.users = services, experience, users
        self.runs: dict[str, UUID] = {}
        self.bookings: dict[str, UUID] = {}
        self._read_rows = read_rows

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
        start = datetime.fromtimestamp(starts_at, UTC)
        with refusals():
            made = self.services.runs.create(
                self.users[by], self.experience, start, seats, price_inr, signer=signer, idempotency_key=key
            )
        self.runs[run] = made.id

    def book(
        self, booking: str, *, run: str, by: str, seats: int, signer: LocalAccount | None, key: str | None
    ) -> None:
        with refusals():
            made = self.services.bookings.book(
                self.runs[run], self.users[by], seats, signer=signer, idempotency_key=key
            )
        self.bookings[booking] = made.id

    def cancel_booking(self, booking: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        with refusals():
            self.services.bookings.cancel(self.bookings[booking], signer=signer, idempotency_key=key)

    def cancel_run(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        with refusals():
            self.services.runs.cancel(self.runs[run], signer=signer, idempotency_key=key)

    def complete(
        self, run: str, *, attended: Sequence[str], by: str, signer: LocalAccount | None, key: str | None
    ) -> None:
        with refusals():
            self.services.runs.complete(
                self.runs[run], [self.bookings[label] for label in attended], signer=signer, idempotency_key=key
            )

    def expire(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        with refusals():
            self.services.runs.expire(self.runs[run], signer=signer, idempotency_key=key)

    def withdraw(self, *, by: str, to: str | None, signer: LocalAccount, key: str | None) -> None:
        with refusals():
            self.services.chain.withdraw_onchain(signer, to)

    def withdraw_fees(self, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        with refusals():
            self.services.chain.withdraw_platform_fees_onchain(signer)

    def refresh(self, run: str) -> None:
        self.services.runs.refresh(self.runs[run])

    def rows(self) -> Rows:
        return self._read_rows()
