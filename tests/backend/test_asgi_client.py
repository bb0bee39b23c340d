"""The adapter's client of the API in this process gets what `httpx` gets."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from stakesim_adapter.asgi_client import AsgiClient
from starlette.responses import JSONResponse, StreamingResponse

app = FastAPI()


@app.api_route("/echo/{name}", methods=["GET", "POST", "PATCH"])
async def echo(request: Request, name: str) -> JSONResponse:
    headers = {key: value for key, value in request.headers.items() if key in ("content-type", "content-length", "x-a")}
    told = {"method": request.method, "name": name, "query": request.url.query, "headers": headers}
    return JSONResponse(told | {"body": (await request.body()).decode()}, status_code=201)


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def parts() -> Any:
        for number in range(3):
            await asyncio.sleep(0.01)
            yield f"part {number} "

    return StreamingResponse(parts())


@app.get("/fails")
async def fails() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/echo/a", {"params": {"limit": 5, "cursor": "a b&c"}, "headers": {"X-A": "\u00e9"}}),
        ("POST", "/echo/a", {"json": {"a": "\u0939\u093f", "b": [1, None]}}),
        ("POST", "/echo/a", {"json": None}),
        ("POST", "/echo/a", {"content": b'{"a": 1}', "headers": {"Content-Type": "text/plain"}}),
        ("PATCH", "/echo/a", {"json": {}}),
        ("GET", "/nothing", {}),
        ("GET", "/stream", {}),
    ],
)
def test_it_sends_and_receives_what_httpx_does(method: str, path: str, options: dict[str, Any]) -> None:
    options = {"headers": {}, **options}
    options["headers"] = {name: value.encode("latin-1") for name, value in options["headers"].items()}
    plain = {**options, "headers": {name: value.decode("latin-1") for name, value in options["headers"].items()}}

    async def ask() -> list[Any]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as other:
            return [await AsgiClient(app).request(method, path, **plain), await other.request(method, path, **options)]

    ours, theirs = asyncio.run(ask())
    assert ours.status_code == theirs.status_code
    if path == "/stream":
        assert ours.text == theirs.text == "part 0 part 1 part 2 "
    else:
        assert ours.json() == theirs.json()


def test_an_error_of_the_app_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(AsgiClient(app).request("GET", "/fails"))
