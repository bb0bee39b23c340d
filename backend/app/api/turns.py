"""A limit of requests that write at the same time, so that reading stays quick however many clients book."""

from __future__ import annotations

from typing import cast

from anyio import Semaphore
from starlette.types import ASGIApp, Receive, Scope, Send

MAX_CONCURRENT_WRITES = 8
"""Requests that are prepared and sent at the same time, each in a thread. Others wait for their turn without one."""
READING_METHODS = ("GET", "HEAD", "OPTIONS")
_TURN = "stakesim.turn"


class _Turn:
    """One of the places of a semaphore; given back once."""

    def __init__(self, places: Semaphore) -> None:
        self._places, self._is_held = places, False

    async def take(self) -> None:
        await self._places.acquire()
        self._is_held = True

    def give_up(self) -> None:
        if self._is_held:
            self._is_held = False
            self._places.release()


class WriteTurnsMiddleware:
    """Lets `MAX_CONCURRENT_WRITES` requests write at a time. A request that waits for a block has given up its turn."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._places = Semaphore(MAX_CONCURRENT_WRITES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on when it is its turn; at once if it only reads."""
        if scope["type"] != "http" or scope["method"] in READING_METHODS:
            await self._app(scope, receive, send)
            return
        turn = scope[_TURN] = _Turn(self._places)
        await turn.take()
        try:
            await self._app(scope, receive, send)
        finally:
            turn.give_up()


def give_up_turn(scope: Scope) -> None:
    """Gives up the turn of a request that waits from now on."""
    if _TURN in scope:
        cast(_Turn, scope[_TURN]).give_up()
