"""FastAPI dependencies: the caller, the services, and the idempotent request."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.idempotency import IdempotentRequest, scoped_key
from app.api.policy import HttpPolicy
from app.bootstrap.services import Services
from app.core.security import Caller, Forbidden, Unauthenticated, verify_token

CLIENT_KEY_PATTERN = r"^[A-Za-z0-9._~-]{1,200}$"
"""Pattern of an Idempotency-Key. It has no colon: in an operation's key, a colon separates it from the caller's id."""

_bearer = HTTPBearer(
    bearerFormat="JWT",
    auto_error=False,
    description="A JSON Web Token with the claims `iss`, `sub`, `role`, `iat` and `exp`, and the header `kid`.",
)


async def current_caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """Returns the user to whom the bearer token was issued.

    Raises:
        Unauthenticated: There is no valid token.
    """
    try:
        if credentials is None:
            raise Unauthenticated("Send a bearer token in the header Authorization.")
        policy: HttpPolicy = request.app.state.policy
        caller = verify_token(request.app.state.jwt_secret, credentials.credentials, policy.tokens)
    except Unauthenticated as error:
        request.state.refused = error.message
        raise
    request.state.caller = caller
    return caller


def require_platform(caller: Caller) -> None:
    """Raises `Forbidden` unless the caller is the platform."""
    if caller.role != "platform":
        raise Forbidden(f"This takes the role platform; the token has the role {caller.role}.")


async def app_services(request: Request) -> Services:
    """Returns the services of the app that received the request."""
    services: Services = request.app.state.services
    return services


CurrentCaller = Annotated[Caller, Depends(current_caller)]
AppServices = Annotated[Services, Depends(app_services)]

_KEY_DESCRIPTION = (
    "Name of this request, such as a new UUID. However often the request is repeated with it, it has one effect and "
    "one response."
)
_PREFER_DESCRIPTION = "`respond-async`: respond with 202 and the operation as soon as it is stored (RFC 7240)."
RequiredKeyHeader = Annotated[
    str, Header(alias="Idempotency-Key", pattern=CLIENT_KEY_PATTERN, description=_KEY_DESCRIPTION)
]
OptionalKeyHeader = Annotated[
    str | None, Header(alias="Idempotency-Key", pattern=CLIENT_KEY_PATTERN, description=_KEY_DESCRIPTION)
]
PreferHeader = Annotated[str | None, Header(description=_PREFER_DESCRIPTION, examples=["respond-async"])]


def _idempotent_request(
    request: Request, services: Services, caller: Caller, client_key: str | None, prefer: str | None
) -> IdempotentRequest:
    key = scoped_key(caller, client_key or str(uuid.uuid4()))
    request.state.operation = key
    preferences = {preference.split(";")[0].strip().lower() for preference in (prefer or "").split(",")}
    return IdempotentRequest(
        services,
        caller,
        idempotency_key=key,
        is_repeatable=client_key is not None,
        endpoint=f"{request.method} {request.url.path}",
        waits="respond-async" not in preferences,
    )


async def _with_required_key(
    request: Request,
    services: AppServices,
    caller: CurrentCaller,
    idempotency_key: RequiredKeyHeader,
    prefer: PreferHeader = None,
) -> IdempotentRequest:
    return _idempotent_request(request, services, caller, idempotency_key, prefer)


async def _with_optional_key(
    request: Request,
    services: AppServices,
    caller: CurrentCaller,
    idempotency_key: OptionalKeyHeader = None,
    prefer: PreferHeader = None,
) -> IdempotentRequest:
    return _idempotent_request(request, services, caller, idempotency_key, prefer)


async def _without_operation(
    request: Request, services: AppServices, caller: CurrentCaller, idempotency_key: OptionalKeyHeader = None
) -> IdempotentRequest:
    return _idempotent_request(request, services, caller, idempotency_key, None)


RequiredKeyRequest = Annotated[IdempotentRequest, Depends(_with_required_key)]
OptionalKeyRequest = Annotated[IdempotentRequest, Depends(_with_optional_key)]
OptionalKeyQuery = Annotated[IdempotentRequest, Depends(_without_operation)]
"""For a route that sends no transaction. There is nothing to wait for, so it has no `Prefer` header."""
