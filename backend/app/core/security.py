"""Authentication and roles. Bearer tokens are JSON Web Tokens; HMAC-SHA-256 is the only signature that is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from uuid import UUID

import jwt
from pydantic import SecretStr

from app.core.errors import AppError

Role = Literal["host", "attendee", "platform"]
_ALGORITHM = "HS256"
_CLAIMS = ("sub", "role", "exp")


class Unauthenticated(AppError):
    """There is no bearer token, or it is not valid."""

    code = "unauthenticated"


class Forbidden(AppError):
    """The caller is authenticated, and may not do this."""

    code = "forbidden"


@dataclass(frozen=True)
class Caller:
    """The authenticated user of a request.

    Attributes:
        id: Id of the user's row in `users`.
        role: Role of the user. The platform may act for everybody, other roles only for themselves.
    """

    id: UUID
    role: Role

    def acting_for(self, user_id: UUID | None, role: Role) -> UUID:
        """Returns the id of the user for whom the caller acts.

        Args:
            user_id: User that the request names; the caller if None.
            role: Role that the request requires, unless the caller is the platform.

        Raises:
            Forbidden: The caller has another role, or names somebody else without being the platform.
        """
        if self.role not in (role, "platform"):
            raise Forbidden(f"This takes the role {role} or platform; the token has the role {self.role}.")
        if self.role != "platform" and user_id not in (None, self.id):
            raise Forbidden("Only the platform may do this for somebody else.")
        return user_id or self.id


def issue_token(secret: SecretStr, user_id: UUID, role: Role, lifetime: timedelta = timedelta(hours=1)) -> str:
    """Returns a signed token with the user's id and role."""
    claims = {"sub": str(user_id), "role": role, "exp": datetime.now(UTC) + lifetime}
    return jwt.encode(claims, secret.get_secret_value(), algorithm=_ALGORITHM)


def verify_token(secret: SecretStr, token: str) -> Caller:
    """Returns the user to whom the token was issued.

    Raises:
        Unauthenticated: The token is expired, not signed with this secret, or lacks a claim.
    """
    try:
        claims = jwt.decode(
            token, secret.get_secret_value(), algorithms=[_ALGORITHM], options={"require": list(_CLAIMS)}
        )
        user_id = UUID(claims["sub"])
    except jwt.ExpiredSignatureError:
        raise Unauthenticated("The bearer token has expired: get a new one.") from None
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
        raise Unauthenticated("The bearer token is not valid: get a new one.") from None
    if claims["role"] not in get_args(Role):
        raise Unauthenticated("The bearer token has no role that is known here.")
    return Caller(user_id, claims["role"])
