"""Idempotent requests: one effect and one response for each Idempotency-Key.

The table `answers` keeps the first response to each key. The table `operations` ensures that a key has one effect on
chain, without the help of `answers`, so rows of `answers` may be deleted.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.api import problems
from app.api.responses import DeferredResponse, accepted_response, json_response
from app.bootstrap.container import Services
from app.core import logs
from app.core.errors import AppError, ChainUnavailable, ContractRejected, KeyReused, Superseded, UnexpectedReceipt
from app.core.security import Caller
from app.db.database import DATABASE_ERRORS, Database
from app.db.tables import answers
from app.services import operations
from app.services.operation_types import Operation
from app.services.rpc_types import Receipt

FINAL_ERRORS = (ContractRejected, Superseded, UnexpectedReceipt)
"""Errors that end an operation. Repeating the request can't change them, so their responses are kept."""

log = logging.getLogger(__name__)


def scoped_key(caller: Caller, client_key: str) -> str:
    """Returns `<caller id>:<Idempotency-Key>`, so that keys of different callers are always different."""
    return f"{caller.id}:{client_key}"


@dataclass(frozen=True)
class IdempotentRequest:
    """A request that has one effect and one response for each key.

    Attributes:
        services: The app's services.
        caller: The user who sent the request.
        idempotency_key: Result of `scoped_key`; the column `key` of `answers` and `operations`.
        is_repeatable: Whether the client chose the key. A generated key is used once, so no response is kept for it.
        endpoint: Method and path.
        waits: Whether the client waits until the operation is final.
    """

    services: Services
    caller: Caller
    idempotency_key: str
    is_repeatable: bool
    endpoint: str
    waits: bool

    def respond(self, body: BaseModel | None, produce: Callable[[], Response]) -> Response:
        """Returns the response kept for this key. If there is none, produces and keeps one.

        A 202 is not kept, as the operation has no outcome yet.

        Raises:
            KeyReused: The key was used for another endpoint or body.
        """
        with logs.log_context(operation=self.idempotency_key):
            if self.is_repeatable:
                kept_response = _claim_key(self.services.database, self.idempotency_key, self._hash(body))
                if kept_response is not None:
                    return kept_response
            return self._keep(produce)

    def respond_with_operation(
        self,
        status: int,
        body: BaseModel | None,
        prepare: Callable[[], Operation],
        result: Callable[[Operation], BaseModel],
    ) -> Response:
        """Prepares an operation, carries it out, and responds with its result.

        The request's thread sends the operation. Then the request waits without a thread until the operation is final.
        The response is 202 with the operation if the client does not wait, or if waiting takes too long; the operation
        is carried out nevertheless.

        Args:
            status: HTTP status of a success.
            body: Body of the request.
            prepare: Stores the operation, or returns the stored operation with this key.
            result: Returns the body of the response from the confirmed operation.
        """
        services = self.services

        def produce() -> Response:
            operation = prepare()
            if not self.waits and not operation.closed:
                services.follower.send_and_follow(operation)
                return accepted_response(operation, {"Preference-Applied": "respond-async"})
            with suppress(*DATABASE_ERRORS):  # the follower goes on once the database is back
                operation = services.sender.advance(operation)
            waiter = services.follower.follow(operation)
            if waiter.done():
                return self._outcome(operation, status, result)

            def respond_after_waiting() -> Response:
                return self._outcome(_reload(services.database, operation), status, result)

            timeout = services.sender.policy.give_up_after
            return DeferredResponse(waiter, timeout, lambda: self._keep(respond_after_waiting))

        return self.respond(body, produce)

    def _outcome(self, operation: Operation, status: int, result: Callable[[Operation], BaseModel]) -> Response:
        """Returns the result of a closed operation, or 202."""
        try:
            if operation.closed:
                self.services.sender.check_success(operation)
                return json_response(status, result(operation))
        except FINAL_ERRORS as error:
            return problems.problem_from_error(error, operation.key)
        except (ChainUnavailable, *DATABASE_ERRORS) as error:
            reason = error if isinstance(error, AppError) else type(error).__name__  # no SQL in the log
            log.warning("the operation is final, but its result can't be read: %s", reason)
        return accepted_response(operation)

    def _keep(self, produce: Callable[[], Response]) -> Response:
        """Produces a response, and keeps it for repetitions of the request unless it is not final."""
        if not self.is_repeatable:
            return produce()
        try:
            response = produce()
        except FINAL_ERRORS as error:
            response = problems.problem_from_error(error)
        if isinstance(response, DeferredResponse) or response.status_code == 202:
            return response
        return _keep(self.services.database, self.idempotency_key, response)

    def receipt(self, operation: Operation) -> Receipt:
        """Returns the receipt of the confirmed operation. Raises `ChainUnavailable`."""
        return self.services.sender.receipt(operation)

    def _hash(self, body: BaseModel | None) -> str:
        request = f"{self.endpoint}\n{body.model_dump_json() if body else ''}"
        return hashlib.sha256(request.encode()).hexdigest()


def subject_id(operation: Operation) -> UUID:
    """Returns the id of the row that the operation is about."""
    assert operation.subject is not None  # all operations of the API are about a row
    return operation.subject


def _reload(database: Database, operation: Operation) -> Operation:
    """Returns the operation as stored; unchanged if the database does not answer."""
    try:
        with database.transaction() as connection:
            return operations.find(connection, operation.key) or operation
    except DATABASE_ERRORS:
        return operation


# -------------------------------------------------------------------------------------------------- kept responses

_HAS_KEY = answers.c.key == bindparam("of_key")
_CLAIM = insert(answers).on_conflict_do_nothing()
_FIND = select(answers.c.request, answers.c.status, answers.c.body).where(_HAS_KEY)
_KEEP = (
    update(answers)
    .where(_HAS_KEY)
    .values(
        status=func.coalesce(answers.c.status, bindparam("new_status")),
        body=func.coalesce(answers.c.body, bindparam("new_body")),
    )
    .returning(answers.c.status, answers.c.body)
)
"""Does not overwrite a response: two simultaneous requests with one key both get the response that is stored first."""


def _claim_key(database: Database, key: str, request_hash: str) -> Response | None:
    """Reserves the key for this request, or returns the response that is kept for it.

    Raises:
        KeyReused: The key belongs to another request.
    """
    with database.transaction() as connection:
        connection.execute(_CLAIM, {"key": key, "request": request_hash})
        row = connection.execute(_FIND, {"of_key": key}).one()
    if row.request != request_hash:
        raise KeyReused("This Idempotency-Key was used for another request: use a new one for each.")
    return None if row.status is None else _kept_response(row.status, row.body)


def _keep(database: Database, key: str, response: Response) -> Response:
    """Keeps the response unless the key already has one, and returns the kept response."""
    values = {"of_key": key, "new_status": response.status_code, "new_body": bytes(response.body).decode()}
    try:
        with database.transaction() as connection:
            status, body = connection.execute(_KEEP, values).one()
    except DATABASE_ERRORS:
        log.warning("the response could not be kept; a repeated request gets a new one")
        return response
    return _kept_response(status, body)


def _kept_response(status: int, body: str) -> Response:
    return Response(body, status, media_type=problems.MEDIA_TYPE if status >= 400 else "application/json")
