"""`stakesim init`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.options import CONTRACT
from stakesim.paths import package_data
from stakesim.project import ProjectError, parse_section, read_section

SCENARIO = ("one-no-show.yaml", "{scenarios}/one-no-show.yaml")
ADAPTER = ("stakesim_adapter.py.txt", "stakesim_adapter.py")
WORKFLOW = ("stakesim.yml", ".github/workflows/stakesim.yml")
"""Starter files of the library, each with its path in the project."""
SCENARIOS = "scenarios"
"""Usual folder for scenarios."""
OTHER_SCENARIOS = "stakesim-scenarios"
"""Folder for scenarios if the project uses the usual one for something else."""
DEPENDENCIES = {
    "Foundry": "      - run: git submodule update --init --recursive\n",
    "Hardhat": "      - run: npm ci\n",
}
"""Steps of the workflow that get what contracts import, by the kind of repository."""


def init(
    folder: Annotated[Path, typer.Argument(help="The project's folder; created if needed.")] = Path(),
    contract: Annotated[
        str | None,
        typer.Option(
            help=CONTRACT,
            show_default="the stake contract in the folder; asked if there are several; `none`: EventStake",
        ),
    ] = None,
    backend: Annotated[
        bool | None,
        typer.Option(
            "--backend/--no-backend",
            help="Write the stub of an adapter, to test a Python backend that drives the contract.",
            show_default="asked; else no",
        ),
    ] = None,
    ci: Annotated[
        bool | None,
        typer.Option(
            "--ci/--no-ci",
            help="Write a GitHub workflow, for each change and each night.",
            show_default="asked; else yes",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Write a starter for a Foundry, Hardhat, Ape or other repository: settings, a scenario, and what you ask for.

    Asks which contract there is, whether there is a backend, and whether a workflow for GitHub is wanted; without a
    terminal, or with --yes, it takes the defaults. Existing files are left as they are; pyproject.toml gets a section
    at its end.
    """
    from stakesim.commands.repository import find_contracts, find_repository

    asks = not yes and sys.stdin.isatty() and sys.stdout.isatty()
    pyproject = folder / "pyproject.toml"
    if pyproject.exists() and read_section(pyproject) is not None:
        raise ProjectError(f"{pyproject} has a section [tool.stakesim] already: there is nothing to start.")
    repository = find_repository(folder)
    if contract is None:
        contract = _choose_contract(repository.kind, find_contracts(repository, folder), asks=asks)
    elif contract != "none" and not (folder / contract.partition(":")[0]).is_file():
        raise ProjectError(f"There is no file {folder / contract.partition(':')[0]}: name another with --contract.")
    if backend is None:
        backend = asks and typer.confirm("Is there a Python backend that drives the contract?", default=False)
    if ci is None:
        ci = not asks or typer.confirm("Write a GitHub workflow, for each change and each night?", default=True)

    scenarios = _scenario_folder(folder)
    section = _new_section(pyproject, scenarios, None if contract == "none" else contract)
    files = [SCENARIO, *([ADAPTER] if backend else []), *([WORKFLOW] if ci else [])]
    targets = {name: folder / path.format(scenarios=scenarios) for name, path in files}
    _check_folders([pyproject, *targets.values()])
    for name, target in targets.items():
        if target.exists():
            typer.echo(f"{target}: exists, left as it is")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (package_data("starter") / name).read_text(encoding="utf-8")
        target.write_text(
            text.replace("      # dependencies\n", DEPENDENCIES.get(repository.kind, "")), encoding="utf-8"
        )
        typer.echo(str(target))
    with pyproject.open("a", encoding="utf-8") as file:  # last: if something fails before, init can be run again
        file.write(section)
    typer.echo(f"{pyproject}: [tool.stakesim]")
    change_folder = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    typer.echo(f"now: {change_folder}stakesim run{'' if contract == 'none' else ', and then stakesim gate'}")


def _choose_contract(kind: str, contracts: Sequence[str], *, asks: bool) -> str:
    """Returns the contract to test, or "none"; asks if there is a choice and somebody to ask."""
    where = "This folder" if kind == "plain" else f"This {kind} repository"
    if not asks:
        if len(contracts) > 1:
            typer.echo(f"{where} has several stake contracts: {', '.join(contracts)}. Name one in pyproject.toml.")
        return contracts[0] if len(contracts) == 1 else "none"
    if not contracts:
        typer.echo(f"{where} has no stake contract, which has a function bookEvent: the packaged EventStake is tested.")
        return "none"
    typer.echo(f"{where} has these stake contracts:")
    for number, contract in enumerate(contracts, 1):
        typer.echo(f"  {number}  {contract}")
    typer.echo("  0  none of them, but the packaged EventStake")
    chosen = typer.prompt("Which one is to be tested?", default=1, type=int)
    while not 0 <= chosen <= len(contracts):
        chosen = typer.prompt(f"A number from 0 to {len(contracts)}", default=1, type=int)
    return contracts[chosen - 1] if chosen else "none"


def _scenario_folder(folder: Path) -> str:
    """Name of the folder for scenarios. The usual folder is also used if an earlier init has begun it."""
    usual = folder / SCENARIOS
    taken = usual.exists() and not (usual / "one-no-show.yaml").is_file()
    return OTHER_SCENARIOS if taken else SCENARIOS


def _new_section(pyproject: Path, scenarios: str, contract: str | None) -> str:
    """Text to append to pyproject.toml.

    Raises:
        ProjectError: The file can't be extended by a section.
    """
    section = (package_data("starter") / "pyproject.toml").read_text(encoding="utf-8").format(scenarios=scenarios)
    if contract is not None:
        example = next(line for line in section.splitlines() if line.startswith("# contract"))
        section = section.replace(example, f"contract = {json.dumps(contract, ensure_ascii=False)}")
    existing = pyproject.read_text(encoding="utf-8") if pyproject.exists() else ""
    if not existing:
        section = section.lstrip()
    elif not existing.endswith("\n"):
        section = f"\n{section}"
    try:
        parse_section(existing + section)
    except ValueError:
        raise ProjectError(
            f"{pyproject} can't take a section [tool.stakesim] at its end: write its `tool` as sections, [tool.name]."
        ) from None
    return section


def _check_folders(files: Iterable[Path]) -> None:
    """Raises `ProjectError` if a file is where a folder must be."""
    for file in files:
        nearest = next(parent for parent in file.parents if parent.exists())
        if not nearest.is_dir():
            raise ProjectError(f"{nearest} is a file where a folder must be for {file}: rename it.")
