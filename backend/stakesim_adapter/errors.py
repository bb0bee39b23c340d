"""The backend's errors as the library's: one sentence for the user, and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OURS = {"app", "stakesim", "stakesim_adapter"}
INSTALL = "in the checkout of stakesim run `make serve`, or `pip install -e '.[api]'`"


@contextmanager
def as_backend_error() -> Iterator[None]:
    """Turns what the user can mend into a sentence.

    Raises:
        BackendError: For an error of the backend's own, and for a package that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if not package or package in _OURS:
            raise
        raise _backend_error(f"The backend needs {package}, which is not installed: {INSTALL}.") from None
    except Exception as error:
        if not _of_the_backend(error):
            raise
        raise _backend_error(str(error)) from error


def _backend_error(message: str) -> Exception:
    from stakesim.backend import BackendError  # here, as `stakesim --help` imports this module

    return BackendError(message)


def _of_the_backend(error: Exception) -> bool:
    errors = sys.modules.get("app.core.errors")  # not imported, where nothing has been that could raise one
    return errors is not None and isinstance(error, errors.AppError)
