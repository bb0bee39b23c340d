"""A web3 provider for several JSON-RPC URLs: sends a request to the next node, unchanged, if one fails."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

import requests
from web3.providers import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from app.services import rpc_http
from app.services.rpc_http import AnswerTooLarge, HttpAnswer
from app.services.rpc_verdicts import MAX_REST_S, FailureKind, Request, RequestFailed, judge

MIN_REST_S = 0.25
"""Seconds for which an endpoint is not used after a first failure at most; `MAX_REST_S` after further ones."""
CHECK_EVERY_S, MAX_CHECK_PAUSE_S = 30.0, 120.0
"""Seconds between two checks of an endpoint; the pause doubles with each failed one, up to the second number."""
CHECK_TIMEOUT_S = 2.0
"""Seconds that the check of a spare endpoint may hold up a request."""
MAX_LAG_BLOCKS = 5
"""Blocks by which an endpoint may be behind another one, and still be used for reads while that one is up."""
_HEAD_METHODS = ("eth_blockNumber", "eth_getBlockByNumber")

log = logging.getLogger(__name__)
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # its debug lines contain URLs, which contain keys


@dataclass
class _Endpoint:
    """What is known of one endpoint. Times are in seconds of the provider's clock.

    Attributes:
        url: Its URL.
        name: Its number, for messages: URLs may contain keys.
        rests_until: When it may be used again.
        trusted: Whether its network was checked since it last failed.
        check_due: When it is to be checked again.
        check_pause: Seconds from one check to the next.
        head: Number of the latest block that it has told.
        lag: Blocks by which it was behind the best one when they were compared.
        lags: Whether that was too far.
        on_wrong_chain: Whether it was on another network in the last check.
        last_error: Why it rests.
        answers: Whether it answered when it was asked last; None if it never was.
        failures: How many requests failed, by kind.
    """

    url: str
    name: str
    rests_until: float = float("-inf")
    trusted: bool = False
    check_due: float = float("-inf")
    check_pause: float = CHECK_EVERY_S
    head: int = -1
    lag: int = 0
    lags: bool = False
    on_wrong_chain: bool = False
    last_error: requests.RequestException = field(default_factory=requests.ConnectionError)
    answers: bool | None = None
    failures: Counter[FailureKind] = field(default_factory=lambda: Counter(dict.fromkeys(get_args(FailureKind), 0)))


class EndpointStatus(NamedTuple):
    """What is known of one endpoint at present, for metrics.

    Attributes:
        number: Its number in the list of URLs, from 1.
        answers: Whether it answered when it was asked last; None if it never was.
        lag: Blocks by which it was behind the best one when they were compared last.
        on_wrong_chain: Whether it is on another network than it must be.
        failures: How many requests to it failed since the start of the process, by kind.
    """

    number: int
    answers: bool | None
    lag: int
    on_wrong_chain: bool
    failures: Mapping[FailureKind, int]


@dataclass
class _Attempts:
    """What happened to one request so far.

    Attributes:
        deadline: When it is given up.
        failure: The last failure.
        answer: The first error answer of a node; other endpoints may have a better one.
        excluded: Endpoints that are not asked again.
        max_rest: Seconds of the next rest at most.
    """

    deadline: float
    failure: RequestFailed | None = None
    answer: RPCResponse | None = None
    excluded: set[int] = field(default_factory=set)
    max_rest: float = MIN_REST_S


class FailoverProvider(JSONBaseProvider):
    """Sends requests to one endpoint while it works, and to the next one when it fails.

    After a failure (unreachable, too slow, too large, malformed or broken answer, too many requests) an endpoint rests:
    for a random time in the upper half of a limit that doubles with each failure, and at least as long as its
    Retry-After says, up to `MAX_REST_S`.
    A revert, and a refusal that any node would give, such as a wrong nonce, is the answer. Any other error makes the
    next endpoint be asked, once; if none of them has a result, the first error is the answer.
    Answers are judged by `rpc_answers.parse`. Messages number the endpoints, as URLs may contain keys.

    With a chain id, each endpoint's network and latest block are checked before its first use, when it comes back after
    a failure, and every `check_every` seconds. One that is on another network is not used. One that is more than
    `max_lag` blocks behind another is used only if no other is up. Logs are only asked of an endpoint that has the last
    block asked for, as nodes answer with an empty list for blocks that they lack.

    Args:
        urls: URLs of the endpoints, in order of preference.
        chain_id: Id of the network (EIP-155) that they must be on; None to check nothing.
        timeout: Seconds that one request may take, including its whole answer.
        give_up_after: Seconds after which a request is not tried again.
        check_every: Seconds between two checks of an endpoint.
        max_lag: Blocks.
        clock: Returns seconds; never goes back.
        sleep: Waits for so many seconds.
        jitter: Returns a random number in [0, 1).
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        chain_id: int | None = None,
        timeout: float = 10,
        give_up_after: float = 20,
        check_every: float = CHECK_EVERY_S,
        max_lag: int = MAX_LAG_BLOCKS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        names = (f"endpoint {number} of {len(urls)}" for number in range(1, len(urls) + 1))
        self._endpoints = [_Endpoint(url, name, check_pause=check_every) for url, name in zip(urls, names, strict=True)]
        self._chain_id, self._check_every, self._max_lag = chain_id, check_every, max_lag
        self._timeout, self._give_up_after = timeout, give_up_after
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._local = threading.local()  # a session must not be shared by threads
        self._check_lock = threading.Lock()
        self._current = 0  # endpoint that answered last

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Sends a request to one endpoint after another, until one has an answer.

        Raises:
            requests.RequestException: The last endpoint's error. An endpoint may have executed the request.
        """
        request, attempts = self._encode(method, params), _Attempts(self._clock() + self._give_up_after)
        while True:
            index, wait = self._next_endpoint(attempts)
            is_over = len(attempts.excluded) == len(self._endpoints)
            if attempts.answer is not None and (is_over or wait > 0):
                return attempts.answer
            if is_over or ((attempts.failure or wait) and self._clock() + wait > attempts.deadline):
                raise attempts.failure.error if attempts.failure else _copy_of(self._endpoints[index].last_error)
            if wait:
                self._sleep(wait)
            endpoint = self._endpoints[index]
            try:
                if self._check_if_due(endpoint) and endpoint.lags:
                    continue  # with one that does not, if it is up
                response = self._exchange(endpoint, request, self._timeout)
            except RequestFailed as failure:
                log.warning("%s: %s", method, failure.error)
                self._note_failure(index, failure, attempts)
            else:
                self._current = index
                return response

    @property
    def max_lag(self) -> int:
        """Blocks by which an endpoint may be behind another one."""
        return self._max_lag

    def statuses(self) -> list[EndpointStatus]:
        """Returns what is known of each endpoint. Asks nobody."""
        return [
            EndpointStatus(number, each.answers, each.lag, each.on_wrong_chain, each.failures)
            for number, each in enumerate(self._endpoints, 1)
        ]

    def _next_endpoint(self, attempts: _Attempts) -> tuple[int, float]:
        """Returns the endpoint to ask next, and the seconds to wait before.

        It is the one with the shortest wait; among equals one that does not lag, and then the one that answered last,
        or the next after it.
        """
        now, count = self._clock(), len(self._endpoints)
        waits = [max(endpoint.rests_until - now, 0) for endpoint in self._endpoints]
        candidates = [i for i in range(count) if i not in attempts.excluded] or [self._current]
        best = min(candidates, key=lambda i: (waits[i], self._endpoints[i].lags, (i - self._current) % count))
        return best, waits[best]

    def _note_failure(self, index: int, failure: RequestFailed, attempts: _Attempts) -> None:
        endpoint = self._endpoints[index]
        attempts.failure, attempts.answer = failure, attempts.answer or failure.answer
        if failure.is_permanent or attempts.answer is not None:
            attempts.excluded.add(index)
        if failure.rest is None:
            return
        endpoint.trusted, endpoint.last_error = endpoint.trusted and not failure.was_away, failure.error
        rest = attempts.max_rest * (1 + self._jitter()) / 2
        if len(self._endpoints) > 1 or not failure.is_permanent:  # a single one is asked again with the next request
            rest = max(rest, failure.rest)
        endpoint.rests_until = max(endpoint.rests_until, self._clock() + rest)
        attempts.max_rest = min(2 * attempts.max_rest, MAX_REST_S)

    # ---------------------------------------------------------------------------------------------- one request

    def _encode(self, method: str, params: Any) -> Request:
        body = self.encode_rpc_request(RPCEndpoint(method), params)
        return Request(method, params, body, json.loads(body)["id"])

    def _exchange(self, endpoint: _Endpoint, request: Request, timeout: float) -> RPCResponse:
        """Makes one request to one endpoint.

        Raises:
            RequestFailed: There is no answer, or another endpoint may have a better one.
        """
        if request.method == "eth_getLogs" and str(request.params[0].get("toBlock")).startswith("0x"):
            self._require_block(endpoint, int(request.params[0]["toBlock"], 16), timeout)
        response = self._ask(endpoint, request, timeout)
        if request.method in _HEAD_METHODS and (not request.params or request.params[0] == "latest"):
            head: Any = response.get("result")
            endpoint.head = int(head if isinstance(head, str) else head["number"], 16) if head else endpoint.head
        return response

    def _require_block(self, endpoint: _Endpoint, block: int, timeout: float) -> None:
        """Asks for the latest block, unless the endpoint is known to have this one. Raises `RequestFailed`."""
        if block > endpoint.head:
            self._exchange(endpoint, self._encode("eth_blockNumber", []), timeout)
        if block > endpoint.head:
            endpoint.failures["lagging"] += 1
            problem = f"{endpoint.name} is at block {endpoint.head}, before block {block}"
            raise RequestFailed(requests.RequestException(problem), "lagging", rest=None, is_permanent=True)

    def _ask(self, endpoint: _Endpoint, request: Request, timeout: float) -> RPCResponse:
        """Sends a request, and notes whether the endpoint answers. Raises `RequestFailed`."""
        try:
            response = judge(endpoint.name, request, self._post(endpoint, request, timeout))
        except RequestFailed as failure:
            endpoint.failures[failure.kind] += 1
            endpoint.answers = failure.kind == "error"
            raise
        endpoint.answers = True
        return response

    def _post(self, endpoint: _Endpoint, request: Request, timeout: float) -> HttpAnswer:
        """Sends a request. The errors do not quote those of the libraries, which contain the URL."""
        sessions: dict[str, requests.Session] = self._local.__dict__.setdefault("sessions", {})
        session = sessions.get(endpoint.url) or sessions.setdefault(endpoint.url, rpc_http.open_session(endpoint.url))
        try:
            return rpc_http.post(session, endpoint.url, request.body, timeout)
        except AnswerTooLarge:
            problem = f"{endpoint.name} gave an answer of more than {rpc_http.MAX_ANSWER_BYTES} bytes"
            raise RequestFailed(AnswerTooLarge(problem), "too_large", is_permanent=True) from None
        except rpc_http.TIME_OUTS:
            raise RequestFailed(requests.Timeout(f"{endpoint.name} did not answer in time"), "timeout") from None
        except rpc_http.HTTP_ERRORS as error:
            problem = f"{endpoint.name} can't be reached ({type(error).__name__})"
            raise RequestFailed(requests.ConnectionError(problem), "connection") from None

    # ------------------------------------------------------------------------------------------- network and head

    def _check_if_due(self, endpoint: _Endpoint) -> bool:
        """Checks an endpoint before its use if that is due, and then the others, to compare their latest blocks.

        Returns:
            Whether they were compared just now.

        Raises:
            RequestFailed: It is on another network, does not answer, or does not have the block that it says it has.
        """
        if self._chain_id is None or (endpoint.trusted and self._clock() < endpoint.check_due):
            return False
        with self._check_lock:
            if endpoint.trusted and self._clock() < endpoint.check_due:  # another thread did it meanwhile
                return True
            if endpoint.rests_until > self._clock():  # another thread saw it fail
                raise RequestFailed(_copy_of(endpoint.last_error), "connection")
            self._check(endpoint, self._timeout)
            self._compare_heads([endpoint, *self._checked_others(endpoint)])
        return True

    def _checked_others(self, endpoint: _Endpoint) -> Iterator[_Endpoint]:
        """Checks the other endpoints, unless they rest or were checked a short while ago; yields those that passed."""
        for other in self._endpoints:
            soon = self._clock() + self._check_every / 2
            if other is endpoint or other.check_due > soon or other.rests_until > self._clock():
                continue
            try:
                self._check(other, min(self._timeout, CHECK_TIMEOUT_S))
            except RequestFailed as failure:
                log.warning("check: %s", failure.error)
            else:
                yield other

    def _check(self, endpoint: _Endpoint, timeout: float) -> None:
        """Asks an endpoint for its network and latest block; meanwhile other threads use what is known of it.

        Raises:
            RequestFailed: It is on another network, or does not answer.
        """
        endpoint.check_pause = min(2 * endpoint.check_pause, MAX_CHECK_PAUSE_S)
        endpoint.check_due = self._clock() + endpoint.check_pause
        try:
            self._require_network(endpoint, timeout)
            self._exchange(endpoint, self._encode("eth_blockNumber", []), timeout)
        except RequestFailed as failure:
            self._distrust(endpoint, failure)
            raise
        endpoint.on_wrong_chain, endpoint.trusted = False, True
        endpoint.check_pause = self._check_every
        endpoint.check_due = self._clock() + self._check_every

    def _distrust(self, endpoint: _Endpoint, failure: RequestFailed) -> None:
        endpoint.trusted, endpoint.last_error = False, failure.error
        endpoint.rests_until = self._clock() + MIN_REST_S

    def _require_network(self, endpoint: _Endpoint, timeout: float) -> None:
        chain_id = int(self._exchange(endpoint, self._encode("eth_chainId", []), timeout)["result"], 16)
        if chain_id != self._chain_id:
            problem = f"{endpoint.name} is on chain {chain_id}, not on chain {self._chain_id}: it is not used"
            if not endpoint.on_wrong_chain:
                log.error("%s. Correct BLOCKCHAIN_RPC_URL.", problem)
            endpoint.on_wrong_chain = True
            endpoint.failures["wrong_network"] += 1
            error, rest = requests.ConnectionError(problem), self._check_every
            raise RequestFailed(error, "wrong_network", rest=rest, is_permanent=True)

    def _compare_heads(self, checked: Sequence[_Endpoint]) -> None:
        """Notes which of the endpoints that were checked just now lag behind the best one.

        The best one must have the block that it says is its latest: else one wrong number would make all others lag.

        Raises:
            RequestFailed: The first of `checked` does not have it.
        """
        ranked, failures = sorted(checked, key=lambda each: -each.head), dict[str, RequestFailed]()
        while ranked[0].head - ranked[-1].head > self._max_lag:
            failure = self._failure_to_show_head(ranked[0])
            if failure is None:
                break
            self._distrust(ranked[0], failure)
            failures[ranked.pop(0).name] = failure
            log.warning("check: %s", failure.error)
        for endpoint in ranked:
            endpoint.lag, lagged = ranked[0].head - endpoint.head, endpoint.lags
            endpoint.lags = endpoint.lag > self._max_lag
            if endpoint.lags and not lagged:
                log.warning("%s is at block %s, %s behind another", endpoint.name, endpoint.head, endpoint.lag)
        if checked[0].name in failures:
            raise failures[checked[0].name]

    def _failure_to_show_head(self, endpoint: _Endpoint) -> RequestFailed | None:
        """Asks an endpoint for the block that it says is its latest; returns why it is not believed."""
        request = self._encode("eth_getBlockByNumber", [hex(endpoint.head), False])
        try:
            if self._exchange(endpoint, request, min(self._timeout, CHECK_TIMEOUT_S)).get("result") is not None:
                return None
        except RequestFailed as failure:
            return failure
        endpoint.failures["malformed"] += 1
        problem = f"{endpoint.name} says that it is at block {endpoint.head}, and does not have that block"
        return RequestFailed(requests.RequestException(problem), "malformed", is_permanent=True)


def _copy_of(error: requests.RequestException) -> requests.RequestException:
    """Returns the error for another request, without the traceback of the first."""
    return type(error)(str(error))
