"""Several JSON-RPC URLs as one web3 provider: a request goes, in the same bytes, to one that works."""

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

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
BUSY = re.compile(
    "rate.?limit|too many request|limit reached|compute units|(request|capacity|rps).{0,20}(limit|exceed)|throttl"
    "|temporarily unavailable|request timed out",
    re.IGNORECASE,
)
"""What a JSON-RPC error says that may be over soon, or elsewhere. Codes tell too little: nodes use one for much."""

log = logging.getLogger(__name__)
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # below that it writes URLs, which hold keys


class _Trouble(Exception):
    """One try failed. wait: seconds the node asked for; hopeless: it will answer no better later."""

    def __init__(self, error: requests.RequestException, wait: float = 0, hopeless: bool = False) -> None:
        self.error, self.wait, self.hopeless = error, wait, hopeless


class Endpoints(JSONBaseProvider):
    """Asks one endpoint while it works. One that is out of reach, silent, broken or busy is left to rest, doubling and
    jittered, or for as long as it asked, within bounds; meanwhile the next is asked. What a node has judged, such as a
    revert or a nonce, is its answer.

    urls: shown nowhere, as they may hold keys; endpoints are told apart by number.
    timeout: seconds that each try may take to answer; patience: seconds after which no further try begins.
    Raises the last `requests.RequestException`: whether the node took the request is not known then.
    """

    def __init__(
        self,
        urls: Sequence[str],
        timeout: float = 10,
        patience: float = 20,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._urls, self._timeout, self._patience = tuple(urls), timeout, patience
        self._sleep, self._clock, self._chance = sleep, clock, chance
        self._local = threading.local()  # a session is not made for several threads
        self._rested_at = [float("-inf")] * len(self._urls)
        self._kept = 0

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        body, until = self.encode_rpc_request(method, params), self._clock() + self._patience
        pause, failed, hopeless = FIRST_PAUSE_S, None, set[int]()
        while True:
            now, count = self._clock(), len(self._urls)
            waits = [max(rested_at - now, 0) for rested_at in self._rested_at]
            at = min(range(count), key=lambda i: (waits[i], (i - self._kept) % count))
            if failed and (len(hopeless) == count or now + waits[at] > until):
                raise failed.error
            if waits[at]:
                self._sleep(waits[at])
            try:
                answer = self._ask(at, body)
                self._kept = at
                return answer
            except _Trouble as trouble:
                failed = trouble
            log.warning("%s: %s", method, failed.error)
            if failed.hopeless:
                hopeless.add(at)
            rest = max(pause * (1 + self._chance()) / 2, min(failed.wait, LONGEST_PAUSE_S))
            self._rested_at[at], pause = self._clock() + rest, min(2 * pause, LONGEST_PAUSE_S)

    def _ask(self, at: int, body: bytes) -> RPCResponse:
        """One try. What went wrong is told in words of ours: those of `requests` quote the URL."""
        place, headers = f"endpoint {at + 1} of {len(self._urls)}", {"Content-Type": "application/json"}
        sessions: dict[int, requests.Session] = self._local.__dict__.setdefault("sessions", {})
        session = sessions.get(at) or sessions.setdefault(at, _session(self._urls[at]))
        try:
            got = session.post(self._urls[at], body, headers=headers, timeout=self._timeout, allow_redirects=False)
        except requests.Timeout:
            raise _Trouble(requests.Timeout(f"{place} did not answer in time")) from None
        except requests.RequestException as error:
            raise _Trouble(requests.ConnectionError(f"{place} can't be reached ({type(error).__name__})")) from None
        answer: Any = None
        with suppress(ValueError):
            answer = self.decode_rpc_response(got.content)
        refusal = answer.get("error") if isinstance(answer, dict) else None
        said, status = str(refusal or ""), got.status_code
        busy = status == 429 or (refusal is not None and "revert" not in said and bool(BUSY.search(said)))
        if isinstance(answer, dict) and not busy and (status < 500 or "revert" in said):
            return cast(RPCResponse, answer)
        wait = got.headers.get("Retry-After", "")  # seconds; its other form, a date, is as good as none
        told = f"{place} " + ("has too many requests" if busy else f"gave no answer but HTTP status {status}")
        hopeless = not busy and 300 <= status < 500 and status not in (408, 425)
        raise _Trouble(requests.HTTPError(told), float(wait) if wait.isdecimal() else 0, hopeless)


def _session(url: str) -> requests.Session:
    """One that reads the environment's proxies and certificates now: at each request it takes 0.13 ms."""
    session = requests.Session()
    for name, value in session.merge_environment_settings(url, {}, None, None, None).items():
        setattr(session, name, value)
    session.trust_env = False
    return session
