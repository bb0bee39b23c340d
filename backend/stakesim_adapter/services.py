"""The driver `services`: carries out a scenario's actions by calling the backend's services."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from app.bootstrap.services import Services
from app.core.errors import AppError, ContractRejected, NotPaid, PaymentTooSmall, PaymentUnusable, PriceError
from app.services.payments.types import Payment
from eth_account.signers.local import LocalAccount
from stakesim.backend import Refused, Rows
from stakesim.scenario.base_action import PaymentBehaviour

from stakesim_adapter.payments import ScenarioPayments

MAX_ROUNDS = 6
"""Rounds of the reconciler after a reorganisation; two or three are usual."""
_ZONES = (timezone(timedelta(hours=5, minutes=30)), UTC, timezone(timedelta(hours=-8)))


def local_time(seconds: int) -> datetime:
    """Returns a time as a client gives it: in one of several time zones, always the same for one time.

    Args:
        seconds: The time, in seconds since 1970.
    """
    return datetime.fromtimestamp(seconds, _ZONES[seconds // 60 % len(_ZONES)])


@contextmanager
def as_refused() -> Iterator[None]:
    """Raises `Refused` instead of the backend's `AppError`."""
    try:
        yield
    except ContractRejected as error:
        raise Refused(error.name, error.message, error.args, error.outcome) from error
    except (PriceError, PaymentTooSmall, NotPaid, PaymentUnusable) as error:
        raise Refused(type(error).__name__, error.message) from error
    except AppError as error:
        raise Refused(error.code, error.message) from error


class ServicesSession:
    """Implements `stakesim.backend.BackendSession`.

    Args:
        services: The services, on the scenario's chain.
        experience_id: Id of the experience of all event runs.
        user_ids: Ids in `users`, by the users' names in the scenario.
        read_rows: Reads the rows of event runs, bookings and payments.
        payments: How the users pay.
        reorganise: As in `ScenarioSetup`.

    Attributes:
        takes_payments: The users pay in INR.
        answers_again: A request with the key of an earlier one has its outcome.
        survives_reorganisations: The reconciler looks at the chain after one.
        event_run_ids: Ids in `event_runs`, by the runs' names in the scenario.
        booking_ids: Ids in `event_run_bookings`, by the bookings' names in the scenario.
    """

    takes_payments = True
    answers_again = True
    survives_reorganisations = True

    def __init__(
        self,
        services: Services,
        experience_id: UUID,
        user_ids: Mapping[str, UUID],
        read_rows: Callable[[], Rows],
        payments: ScenarioPayments,
        reorganise: Callable[[Callable[[], None]], None],
    ) -> None:
        self.services, self.experience_id, self.user_ids = services, experience_id, user_ids
        self.event_run_ids: dict[str, UUID] = {}
        self.booking_ids: dict[str, UUID] = {}
        self._read_rows, self.payments, self._reorganise = read_rows, payments, reorganise

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
        payment: PaymentBehaviour = "in_time",
    ) -> None:
        """Calls `EventRunService.quote_stake`, pays, and calls `EventRunService.create`."""
        runs, start = self.services.runs, local_time(starts_at)
        terms = (self.user_ids[by], self.experience_id, start, seats, price_inr)
        with as_refused(), self.payments.request(by, payment):
            quote_id = self._pay(lambda: runs.quote_stake(*terms)[1], payment, signer, key)
            event_run = runs.create(*terms, signer=signer, idempotency_key=key, quote_id=quote_id)
            self.let_reorganise()
        self.event_run_ids[run] = event_run.id

    def book(
        self,
        booking: str,
        *,
        run: str,
        by: str,
        seats: int,
        signer: LocalAccount | None,
        key: str | None,
        payment: PaymentBehaviour = "in_time",
    ) -> None:
        """Calls `BookingService.quote_to_pay`, pays, and calls `BookingService.book`."""
        bookings, terms = self.services.bookings, (self.event_run_ids[run], self.user_ids[by], seats)
        with as_refused(), self.payments.request(by, payment):
            quote_id = self._pay(lambda: bookings.quote_to_pay(*terms)[1], payment, signer, key)
            row = bookings.book(*terms, signer=signer, idempotency_key=key, quote_id=quote_id)
            self.let_reorganise()
        self.booking_ids[booking] = row.id

    def _pay(
        self,
        get_quote: Callable[[], Payment | None],
        how: PaymentBehaviour,
        signer: LocalAccount | None,
        key: str | None,
    ) -> UUID | None:
        """Gets a quote and pays it. Returns its id; None if nothing is to be paid, as the user signs or it is free."""
        if signer is not None:
            return None
        if known := self.payments.known(key):
            return known
        quoted = get_quote()
        if quoted is None:
            return None
        return self.payments.pay(quoted.id, self.payments.service.order(quoted).order_id, how, key)

    def cancel_booking(self, booking: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Calls `BookingService.cancel`."""
        with as_refused():
            self.services.bookings.cancel(self.booking_ids[booking], signer=signer, idempotency_key=key)
        self.after_payout()

    def cancel_run(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Calls `EventRunService.cancel`."""
        with as_refused():
            self.services.runs.cancel(self.event_run_ids[run], signer=signer, idempotency_key=key)
        self.after_payout()

    def complete(
        self, run: str, *, attended: Sequence[str], by: str, signer: LocalAccount | None, key: str | None
    ) -> None:
        """Calls `EventRunService.complete`."""
        attended_booking_ids = [self.booking_ids[booking] for booking in attended]
        with as_refused():
            self.services.runs.complete(
                self.event_run_ids[run], attended_booking_ids, signer=signer, idempotency_key=key
            )
        self.after_payout()

    def expire(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Calls `EventRunService.expire`."""
        with as_refused():
            self.services.runs.expire(self.event_run_ids[run], signer=signer, idempotency_key=key)
        self.after_payout()

    def withdraw(self, *, by: str, to: str | None, signer: LocalAccount, key: str | None) -> None:
        """Withdraws the signer's credit from the contract."""
        with as_refused():
            self.services.chain.withdraw_onchain(signer, to)
        self.let_reorganise()

    def withdraw_fees(self, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Withdraws the platform's fees from the contract."""
        with as_refused():
            self.services.chain.withdraw_platform_fees_onchain(signer)
        self.let_reorganise()

    def refresh(self, run: str) -> None:
        """Calls `EventRunService.refresh`."""
        self.services.runs.refresh(self.event_run_ids[run])
        self.payments.after_payout()

    def after_payout(self) -> None:
        """Lets a reorganisation happen, and gives back what the contract may have returned to the custody address."""
        self.let_reorganise()
        self.payments.after_payout()

    def let_reorganise(self) -> None:
        """Lets a reorganisation happen if the scenario asks for it. The reconciler runs before and after it."""
        self._reorganise(self._reconcile)

    def _reconcile(self) -> None:
        """Runs rounds until one finds nothing to do: it takes some until an operation that was reopened is final again.

        Raises:
            RuntimeError: A round failed, or there is no end to it.
        """
        for _ in range(MAX_ROUNDS):
            report = self.services.reconciler.run_once(timedelta(0))
            if report.failure is not None:
                raise RuntimeError(f"the reconciler's round failed: {report.failure}")
            if not report.problems and not report.advanced and not report.pending:
                return
        raise RuntimeError(f"the reconciler is not done after {MAX_ROUNDS} rounds: {report.problems}")

    def rows(self) -> Rows:
        """Reads the rows of event runs, bookings and payments."""
        return self._read_rows()
