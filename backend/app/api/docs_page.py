"""The page `/docs`: Swagger UI with the API's document, all of it served by the service, so that it works offline.

`swagger_ui/` has two files of the npm package swagger-ui-dist, packed by `gzip -9n`. Whoever replaces them changes
version and digests here; the browser checks the digests, too.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from pathlib import Path

from fastapi import APIRouter, Request, Response

VERSION = "5.35.0"
"""Version of swagger-ui-dist."""
DIGESTS = {
    "swagger-ui-bundle.js": "gjRm0bEPMeTmMh5jT2cHccIwCUZSTd8YC+j0d0sXw0MdGEfScduGpSyF3ZSSLkX9",
    "swagger-ui.css": "WlYgdmXYOOBWL5apwjDEZwN+U3HmXSSu5R6V5aGxEcf7z+KuRNwBhoxKVN1i3D5I",
}
"""SHA-384 in base64 of each unpacked file."""

_FOLDER = Path(__file__).parent / "swagger_ui"
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
_START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true});"""
_START_DIGEST = base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{_START_DIGEST}'; style-src 'self' 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy of `/docs`: files of this service, and the one script in the page, by its digest."""
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>stakesim API</title>
<link rel="stylesheet" href="docs/{VERSION}/swagger-ui.css" integrity="sha384-{DIGESTS["swagger-ui.css"]}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/{VERSION}/swagger-ui-bundle.js" integrity="sha384-{DIGESTS["swagger-ui-bundle.js"]}"></script>
<script>{_START}</script>
</body>
</html>
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs_page() -> Response:
    """Returns the page. Its links are relative, so that it works behind a path of a proxy."""
    return Response(_PAGE, media_type="text/html", headers={"Content-Security-Policy": POLICY})


def _file_route(name: str) -> None:
    media_type = _MEDIA_TYPES[Path(name).suffix]
    packed = (_FOLDER / f"{name}.gz").read_bytes()

    @router.get(f"/docs/{VERSION}/{name}", name=name)
    async def file(request: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type=media_type, headers=headers | {"Content-Encoding": "gzip"})
        return Response(gzip.decompress(packed), media_type=media_type, headers=headers)


for _name in DIGESTS:
    _file_route(_name)
