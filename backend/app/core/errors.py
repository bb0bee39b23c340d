"""What the services refuse with. Each error has a `code` for machines and says in a sentence what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:  # web3 takes a second to import, and not all that fails has to do with a chain
    from web3.types import TxReceipt

Outcome = Literal["rejected", "reverted"]


class AppError(Exception):
    """An error with a message that may be shown to whoever asked."""

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


class NotOnChain(InvalidRequest):
    """The run or booking is not on chain: its transaction is not final yet, or it failed."""

    code = "not_on_chain"


class PriceError(AppError):
    """No rate that may be quoted from: no quote is better than a wrong one."""

    code = "no_price"


class DatabaseUnavailable(AppError):
    """No database answers at the configured place."""

    code = "database_unavailable"


class MigrationsMissing(AppError):
    """The files of the migrations were not deployed with the backend."""

    code = "migrations_missing"


class ChainUnavailable(AppError):
    """The node does not answer, or does not take the transaction.

    It is not known whether a transaction had an effect, so nothing may be concluded from this error.
    operation: key of the operation that goes on by itself; None where nothing was begun.
    """

    code = "chain_unavailable"

    def __init__(self, message: str, operation: str | None = None) -> None:
        super().__init__(message)
        self.operation = operation


class OutOfFunds(ChainUnavailable):
    """The wallet can't pay for gas or value. The operation is held, and goes on once the wallet is topped up."""

    code = "out_of_funds"


class KeyReused(AppError):
    """This idempotency key was used before, for another request."""

    code = "key_reused"


class Superseded(AppError):
    """Another transaction used up the operation's nonce: it had no effect, and never will."""

    code = "superseded"


class UnexpectedReceipt(AppError):
    """A transaction was mined, but the contract did not tell of its effect: no id or amount can be known."""

    code = "unexpected_receipt"


class UnsupportedByContract(AppError):
    """The contract at the configured address does not have the function that this needs. Nothing was sent."""

    code = "unsupported_by_contract"


class ContractRejected(AppError):
    """The contract said no.

    name: the contract's own error, such as "WrongValue"; "Error" for a string, "Panic" for a panic, "OutOfGas", or
        "Unknown" for data that no known error explains.
    args: the arguments of that error in order: (text,) of a string, (code,) of a panic, (data,) of an unknown one.
    outcome: "rejected" before anything was sent, "reverted" on chain, where gas was paid and there is a `receipt`.
    """

    code = "contract_rejected"

    def __init__(
        self,
        name: str,
        args: Sequence[Any],
        message: str,
        outcome: Outcome = "rejected",
        receipt: TxReceipt | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.args = tuple(args)
        self.outcome: Outcome = outcome
        self.receipt = receipt

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.args, self.message, self.outcome, self.receipt)
