"""Exit codes, console and progress bar of all commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console


class ExitCode(IntEnum):
    """Exit codes of all commands.

    Attributes:
        PASS: Everything that must hold holds.
        FINDINGS: Something does not hold.
        TROUBLE: The command could not do its work: bad input, or something is missing.
    """

    PASS = 0
    FINDINGS = 1
    TROUBLE = 2


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, steps: int = 1, description: str | None = None) -> None:
        """Advances by this many steps, and replaces the description if there is a new one."""
        ...


def finish(*, ok: bool) -> NoReturn:
    """Ends the command with exit code PASS, or FINDINGS if not `ok`."""
    raise typer.Exit(ExitCode.PASS if ok else ExitCode.FINDINGS)


def fail(message: str, code: ExitCode = ExitCode.TROUBLE) -> NoReturn:
    """Prints the message to stderr and ends the command."""
    print_error(message)
    raise typer.Exit(code)


def print_error(message: object) -> None:
    """Prints `stakesim: MESSAGE` to stderr; an error in files as it is, as its lines begin with `FILE:LINE`."""
    from stakesim.schema.errors import FileError

    typer.echo(message if isinstance(message, FileError) else f"stakesim: {message}", err=True)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that neither wraps lines nor highlights numbers.

    Args:
        stderr: Write to stderr instead of stdout.
        width: Characters in a line; by default the terminal's.
    """
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False, width=width)


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[Advance]:
    """Shows a progress bar on stderr, if that is a terminal, and removes it at the end.

    Args:
        description: Text before the bar.
        total: Number of steps, if known.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn()]
    columns += [TimeElapsedColumn()] if total is None else [MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)

        def advance(steps: int = 1, description: str | None = None) -> None:
            progress.update(task, advance=steps, description=description)

        yield advance
