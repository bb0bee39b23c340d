"""`stakesim fuzz`."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from stakesim.commands.options import Contract, contract_or_default, duration
from stakesim.commands.terminal import ExitCode, console, finish, print_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stakesim.lane.search import LaneFinding, LaneSearch

_REFRESH_S = 0.5
"""Seconds between two updates of the live view."""


def fuzz(
    for_: Annotated[str, typer.Option("--for", help="How long to search, as 90s, 10m or 2h.")] = "1m",
    seed: Annotated[
        int | None, typer.Option(help="Seed of all random choices.", min=0, show_default="from the clock")
    ] = None,
    contract: Contract = None,
    driver: Annotated[
        str, typer.Option(help="What is searched: contract, or a driver of the project's backend, as services or api.")
    ] = "contract",
    corpus: Annotated[
        Path | None,
        typer.Option(help="Folder with the sequences to begin with, and to keep.", show_default="the state directory"),
    ] = None,
    most: Annotated[int | None, typer.Option("--findings", help="Stop after so many findings.", min=1)] = None,
    sequences: Annotated[
        int | None, typer.Option(help="Stop after so many sequences; only of a contract.", min=1)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for each story, as a scenario and as a test.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each finding as a line of JSON.")] = False,
) -> None:
    """Search contract or backend for anything that breaks the rules, guided by what is new.

    Of a contract, every function is called by everybody, at every edge: thousands of calls a second are compared with
    the reference model. Of a backend, sequences of actions are steered by the branches of its code. What shows
    something new is kept, changed and gone on from. The search goes on after a finding, and tells each distinct cause
    once, in the shortest story, under all invariants.
    """
    if driver != "contract":
        _fuzz_backend(driver, duration(for_), seed, contract, corpus, most, out, as_json=as_json)
    from stakesim.evm.compiler import compile_contracts
    from stakesim.evm.contract_file import load_contract
    from stakesim.search.contract_search import corpus_folder, open_search, save_corpus

    given = contract_or_default(contract)
    artifact = load_contract(given) if given else compile_contracts()["EventStake"]
    seconds = duration(for_)
    seed = time.time_ns() % 2**32 if seed is None else seed
    folder = corpus or corpus_folder(artifact)
    search = open_search(artifact, seed, folder)
    with _live_view(search, as_json=as_json) as update:

        def watch() -> bool:
            update()
            return most is None or len(search.findings) < most

        search.run(seconds=seconds, sequences=sequences, watch=watch)
    try:
        save_corpus(search, folder)
    except OSError as error:
        print_error(f"the corpus can't be kept: {error}")
    _report(search, seed, out, given, as_json=as_json)


@contextmanager
def _live_view(search: LaneSearch, *, as_json: bool) -> Iterator[Any]:
    """Shows figures and findings while a search runs; without a terminal, only the findings."""
    from rich.live import Live

    told = 0
    screen = console(stderr=True)
    with Live(console=screen, transient=True, auto_refresh=False) as live:
        last = 0.0

        def update() -> None:
            nonlocal told, last
            findings = list(search.findings.values())
            for finding in findings[told:]:
                told += 1
                if as_json:
                    typer.echo(json.dumps(_as_json(finding)))
                    sys.stdout.flush()
                elif not screen.is_terminal:
                    typer.echo(_line(finding), err=True)
            if screen.is_terminal and search.seconds - last > _REFRESH_S:
                last = search.seconds
                live.update("\n".join([_figures(search), *map(_line, findings)]), refresh=True)

        update()
        yield update


def _figures(search: LaneSearch) -> str:
    rate = search.moves / max(search.seconds, 0.001)
    return (
        f"{search.seconds:.0f} s, {search.moves:,} actions checked ({rate:,.0f}/s), {search.sequences:,} sequences, "
        f"{len(search.corpus):,} kept, {search.signals:,} signals, {len(search.findings)} findings"
    )


def _line(finding: LaneFinding) -> str:
    return f"  {finding.seconds:7.1f} s  {len(finding.moves)} actions: {finding.difference.text[:160]}"


def _as_json(finding: LaneFinding) -> dict[str, Any]:
    kind, function, detail = finding.difference.cause
    return {
        "name": " ".join(part for part in (kind, function, detail) if part),
        "seconds": round(finding.seconds, 3),
        "actions": len(finding.moves),
        "world": finding.world.name,
        "text": finding.difference.text,
    }


def _report(search: LaneSearch, seed: int, out: Path | None, contract: str | None, *, as_json: bool) -> NoReturn:
    """Plays the findings as scenarios, tells them, and ends the command."""
    from stakesim.evm.compiler import CONTRACTS
    from stakesim.runner.narrative import narrate
    from stakesim.search.contract_search import confirm, export

    found = confirm(search)
    files: list[Path] = []
    if out is not None:
        try:
            imported = Path(contract.partition(":")[0]).resolve() if contract else CONTRACTS / "EventStake.sol"
            files = export(search, found, out, os.path.relpath(imported, out))
        except OSError as error:
            print_error(f"the stories can't be written: {error}")
    if as_json:
        figures = {"seed": seed, "seconds": round(search.seconds, 1), "checked_actions": search.moves}
        figures |= {"sequences": search.sequences, "findings": len(found)}
        typer.echo(json.dumps({**figures, "not_tried": search.skipped}))
        raise typer.Exit(ExitCode.FINDINGS if found else ExitCode.PASS)
    screen = console()
    for finding in found:
        screen.print(narrate(finding.findings), markup=False)
        if not finding.confirmed:
            screen.print("  (the invariants hold when it is played as a scenario)", markup=False)
        screen.print()
    for file in files:
        screen.print(f"written: {file}", markup=False)
    for world, reason in search.skipped.items():
        screen.print(f"not tried: {world}, as {reason}", markup=False)
    again = f"stakesim fuzz --seed {seed} --sequences {search.sequences} --for 24h"
    screen.print(f"{_figures(search)}\nagain: {again}{f' --contract {contract}' if contract else ''}", markup=False)
    finish(ok=not found)


def _fuzz_backend(
    driver: str,
    seconds: int | None,
    seed: int | None,
    contract: str | None,
    corpus: Path | None,
    most: int | None,
    out: Path | None,
    *,
    as_json: bool,
) -> NoReturn:
    """Searches a backend, tells what is found, and ends the command."""
    from stakesim.commands.campaigns import load_artifact
    from stakesim.runner.environment import open_environment
    from stakesim.runner.narrative import narrate
    from stakesim.scenario.scenario import dump
    from stakesim.search.backend_search import Found, SearchProgress, search

    told = 0

    def tell(progress: SearchProgress) -> None:
        nonlocal told
        for found in progress.found[told:]:
            told += 1
            if as_json:
                name, length = found.cause, len(found.result.scenario.actions)
                typer.echo(json.dumps({"name": name, "seconds": round(found.seconds, 3), "actions": length}))
            else:
                typer.echo(f"  {found.seconds:7.1f} s  {found.cause}", err=True)
        if most is not None and told >= most:
            raise _Enough

    progress = SearchProgress(seed=0)

    def watch(latest: SearchProgress) -> None:
        nonlocal progress
        progress = latest
        tell(latest)

    environment = open_environment(None, load_artifact(contract), driver)
    try:
        progress = search(environment, seconds=seconds or 60, seed=seed, corpus=corpus, report=watch)
        tell(progress)
    except _Enough:
        pass
    finally:
        environment.close()

    def save(found: Found) -> None:
        assert out is not None
        out.mkdir(parents=True, exist_ok=True)
        file = out / f"{found.result.scenario.name}.yaml"
        file.write_text(dump(found.result.scenario), encoding="utf-8")
        console().print(f"written: {file}", markup=False)

    figures = (
        f"{progress.seconds:.0f} s, {progress.actions:,} actions checked, {progress.sequences:,} sequences, "
        f"{progress.branches} of {progress.branches_in_all} branches, {len(progress.found)} findings"
    )
    for found in progress.found:
        if not as_json:
            console().print(narrate(found.result.findings), markup=False)
        if out is not None:
            save(found)
    if not as_json:
        console().print(f"{figures}\nseed: {progress.seed}", markup=False)
    finish(ok=not progress.found)


class _Enough(Exception):
    """As many findings were told as were asked for."""
