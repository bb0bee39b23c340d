"""An HTTP API with the price of ETH, whose answer a test sets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIRST_INR = 200_000
"""Price that the API answers with at first."""


class PriceApi:
    """Answers with the price.

    Attributes:
        inr: INR per ETH; None to answer 500.
        age_s: Age of the price in seconds.
    """

    def __init__(self) -> None:
        self.inr: int | None = FIRST_INR
        self.age_s = 0.0
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = api.answer()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def answer(self) -> tuple[int, bytes]:
        if self.inr is None:
            return 500, b"{}"
        return 200, json.dumps({"inr": self.inr, "at": time.time() - self.age_s}).encode()

    def setting(self) -> str:
        """Returns the setting PRICE_FEEDS with this API."""
        url = f"http://127.0.0.1:{self.server.server_port}/"
        return json.dumps([{"name": "stand-in", "url": url, "rate": "inr", "as_of": "at"}])


@contextmanager
def price_api() -> Iterator[PriceApi]:
    api = PriceApi()
    threading.Thread(target=api.server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        api.server.shutdown()
        api.server.server_close()
