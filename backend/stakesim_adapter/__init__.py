"""Adapts this backend to stakesim. It is the only package that imports both; neither imports it.

`pyproject.toml` names it: `[tool.stakesim] backend = "stakesim_adapter:open_backend"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stakesim_adapter.backend import EventStakeBackend


def open_backend() -> EventStakeBackend:
    """Opens the backend on a new schema in the database of `DATABASE_URL`, or on the embedded server.

    Raises:
        BackendError: No database answers.
    """
    from stakesim_adapter.backend import EventStakeBackend

    return EventStakeBackend()
