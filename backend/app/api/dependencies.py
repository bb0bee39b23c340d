"""What a request brings along: who asks, under which idempotency key, and whether they wait; and the answer to it."""

from __future__ import annotations

import hashlib
import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from web3.types import TxReceipt

from app.api import problems, schemas
from app.bootstrap.container import Services
from app.core import logs
from app.core.errors import (
    AppError,
    ChainUnavailable,
    ContractRejected,
    KeyReused,
    Superseded,
    UnexpectedReceipt,
)
from app.core.security import Caller, Unauthenticated, caller_of
from app.db.session import Database
from app.db.tables import answers
from app.services import operations
from app.services.operation_types import Operation

KEY_PATTERN = r"^[A-Za-z0-9._~-]{1,200}$"
DECIDED = (ContractRejected, Superseded, UnexpectedReceipt)
"""What an operation can come to besides success. It will not come to anything else."""
MOST_IN_BACKGROUND = 64
"""Operations that have a thread of their own; those beyond are left to the reconciler."""

log = logging.getLogger(__name__)
_free = threading.BoundedSemaphore(MOST_IN_BACKGROUND)
_bearer = HTTPBearer(bearerFormat="JWT", auto_error=False, description="A token that `sub`, `role` and `exp` are in.")


async def caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """Whoever the bearer token says. Raises `Unauthenticated`."""
    if credentials is None:
        raise Unauthenticated("Send a bearer token in the header Authorization.")
    return caller_of(request.app.state.jwt_secret, credentials.credentials)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


CallerOf = Annotated[Caller, Depends(caller)]
ServicesOf = Annotated[Services, Depends(_services)]


@dataclass(frozen=True)
class Ask:
    """A request that is answered once for each key.

    key: the caller's own, so that nobody comes upon another's answer. repeatable: whether the client chose it.
    what: method and path. waits: whether the client waits until all is final.
    """

    services: Services
    caller: Caller
    key: str
    repeatable: bool
    what: str
    waits: bool

    def once(self, body: BaseModel | None, produce: Callable[[], Response]) -> Response:
        """The first answer to this request, which is what is produced when there is none yet.

        An answer that something is still under way is not the last word, and not kept. Raises `KeyReused`.
        """
        with logs.about(operation=self.key):
            if not self.repeatable:
                return produce()
            asked = f"{self.what}\n{body.model_dump_json() if body else ''}"
            first = _claim(self.services.database, self.key, hashlib.sha256(asked.encode()).hexdigest())
            if first is not None:
                return first
            try:
                response = produce()
            except DECIDED as error:
                response = problems.of(error)
            return response if response.status_code == 202 else _keep(self.services.database, self.key, response)

    def carry_out(
        self,
        status: int,
        body: BaseModel | None,
        prepare: Callable[[], Operation],
        result: Callable[[Operation, TxReceipt], BaseModel],
    ) -> Response:
        """Prepares an operation, and answers with its result once it is final; with the operation itself, 202, when the
        client does not wait, or waiting took too long. It goes on in any case."""

        def produce() -> Response:
            operation = prepare()
            if not self.waits and not operation.closed:
                go_on(self.services, operation)
                return _accepted(operation, {"Preference-Applied": "respond-async"})
            try:
                receipt = self.services.chain.sender.finish(operation)
                return shown(status, result(operation, receipt))
            except DECIDED as error:
                return problems.of(error, operation.key)
            except (ChainUnavailable, *problems.DATABASE_TROUBLE) as error:
                told = error if isinstance(error, AppError) else type(error).__name__  # SQL is nobody's business
                log.warning("answered before it was final: %s", told)
                return _accepted(_latest(self.services.database, operation))

        return self.once(body, produce)


def go_on(services: Services, operation: Operation) -> None:
    """Carries the operation out in a thread of its own, which ends with the process: whatever is left of it then, or
    finds no free thread now, is for the reconciler."""

    def finish() -> None:
        with logs.about(operation=operation.key):
            try:
                services.chain.sender.finish(operation)
            except AppError as error:
                log.warning("in the background: %s", error)
            except Exception:
                log.exception("in the background")
            finally:
                _free.release()

    if _free.acquire(blocking=False):
        threading.Thread(target=finish, name="finish", daemon=True).start()


def shown(status: int, body: BaseModel, headers: dict[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status, headers, "application/json")


def _accepted(operation: Operation, headers: dict[str, str] | None = None) -> Response:
    where = {"Location": f"/operations/{operation.key}", "Retry-After": str(problems.RETRY_AFTER_S)}
    return shown(202, schemas.Operation.of(operation), where | (headers or {}))


def _latest(database: Database, operation: Operation) -> Operation:
    """As the database has it, or as it was known last where the database is gone."""
    try:
        with database.begin() as connection:
            return operations.find(connection, operation.key) or operation
    except problems.DATABASE_TROUBLE:
        return operation


# ------------------------------------------------------------------------------------------------- kept answers

_mine = answers.c.key == bindparam("of_key")
_ENTER = insert(answers).on_conflict_do_nothing()
_FIRST = select(answers.c.request, answers.c.status, answers.c.body).where(_mine)
_KEEP = (
    update(answers)
    .where(_mine)
    .values(
        status=func.coalesce(answers.c.status, bindparam("my_status")),
        body=func.coalesce(answers.c.body, bindparam("my_body")),
    )
    .returning(answers.c.status, answers.c.body)
)
"""The first one stays, when a request is made twice at once."""


def _claim(database: Database, key: str, request: str) -> Response | None:
    """The answer that this request had under this key. Raises `KeyReused` when the key was another request's."""
    with database.begin() as connection:
        connection.execute(_ENTER, {"key": key, "request": request})
        first = connection.execute(_FIRST, {"of_key": key}).one()
    if first.request != request:
        raise KeyReused("This Idempotency-Key was used for another request: use a new one for each.")
    return None if first.status is None else _again(first.status, first.body)


def _keep(database: Database, key: str, response: Response) -> Response:
    mine = {"of_key": key, "my_status": response.status_code, "my_body": bytes(response.body).decode()}
    try:
        with database.begin() as connection:
            status, body = connection.execute(_KEEP, mine).one()
    except problems.DATABASE_TROUBLE:
        log.warning("the answer could not be kept; asked again, it is made up anew")
        return response
    return _again(status, body)


def _again(status: int, body: str) -> Response:
    return Response(body, status, media_type=problems.MEDIA_TYPE if status >= 400 else "application/json")


# ------------------------------------------------------------------------------------------------------- headers

_KEY_SAYS = "A name for this request, such as a UUID. Repeated with it, the request has one effect, and one answer."
_WAIT_SAYS = "With `respond-async`, the answer is 202 with the operation as soon as that is written down (RFC 7240)."
RequiredKey = Annotated[str, Header(alias="Idempotency-Key", pattern=KEY_PATTERN, description=_KEY_SAYS)]
OptionalKey = Annotated[str | None, Header(alias="Idempotency-Key", pattern=KEY_PATTERN, description=_KEY_SAYS)]
Prefer = Annotated[str | None, Header(description=_WAIT_SAYS, examples=["respond-async"])]


def _ask(request: Request, services: Services, who: Caller, key: str | None, prefer: str | None) -> Ask:
    own = f"{who.id}:{key or uuid.uuid4()}"
    what = f"{request.method} {request.url.path}"
    preferences = {one.split(";")[0].strip().lower() for one in (prefer or "").split(",")}
    return Ask(services, who, own, key is not None, what, "respond-async" not in preferences)


async def _with_key(
    request: Request, services: ServicesOf, who: CallerOf, idempotency_key: RequiredKey, prefer: Prefer = None
) -> Ask:
    return _ask(request, services, who, idempotency_key, prefer)


async def _maybe_with_key(
    request: Request, services: ServicesOf, who: CallerOf, idempotency_key: OptionalKey = None, prefer: Prefer = None
) -> Ask:
    return _ask(request, services, who, idempotency_key, prefer)


async def _without_waiting(
    request: Request, services: ServicesOf, who: CallerOf, idempotency_key: OptionalKey = None
) -> Ask:
    return _ask(request, services, who, idempotency_key, None)


AskWithKey = Annotated[Ask, Depends(_with_key)]
AskMaybeWithKey = Annotated[Ask, Depends(_maybe_with_key)]
AskForNumbers = Annotated[Ask, Depends(_without_waiting)]
"""Nothing is sent, and there is nothing to wait for."""

ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": schemas.Operation,
        "description": "Written down, and going on: asked for by `Prefer: respond-async`, or it took too long.",
        "headers": {
            "Location": {"description": "Where the operation is found.", "schema": {"type": "string"}},
            "Preference-Applied": {"schema": {"type": "string"}},
        },
    }
}
