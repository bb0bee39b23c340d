"""Errors of the services. Each has a `code` for programs, and a message that says in a sentence what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

RejectionOutcome = Literal["rejected", "reverted"]


class AppError(Exception):
    """Base class. The message may be shown to the client.

    Attributes:
        code: Stable name of the kind of error.
        message: What is wrong, in a sentence.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class NotFound(AppError):
    """There is no user, experience, run or booking with this id."""

    code = "not_found"


class InvalidRequest(AppError):
    """The request is malformed and can't be put to the contract."""

    code = "invalid_request"


class InvalidCursor(InvalidRequest):
    """The cursor is not one that was given out for this list, these filters and this caller."""

    code = "invalid_cursor"


class NotOnChain(InvalidRequest):
    """The run or booking is not on chain yet: its transaction is not final."""

    code = "not_on_chain"


class NeverOnChain(NotOnChain):
    """The run or booking is not on chain and never will be: its transaction failed."""

    code = "never_on_chain"


RateRefusal = Literal["missing", "malformed", "stale", "future", "jump", "deviation"]


class PriceError(AppError):
    """There is no valid rate of ETH, so nothing can be quoted.

    Attributes:
        cause: What is wrong with the rate, for metrics.
    """

    code = "no_price"

    def __init__(self, message: str, cause: RateRefusal = "malformed") -> None:
        super().__init__(message)
        self.cause: RateRefusal = cause


class DatabaseUnavailable(AppError):
    """The database can't serve the request at present, or there is none at the configured URL.

    A statement that was sent may have been carried out, if the connection broke.

    Attributes:
        reason: Why, as a part of a sentence.
    """

    code = "database_unavailable"

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class DatabaseBusy(DatabaseUnavailable):
    """The database answers, but has no connection, no lock or no time for the request at present."""

    code = "database_busy"


class MigrationsMissing(AppError):
    """The migration files were not deployed with the backend, or are not applied, and may not be."""

    code = "migrations_missing"


class ChainUnavailable(AppError):
    """The node does not answer, or does not accept the transaction.

    This error does not say whether a transaction had an effect.

    Attributes:
        operation: Key of the operation that the reconciler continues; None if none was begun.
    """

    code = "chain_unavailable"

    def __init__(self, message: str, operation: str | None = None) -> None:
        super().__init__(message)
        self.operation = operation


class OutOfFunds(ChainUnavailable):
    """The account can't pay gas and value. The operation is held, and continues once the account is funded."""

    code = "out_of_funds"


class Paused(AppError):
    """An operator paused the service: it takes no new event runs and bookings. Nothing was stored."""

    code = "paused"


class KeyReused(AppError):
    """The idempotency key was used for another request before."""

    code = "key_reused"


class Superseded(AppError):
    """The operation has no effect, and never will: another transaction used its nonce, or what it names is gone."""

    code = "superseded"


class TransactionRefused(AppError):
    """Nodes refused the operation's transaction for good. A transaction without effect used its nonce."""

    code = "transaction_refused"


class Expired(AppError):
    """The operation waited too long for its first transaction. Nothing was sent, and nothing will be."""

    code = "expired"


class Cancelled(AppError):
    """An operator cancelled the operation: it has no effect, and never will."""

    code = "cancelled"


class InterventionRefused(AppError):
    """An operator's command does not fit the operation or orphan; nothing was changed."""

    code = "intervention_refused"


class NothingToApprove(InterventionRefused):
    """No limit holds the operation, or this service did not store it: nothing was approved."""

    code = "nothing_to_approve"


class PaymentRequired(AppError):
    """The request sends wei for somebody, and names no quote that is paid."""

    code = "payment_required"


class PaymentTooSmall(InvalidRequest):
    """Less is to be paid than the gateway takes."""


class NotPaid(AppError):
    """The quote's payment is not captured yet."""

    code = "not_paid"


class PaymentUnusable(AppError):
    """The payment can't pay for the request, and never will: it is used, expired, refunded, or another request's."""

    code = "payment_unusable"


class ForgedWebhook(AppError):
    """The webhook is not signed with the gateway's secret. It has no effect."""

    code = "forged_webhook"


class GatewayUnavailable(AppError):
    """The payment gateway does not answer, or answers what can't be understood.

    This error does not say whether the request had an effect.
    """

    code = "gateway_unavailable"


class GatewayRefused(AppError):
    """The payment gateway refused the request. It had no effect."""

    code = "gateway_refused"


class UnexpectedReceipt(AppError):
    """A transaction succeeded without the event that has its ids and amounts."""

    code = "unexpected_receipt"


class UnsupportedByContract(AppError):
    """The contract at the configured address lacks a function that the request needs. Nothing was sent."""

    code = "unsupported_by_contract"


class ContractRejected(AppError):
    """The contract reverted.

    Attributes:
        name: The contract's custom error, such as "WrongValue"; "Error" for a string, "Panic" for a panic, "OutOfGas",
            or "Unknown" for data that no known error explains.
        args: The error's arguments in order: (text,) for a string, (code,) for a panic, (data,) for an unknown error.
        outcome: "rejected" if nothing was sent; "reverted" if a transaction was mined and gas was paid.
        receipt: `Receipt` of the transaction that reverted; None if nothing was sent.
    """

    code = "contract_rejected"

    def __init__(
        self,
        name: str,
        args: Sequence[Any],
        message: str,
        outcome: RejectionOutcome = "rejected",
        receipt: Any = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.args = tuple(args)
        self.outcome: RejectionOutcome = outcome
        self.receipt = receipt

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.args, self.message, self.outcome, self.receipt)
