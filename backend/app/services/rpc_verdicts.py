"""Decides what one answer of one endpoint is worth: for the caller, or a reason to ask the next endpoint."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, cast

import requests
from web3.types import RPCResponse

from app.services import rpc_http
from app.services.rpc_answers import node_error, parse
from app.services.rpc_http import HttpAnswer
from app.services.rpc_refusals import is_range_refusal, is_revert, refusal_kind
from app.services.rpc_types import MalformedAnswer, NodeError

MAX_REST_S = 10.0
"""Seconds for which an endpoint is not used after a failure at most."""
BUSY = re.compile(
    "rate.?limit|too many request|limit reached|compute units|(request|capacity|rps).{0,20}(limit|exceed)|throttl"
    "|temporarily unavailable|request timed out",
    re.IGNORECASE,
)
"""Messages of errors that are soon over. Nodes use one code for many errors, so the text decides."""
RATE = re.compile(r"rate|per (second|minute|day)|too many request|compute units|throttl|quota|daily", re.IGNORECASE)
"""Words about how often one may ask, and not about how much."""
UNFIT = re.compile(
    "internal (server |json-rpc |eth )?error|syncing|initial sync|quota|credits?\\b|billing|payment|upgrade your"
    "|(un|not )authorized|unauthenticated|forbidden|access denied|api key|project id|upstream|backend|gateway"
    "|can't execute this request|shutting down|server is busy|limit exceeded",
    re.IGNORECASE,
)
"""Messages of endpoints that will have trouble with further requests too."""
BUSY_PROBLEM = "has too many requests"

FailureKind = Literal[
    "connection",
    "error",
    "http_status",
    "lagging",
    "malformed",
    "rate_limited",
    "refused",
    "timeout",
    "too_large",
    "wrong_network",
]
"""Kinds of failures for metrics. `refused`: the endpoint has trouble with further requests too, such as a quota that is
used up. `error`: an error about this one request, which another endpoint may not have. `lagging`: it lacks a block."""


class RequestFailed(Exception):
    """One request to one endpoint failed.

    Attributes:
        error: The error; its message does not contain the URL.
        kind: What happened, for metrics.
        rest: Seconds for which the endpoint must not be used, beside those that double with each failure; None if it
            may be used at once for other requests.
        is_permanent: Whether this endpoint will refuse the same request again.
        was_away: Whether the endpoint has to be checked before its next use.
        answer: The node's error, for the caller if no other endpoint has a better answer; None without.
    """

    def __init__(
        self,
        error: requests.RequestException,
        kind: FailureKind,
        *,
        rest: float | None = 0,
        is_permanent: bool = False,
        was_away: bool = True,
        answer: RPCResponse | None = None,
    ) -> None:
        self.error, self.kind, self.rest, self.is_permanent = error, kind, rest, is_permanent
        self.was_away, self.answer = was_away, answer


class Request(NamedTuple):
    """A JSON-RPC request and its body."""

    method: str
    params: Any
    body: bytes
    id: int


def judge(name: str, request: Request, answer: HttpAnswer) -> RPCResponse:
    """Returns the response if it is for the caller.

    Raises:
        RequestFailed: It is a failure of the endpoint, or an error that another endpoint may not have.
    """
    response, status = rpc_http.decode(answer.content), answer.status
    is_object = isinstance(response, dict)
    error = response.get("error") if is_object else None
    if not is_object or (error is None and status != 200):
        problem = BUSY_PROBLEM if status == 429 else f"gave no answer but HTTP status {status}"
        raise _http_failure(name, problem, answer)
    if error is None:
        response.pop("error", None)
        return _judge_result(name, request, response)
    parsed = node_error(error)
    if isinstance(parsed, MalformedAnswer) or response.get("id") not in (None, request.id):
        raise _http_failure(name, f"gave no answer but HTTP status {status}, and a malformed error", answer)
    normalized = {"jsonrpc": "2.0", "id": request.id, "error": {**_as_fields(error), "code": parsed.code}}
    return _judge_error(name, request, answer, parsed, cast(RPCResponse, normalized))


def _judge_result(name: str, request: Request, response: dict[str, Any]) -> RPCResponse:
    problem = ""
    if response.get("id") != request.id:
        problem = "the answer to another request"
    elif "result" not in response:
        problem = "neither a result nor an error"
    else:
        try:
            parse(request.method, request.params, response["result"])
        except MalformedAnswer as error:
            problem = f"a malformed answer: {error}"
    if problem:
        raise RequestFailed(requests.RequestException(f"{name} gave {problem}"), "malformed")
    response["jsonrpc"] = "2.0"
    return cast(RPCResponse, response)


def _judge_error(
    name: str, request: Request, answer: HttpAnswer, error: NodeError, response: RPCResponse
) -> RPCResponse:
    words, status, method = error.words, answer.status, request.method
    if is_revert(words):
        return response
    kind = refusal_kind(words) if method in ("eth_sendRawTransaction", "eth_estimateGas") else None
    if kind is not None and not kind.is_local:
        return response
    if method == "eth_getLogs" and status in (200, 400) and is_range_refusal(words) and not RATE.search(words):
        return response
    if kind is None and (status == 429 or BUSY.search(words)):
        raise _http_failure(name, BUSY_PROBLEM, answer)
    if status not in (200, 400):
        raise _http_failure(name, f"gave no answer but HTTP status {status}", answer)
    problem = requests.RequestException(f"{name} says: {words}")
    if kind is None and UNFIT.search(words):
        raise RequestFailed(problem, "refused", is_permanent=True, answer=response)
    raise RequestFailed(problem, "error", rest=None, is_permanent=True, answer=response)


def _http_failure(name: str, problem: str, answer: HttpAnswer) -> RequestFailed:
    is_permanent = 300 <= answer.status < 500 and answer.status not in (400, 408, 425, 429)
    rest = MAX_REST_S if is_permanent else min(answer.retry_after, MAX_REST_S)
    was_away = problem != BUSY_PROBLEM
    kind: FailureKind = "malformed" if answer.status == 200 else "http_status"
    return RequestFailed(
        requests.HTTPError(f"{name} {problem}"),
        kind if was_away else "rate_limited",
        rest=rest,
        is_permanent=is_permanent,
        was_away=was_away,
    )


def _as_fields(error: Any) -> dict[str, Any]:
    return error if isinstance(error, dict) else {"message": error}
