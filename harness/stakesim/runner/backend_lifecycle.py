"""Opens a backend, starts its sessions, and closes it. Exceptions of the backend become `BackendError`s."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stakesim.backend import Backend, BackendError, BackendSession, Refused, ScenarioSetup
from stakesim.errors import StakesimError, place_of
from stakesim.evm.errors import CallReverted
from stakesim.project import ProjectError, current_project
from stakesim.runner.drivers import CONTRACT
from stakesim.runner.drivers.backend import USE_CASES
from stakesim.workers.time_limit import NeverEnds, time_limit

BACKEND_LIMIT_S = 180
"""Seconds within which a backend is opened, starts a scenario, and is closed. A database may have to recover."""
_log = logging.getLogger(__name__)


def open_backend(driver: str | None, backend: Backend | Callable[[], Backend] | None) -> Backend | None:
    """Opens the backend that a driver needs.

    Args:
        driver: "contract", or one of the backend's; None: any.
        backend: The backend, or a function that opens it; None: the one that `[tool.stakesim]` names.

    Returns:
        None for the contract alone.

    Raises:
        BackendError: The backend can't be opened.
        ProjectError: The backend can't be loaded, or there is no such driver.
    """
    if driver == CONTRACT:
        return None
    if backend is None:
        project = current_project()
        if project.backend is None:
            if driver is not None:
                raise ProjectError(
                    f"There is no driver {driver!r}, as the project names no backend: use contract, or add "
                    "`backend` to [tool.stakesim] in pyproject.toml."
                )
            return None
        backend = project.load(project.backend)
    with _as_backend_error("The backend can't be opened"):
        opened: Backend = backend() if callable(backend) else backend
    try:
        drivers = _drivers(opened)
        if driver is not None and driver not in drivers:
            raise ProjectError(f"There is no driver {driver!r}: choose one of {', '.join((*drivers, CONTRACT))}.")
    except BaseException:
        close_backend(opened)
        raise
    return opened


def start_session(backend: Backend, setup: ScenarioSetup, driver: str) -> BackendSession:
    """Starts the backend's session for a scenario.

    Raises:
        BackendError: The backend can't start one, or the session has no use case.
    """
    with _as_backend_error("The backend can't start a scenario"):
        session = backend.start(setup, driver)
    if not any(callable(getattr(session, name, None)) for name in USE_CASES.values()):
        raise BackendError(
            f"The backend's `start` gave {session!r}, which has no use case, as `create_run` or `book`: return a "
            "`stakesim.backend.BackendSession`."
        )
    return session


def close_backend(backend: Any) -> None:
    """Closes a backend. If that fails, the error is logged, so that no results are lost."""
    try:
        with time_limit(BACKEND_LIMIT_S):
            if hasattr(backend, "close"):
                backend.close()
    except (Exception, SystemExit, NeverEnds) as error:  # noqa: BLE001 - somebody else's code; it is logged
        _log.error("the backend can't be closed: %s: %s%s", type(error).__name__, error, place_of(error))


def _drivers(backend: Any) -> tuple[str, ...]:
    """Names of the ways to call the backend.

    Raises:
        BackendError: The object is no backend.
    """
    missing = [name for name in ("drivers", "start", "close") if not hasattr(backend, name)]
    if missing:
        raise BackendError(
            f"What opens the backend gave {backend!r}, which has no {' or '.join(missing)}: return a "
            "`stakesim.backend.Backend`."
        )
    with _as_backend_error("The backend's `drivers` can't be read"):
        names = backend.drivers
        drivers = () if isinstance(names, str) else tuple(names)
    if not drivers or not all(isinstance(name, str) for name in drivers) or CONTRACT in drivers:
        raise BackendError(
            f"The backend's `drivers` are {names!r}: give a tuple of names, of which none is {CONTRACT!r}, as "
            '("services",).'
        )
    return drivers


@contextmanager
def _as_backend_error(failure: str) -> Iterator[None]:
    """Turns any exception of a backend, and a call that never ends, into a `BackendError` that says where it is."""
    try:
        with time_limit(BACKEND_LIMIT_S):
            yield
    except NeverEnds as error:
        raise BackendError(f"{failure}: {error}.") from None
    except (Exception, SystemExit) as error:
        if isinstance(error, StakesimError) and not isinstance(error, Refused | CallReverted):
            raise  # its message is such a sentence already
        raise BackendError(f"{failure}: {type(error).__name__}: {error}{place_of(error)}.") from error
