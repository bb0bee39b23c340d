"""Response headers that keep browsers from doing harm."""

from __future__ import annotations

from starlette.types import Scope

YEAR_S = 365 * 24 * 3600
SECURITY_HEADERS: dict[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Headers of every response that does not set them itself."""


def headers_for(scope: Scope, hsts_seconds: int | None) -> dict[str, str]:
    """Returns the headers to add to the response to a request.

    Args:
        scope: The request's ASGI scope.
        hsts_seconds: As in `HttpPolicy`.
    """
    seconds = hsts_seconds
    if seconds is None:
        seconds = YEAR_S if scope.get("scheme") == "https" else 0
    return SECURITY_HEADERS | ({"Strict-Transport-Security": f"max-age={seconds}"} if seconds else {})
