"""Reports a campaign: on the terminal, as files, and as scenarios that replay its failures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stakesim.campaign.campaign import unsupported
from stakesim.campaign.result import HEADINGS, CampaignResult
from stakesim.campaign.selection import is_drawn
from stakesim.runner import ledger
from stakesim.runner.narrative import describe_action, format_time, format_wei, narratives
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.scenario import Scenario, dump

SUMMARY_KEYS = (
    "runs completed",
    "runs cancelled",
    "runs expired",
    "bookings",
    "attended",
    "no-shows",
    "bookings cancelled",
    "payouts deferred",
    "rejected",
    "reverted",
    "price swing",
)
"""What the terminal shows of what a campaign reached."""


class Group(NamedTuple):
    """Results that the report shows in one line."""

    name: str
    results: list[ScenarioResult]

    @property
    def steps(self) -> int:
        """Actions that were carried out."""
        return sum(result.steps for result in self.results)

    @property
    def transactions(self) -> int:
        """Transactions that were mined."""
        return sum(result.transactions for result in self.results)

    @property
    def seconds(self) -> float:
        """Wall-clock time."""
        return sum(result.seconds for result in self.results)

    @property
    def findings(self) -> int:
        """Number of findings."""
        return sum(len(result.findings) for result in self.results)


def save_failures(
    result: CampaignResult,
    folder: Path,
    contract: str | None = None,
    *,
    only: Callable[[ScenarioResult], bool] = lambda failure: True,
    change: Callable[[Scenario], Scenario] = lambda scenario: scenario,
) -> None:
    """Saves each failing scenario up to its failing step, and notes the file in its findings.

    Args:
        result: Its findings are replaced by those with the file.
        folder: Where the scenarios are saved; made if it is not there.
        contract: Value of `--contract` that replays them; None for the project's own contract.
        only: Which failures to save.
        change: What to change in a scenario before it is saved.

    Raises:
        OSError: A file can't be written.
    """
    reported = {id(finding) for finding in result.findings}
    for failure in result.results:
        if reported.isdisjoint(map(id, failure.findings)) or not only(failure):
            continue
        scenario = change(replayable(failure))
        path = folder / f"{scenario.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(scenario), encoding="utf-8")
        shown = path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
        saved = shlex.quote(str(shown)) + (f" --contract {shlex.quote(contract)}" if contract else "")
        with_file = {id(finding): replace(finding, saved=saved) for finding in failure.findings}
        failure.findings = [with_file[id(finding)] for finding in failure.findings]
        result.findings = [with_file.get(id(finding), finding) for finding in result.findings]


def replayable(failure: ScenarioResult) -> Scenario:
    """The scenario up to the step that failed, named after the failure; its `origin` says where it comes from."""
    finding, scenario = failure.findings[0], failure.scenario
    name = f"{finding.id.lower()}-{scenario.name.removeprefix(f'{finding.id.lower()}-')}"
    if finding.weakness:
        name = re.sub(r"\W+", "-", finding.weakness.replace("'", "").lower())
    origin = {**(scenario.origin or {}), "scenario": scenario.name, "finding": finding.id, "engine": finding.engine}
    changes = {"name": name, "origin": origin, "actions": scenario.actions[: finding.step]}
    return scenario.model_copy(update=changes)


def show(result: CampaignResult, console: Console, verdict_console: Console | None = None) -> None:
    """Prints a line for each scripted scenario and each profile, what was reached, the findings, and the verdict.

    Args:
        result: Of the campaign.
        console: Where.
        verdict_console: Where findings and verdict are printed, if not there.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("scenario")
    for head in ("runs", "steps", "tx", "seconds"):
        table.add_column(head, justify="right")
    table.add_column("verdict")
    for group in grouped(result):
        table.add_row(
            group.name,
            str(len(group.results)),
            str(group.steps),
            str(group.transactions),
            f"{group.seconds:.2f}",
            Text(f"{group.findings} findings", "red") if group.findings else Text("pass", "green"),
        )
    console.print(table)
    if left_out := unsupported(result):
        names = ", ".join(f"{name} ({count})" for name, count in left_out.items())
        console.print(f"\nnot supported by this contract or backend, and left out: {names}", highlight=False)
    console.print("\nreached: " + ", ".join(f"{result.reached[key]} {key}" for key in SUMMARY_KEYS), highlight=False)
    _show_verdict(result, verdict_console or console)


def show_steps(result: CampaignResult, console: Console, verdict_console: Console | None = None) -> None:
    """Prints every action of the scenarios with its outcome and payouts; then as `show`."""
    for scenario_result in result.results:
        scenario = scenario_result.scenario
        console.print(Text(scenario.name, "bold"), Text(f"- {scenario.story.strip()}"))
        for number, (at, action) in enumerate(scenario.timeline()[: scenario_result.steps], start=1):
            first, *payouts = (row for row in scenario_result.rows if row.step == number)
            outcome = first.outcome if first.error is None else f"{first.outcome}: {first.error}"
            console.print(
                f"  {number:2}. {format_time(at)}  {describe_action(action)}  ",
                Text(outcome, "green" if first.outcome == "ok" else "yellow"),
                highlight=False,
                sep="",
            )
            for row in payouts:
                console.print(f"        {row.actor} gets {format_wei(row.wei_out)} ({row.outcome})", highlight=False)
    _show_verdict(result, verdict_console or console)


def write_report(result: CampaignResult, folder: Path, command: str) -> None:
    """Writes `summary.md` and `ledger.csv` into the folder.

    Args:
        result: What is reported.
        folder: Made if it is not there.
        command: The command that ran the campaign, for the summary.

    Raises:
        OSError: A file can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ledger.write(result.rows, folder / "ledger.csv")
    (folder / "summary.md").write_text("\n".join(_markdown(result, command)) + "\n", encoding="utf-8")


def grouped(result: CampaignResult) -> list[Group]:
    """Scripted scenarios one by one, drawn ones by profile, in the order in which they were run."""
    groups: dict[str, list[ScenarioResult]] = {}
    for scenario_result in result.results:
        scenario = scenario_result.scenario
        name = f"random: {(scenario.origin or {}).get('profile')}" if is_drawn(scenario) else scenario.name
        groups.setdefault(name, []).append(scenario_result)
    return [Group(name, results) for name, results in groups.items()]


def _show_verdict(result: CampaignResult, console: Console) -> None:
    for text in narratives(result.findings):
        console.print(Text("\n" + text))
    colour = {"pass": "green", "fail": "red", "vacuous": "yellow", "interrupted": "yellow"}[result.verdict]
    console.print(Text(f"\n{HEADINGS[result.verdict]}  ", f"bold {colour}"), end="")
    console.print(result.summary(), highlight=False)


def _markdown(result: CampaignResult, command: str) -> Iterator[str]:
    yield f"# {HEADINGS[result.verdict].capitalize()}\n"
    yield f"{result.summary()}.\n\nMade by `{command}`.\n"
    if result.findings:
        yield "## Findings\n"
        for text in narratives(result.findings):
            yield f"```\n{text}\n```\n"
    yield "## Scenarios\n\n| scenario | runs | steps | transactions | findings |\n| --- | ---: | ---: | ---: | ---: |"
    for group in grouped(result):
        counts = (len(group.results), group.steps, group.transactions, group.findings)
        yield f"| {group.name} | {' | '.join(map(str, counts))} |"
    yield "\n## Reached\n\n| what | times |\n| --- | ---: |"
    for key, count in sorted(result.reached.items()):
        yield f"| {key} | {count} |"
    yield "\n## Who got what\n\nWei paid out or credited over all scenarios, by actor.\n"
    yield "| actor | received |\n| --- | ---: |"
    for actor, wei in ledger.received(result.rows).most_common(12):
        if wei:
            yield f"| {actor} | {format_wei(wei)} |"
