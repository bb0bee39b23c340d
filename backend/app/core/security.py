"""Authentication and roles. Bearer tokens are JSON Web Tokens; HMAC-SHA-256 is the only signature that is accepted."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from uuid import UUID

import jwt
from pydantic import SecretStr

from app.core.errors import AppError

Role = Literal["host", "attendee", "platform"]
CLOCK_LEEWAY = timedelta(seconds=60)
"""How far the clock of whoever issues tokens may be ahead."""
_ALGORITHM = "HS256"
_CLAIMS = ("iss", "sub", "role", "iat", "exp")


class Unauthenticated(AppError):
    """There is no bearer token, or it is not valid."""

    code = "unauthenticated"


class Forbidden(AppError):
    """The caller is authenticated, and may not do this."""

    code = "forbidden"


@dataclass(frozen=True)
class TokenPolicy:
    """Which tokens are accepted, beside their signature.

    Attributes:
        issuer: Their claim `iss`.
        max_lifetime: Maximum time from `iat` to `exp`.
        previous_secret: A key that signs no more, and verifies while keys are rotated; None if there is none.
    """

    issuer: str = "stakesim"
    max_lifetime: timedelta = timedelta(days=1)
    previous_secret: SecretStr | None = None


DEFAULT_TOKEN_POLICY = TokenPolicy()


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


def key_id(secret: SecretStr) -> str:
    """Returns the name of a key for the header `kid`. It tells nothing about the key."""
    return hmac.digest(secret.get_secret_value().encode(), b"stakesim kid", hashlib.sha256).hex()[:16]


def issue_token(
    secret: SecretStr,
    user_id: UUID,
    role: Role,
    lifetime: timedelta = timedelta(hours=1),
    issuer: str = DEFAULT_TOKEN_POLICY.issuer,
) -> str:
    """Returns a signed token with the user's id and role."""
    now = datetime.now(UTC)
    claims = {"iss": issuer, "sub": str(user_id), "role": role, "iat": now, "exp": now + lifetime}
    return jwt.encode(claims, secret.get_secret_value(), algorithm=_ALGORITHM, headers={"kid": key_id(secret)})


def verify_token(secret: SecretStr, token: str, policy: TokenPolicy = DEFAULT_TOKEN_POLICY) -> Caller:
    """Returns the user to whom the token was issued.

    Raises:
        Unauthenticated: The token is expired, not signed with a known key, lacks a claim, or lives too long.
    """
    try:
        claims = _verified_claims(secret, token, policy)
        user_id, lifetime = UUID(claims["sub"]), timedelta(seconds=claims["exp"] - claims["iat"])
        issued_early = claims["iat"] - datetime.now(UTC).timestamp()
    except jwt.ExpiredSignatureError:
        raise Unauthenticated("The bearer token has expired: get a new one.") from None
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise Unauthenticated("The bearer token is not valid: get a new one.") from None
    if issued_early > CLOCK_LEEWAY.total_seconds():
        raise Unauthenticated("The bearer token was issued in the future: the clocks of issuer and service differ.")
    if lifetime > policy.max_lifetime:
        seconds = policy.max_lifetime.total_seconds()
        raise Unauthenticated(f"The bearer token lives longer than the {seconds:.0f} s that are accepted here.")
    if claims["role"] not in get_args(Role):
        raise Unauthenticated("The bearer token has no role that is known here.")
    return Caller(user_id, claims["role"])


def _verified_claims(secret: SecretStr, token: str, policy: TokenPolicy) -> dict[str, Any]:
    header = jwt.get_unverified_header(token)
    keys = {key_id(each): each for each in (policy.previous_secret, secret) if each is not None}
    if header.get("kid") not in keys:
        raise Unauthenticated("The bearer token is signed with a key that is not known here (kid): get a new one.")
    return jwt.decode(  # refuses the header `crit` as well
        token,
        keys[header["kid"]].get_secret_value(),
        algorithms=[_ALGORITHM],
        issuer=policy.issuer,
        options={"require": list(_CLAIMS), "verify_iat": False},  # `verify_token` does it
    )
