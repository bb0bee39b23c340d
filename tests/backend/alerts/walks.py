"""All walks: how each alert is made to happen, and what the reader of its section knows, decides and leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from stand_in import StandIn
from walking import Reader

Making = Callable[[StandIn], Iterator[Reader]]


@dataclass(frozen=True)
class Walk:
    """One alert, made to happen once.

    Attributes:
        alert: Its name.
        make: Makes it happen, and undoes at the end what the runbook does not mend.
        companions: Other alerts of severity `page` that the same incident may raise.
    """

    alert: str
    make: Callable[[StandIn], AbstractContextManager[Reader]]
    companions: frozenset[str]

    @property
    def id(self) -> str:
        return f"{self.alert}-{self.make.__name__}"


WALKS: list[Walk] = []


def walk(alert: str, *companions: str) -> Callable[[Making], Making]:
    """Registers a walk through an alert's section. Its companions are the pages that may come with it."""

    def register(make: Making) -> Making:
        WALKS.append(Walk(alert, contextmanager(make), frozenset(companions)))
        return make

    return register
