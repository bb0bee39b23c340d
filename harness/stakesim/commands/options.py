"""Options that several commands share. Each has the same name, type and meaning in every command."""

from __future__ import annotations

import functools
import inspect
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stakesim.commands.terminal import Output, console, set_output
from stakesim.evm import hardfork

if TYPE_CHECKING:
    from stakesim.scenario.actions import Terms as ContractTerms

_ENGINE = "EVM to run on: py-evm or revm (in this process), anvil (a local node that stakesim starts), or rpc:URL."

Engine = Annotated[str, typer.Option(help=_ENGINE)]
EngineOfDriver = Annotated[
    str | None, typer.Option(help=_ENGINE, show_default="py-evm; with --driver contract revm, if it is installed")
]
"""Engine whose default depends on the driver."""
EngineOrPyEvm = Annotated[str | None, typer.Option(help=_ENGINE, show_default="py-evm")]
"""Engine that may be left out, as beside `Hardfork`."""
Hardfork = Annotated[
    hardfork.Hardfork | None,
    typer.Option(
        help="Run on an anvil with the rules of this hard fork. Sepolia has Osaka's, with at most 16,777,216 gas a "
        "transaction (EIP-7825).",
        show_default=hardfork.DEFAULT_HARDFORK,
    ),
]
"""With `EngineOfDriver` or `EngineOrPyEvm`: `stakesim.evm.engines.engine_with_rules` joins the two."""
Driver = Annotated[
    str | None,
    typer.Option(
        help="What carries out the actions: contract (transactions to the contract alone), or a driver of the "
        "project's backend, such as services or api.",
        show_default="the backend's first driver; contract if there is no backend",
    ),
]
CONTRACT = (
    "The contract: a Solidity file (FILE.sol, or FILE.sol:Name if it has several contracts), or an artifact (.json) of "
    "Foundry or Hardhat."
)
Contract = Annotated[
    str | None,
    typer.Option(
        help=CONTRACT,
        show_default="the project's contract, else EventStake",
    ),
]
ContractSource = Annotated[
    str | None,
    typer.Option(
        "--contract",
        help="The contract: a Solidity file (FILE.sol, or FILE.sol:Name if it has several contracts). An artifact "
        "has no source, and is refused.",
        show_default="the project's contract, else EventStake",
    ),
]
"""As `Contract`, for commands that need the source."""
Terms = Annotated[
    list[str] | None,
    typer.Option(
        "--term",
        help="A term of the contract that differs from its default, as stake_bps=1000 (basis points) or "
        "completion_grace=3d. Repeatable.",
    ),
]
SEED = "Seed of all random choices: the same seed gives the same result."
Seed = Annotated[int, typer.Option(help=SEED, min=0)]
"""Of a command whose verdict must be the same the next time: its default is 0."""
SEED_BITS = 40
"""Bits of a fresh seed."""
FreshSeed = Annotated[int | None, typer.Option(help=SEED, min=0, show_default="a fresh one, which is told")]
"""Of a command that searches: the next time it looks elsewhere."""
Jobs = Annotated[int, typer.Option("-j", "--jobs", help="Number of processes.", min=1)]
JOBS = 2
"""Default of `Jobs`."""
Tests = Annotated[
    Path | None, typer.Option(help="File or folder of pytest tests that take --stakesim-contract, to run as well.")
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Make regressions of what is found: files in the project, which are tests.")
]
Dask = Annotated[
    str | None,
    typer.Option(
        help="Address of a Dask scheduler, tcp://HOST:PORT. Its workers do the work instead of processes of this "
        "machine (docs/CLUSTER.md)."
    ),
]
CampaignOut = Annotated[Path | None, typer.Option(help="Folder for the ledger, the summary and failing scenarios.")]
For = Annotated[
    str | None,
    typer.Option("--for", help="Go on for this time, as 90s, 10m or 2h, instead of a number of scenarios or episodes."),
]
"""`duration` reads it."""
Rpc = Annotated[str, typer.Option(help="URL of the node, http:// or https://.")]
Address = Annotated[str, typer.Option(help="Address of the stake contract.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
EnvFile = Annotated[Path, typer.Option(help="File with the settings. Environment variables override it.")]
ENV_FILE = Path(".env")
"""Default of `EnvFile`."""
_Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print only what is wrong.", rich_help_panel="Output")]
_Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Print each step of the progress, and the log.", rich_help_panel="Output"),
]
_Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON lines: one for each finding, then one with the verdict (docs/COMMAND_LINE.md).",
        rich_help_panel="Output",
    ),
]


def reports(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command that ends with a verdict the options `--quiet`, `--verbose` and `--json`."""
    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in (("quiet", _Quiet), ("verbose", _Verbose), ("as_json", _Json))
    ]

    @functools.wraps(command)
    def run(*args: Any, quiet: bool = False, verbose: bool = False, as_json: bool = False, **options: Any) -> None:
        set_output(Output(command.__name__.partition("_")[0], quiet, verbose, as_json))
        if verbose:
            import logging

            logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
        command(*args, **options)

    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    return run


def contract_or_default(contract: str | None) -> str | None:
    """The argument of `--contract`, else the project's contract; None means the packaged `EventStake`.

    Outside of stakesim's own checkout that is told, so that its verdict is not taken for that of a contract at hand.
    """
    from stakesim.paths import checkout
    from stakesim.project import current_project

    project = current_project()
    if not contract and not project.contract and project.root != checkout():
        note = "tested is the EventStake of stakesim: name another by --contract, or by `contract` in [tool.stakesim]"
        console(stderr=True).print(f"stakesim: {note}", markup=False)
    return contract or project.contract


def parse_terms(arguments: list[str] | None) -> ContractTerms:
    """Terms of the contract from `--term NAME=VALUE`; all others have their defaults.

    Raises:
        typer.BadParameter: There is no such term, or the value is out of its bounds.
    """
    from pydantic import ValidationError

    from stakesim.scenario.actions import Terms

    pairs = {
        name: int(text) if re.fullmatch("[0-9]{1,100}", text) else text
        for name, _, text in (argument.partition("=") for argument in arguments or ())
    }
    try:
        return Terms.model_validate(pairs)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(f"{name}: {first['msg']}; terms are {', '.join(Terms.model_fields)}.") from None


def duration(text: str | None) -> int | None:
    """The argument of `--for` in seconds; None without one.

    Raises:
        typer.BadParameter: It is no time, or none that one can go on for.
    """
    from stakesim.schema.fields import parse_time

    if text is None:
        return None
    try:
        seconds = parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is no time to run for: give 90s, 10m or 2h.")
    return seconds


def check_folder(folder: Path | None) -> None:
    """Checks that the folder of a report can be made and written, before what it reports on runs for hours.

    Raises:
        typer.BadParameter: It can't.
    """
    if folder is None:
        return
    existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise typer.BadParameter(f"{existing} is no folder, so nothing can be written into {folder}: name another one.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{existing} can't be written: name another folder than {folder}.")


def option_text(**options: str | None) -> str:
    """Options that were given, as text to append to a command, quoted for a shell."""
    return "".join(f" --{name} {shlex.quote(value)}" for name, value in options.items() if value)
