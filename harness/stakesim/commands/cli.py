"""The command `stakesim`, with the library's commands and those of the project.

Start-up must be fast: this module and the commands' modules import only typer. A command imports what it needs when it
runs.
"""

from __future__ import annotations

import functools
import gc
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from stakesim.commands.bench import bench
from stakesim.commands.calibrate import calibrate
from stakesim.commands.check import check
from stakesim.commands.compile import compile_contracts
from stakesim.commands.coverage import coverage
from stakesim.commands.decide import decide
from stakesim.commands.deploy import deploy
from stakesim.commands.faults import faults
from stakesim.commands.fuzz import fuzz
from stakesim.commands.gas import gas
from stakesim.commands.gate import gate
from stakesim.commands.init import init
from stakesim.commands.mutate import mutate
from stakesim.commands.opinions import opinions
from stakesim.commands.owner import owner
from stakesim.commands.plan import plan
from stakesim.commands.replay import replay
from stakesim.commands.run import run
from stakesim.commands.sweep import sweep
from stakesim.commands.terminal import ExitCode, Output, print_error, print_summary, set_output
from stakesim.commands.verify import verify

if TYPE_CHECKING:
    from stakesim.project import Project


TEST, GATE, OPERATE, ANALYSE = "Test", "Gate: before a deployment", "Operate", "Analyse"
"""Panels of the help, by who reads it."""
_SENTENCE = 400
"""Characters of the longest sentence about a command."""


class _Commands(TyperGroup):
    """The library's commands, and those of the project under names that the library does not use.

    The project's commands are imported only for one of them, or for `--help`.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        gc.disable()  # help imports many modules, and then the process ends
        super().format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands by panel, each with its whole first sentence."""
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in (TEST, GATE, OPERATE, ANALYSE)}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panels[command.rich_help_panel].append((name, command.get_short_help_str(_SENTENCE)))
        for panel, rows in panels.items():
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if own := super().get_command(ctx, cmd_name):
            return own
        command = _current_project_commands().get(cmd_name)
        if command is not None and not isinstance(command.rich_help_panel, str):
            command.rich_help_panel = OPERATE
        return command

    def list_commands(self, ctx: Any) -> list[str]:
        from stakesim.errors import StakesimError

        own = super().list_commands(ctx)
        try:
            return list(dict.fromkeys([*own, *_current_project_commands()]))
        except StakesimError as error:
            print_error(error)
            return own


def _current_project_commands() -> Mapping[str, Any]:
    from stakesim.project import current_project

    return project_commands(current_project())


@functools.cache
def project_commands(project: Project) -> Mapping[str, Any]:
    """Click commands by name of the typer application that the project names as `commands`.

    Raises:
        ProjectError: The application can't be imported, or is none.
    """
    if project.commands is None:
        return {}
    app = project.load(project.commands)
    if not isinstance(app, typer.Typer):
        from stakesim.project import ProjectError

        raise ProjectError(
            f"[tool.stakesim] names {project.commands} as `commands`, which is no typer.Typer: name one."
        )
    command = typer.main.get_command(app)
    return getattr(command, "commands", {command.name: command})


cli = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Simulate and test a stake contract and the backend that drives it. Exit codes: 0 everything holds, "
    "1 findings, 2 trouble (bad input, or something is missing), 3 nothing is wrong, but too little was tried.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"stakesim {version('stakesim')}")
        raise typer.Exit


@cli.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


cli.command(rich_help_panel=TEST)(run)
cli.command(rich_help_panel=TEST)(fuzz)
cli.command(rich_help_panel=TEST)(replay)
cli.command(rich_help_panel=TEST)(check)
cli.command(rich_help_panel=TEST)(faults)
cli.command(rich_help_panel=TEST)(init)
cli.command(rich_help_panel=GATE)(gate)
cli.command(rich_help_panel=GATE)(mutate)
cli.command(rich_help_panel=GATE)(coverage)
cli.command(rich_help_panel=GATE)(gas)
cli.command(rich_help_panel=GATE)(opinions)
cli.command("compile", rich_help_panel=GATE)(compile_contracts)
cli.command(rich_help_panel=OPERATE)(deploy)
cli.command(rich_help_panel=OPERATE)(verify)
cli.add_typer(owner, name="owner", rich_help_panel=OPERATE)
cli.command(rich_help_panel=ANALYSE)(sweep)
cli.command(rich_help_panel=ANALYSE)(calibrate)
cli.command(rich_help_panel=ANALYSE)(plan)
cli.command(rich_help_panel=ANALYSE)(decide)
cli.command(rich_help_panel=ANALYSE)(bench)


def main() -> None:
    """Runs the command line. An error that the user can mend ends as one sentence on stderr and exit code 2."""
    from stakesim.errors import StakesimError

    set_output(Output())
    # SIGTERM interrupts as Ctrl-C does, so a cancelled CI job stops the nodes that it started
    previous_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cli()
    except (StakesimError, OSError) as error:
        print_error(error)
        print_summary(ExitCode.TROUBLE, problems=str(error).splitlines())
        _exit(ExitCode.TROUBLE)
    except SystemExit as end:
        _exit(end.code)
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def _exit(code: Any) -> NoReturn:
    """Ends the process, also if something that never ended has left threads."""
    if time_limit := sys.modules.get("stakesim.workers.time_limit"):
        time_limit.leave_if_threads_hang(int(code or 0))
    sys.exit(code)
