"""The driver `services`: carries out a scenario's actions by calling the backend's services."""

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
def as_refused() -> Iterator[None]:
    """Raises `Refused` instead of the backend's `AppError`."""
    try:
        yield
    except ContractRejected as error:
        raise Refused(error.name, error.message, error.args, error.outcome) from error
    except PriceError as error:
        raise Refused("PriceError", error.message) from error
    except AppError as error:
        raise Refused(error.code, error.message) from error


class ServicesSession:
    """Implements `stakesim.backend.BackendSession`.

    Args:
        services: The services, on the scenario's chain.
        experience_id: Id of the experience of all event runs.
        user_ids: Ids in `users`, by the users' names in the scenario.
        read_rows: Reads the rows of event runs and bookings.

    Attributes:
        event_run_ids: Ids in `event_runs`, by the runs' names in the scenario.
        booking_ids: Ids in `event_run_bookings`, by the bookings' names in the scenario.
    """

    def __init__(
        self, services: Services, experience_id: UUID, user_ids: Mapping[str, UUID], read_rows: Callable[[], Rows]
    ) -> None:
        self.services, self.experience_id, self.user_ids = services, experience_id, user_ids
        self.event_run_ids: dict[str, UUID] = {}
        self.booking_ids: dict[str, UUID] = {}
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
        """Calls `EventRunService.create`."""
        start = datetime.fromtimestamp(starts_at, UTC)
        with as_refused():
            event_run = self.services.runs.create(
                self.user_ids[by], self.experience_id, start, seats, price_inr, signer=signer, idempotency_key=key
            )
        self.event_run_ids[run] = event_run.id

    def book(
        self, booking: str, *, run: str, by: str, seats: int, signer: LocalAccount | None, key: str | None
    ) -> None:
        """Calls `BookingService.book`."""
        event_run_id, user_id = self.event_run_ids[run], self.user_ids[by]
        with as_refused():
            row = self.services.bookings.book(event_run_id, user_id, seats, signer=signer, idempotency_key=key)
        self.booking_ids[booking] = row.id

    def cancel_booking(self, booking: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Calls `BookingService.cancel`."""
        with as_refused():
            self.services.bookings.cancel(self.booking_ids[booking], signer=signer, idempotency_key=key)

    def cancel_run(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Calls `EventRunService.cancel`."""
        with as_refused():
            self.services.runs.cancel(self.event_run_ids[run], signer=signer, idempotency_key=key)

    def complete(
        self, run: str, *, attended: Sequence[str], by: str, signer: LocalAccount | None, key: str | None
    ) -> None:
        """Calls `EventRunService.complete`."""
        attended_booking_ids = [self.booking_ids[booking] for booking in attended]
        with as_refused():
            self.services.runs.complete(
                self.event_run_ids[run], attended_booking_ids, signer=signer, idempotency_key=key
            )

    def expire(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Calls `EventRunService.expire`."""
        with as_refused():
            self.services.runs.expire(self.event_run_ids[run], signer=signer, idempotency_key=key)

    def withdraw(self, *, by: str, to: str | None, signer: LocalAccount, key: str | None) -> None:
        """Withdraws the signer's credit from the contract."""
        with as_refused():
            self.services.chain.withdraw_onchain(signer, to)

    def withdraw_fees(self, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Withdraws the platform's fees from the contract."""
        with as_refused():
            self.services.chain.withdraw_platform_fees_onchain(signer)

    def refresh(self, run: str) -> None:
        """Calls `EventRunService.refresh`."""
        self.services.runs.refresh(self.event_run_ids[run])

    def rows(self) -> Rows:
        """Reads the rows of event runs and bookings."""
        return self._read_rows()
