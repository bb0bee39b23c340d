"""What runs in a worker: a resource that it opens once, and the calls that use it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.util import Finalize
from typing import Any, Protocol, TypeAlias


class Closable(Protocol):
    """An object that must be closed after use."""

    def close(self) -> None:
        """Releases what the object holds."""
        ...


OpenResource: TypeAlias = Callable[[], Closable]
"""Opens the resource of one worker. It is pickled, so it must be a function of a module, or a `partial` of one."""


class Submit(Protocol):
    """Schedules a call on the next free worker, like `concurrent.futures.Executor.submit`."""

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Returns a future of `function(resource, *args)`, or of `function(*args)` where workers have no resource."""
        ...


class WorkerResource:
    """The resource of one worker, opened before its first call."""

    def __init__(self, open_resource: OpenResource | None) -> None:
        self._open_resource = open_resource
        self._opened: tuple[Closable, Callable[[], object]] | None = None  # the resource, and what closes it

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls the function, with the resource as first argument if there is one."""
        if self._open_resource is None:
            return function(*args)
        if self._opened is None:
            resource = self._open_resource()
            # worker processes run these finalizers when they end, and no `atexit` handlers
            self._opened = resource, Finalize(None, resource.close, exitpriority=1)
            gc.freeze()  # imported modules live as long as the worker: the collector need not look at them
        return function(self._opened[0], *args)

    def close(self) -> None:
        """Closes the resource if it is open."""
        if self._opened is not None:
            _, close = self._opened
            self._opened = None
            gc.unfreeze()
            close()
