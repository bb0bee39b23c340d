"""A client of the stakesim HTTP API that does what a client must do right. Copy it into your project.

`stakesim_models` beside it is generated from the OpenAPI document; README.md says how. Amounts of wei are `int` there,
amounts of INR are `Decimal`.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel
from stakesim_models import Operation

Model = TypeVar("Model", bound=BaseModel)

FINAL_STATES = ("confirmed", "failed", "rejected")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 20.0


class Refused(Exception):
    """The service refused a request, and repeating it would not help.

    Attributes:
        problem: The problem details (RFC 9457). `type` tells the kind of problem, `detail` is a sentence for people.
        action: What to do: `change` the request, send it anew with a `new_key`, or `ask` the operator.
    """

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.problem, self.action = problem, action_of(problem)


class Undecided(Exception):
    """The patience ended before the outcome was known. Repeat the request with the same key later, and only so.

    Attributes:
        problem: The problem details of the last answer; None if it was none, or a transaction that is not final.
    """

    def __init__(self, problem: dict[str, Any] | None) -> None:
        super().__init__(problem["detail"] if problem else "The outcome is not known yet.")
        self.problem = problem


def new_key() -> str:
    """Returns a key for one intention. Store it with the intention before the first request."""
    return str(uuid.uuid4())


def action_of(problem: dict[str, Any]) -> str:
    """Returns what to do about a problem; if it does not say so itself, by its status."""
    by_status = "repeat" if problem["status"] >= 500 else "change"
    return str(problem.get("action", by_status))


class Client:
    """Sends requests until their outcome is known.

    Args:
        url: Address of the service.
        new_token: Returns a bearer token. Called for the first request, and when the service does not accept the last.
        patience: Seconds for which one call repeats and waits before it raises `Undecided`.
        waits: Whether the service holds its answer back until the transaction is final. If not, it answers 202 at once.
        timeout: Seconds to wait for each answer; more than the service lets a request wait.
    """

    def __init__(
        self, url: str, new_token: Callable[[], str], patience: float = 600, waits: bool = True, timeout: float = 150
    ) -> None:
        self._http = httpx.Client(base_url=url, timeout=httpx.Timeout(timeout, connect=10))
        self._new_token, self._token = new_token, ""
        self._patience, self._waits = patience, waits

    def get(self, path: str, model: type[Model], **query: Any) -> Model:
        """Reads a resource."""
        answer = self._until_answered(self._deadline(), "GET", path, params=query)
        return model.model_validate_json(answer.content)

    def items(self, path: str, model: type[Model], **query: Any) -> Iterator[Model]:
        """Reads a list, page by page."""
        while True:
            page = self._until_answered(self._deadline(), "GET", path, params=query).json()
            yield from map(model.model_validate, page["items"])
            if page["next"] is None:
                return
            query["cursor"] = page["next"]

    def send(self, method: str, path: str, model: type[Model], key: str, body: BaseModel | None = None) -> Model:
        """Sends a request that has one effect, however often it is sent with this key. Returns when that is final.

        Raises:
            Refused: It has no effect, and will have none.
            Undecided: Call it again later with the same arguments.
        """
        deadline = self._deadline()
        headers = {"Idempotency-Key": key} | ({} if self._waits else {"Prefer": "respond-async"})
        content = None if body is None else body.model_dump_json(exclude_unset=True)
        while True:
            answer = self._until_answered(deadline, method, path, headers=headers, content=content)
            if answer.status_code != 202:
                return model.model_validate_json(answer.content)
            self._wait_until_final(answer, deadline)

    def _deadline(self) -> float:
        return time.monotonic() + self._patience

    def _wait_until_final(self, accepted: httpx.Response, deadline: float) -> None:
        answer = accepted
        while Operation.model_validate_json(answer.content).state not in FINAL_STATES:
            _sleep(_retry_after(answer), deadline)
            answer = self._until_answered(deadline, "GET", accepted.headers["Location"])

    def _until_answered(self, deadline: float, method: str, path: str, **request: Any) -> httpx.Response:
        """Repeats the request until the answer is a success. Raises `Refused` and `Undecided`."""
        headers, longest_pause, renewed = request.pop("headers", {}), FIRST_PAUSE_S, False
        while True:
            self._token = self._token or self._new_token()
            all_headers = {"Content-Type": "application/json", **headers, "Authorization": f"Bearer {self._token}"}
            problem, retry_after = None, 0.0
            with suppress(httpx.TransportError):  # what became of the request is not known then
                answer = self._http.request(method, path, headers=all_headers, **request)
                if answer.is_success:
                    return answer
                problem, retry_after = _problem(answer), _retry_after(answer)
            if problem and problem["status"] == 401 and not renewed:
                self._token, renewed = "", True
                continue
            if problem and action_of(problem) not in ("repeat", "wait"):
                raise Refused(problem)
            _sleep(retry_after + random.uniform(0, longest_pause), deadline, problem)
            longest_pause = min(2 * longest_pause, LONGEST_PAUSE_S)


def _problem(answer: httpx.Response) -> dict[str, Any]:
    """Returns the problem details; with the status alone if a proxy in between made the answer."""
    if answer.headers.get("Content-Type") == "application/problem+json":
        problem: dict[str, Any] = answer.json()
        return problem
    return {"type": "about:blank", "status": answer.status_code, "detail": f"The answer is {answer.status_code}."}


def _retry_after(answer: httpx.Response) -> float:
    """Returns the seconds to wait before the next request; 0 if the answer does not say."""
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


def _sleep(seconds: float, deadline: float, problem: dict[str, Any] | None = None) -> None:
    if time.monotonic() + seconds > deadline:
        raise Undecided(problem)
    time.sleep(seconds)
