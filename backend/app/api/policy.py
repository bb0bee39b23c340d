"""How the API treats clients: which tokens it accepts, and which headers it sends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from app.core.config import Settings
from app.core.security import DEFAULT_TOKEN_POLICY, TokenPolicy


@dataclass(frozen=True)
class HttpPolicy:
    """Settings of the API that are no settings of the services.

    Attributes:
        tokens: Which bearer tokens are accepted.
        cors_origins: Origins whose pages may call the API from a browser.
        hsts_seconds: Seconds for which browsers use https only. None: a year, said only where a request came by https;
            0: never said.
    """

    tokens: TokenPolicy = DEFAULT_TOKEN_POLICY
    cors_origins: tuple[str, ...] = ()
    hsts_seconds: int | None = None


def http_policy(settings: Settings) -> HttpPolicy:
    """Returns the policy of the settings."""
    lifetime = timedelta(seconds=settings.jwt_max_lifetime_seconds)
    tokens = TokenPolicy(settings.jwt_issuer, lifetime, settings.jwt_secret_previous)
    origins = tuple(filter(None, settings.cors_origins.split(",")))
    return HttpPolicy(tokens, origins, settings.hsts_seconds)
