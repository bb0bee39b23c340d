"""`stakesim fuzz`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from stakesim.commands.options import (
    Contract,
    FreshSeed,
    Keep,
    check_folder,
    contract_or_default,
    duration,
    option_text,
    reports,
)
from stakesim.commands.terminal import console, finish, output, print_error, print_finding, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stakesim.campaign.result import CampaignResult
    from stakesim.lane.search import LaneFinding, LaneSearch
    from stakesim.runner.findings import Finding
    from stakesim.runner.scenario_result import ScenarioResult
    from stakesim.search.backend_search import SearchProgress
    from stakesim.search.contract_search import ContractFinding

_REFRESH_S = 0.5
"""Seconds between two updates of the live view."""


@reports
def fuzz(
    for_: Annotated[str, typer.Option("--for", help="How long to search, as 90s, 10m or 2h.")] = "1m",
    seed: FreshSeed = None,
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
    keep: Keep = False,
) -> None:
    """Search contract or backend for anything that breaks the rules, guided by what is new.

    Of a contract, every function is called by everybody, at every edge: thousands of calls a second are compared with
    the reference model. Of a backend, sequences of actions are steered by the branches of its code. What shows
    something new is kept, changed and gone on from. The search goes on after a finding, and tells each distinct cause
    once, in the shortest story, under all invariants.
    """
    if keep and contract:
        raise typer.BadParameter("--keep is for findings in the project's own contract: leave out --contract.")
    if sequences and driver != "contract":
        raise typer.BadParameter("--sequences is for the search of a contract: use --for or --findings.")
    check_folder(out)
    seconds = duration(for_) or 60
    seed = time.time_ns() % 2**32 if seed is None else seed
    options = _Options(driver, contract, seconds, seed, corpus, most, out, keep)
    if driver == "contract":
        _search_contract(options, sequences)
    else:
        _search_backend(options)


@dataclass(frozen=True)
class _Options:
    """What contract and backend have in common; see `fuzz`."""

    driver: str
    contract: str | None
    seconds: int
    seed: int
    corpus: Path | None
    most: int | None
    out: Path | None
    keep: bool


def _save(results: list[ScenarioResult], options: _Options) -> None:
    """Keeps what was found for the next run, and as regressions where they are asked for."""
    from stakesim.campaign.failure_cache import FailureCache, keep
    from stakesim.project import current_project

    result = _as_campaign(results)
    try:
        FailureCache(options.contract, options.driver).update(result)
        if options.keep:
            keep(result, current_project().failures)
    except OSError as error:
        print_error(f"the failing scenarios can't be saved: {error}")


def _as_campaign(
    results: list[ScenarioResult], findings: list[Finding] | None = None, *, interrupted: bool = False
) -> CampaignResult:
    """What was found as a campaign; the findings are those of the results, if no others are given."""
    from stakesim.campaign.result import CampaignResult

    if findings is None:
        findings = [finding for each in results for finding in each.findings]
    return CampaignResult(results, findings, interrupted=interrupted)


def _write_page(result: CampaignResult, out: Path, command: str, figures: str, not_tried: Mapping[str, str]) -> Path:
    """Writes a page that tells what was found."""
    from stakesim.campaign.html_report import page, write_page

    html = page(result, command, title="stakesim fuzz", figures=figures, not_tried=not_tried)
    return write_page(html, out / "report.html")


# A contract


def _search_contract(options: _Options, sequences: int | None) -> NoReturn:
    """Searches a contract, tells what is found, and ends the command."""
    from stakesim.evm.compiler import compile_contracts
    from stakesim.evm.contract_file import load_contract
    from stakesim.search.contract_search import corpus_folder, open_search, play_findings, play_kept, save_corpus

    given = contract_or_default(options.contract)
    artifact = load_contract(given) if given else compile_contracts()["EventStake"]
    folder = options.corpus or corpus_folder(artifact)
    search = open_search(artifact, options.seed, folder)
    with _live_view(search) as update:

        def watch() -> bool:
            update()
            return options.most is None or len(search.findings) < options.most

        interrupted = False
        try:
            search.run(seconds=options.seconds, sequences=sequences, watch=watch)
        except KeyboardInterrupt:
            interrupted = True
            update()
    with uninterrupted():
        try:
            save_corpus(search, folder)
        except OSError as error:
            print_error(f"the corpus can't be kept: {error}")
        found = play_findings(search)
    try:
        if not found and not interrupted:
            found = play_kept(search)
    except KeyboardInterrupt:
        interrupted = True
    if interrupted:
        search.skipped.setdefault("kept sequences with all invariants", "Ctrl-C came first")
    with uninterrupted():
        _save([finding.result for finding in found], options)
        _tell(search, found, options.out, given, interrupted=interrupted)
    figures: dict[str, Any] = {
        "seed": search.seed,
        "seconds": round(search.seconds, 1),
        "checked_actions": search.moves,
    }
    figures |= {"sequences": search.sequences, "findings": len(found), "not_tried": search.skipped}
    finish(ok=not found, interrupted=interrupted, **figures)


@contextmanager
def _live_view(search: LaneSearch) -> Iterator[Any]:
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
                _print_json(finding)
                if not output().json and not screen.is_terminal:
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


def _print_json(finding: LaneFinding) -> None:
    print_finding(
        " ".join(part for part in finding.difference.cause if part),
        finding.difference.text,
        seconds=round(finding.seconds, 3),
        actions=len(finding.moves),
        world=finding.world.name,
    )


def _tell(
    search: LaneSearch, found: list[ContractFinding], out: Path | None, contract: str | None, *, interrupted: bool
) -> None:
    """Tells and writes what was found."""
    from stakesim.evm.compiler import CONTRACTS
    from stakesim.runner.narrative import narrate
    from stakesim.search.contract_search import export

    all_findings = [finding for each in found for finding in each.findings]
    told = _as_campaign([each.result for each in found], all_findings, interrupted=interrupted)
    files: list[Path] = []
    if out is not None:
        try:
            imported = Path(contract.partition(":")[0]).resolve() if contract else CONTRACTS / "EventStake.sol"
            files = export(search, found, out, os.path.relpath(imported, out))
            command = f"stakesim fuzz --seed {search.seed}{option_text(contract=contract)}"
            files.append(_write_page(told, out, command, _figures(search), search.skipped))
        except OSError as error:
            print_error(f"the stories can't be written: {error}")
    screen, wrong = console(), console(findings=True)
    for finding in found:
        wrong.print(narrate(finding.findings), markup=False)
        if not finding.confirmed:
            wrong.print(f"  ({finding.why_unconfirmed})", markup=False)
        wrong.print()
    for file in files:
        screen.print(f"written: {file}", markup=False)
    for what, reason in search.skipped.items():
        screen.print(f"not tried: {what}, as {reason}", markup=False)
    _tell_verdict(told, _figures(search), search.seed)


def _tell_verdict(told: CampaignResult, figures: str, seed: int) -> None:
    from stakesim.campaign.result import HEADINGS

    console(findings=not told.ok).print(f"{HEADINGS[told.verdict]}  {figures}\nseed: {seed}", markup=False)


# A backend


def _search_backend(options: _Options) -> NoReturn:
    """Searches a backend, tells what is found, and ends the command."""
    from stakesim.commands.campaigns import load_artifact
    from stakesim.runner.environment import open_environment
    from stakesim.runner.narrative import narrate
    from stakesim.search.backend_search import search

    told = 0

    def tell(progress: SearchProgress) -> bool:
        nonlocal told
        for found in progress.found[told:]:
            told += 1
            length = len(found.result.scenario.actions)
            text = found.result.findings[0].message
            print_finding(found.cause, text, seconds=round(found.seconds, 3), actions=length)
            if not output().json:
                typer.echo(f"  {found.seconds:7.1f} s  {length} actions: {found.cause}", err=True)
        return options.most is None or told < options.most

    with closing(open_environment(None, load_artifact(options.contract), options.driver)) as environment:
        progress = search(environment, seconds=options.seconds, seed=options.seed, corpus=options.corpus, report=tell)
    tell(progress)
    results = [found.result for found in progress.found]
    campaign = _as_campaign(results, interrupted=progress.interrupted)
    with uninterrupted():
        _save(results, options)
        if options.out is not None:
            command = f"stakesim fuzz --driver {options.driver} --seed {progress.seed}"
            command += option_text(contract=options.contract)
            _write(campaign, options.out, command, _figures_of_backend(progress))
        for result in results:
            console(findings=True).print(f"{narrate(result.findings)}\n", markup=False)
        _tell_verdict(campaign, _figures_of_backend(progress), progress.seed)
    figures: dict[str, Any] = {
        "seed": progress.seed,
        "seconds": round(progress.seconds, 1),
        "checked_actions": progress.actions,
    }
    figures |= {"sequences": progress.sequences, "findings": len(results)}
    finish(ok=not results, interrupted=progress.interrupted, **figures)


def _write(told: CampaignResult, out: Path, command: str, figures: str) -> None:
    """Writes each story as a scenario, and a page of all of them, and says where."""
    from stakesim.scenario.scenario import dump

    try:
        out.mkdir(parents=True, exist_ok=True)
        for result in told.results:
            file = out / f"{result.scenario.name}.yaml"
            file.write_text(dump(result.scenario), encoding="utf-8")
            console().print(f"written: {file}", markup=False)
        console().print(f"written: {_write_page(told, out, command, figures, {})}", markup=False)
    except OSError as error:
        print_error(f"the stories can't be written: {error}")


def _figures_of_backend(progress: SearchProgress) -> str:
    return (
        f"{progress.seconds:.0f} s, {progress.actions:,} actions checked, {progress.sequences:,} sequences, "
        f"{progress.branches} of {progress.branches_in_all} branches, {len(progress.found)} findings"
    )
