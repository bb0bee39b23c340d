"""Sources of the ETH price: one that is set by hand, and HTTP APIs that respond with JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from app.core.config import PriceFeedSettings
from app.core.errors import PriceError
from app.services.pricing import Rate

MAX_ANSWER_BYTES = 64 * 1024
MAX_BRACKETS = 1000
"""Maximum number of opening brackets and braces in an answer. Nested JSON recurses, and so could crash the process."""
MAX_TIME_MS = 10**14
"""Bound of a feed's time; a number below a thousandth of it is taken for seconds, any other for milliseconds."""
MANUAL_SOURCE = "ETH_PRICE_INR"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ManualPriceFeed:
    """A rate that a person sets, with the time at which it was valid. It ages, so a person has to confirm it.

    Attributes:
        inr_per_eth: INR per ETH; None if no rate is set.
        as_of: When it was valid; None if no time is set, and then the rate is not used.
        max_age: Age at which it can't be used any more.
    """

    inr_per_eth: Decimal | None
    as_of: datetime | None
    max_age: timedelta

    def latest(self) -> Rate | None:
        """Returns the rate; None if no rate is set.

        Raises:
            PriceError: The rate has no time.
        """
        if self.inr_per_eth is None:
            return None
        if self.as_of is None:
            raise PriceError(
                "ETH_PRICE_INR has no time: set ETH_PRICE_INR_AS_OF to when it was valid, such as 2026-01-31T09:00Z.",
                "missing",
            )
        return Rate(self.inr_per_eth, self.as_of, MANUAL_SOURCE, self.max_age)


class HttpPriceFeed:
    """The rate of an HTTP API that responds with JSON.

    Answers are kept for `refresh_seconds`, failures too. One thread at a time asks; callers wait for it only if there
    is no answer from the last few intervals. Messages name the feed, never its URL, which may contain a key.

    Args:
        settings: URL, and where the rate and its time are in the answer.
        refresh_seconds: Seconds between two requests.
        timeout: Seconds that a request may take in all, from the name's resolution to the last byte.
        clock: Returns seconds; never goes back.
    """

    def __init__(
        self,
        settings: PriceFeedSettings,
        refresh_seconds: float = 60,
        timeout: float = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._refresh_seconds, self._timeout, self._clock = settings, refresh_seconds, timeout, clock
        self._lock = threading.Lock()
        self._request: threading.Thread | None = None
        self._asked_at = self._answered_at = float("-inf")
        self._answer: Rate | PriceError = self._error("has not answered yet", "missing")

    def latest(self) -> Rate:
        """Returns the rate of the last answer.

        Raises:
            PriceError: The last request failed, or its answer has no rate.
        """
        now = self._clock()
        request = self._start_request(now) if now - self._asked_at >= self._refresh_seconds else self._request
        if request is not None and now - self._answered_at >= 3 * self._refresh_seconds:
            request.join(self._timeout + 1)
        if isinstance(self._answer, PriceError):
            raise PriceError(self._answer.message, self._answer.cause)
        return self._answer

    def _start_request(self, now: float) -> threading.Thread | None:
        with self._lock:
            if now - self._asked_at >= self._refresh_seconds and (
                self._request is None or not self._request.is_alive()
            ):
                self._asked_at = now
                self._request = threading.Thread(target=self._ask, name=f"price {self._settings.name}", daemon=True)
                self._request.start()
            return self._request

    def _ask(self) -> None:
        try:
            self._answer = self._parse(asyncio.run(self._fetch()))
        except PriceError as error:
            self._answer = error
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end in an answer that looks new
            log.error("price feed %s: %s", self._settings.name, type(error).__name__)
            self._answer = self._error(f"can't be asked ({type(error).__name__})", "missing")
        self._answered_at = self._clock()

    async def _fetch(self) -> bytes:
        """Returns the body of the answer.

        Raises:
            PriceError: There is no answer in time, or it is too long, compressed, or no success.
        """
        import httpx  # only a service that has such a feed needs it

        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        headers |= {name: value.get_secret_value() for name, value in self._settings.headers.items()}
        url, body = self._settings.url.get_secret_value(), bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout),
                httpx.AsyncClient(timeout=self._timeout) as client,
                client.stream("GET", url, headers=headers) as response,
            ):
                if response.status_code != 200:
                    raise self._error(f"responds with HTTP status {response.status_code}", "missing")
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise self._error("responds with a compressed body", "malformed")
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise self._error(f"responds with more than {MAX_ANSWER_BYTES} bytes", "malformed")
        except TimeoutError:
            raise self._error(f"does not respond within {self._timeout} s", "missing") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._error(f"can't be reached ({type(error).__name__})", "missing") from None
        return bytes(body)

    def _parse(self, body: bytes) -> Rate:
        if body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
            raise self._error(f"responds with more than {MAX_BRACKETS} brackets", "malformed")
        try:
            answer = json.loads(body, parse_float=Decimal, parse_int=Decimal)
        except (ValueError, ArithmeticError):
            raise self._error("does not respond with JSON", "malformed") from None
        rate, as_of = (_at(answer, path) for path in (self._settings.rate, self._settings.as_of))
        try:
            return Rate(_decimal(rate), _time(as_of), self._settings.name)
        except (ValueError, TypeError, ArithmeticError):
            raise self._error(
                f"responds without a number at {self._settings.rate}, or without a time at {self._settings.as_of}",
                "malformed",
            ) from None

    def _error(self, problem: str, cause: Any) -> PriceError:
        return PriceError(f"The price feed {self._settings.name} {problem}.", cause)


def _at(answer: Any, path: str) -> Any:
    """Returns what is at a path of member names and list indexes, separated by dots; None if there is nothing."""
    for part in path.split("."):
        if isinstance(answer, dict):
            answer = answer.get(part)
        elif isinstance(answer, list) and part.isdecimal() and int(part) < len(answer):
            answer = answer[int(part)]
        else:
            return None
    return answer


def _decimal(value: Any) -> Decimal:
    """Converts a JSON number, or a string with one. Raises `TypeError` or `ArithmeticError` for anything else."""
    if not isinstance(value, Decimal | str):
        raise TypeError(f"{type(value).__name__} is no number")
    return Decimal(value)


def _time(value: Any) -> datetime:
    """Converts seconds or milliseconds since 1970, or ISO 8601 with a time zone."""
    if isinstance(value, str) and not value.isdecimal():
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() is None:
            raise ValueError("The time has no time zone.")
        return moment
    seconds = _decimal(value)
    if not 0 <= seconds < MAX_TIME_MS:
        raise ValueError("The time is out of range.")
    return datetime.fromtimestamp(int(seconds / 1000 if seconds > MAX_TIME_MS // 1000 else seconds), UTC)
