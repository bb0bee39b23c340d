"""Translates the backend's errors into the library's `BackendError`, which commands print as one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OWN_PACKAGES = {"app", "stakesim", "stakesim_adapter"}
INSTALL = "in the checkout of stakesim run `make serve`, or `pip install -e '.[api]'`"


@contextmanager
def as_backend_error() -> Iterator[None]:
    """Translates errors that the user can correct.

    Raises:
        BackendError: The backend raised an `AppError`, or a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package in _OWN_PACKAGES:
            raise
        raise _backend_error(f"The backend needs {package}, which is not installed: {INSTALL}.") from None
    except Exception as error:
        if not _is_app_error(error):
            raise
        raise _backend_error(str(error)) from error


def _backend_error(message: str) -> Exception:
    from stakesim.backend import BackendError  # imported late, since `stakesim --help` imports this module

    return BackendError(message)


def _is_app_error(error: Exception) -> bool:
    """Does not import the backend: if it was not imported, it has raised no error."""
    errors = sys.modules.get("app.core.errors")
    return errors is not None and isinstance(error, errors.AppError)
