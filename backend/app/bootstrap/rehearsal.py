"""Rehearses what a reconciler's round does: the services' own code runs, and nothing is written or sent.

Each operation is rehearsed in a database transaction of its own, which is rolled back, so rows are locked only for as
long as its steps take. A transaction that would be sent is not: the answer is what the node would say, as far as its
state tells.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_hash.auto import keccak
from hexbytes import HexBytes
from sqlalchemy import Connection, NestedTransaction, select
from web3 import Web3
from web3.providers import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from app.bootstrap.services import Services, build_services
from app.db.database import Database
from app.db.tables import event_run_bookings, event_runs
from app.services import operations
from app.services.blockchain_service import BlockchainService
from app.services.operation_list import find_operation
from app.services.operation_types import HeldCause, Operation
from app.services.steps import describe_steps, take_steps
from app.services.transactions.sender import TransactionSender

SEND = "eth_sendRawTransaction"
_WRITTEN = {event_runs: ("status", "seats_booked"), event_run_bookings: ("status",)}
"""Columns that a refresh writes, and an operator has to know of."""


class _UnsentProvider(JSONBaseProvider):
    """Passes all requests on but those that send a transaction.

    Attributes:
        sent: Hashes of the transactions that would have been sent.
    """

    def __init__(self, provider: Any) -> None:
        super().__init__()
        self._provider = provider
        self.sent: list[str] = []

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        if method != SEND:
            response: RPCResponse = self._provider.make_request(method, params)
            return response
        raw = HexBytes(params[0])
        tx_hash = "0x" + keccak(raw).hex()
        self.sent.append(tx_hash)
        refusal = self._find_refusal(raw, tx_hash)
        if refusal is not None:
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": refusal}}
        return {"jsonrpc": "2.0", "id": 1, "result": tx_hash}

    def _find_refusal(self, raw: HexBytes, tx_hash: str) -> str | None:
        """Returns the words with which a node would refuse a transaction; None if nothing speaks against it."""
        fields, sender = TypedTransaction.from_bytes(raw).as_dict(), Account.recover_transaction(raw)
        if int(self._ask("eth_getTransactionCount", sender, "latest"), 16) > fields["nonce"]:
            return "nonce too low"
        if self._ask("eth_getTransactionByHash", tx_hash) is not None:
            return "already known"
        cost = fields["value"] + fields["gas"] * fields["maxFeePerGas"]
        if int(self._ask("eth_getBalance", sender, "latest"), 16) < cost:
            return "insufficient funds for gas * price + value"
        return None

    def _ask(self, method: str, *params: Any) -> Any:
        response = self._provider.make_request(RPCEndpoint(method), list(params))
        if "error" in response:
            raise ConnectionError("the node does not answer")
        return response["result"]


class _SavepointConnection:
    """A connection in a transaction that behaves as one of `Database`: a statement that fails leaves it usable."""

    def __init__(self, connection: Connection, savepoint: NestedTransaction | None = None) -> None:
        self._connection, self._savepoint = connection, savepoint

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        with self._connection.begin_nested():
            return self._connection.execute(statement, parameters)

    def scalars(self, statement: Any, parameters: Any = None) -> Any:
        return self.execute(statement, parameters).scalars()

    def scalar(self, statement: Any, parameters: Any = None) -> Any:
        return self.execute(statement, parameters).scalar()

    def rollback(self) -> None:
        if self._savepoint is not None:
            self._savepoint.rollback()


class _RolledBackDatabase(Database):
    """The database, as a transaction sees it that is rolled back."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine)
        self._connection: Connection | None = None

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        """All statements meanwhile are in one transaction, which is rolled back at the end."""
        with self.engine.connect() as connection:
            transaction = connection.begin()
            self._connection = connection
            try:
                yield
            finally:
                self._connection = None
                transaction.rollback()

    @contextmanager
    def autocommit(self) -> Iterator[Any]:  # type: ignore[override]
        assert self._connection is not None
        yield _SavepointConnection(self._connection)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        assert self._connection is not None
        savepoint = self._connection.begin_nested()
        try:
            yield _SavepointConnection(self._connection, savepoint)
        except BaseException:
            if savepoint.is_active:
                savepoint.rollback()
            raise
        if savepoint.is_active:
            savepoint.commit()


class Rehearsal:
    """Says what a round of `stakesim reconcile` would do now.

    Meant for a process of its own: while it runs, the process logs nothing, as nothing of it happens.

    Args:
        services: The services whose round it is.
    """

    def __init__(self, services: Services) -> None:
        self._provider = _UnsentProvider(services.w3.provider)
        self._database = _RolledBackDatabase(services.database)
        w3 = Web3(self._provider, [])
        theirs = services.sender
        sender = TransactionSender(
            w3,
            theirs.accounts[0],
            self._database,
            theirs.policy,
            operators=theirs.operators,
            previous=theirs.previous,
            sealer=theirs.sealer,
        )
        chain = BlockchainService(w3, services.chain.address, sender, services.chain.custody)
        self._services = build_services(w3, self._database, chain, services.pricing)
        self._looked_at_contract = False

    def open_operations(self) -> Iterator[str]:
        """Yields a sentence for each operation that is open: what is done with it.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        with self._database.rolled_back(), self._database.autocommit() as connection:
            open_ones = operations.open_operations(connection, self._services.sender.chain_id)
        for operation in open_ones:
            yield f"{operation.kind} {operation.key}: {self.describe(operation)}"

    def describe(self, operation: Operation) -> str:
        """Returns what a round does with an operation, as the end of a sentence in the present tense.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        sender = self._services.sender
        with _silence(), self._database.rolled_back():
            self._look_around(operation)
            operation = find_operation(self._database, operation.key)
            self._provider.sent.clear()
            after = [operation, *take_steps(sender, operation)][-1]
        sent = self._provider.sent
        sentence = describe_steps(operation, after, sent, sender.policy.confirmations, rehearsed=True)
        if sent and operation.held_cause == HeldCause.REFUSED:
            return f"{sentence}, though the node has refused it: {operation.held}"
        return sentence

    def refresh(self, run_id: UUID, block: int) -> Iterator[str]:
        """Yields a sentence for each row that a refresh of an event run as of a block changes.

        Raises:
            ChainUnavailable: The node does not answer.
        """
        with _silence(), self._database.rolled_back():
            before = self._rows_of(run_id)
            self._services.runs.refresh(run_id, block)
            after = self._rows_of(run_id)
        for name, columns in before.items():
            for column, value in columns.items():
                if after[name][column] != value:
                    yield f"{name}: writes {column} {after[name][column]}, which is {value}"

    def _look_around(self, operation: Operation) -> None:
        """Looks at what a round looks at before it takes operations up."""
        sender = self._services.sender
        if sender.contract_watch is not None and not self._looked_at_contract:
            sender.contract_watch.look()
            self._looked_at_contract = True
        if operation.state == "prepared":
            head = sender.head.number()
            sender.nonces.find_unknown(operation.chain_id, max(sender.policy.final_block(head), 0))

    def _rows_of(self, run_id: UUID) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for table, names in _WRITTEN.items():
            is_of_run = table.c.id == run_id if table is event_runs else table.c.event_run_id == run_id
            kind = "event run" if table is event_runs else "booking"
            statement = select(table.c.id, *(table.c[name] for name in names)).where(is_of_run).order_by(table.c.id)
            with self._database.autocommit() as connection:
                for row in connection.execute(statement).mappings():
                    rows[f"{kind} {row['id']}"] = {name: row[name] for name in names}
        return rows


@contextmanager
def _silence() -> Iterator[None]:
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
