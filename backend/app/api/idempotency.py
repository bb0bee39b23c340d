"""Idempotent requests: one effect and one response for each Idempotency-Key.

A key is bound to its request once an operation is stored under it, or a final response is kept. So a refused request
does not use its key up. The table `operations` ensures that a key has one effect on chain, for ever and without the
help of `answers`: its primary key decides between two simultaneous requests, its request hash between different ones.
The table `answers` keeps the first final response to each key for `keep_answers`; then a key without an operation is
free again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel
from sqlalchemy import Interval, Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from app.api import problems
from app.api.responses import DeferredResponse, accepted_response, json_response
from app.bootstrap.services import Services
from app.core import logs
from app.core.errors import AppError, ChainUnavailable, KeyReused
from app.core.security import Caller
from app.db.database import DATABASE_ERRORS, Database
from app.db.statements import Compiled
from app.db.tables import answers
from app.db.tables import operations as operations_table
from app.services import operations
from app.services.operation_types import Operation
from app.services.rpc_types import Receipt

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
        """Returns the response kept for this key. If there is none, produces and keeps one. Stores no operation.

        Raises:
            KeyReused: The key belongs to another request.
        """
        request_hash = self._hash(body)
        with logs.log_context(operation=self.idempotency_key):
            found = self._find()
            if found.is_kept_for(request_hash):
                return found.response()
            if found.request is not None or found.has_operation:
                raise KeyReused(_REUSED)
            response, kept = produce(), None
            if self.is_repeatable:
                kept = _keep(self.services, self.idempotency_key, request_hash, response)
            if kept is None:
                return response
            if not kept.is_kept_for(request_hash):  # another request had the key at the same time
                raise KeyReused(_REUSED)
            return kept.response()

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
        services, request_hash = self.services, self._hash(body)
        with logs.log_context(operation=self.idempotency_key):
            found = self._find()
            if found.is_kept_for(request_hash):
                return found.response()
            if found.request is not None and not found.has_operation:
                raise KeyReused(_REUSED)
            operation = prepare()
            if not self.waits and not operation.closed:
                services.follower.send_and_follow(operation)
                return accepted_response(operation, {"Preference-Applied": "respond-async"})
            with suppress(*DATABASE_ERRORS):  # the follower goes on once the database is back
                operation = services.sender.advance(operation)
            waiter = services.follower.follow(operation)
            if waiter.done():
                return self._outcome(operation, request_hash, status, result)

            def respond_after_waiting() -> Response:
                return self._outcome(_reload(services.database, operation), request_hash, status, result)

            return DeferredResponse(waiter, services.sender.policy.give_up_after, respond_after_waiting)

    def _outcome(
        self, operation: Operation, request_hash: str, status: int, result: Callable[[Operation], BaseModel]
    ) -> Response:
        """Returns the result of a closed operation, and keeps it for repetitions; 202 if it is not closed yet."""
        if not operation.closed:
            return accepted_response(operation)
        try:
            self.services.sender.check_success(operation)
            response = json_response(status, result(operation))
        except (ChainUnavailable, *DATABASE_ERRORS) as error:
            log.warning("the operation is final, but its result can't be read: %s", error)
            return accepted_response(operation)
        except AppError as error:
            response = problems.problem_from_error(error, operation.key)
        kept = _keep(self.services, self.idempotency_key, request_hash, response) if self.is_repeatable else None
        return kept.response() if kept is not None and kept.is_kept_for(request_hash) else response

    def _find(self) -> _Found:
        """Returns what is stored under the key; nothing if the client did not choose it."""
        if not self.is_repeatable:
            return _Found(None, None, None, None)
        with self.services.database.autocommit() as connection:
            parameters = {"of_key": self.idempotency_key, "keep_for": self.services.keep_answers}
            return _Found(*connection.execute(_FIND, parameters).one())

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

_REUSED = "This Idempotency-Key was used for another request: use a new one for each."


class _Found(NamedTuple):
    """What is stored under a key: the kept response with the hash of its request, and the operation's key.

    If two requests of different kinds had the key at the same time, the response may be one's, the operation the
    other's.
    """

    request: str | None
    status: int | None
    body: str | None
    operation: str | None

    @property
    def has_operation(self) -> bool:
        return self.operation is not None

    def is_kept_for(self, request_hash: str) -> bool:
        """Whether a response is kept for this request."""
        return self.request == request_hash

    def response(self) -> Response:
        """Returns the kept response."""
        assert self.status is not None
        media_type = problems.MEDIA_TYPE if self.status >= 400 else "application/json"
        return Response(self.body, self.status, media_type=media_type)


_a = answers.c
_KEPT_SINCE = func.now() - bindparam("keep_for", type_=Interval)
_given = select(bindparam("of_key", type_=Text).label("key")).subquery("given")
_FIND = Compiled(
    select(_a.request, _a.status, _a.body, operations_table.c.key).select_from(
        _given.outerjoin(
            answers, (_a.key == _given.c.key) & _a.status.is_not(None) & (_a.created_at >= _KEPT_SINCE)
        ).outerjoin(operations_table, operations_table.c.key == _given.c.key)
    )
)
_new = insert(answers).values(
    key=bindparam("of_key"),
    request=bindparam("new_request"),
    status=bindparam("new_status"),
    body=bindparam("new_body"),
)
_KEEP = Compiled(
    _new.on_conflict_do_update(
        index_elements=[_a.key],
        set_={
            **{name: _new.excluded[name] for name in ("request", "status", "body")},
            "created_at": func.clock_timestamp(),
        },
        where=_a.status.is_(None) | (_a.created_at < _KEPT_SINCE),
    )
)
"""Does not overwrite a response: two simultaneous requests with one key both get the response that is stored first."""


def _keep(services: Services, key: str, request_hash: str, response: Response) -> _Found | None:
    """Keeps the response unless the key already has one. Returns what is kept; None if the database does not answer."""
    values = {
        "new_request": request_hash,
        "new_status": response.status_code,
        "new_body": bytes(response.body).decode(),
    }
    parameters = {"of_key": key, "keep_for": services.keep_answers}
    try:
        with services.database.autocommit() as connection:
            connection.execute(_KEEP, parameters | values)
            return _Found(*connection.execute(_FIND, parameters).one())
    except DATABASE_ERRORS:
        log.warning("the response could not be kept; a repeated request gets a new one")
        return None
