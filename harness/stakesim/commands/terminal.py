"""Exit codes, and what all commands print: text for people, or JSON lines for programs (docs/COMMAND_LINE.md)."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from stakesim.runner.findings import Finding

JSON_VERSION = 1
"""Version of the lines that `--json` prints. It rises when a field is renamed or left out, not when one is added."""
PROGRESS_EVERY_S = 10
"""Seconds between two lines of progress where there is no terminal."""


class ExitCode(IntEnum):
    """Exit codes of all commands.

    Attributes:
        PASS: Everything that must hold holds.
        FINDINGS: Something does not hold.
        TROUBLE: The command could not do its work: bad input, or something is missing.
        VACUOUS: Nothing is wrong, but too little was reached or played to say so.
        INTERRUPTED: Ctrl-C ended it, and nothing wrong was found until then.
    """

    PASS = 0
    FINDINGS = 1
    TROUBLE = 2
    VACUOUS = 3
    INTERRUPTED = 130


_VERDICTS = {
    ExitCode.PASS: "pass",
    ExitCode.FINDINGS: "fail",
    ExitCode.TROUBLE: "trouble",
    ExitCode.VACUOUS: "vacuous",
    ExitCode.INTERRUPTED: "interrupted",
}


@dataclass
class Output:
    """What the command that runs was asked to print.

    Attributes:
        command: Its name.
        quiet: Only findings and errors.
        verbose: Also each step of its progress, and the log.
        json: JSON lines instead of text.
        told: Number of findings that were printed as JSON.
    """

    command: str = ""
    quiet: bool = False
    verbose: bool = False
    json: bool = False
    told: int = 0


_output = Output()


def set_output(output: Output) -> None:
    """Sets what is printed from now on."""
    global _output
    _output = output


def output() -> Output:
    """What the command that runs was asked to print."""
    return _output


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, steps: int = 1, description: str | None = None) -> None:
        """Advances by this many steps, and replaces the description if there is a new one."""
        ...


def finish(*, ok: bool, vacuous: bool = False, interrupted: bool = False, **figures: Any) -> NoReturn:
    """Ends the command; with `--json`, its last line is printed before.

    Args:
        ok: Exit code PASS; otherwise FINDINGS.
        vacuous: Exit code VACUOUS instead of FINDINGS.
        interrupted: Ctrl-C ended the work: exit code INTERRUPTED instead of PASS and VACUOUS.
        figures: What else the last line of `--json` has.
    """
    code = ExitCode.PASS if ok else ExitCode.VACUOUS if vacuous else ExitCode.FINDINGS
    end(ExitCode.INTERRUPTED if interrupted and code is not ExitCode.FINDINGS else code, **figures)


def end(code: ExitCode, **figures: Any) -> NoReturn:
    """Ends the command with this exit code; see `finish`."""
    print_summary(code, **figures)
    raise typer.Exit(code)


def print_summary(code: ExitCode, **figures: Any) -> None:
    """Prints the last line of `--json`; nothing without that option."""
    if _output.json:
        verdict = {"command": _output.command, "verdict": _VERDICTS[code], "exit_code": int(code)}
        _print_json({"type": "summary", "version": JSON_VERSION, **verdict, "findings": _output.told, **figures})


def print_finding(name: str, text: str, **details: Any) -> None:
    """Prints the line of a finding for `--json`; nothing without that option.

    Args:
        name: What is wrong, in a few words or as an id.
        text: What is told of it.
        details: More fields; those without a value are left out.
    """
    if _output.json:
        _output.told += 1
        shown = {key: value for key, value in details.items() if value not in (None, "")}
        _print_json({"type": "finding", "name": name, "text": text, **shown})


def print_scenario_finding(finding: Finding) -> None:
    """Prints the line of a scenario's finding for `--json`; see `print_finding`. Wei are text, as they are exact."""
    print_finding(
        str(finding.weakness) or finding.id,
        finding.message,
        id=finding.id,
        statement=finding.statement,
        scenario=finding.scenario.name if finding.scenario else None,
        seed=finding.scenario.seed if finding.scenario else None,
        step=finding.step or None,
        engine=finding.engine,
        driver=finding.driver,
        expected_wei=None if finding.expected is None else str(finding.expected),
        found_wei=None if finding.actual is None else str(finding.actual),
        replay=finding.saved,
    )


def _print_json(line: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(line, default=str))
    sys.stdout.flush()


def fail(message: str, code: ExitCode = ExitCode.TROUBLE) -> NoReturn:
    """Prints the message to stderr and ends the command."""
    print_error(message)
    end(code, problems=[message])


def print_error(message: object) -> None:
    """Prints `stakesim: MESSAGE` to stderr; an error in files as it is, as its lines begin with `FILE:LINE`."""
    from stakesim.schema.errors import FileError

    typer.echo(message if isinstance(message, FileError) else f"stakesim: {message}", err=True)


def console(*, stderr: bool = False, width: int | None = None, findings: bool = False) -> Console:
    """A console that neither wraps lines nor highlights numbers.

    It prints nothing with `--json`, and with `--quiet` only what is wrong.

    Args:
        stderr: Write to stderr instead of stdout.
        width: Characters in a line; by default the terminal's.
        findings: For what is wrong.
    """
    from rich.console import Console

    silent = (_output.quiet and not findings) or (_output.json and not stderr)
    return Console(stderr=stderr, soft_wrap=True, highlight=False, width=width, quiet=silent)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignores Ctrl-C and SIGTERM for the seconds in which what took hours is told and written."""
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(each, signal.SIG_IGN) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, previous, strict=True):
            signal.signal(each, handler)


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[Advance]:
    """Shows a progress bar on stderr, and removes it at the end; where there is no terminal, a line now and then.

    Args:
        description: Text before the bar.
        total: Number of steps, if known.
    """
    screen = console(stderr=True)
    if _output.verbose or not screen.is_terminal:
        yield _progress_lines(screen, description, total)
        return
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
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task(description, total=total)

        def advance(steps: int = 1, description: str | None = None) -> None:
            progress.update(task, advance=steps, description=description)

        yield advance


def _progress_lines(screen: Console, description: str, total: int | None) -> Advance:
    """Progress as lines: one every few seconds, or with `--verbose` one for each step."""
    began = last = time.monotonic()
    done, now = 0, description

    def advance(steps: int = 1, description: str | None = None) -> None:
        nonlocal done, last, now
        done, now, moment = done + steps, description or now, time.monotonic()
        if _output.verbose or moment - last >= PROGRESS_EVERY_S:
            last = moment
            of = f" of {total}" if total and done <= total else ""
            screen.print(f"{done}{of}, {moment - began:.0f} s: {now}", markup=False)

    return advance
