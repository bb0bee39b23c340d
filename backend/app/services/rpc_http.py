"""HTTP requests to a node with one deadline and one size limit, and JSON without deep nesting.

The time-outs of `requests` are for one read each, so a server that sends a byte a second holds a request for ever. Here
each read, of headers too, gets only the time that is left of the whole request. A compressed body is not decompressed,
and so no JSON: a few bytes of it may stand for gigabytes, and no request asks for one.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import threading
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MAX_ANSWER_BYTES = 32 * 2**20
"""Largest answer that is read: some ten thousand logs, or a block with all its transactions."""
MAX_NESTING = 64
"""Deepest nesting of arrays and objects in an answer; a block with transactions has 5."""
TIME_OUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
HTTP_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
"""Errors of `post`: what the libraries raise for servers that are gone, or that break HTTP."""

_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.DOTALL)
_BRACKETS = re.compile(rb"[\[{]+|[\]}]+")
_request = threading.local()  # its deadline; a session, and so a connection, belongs to one thread


class AnswerTooLarge(requests.RequestException):
    """An answer is larger than `MAX_ANSWER_BYTES`."""


class HttpAnswer(NamedTuple):
    """An answer: HTTP status, seconds of the header Retry-After (0 without), and body."""

    status: int
    retry_after: float
    content: bytes


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until the deadline of the request."""

    def __init__(self, connection: socket.socket, raw: Any) -> None:
        self._connection, self._raw, self._deadline = connection, raw, _request.deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the request's time is over")
        self._connection.settimeout(remaining)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _DeadlineResponse


class _TlsConnection(HTTPSConnection):
    response_class = _DeadlineResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager


def open_session(url: str) -> requests.Session:
    """Returns a session for one thread; it reads proxies and certificates from the environment once."""
    session = requests.Session()
    for name, value in session.merge_environment_settings(url, {}, None, None, None).items():
        setattr(session, name, value)
    session.trust_env = False  # else it reads them for each request, 0.13 ms
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


def post(session: requests.Session, url: str, body: bytes, timeout: float) -> HttpAnswer:
    """Sends a request, and reads its answer.

    Args:
        session: The thread's session.
        url: Where to.
        body: JSON.
        timeout: Seconds after which it ends, whatever the server does.

    Raises:
        AnswerTooLarge: The body is too large.
        requests.RequestException: There is no answer, or one of the other errors in `HTTP_ERRORS`.
    """
    _request.deadline = time.monotonic() + timeout
    response = session.post(url, body, headers=_HEADERS, timeout=timeout, allow_redirects=False, stream=True)
    try:
        content = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=False)
    finally:
        response.close()
    if len(content) > MAX_ANSWER_BYTES:
        raise AnswerTooLarge("an answer that is too large")
    if response.raw.length_remaining:
        raise requests.ConnectionError("an answer that is shorter than its header says")
    seconds = response.headers.get("Retry-After", "")
    is_number = len(seconds) < 10 and seconds.isascii() and seconds.isdecimal()
    return HttpAnswer(response.status_code, float(seconds) if is_number else 0, content)


def decode(content: bytes) -> Any:
    """Returns JSON as Python objects; None if it is no JSON, or deeper nested than `MAX_NESTING`.

    The depth is counted before. The parser recurses, and some libraries raise Python's limit so far that it would
    overflow the stack.
    """
    if is_nested_deeper(content, MAX_NESTING):
        return None
    try:
        return json.loads(content)
    except ValueError:
        return None


def is_nested_deeper(content: bytes, limit: int) -> bool:
    """Returns whether arrays and objects are nested deeper than `limit` in JSON, or in what begins like JSON."""
    if content.count(b"[") + content.count(b"{") <= limit:
        return False
    depth = 0
    for brackets in _BRACKETS.findall(_STRING.sub(b"", content)):
        depth += len(brackets) if brackets[0] in b"[{" else -len(brackets)
        if depth > limit:
            return True
    return False
