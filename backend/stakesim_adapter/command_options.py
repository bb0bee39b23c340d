"""What all commands of the adapter share. Imports only typer, so that `stakesim --help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from stakesim_adapter.errors import as_backend_error

FINDINGS = 1
"""Exit code if a check failed, rows differ, or a command did not bring about what was asked for."""
EnvFile = Annotated[Path, typer.Option(help="File with the settings. Environment variables override it.")]
DEFAULT_ENV_FILE = Path(".env")


class Command(TyperCommand):
    """A command that prints an error of the backend, or a missing package, as one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Raises `BackendError` for errors that the user can correct."""
        with as_backend_error():
            return super().invoke(ctx)


class Group(TyperGroup):
    """A group of commands that does something by itself. Prints errors as `Command` does."""

    def invoke(self, ctx: Any) -> Any:
        """Raises `BackendError` for errors that the user can correct."""
        with as_backend_error():
            return super().invoke(ctx)
