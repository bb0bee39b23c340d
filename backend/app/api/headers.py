"""Response headers that keep browsers from doing harm, and the page `/docs`, which needs other ones."""

from __future__ import annotations

import base64
import hashlib

from fastapi import Response
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


_SWAGGER_UI = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5.35.0"
_START = """SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true});"""
_SCRIPT_HASH = base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()
DOCS_POLICY = (
    f"default-src 'none'; script-src {_SWAGGER_UI}/swagger-ui-bundle.js 'sha256-{_SCRIPT_HASH}'; "
    f"style-src {_SWAGGER_UI}/swagger-ui.css 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy of `/docs`: this start, and two files of Swagger UI from a CDN, whose hashes the page has."""
_DOCS = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>stakesim API</title>
<link rel="stylesheet" href="{_SWAGGER_UI}/swagger-ui.css" crossorigin="anonymous"
 integrity="sha384-WlYgdmXYOOBWL5apwjDEZwN+U3HmXSSu5R6V5aGxEcf7z+KuRNwBhoxKVN1i3D5I">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{_SWAGGER_UI}/swagger-ui-bundle.js" crossorigin="anonymous"
 integrity="sha384-gjRm0bEPMeTmMh5jT2cHccIwCUZSTd8YC+j0d0sXw0MdGEfScduGpSyF3ZSSLkX9"></script>
<script>{_START}</script>
</body>
</html>
"""


async def docs_page() -> Response:
    """Returns the page with the documentation of the API, drawn by Swagger UI in the browser."""
    return Response(_DOCS, media_type="text/html", headers={"Content-Security-Policy": DOCS_POLICY})
