"""HTTP price feeds: what they answer, when they are asked, and how little a broken one can do."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from app.bootstrap.check import NotReady
from app.bootstrap.checks import read_settings
from app.core.config import PriceFeedSettings
from app.core.errors import PriceError
from app.services.price_feeds import MAX_ANSWER_BYTES, HttpPriceFeed
from app.services.pricing import Rate

KEY = "key-in-the-url"
GOOD = b'{"ethereum": {"inr": 263581.123456789012345678, "last_updated_at": 1750000000}}'


@contextmanager
def api(*respond: Callable[[socketserver.StreamRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """Serves one request after another with these functions, the last one for all further requests.

    Yields:
        URL, and the requests' headers.
    """
    requests: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            lines = iter(self.rfile.readline, b"\r\n")
            requests.append("".join(line.decode() for line in lines))
            respond[min(len(requests), len(respond)) - 1](self)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/simple?x_key={KEY}", requests
        server.shutdown()


def answer(
    body: bytes, status: str = "200 OK", headers: str = ""
) -> Callable[[socketserver.StreamRequestHandler], None]:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n"
    return lambda handler: void(handler.wfile.write(head.encode() + body))


def void(_: object) -> None:
    return


def feed_of(
    url: str, rate: str = "ethereum.inr", as_of: str = "ethereum.last_updated_at", **options: object
) -> HttpPriceFeed:
    settings = PriceFeedSettings.model_validate({"name": "gecko", "url": url, "rate": rate, "as_of": as_of})
    return HttpPriceFeed(settings, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "rate", "as_of"),
    [
        (GOOD, "ethereum.inr", "ethereum.last_updated_at"),
        (b'[0, {"p": "263581.123456789012345678", "t": 1750000000123}]', "1.p", "1.t"),
        (b'{"q": {"p": 263581.123456789012345678}, "t": "2025-06-15T20:36:40+05:30"}', "q.p", "t"),
        (b'{"p": 263581.123456789012345678, "t": "1750000000"}', "p", "t"),
    ],
)
def test_rate_and_time_are_exact(body: bytes, rate: str, as_of: str) -> None:
    with api(answer(body)) as (url, requests):
        latest = feed_of(url, rate, as_of).latest()
    assert latest == Rate(Decimal("263581.123456789012345678"), datetime.fromtimestamp(1_750_000_000, UTC), "gecko")
    assert f"x_key={KEY}" in requests[0]


def drip(handler: socketserver.StreamRequestHandler) -> None:
    """Sends a header byte by byte, and never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    pause = threading.Event()
    while not pause.wait(0.02):
        handler.wfile.write(b"x")


def flood(handler: socketserver.StreamRequestHandler) -> None:
    """Sends a body that never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        handler.wfile.write(b" " * 10_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("respond", "says"),
    [
        (answer(b"no", "500 Oh"), "responds with HTTP status 500"),
        (answer(b"", "302 Found", "Location: http://127.0.0.1:9/\r\n"), "responds with HTTP status 302"),
        (answer(b"<html>"), "does not respond with JSON"),
        (answer(b"\xff\xfe"), "does not respond with JSON"),
        (answer(b"[" * 60_000), "more than 1000 brackets"),
        (answer(b" " * (MAX_ANSWER_BYTES + 1)), f"more than {MAX_ANSWER_BYTES} bytes"),
        (answer(b"x", headers="Content-Encoding: gzip\r\n"), "compressed"),
        (answer(b"{}"), "without a number at ethereum.inr"),
        (answer(GOOD.replace(b"263581.123456789012345678", b"null")), "without a number"),
        (answer(GOOD.replace(b"263581.123456789012345678", b"true")), "without a number"),
        (answer(GOOD.replace(b"263581.123456789012345678", b'"much"')), "without a number"),
        (answer(GOOD.replace(b"263581.123456789012345678", b"NaN")), "without a number"),
        (answer(GOOD.replace(b"1750000000", b'"2025-06-15T15:06:40"')), "or without a time"),
        (answer(GOOD.replace(b"1750000000", b"1e400")), "or without a time"),
        (answer(GOOD.replace(b"1750000000", b"1e999999999")), "or without a time"),
        (lambda handler: None, "can't be reached"),
        (flood, "more than"),
    ],
)
def test_a_bad_answer_is_a_refusal_in_one_sentence(
    respond: Callable[[socketserver.StreamRequestHandler], None], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with api(respond) as (url, _), pytest.raises(PriceError, match=rf"^The price feed gecko .*{says}.*\.$") as refused:
        feed_of(url).latest()
    assert KEY not in str(refused.value) + caplog.text


def test_an_answer_without_end_is_a_refusal_in_one_sentence() -> None:
    with api(drip) as (url, _), pytest.raises(PriceError, match=r"^The price feed gecko .*respond within 0.3 s\.$"):
        feed_of(url, timeout=0.3).latest()


def test_nobody_listens() -> None:
    with pytest.raises(PriceError, match=r"^The price feed gecko can't be reached \(ConnectError\)\.$"):
        feed_of("http://127.0.0.1:9/").latest()


@pytest.mark.slow
def test_answers_and_failures_are_kept_until_the_next_request() -> None:
    now = [0.0]
    with api(answer(b"", "500 Oh"), answer(GOOD)) as (url, requests):
        feed = feed_of(url, refresh_seconds=60, clock=lambda: now[0])
        for _ in range(3):
            with pytest.raises(PriceError, match="status 500"):
                feed.latest()
        assert len(requests) == 1
        now[0] = 1000
        assert {feed.latest().inr_per_eth for _ in range(3)} == {Decimal("263581.123456789012345678")}
        assert len(requests) == 2


def test_callers_do_not_wait_for_a_request_while_the_last_answer_is_new() -> None:
    now, may_answer = [0.0], threading.Event()

    def wait(handler: socketserver.StreamRequestHandler) -> None:
        may_answer.wait()

    with api(answer(GOOD), wait) as (url, requests):
        feed = feed_of(url, refresh_seconds=60, clock=lambda: now[0])
        first = feed.latest()
        now[0] = 61
        with ThreadPoolOf(8, feed.latest) as answers:  # none of them would end if it waited
            assert answers == [first] * 8
        assert len(requests) <= 2
        may_answer.set()


class ThreadPoolOf:
    """Calls a function in several threads at once."""

    def __init__(self, count: int, function: Callable[[], Rate]) -> None:
        self._answers: list[Rate] = []
        self._threads = [threading.Thread(target=lambda: self._answers.append(function())) for _ in range(count)]

    def __enter__(self) -> list[Rate]:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join(60)
        return self._answers

    def __exit__(self, *_: object) -> None:
        return


REQUIRED = {
    "blockchain_rpc_url": "http://127.0.0.1:9",
    "contract_address": "0x" + "11" * 20,
    "platform_private_key": "0x" + "11" * 32,
    "jwt_secret": "0123456789abcdefghijklmnopqrstuv",
}


def test_feeds_in_the_settings_hide_their_keys() -> None:
    feed = {"name": "a", "url": f"https://a/?k={KEY}", "rate": "p", "as_of": "t", "headers": {"X-Key": KEY}}
    settings = read_settings(None, **REQUIRED, price_feeds=json.dumps([feed]))
    assert settings.price_feeds[0].headers["X-Key"].get_secret_value() == KEY
    assert KEY not in repr(settings) + repr(settings.price_feeds)


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        (f"https://a.example/?k={KEY}", "PRICE_FEEDS is wrong: Give a JSON list of feeds"),
        (
            f'[{{"name": "a", "url": "ftp://{KEY}", "rate": "p", "as_of": "t"}}]',
            "PRICE_FEEDS.0.URL is wrong: Give",
        ),
        (f'[{{"name": "{KEY} !", "url": "https://a", "rate": "p", "as_of": "t"}}]', "PRICE_FEEDS.0.NAME is wrong"),
        ('[{"name": "a", "url": "https://a", "rate": "p"}]', "PRICE_FEEDS.0.AS_OF is not set"),
    ],
)
def test_wrong_feeds_are_refused_in_one_sentence(feeds: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICE_FEEDS", feeds)
    with pytest.raises(NotReady, match=says) as refused:
        read_settings(None, **REQUIRED)
    assert KEY not in str(refused.value)
