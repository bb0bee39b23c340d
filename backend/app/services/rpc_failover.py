"""A web3 provider for several JSON-RPC URLs: sends a request to the next node, unchanged, if one fails."""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import requests
from web3.providers import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

MIN_REST_S, MAX_REST_S = 0.25, 10.0
"""Seconds for which an endpoint is not used after a failure."""
BUSY = re.compile(
    "rate.?limit|too many request|limit reached|compute units|(request|capacity|rps).{0,20}(limit|exceed)|throttl"
    "|temporarily unavailable|request timed out",
    re.IGNORECASE,
)
"""Messages of temporary JSON-RPC errors. Nodes use one code for many errors, so the text decides."""

log = logging.getLogger(__name__)
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # its debug lines contain URLs, which contain keys


class _RequestFailed(Exception):
    """One request to one endpoint failed.

    Attributes:
        error: The error; its message does not contain the URL.
        retry_after: Seconds to wait before the next request, by the node's header Retry-After; 0 without one.
        is_permanent: Whether this endpoint will refuse the same request again.
    """

    def __init__(self, error: requests.RequestException, *, retry_after: float = 0, is_permanent: bool = False) -> None:
        self.error, self.retry_after, self.is_permanent = error, retry_after, is_permanent


class FailoverProvider(JSONBaseProvider):
    """Sends requests to one endpoint while it works, and to the next one when it fails.

    After a failure (unreachable, timeout, broken response, too many requests) an endpoint rests: for a random time in
    the upper half of a limit that doubles with each failure, and at least as long as its Retry-After says, up to
    `MAX_REST_S`.
    An error that is the node's answer, such as a revert or a wrong nonce, is no failure. Messages number the endpoints,
    as URLs may contain keys.

    Args:
        urls: URLs of the endpoints, in order of preference.
        timeout: Seconds that one request may take.
        give_up_after: Seconds after which a request is not tried again.
        clock: Returns seconds; never goes back.
        sleep: Waits for so many seconds.
        jitter: Returns a random number in [0, 1).
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout: float = 10,
        give_up_after: float = 20,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._urls, self._timeout, self._give_up_after = tuple(urls), timeout, give_up_after
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._local = threading.local()  # a session must not be shared by threads
        self._rests_until = [float("-inf")] * len(self._urls)
        self._current = 0  # endpoint that answered last

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Sends a request to one endpoint after another, until one responds.

        Raises:
            requests.RequestException: The last endpoint's error. An endpoint may have executed the request.
        """
        body, deadline = self.encode_rpc_request(method, params), self._clock() + self._give_up_after
        max_rest, failure, failed_for_good = MIN_REST_S, None, set[int]()
        while True:
            now, count = self._clock(), len(self._urls)
            waits = [max(rests_until - now, 0) for rests_until in self._rests_until]
            # The endpoint with the shortest wait; among equals the one that answered last, or the next after it
            endpoint = min(range(count), key=lambda i: (waits[i], (i - self._current) % count))
            if failure and (len(failed_for_good) == count or now + waits[endpoint] > deadline):
                raise failure.error
            if waits[endpoint]:
                self._sleep(waits[endpoint])
            try:
                response = self._request(endpoint, body)
            except _RequestFailed as error:
                failure = error
            else:
                self._current = endpoint
                return response
            log.warning("%s: %s", method, failure.error)
            if failure.is_permanent:
                failed_for_good.add(endpoint)
            rest = max(max_rest * (1 + self._jitter()) / 2, min(failure.retry_after, MAX_REST_S))
            self._rests_until[endpoint] = self._clock() + rest
            max_rest = min(2 * max_rest, MAX_REST_S)

    def _request(self, endpoint: int, body: bytes) -> RPCResponse:
        """Makes one request to one endpoint.

        Raises:
            _RequestFailed: There is no response, or it is a failure of the endpoint.
        """
        name = f"endpoint {endpoint + 1} of {len(self._urls)}"
        response = self._post(endpoint, name, body)
        rpc_response: Any = None
        with suppress(ValueError):
            rpc_response = self.decode_rpc_response(response.content)
        is_object, status = isinstance(rpc_response, dict), response.status_code
        rpc_error = str(rpc_response.get("error") or "") if is_object else ""
        is_revert = "revert" in rpc_error  # the words of such a message are the contract's
        is_busy = status == 429 or (not is_revert and bool(BUSY.search(rpc_error)))
        if is_object and not is_busy and (status < 500 or is_revert):
            return cast(RPCResponse, rpc_response)
        problem = "has too many requests" if is_busy else f"gave no answer but HTTP status {status}"
        raise _RequestFailed(
            requests.HTTPError(f"{name} {problem}"),
            retry_after=_retry_after(response),
            is_permanent=not is_busy and 300 <= status < 500 and status not in (408, 425),
        )

    def _post(self, endpoint: int, name: str, body: bytes) -> requests.Response:
        """Sends a request. The errors do not quote those of `requests`, which contain the URL."""
        sessions: dict[int, requests.Session] = self._local.__dict__.setdefault("sessions", {})
        session = sessions.get(endpoint) or sessions.setdefault(endpoint, _session(self._urls[endpoint]))
        headers = {"Content-Type": "application/json"}
        try:
            return session.post(
                self._urls[endpoint], body, headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except requests.Timeout:
            raise _RequestFailed(requests.Timeout(f"{name} did not answer in time")) from None
        except requests.RequestException as error:
            problem = f"{name} can't be reached ({type(error).__name__})"
            raise _RequestFailed(requests.ConnectionError(problem)) from None


def _retry_after(response: requests.Response) -> float:
    """Returns the seconds of the header Retry-After; 0 if it is missing or a date."""
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() else 0


def _session(url: str) -> requests.Session:
    """Returns a session that reads proxies and certificates from the environment once, instead of 0.13 ms a request."""
    session = requests.Session()
    for name, value in session.merge_environment_settings(url, {}, None, None, None).items():
        setattr(session, name, value)
    session.trust_env = False
    return session
