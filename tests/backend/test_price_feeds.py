"""HTTP price feeds: what they answer, when they are asked, and how little a broken one can do."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from app.bootstrap.check import NotReady
from app.bootstrap.checks import read_settings
from app.core.config import PriceFeedSettings
from app.core.errors import PriceError
from app.services import price_feeds
from app.services.price_feeds import MAX_ANSWER_BYTES, MAX_BRACKETS, HttpPriceFeed, ManualPriceFeed
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
    values = {"name": "gecko", "url": url, "rate": rate, "as_of": as_of, "headers": {"X-Key": KEY}}
    settings = PriceFeedSettings.model_validate(values)
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
    assert {f"X-Key: {KEY}", "Accept-Encoding: identity"} <= set(requests[0].splitlines())


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("0", 0),  # seconds up to 10^11, milliseconds below 10^14
        ("-1", None),
        ("1750000000.9", 1_750_000_000),
        ("100000000000", 100_000_000_000),
        ("100000000999", 100_000_000),
        ("99999999999999", 99_999_999_999),
        ("100000000000000", None),
        ('"2025-06-15"', None),
        ('""', None),
    ],
)
def test_a_time_is_seconds_or_milliseconds(time: str, seconds: int | None) -> None:
    body = GOOD.replace(b"1750000000", time.encode())
    if seconds is not None:
        assert feed_of("http://a")._parse(body).as_of.timestamp() == seconds
        return
    with pytest.raises(PriceError, match="or without a time") as refused:
        feed_of("http://a")._parse(body)
    assert refused.value.cause == "malformed"


@pytest.mark.parametrize(
    ("path", "found"),
    [("0", 5), ("1.p", 6), ("2", None), ("-1", None), ("p", None), ("1.0", None), ("0.0", None), ("1.p.0", None)],
)
def test_where_the_rate_is(path: str, found: int | None) -> None:
    feed, body = feed_of("http://a", path, "1.t"), b'[5, {"p": 6, "t": 1750000000}]'
    if found is not None:
        assert feed._parse(body).inr_per_eth == found
        return
    with pytest.raises(PriceError, match=f"without a number at {path}") as refused:
        feed._parse(body)
    assert refused.value.cause == "malformed"


@pytest.mark.parametrize("bracket", ["[", "{"])
def test_the_maximum_of_brackets(bracket: str) -> None:
    feed = feed_of("http://a", "p", "t")
    brackets = bracket * (MAX_BRACKETS - 1)  # and the one that opens the answer
    assert feed._parse(f'{{"p": 6, "t": 1750000000, "text": "{brackets}"}}'.encode())
    with pytest.raises(PriceError, match="more than 1000 brackets") as refused:
        feed._parse(f'{{"p": 6, "t": 1750000000, "text": "{brackets}["}}'.encode())
    assert refused.value.cause == "malformed"


def test_a_rate_set_by_hand_needs_its_time() -> None:
    now, hour = datetime.now(UTC), timedelta(hours=1)
    assert ManualPriceFeed(None, now, hour).latest() is None
    assert ManualPriceFeed(Decimal(7), now, hour).latest() == Rate(Decimal(7), now, "ETH_PRICE_INR", hour)
    with pytest.raises(PriceError, match=r"^ETH_PRICE_INR has no time: set ETH_PRICE_INR_AS_OF") as refused:
        ManualPriceFeed(Decimal(7), None, hour).latest()
    assert refused.value.cause == "missing"


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
        (answer(b" " * 65_536), "does not respond with JSON"),
        (answer(b" " * 65_537), f"more than {MAX_ANSWER_BYTES} bytes"),
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
    assert refused.value.cause == ("missing" if says.startswith(("responds with HTTP", "can't")) else "malformed")


@pytest.mark.slow
def test_an_answer_without_end_is_a_refusal_in_one_sentence() -> None:
    with api(drip) as (url, _), pytest.raises(PriceError, match=r"^The price feed gecko .*respond within 0.3 s\.$"):
        feed_of(url, timeout=0.3).latest()


def test_nobody_listens() -> None:
    with pytest.raises(PriceError, match=r"^The price feed gecko can't be reached \(ConnectError\)\.$"):
        feed_of("http://127.0.0.1:9/").latest()


def test_a_request_has_the_time_of_its_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that is more than what the client takes by default."""
    seen: list[dict[str, Any]] = []

    def client(**options: Any) -> Any:
        seen.append(options)
        raise httpx.ConnectError("nobody")

    monkeypatch.setattr(httpx, "AsyncClient", client)
    with pytest.raises(PriceError, match="can't be reached"):
        feed_of("http://a", timeout=30).latest()
    assert seen == [{"timeout": 30}]


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


def test_when_a_feed_is_asked_and_who_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Any] = []

    class Request:
        """A thread that does its work when somebody waits for it."""

        def __init__(self, target: Callable[[], None], name: str, daemon: bool) -> None:
            assert (name, daemon) == ("price gecko", True)
            self._work, self.waits, self.alive = target, list[float](), False
            requests.append(self)

        def start(self) -> None:
            self.alive = True

        def is_alive(self) -> bool:
            return self.alive

        def join(self, timeout: float) -> None:
            self.waits.append(timeout)
            self._work()
            self.alive = False

    async def fetch() -> bytes:
        if now[0] > 200:
            raise RuntimeError(KEY)
        return GOOD

    now = [0.0]
    monkeypatch.setattr(price_feeds, "threading", SimpleNamespace(Thread=Request, Lock=threading.Lock))
    feed = feed_of("http://a", clock=lambda: now[0])
    monkeypatch.setattr(feed, "_fetch", fetch)
    assert isinstance(feed._answer, PriceError)
    assert (str(feed._answer), feed._answer.cause) == ("The price feed gecko has not answered yet.", "missing")
    for moment, waits in (
        (0.0, [[6]]),  # the first caller waits for the answer
        (59.9, [[6]]),
        (60.0, [[6], []]),  # a minute after: asked, but the last answer is new enough
        (120.0, [[6], []]),  # still under way
        (179.9, [[6], []]),
        (180.0, [[6], [6]]),
        (240.0, [[6], [6], []]),
    ):
        now[0] = moment
        assert feed.latest().inr_per_eth == Decimal("263581.123456789012345678")
        assert [request.waits for request in requests] == waits, moment
    requests[-1].alive = False
    assert feed._start_request(299.9) is requests[-1]  # somebody else has asked meanwhile
    requests[-1].alive, now[0] = True, 360.0
    with pytest.raises(PriceError, match=r"^The price feed gecko can't be asked \(RuntimeError\)\.$") as refused:
        feed.latest()
    assert refused.value.cause == "missing"


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
