"""What came of a run, for a person: on the terminal, and as files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stakesim.campaign.result import CampaignResult
from stakesim.runner import ledger
from stakesim.runner.narrative import describe_action, format_time, format_wei, narratives
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.scenario import Scenario, dump

SUMMARY_KEYS = (
    "runs completed",
    "runs cancelled",
    "runs expired",
    "bookings",
    "came",
    "no-shows",
    "bookings cancelled",
    "payouts deferred",
    "rejected",
    "reverted",
    "price swing",
)


def save_failures(result: CampaignResult, folder: Path, contract: str | None = None) -> None:
    """Saves each failing scenario up to its failing step, to be replayed, and notes the file in its findings.

    contract: as it was given on the command line, where it is not the project's own.
    """
    told = {id(finding) for finding in result.findings}
    for played in result.results:
        if told.isdisjoint(map(id, played.findings)):
            continue
        story = replayable(played)
        path = folder / f"{story.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(story), encoding="utf-8")
        shown = path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
        saved = f"{shown} --contract {contract}" if contract else str(shown)
        replacements = {id(f): replace(f, saved=saved) for f in played.findings}
        played.findings = [replacements[id(f)] for f in played.findings]
        result.findings = [replacements.get(id(f), f) for f in result.findings]


def replayable(played: ScenarioResult) -> Scenario:
    """The scenario cut after the step that failed, with where it comes from."""
    failing, scenario = played.findings[0], played.scenario
    name = f"{failing.id.lower()}-{scenario.name}"
    if failing.weakness:
        name = re.sub(r"\W+", "-", failing.weakness.replace("'", "").lower())
    origin = {**(scenario.origin or {}), "scenario": scenario.name, "finding": failing.id, "engine": failing.engine}
    changes = {"name": name, "origin": origin, "actions": scenario.actions[: failing.step]}
    return scenario.model_copy(update=changes)


def show(result: CampaignResult, console: Console) -> None:
    """A line for each scripted scenario and each profile, what was reached, the findings' stories, the verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("scenario")
    for head in ("runs", "steps", "tx", "seconds"):
        table.add_column(head, justify="right")
    table.add_column("verdict")
    for name, plays in _groups(result):
        findings = sum(len(p.findings) for p in plays)
        table.add_row(
            name,
            str(len(plays)),
            str(sum(p.steps for p in plays)),
            str(sum(p.transactions for p in plays)),
            f"{sum(p.seconds for p in plays):.2f}",
            Text(f"{findings} findings", "red") if findings else Text("pass", "green"),
        )
    console.print(table)
    left_out = sorted(key for key in result.reached if key.startswith("not supported: "))
    if left_out:
        names = ", ".join(f"{key.removeprefix('not supported: ')} ({result.reached[key]})" for key in left_out)
        console.print(f"\nnot supported by this contract or backend, and left out: {names}", highlight=False)
    console.print("\nreached: " + ", ".join(f"{result.reached[key]} {key}" for key in SUMMARY_KEYS), highlight=False)
    _show_verdict(result, console)


def _groups(result: CampaignResult) -> Iterator[tuple[str, list[ScenarioResult]]]:
    """Scripted scenarios one by one, the drawn ones by profile, in order."""
    groups: dict[str, list[ScenarioResult]] = {}
    for played in result.results:
        origin = played.scenario.origin or {}
        groups.setdefault(f"random: {origin['profile']}" if "profile" in origin else played.scenario.name, []).append(
            played
        )
    yield from groups.items()


def show_steps(result: CampaignResult, console: Console) -> None:
    """Every action of the scenarios with what it came to and who was paid; then the findings and the verdict."""
    for played in result.results:
        console.print(Text(played.scenario.name, "bold"), Text(f"- {played.scenario.story.strip()}"))
        for index, (at, action) in enumerate(played.scenario.timeline()[: played.steps], start=1):
            rows = [row for row in played.rows if row.step == index]
            first = rows[0]
            came_to = first.outcome if first.error is None else f"{first.outcome}: {first.error}"
            style = "green" if first.outcome == "ok" else "yellow"
            console.print(
                f"  {index:2}. {format_time(at)}  {describe_action(action)}  ",
                Text(came_to, style),
                highlight=False,
                sep="",
            )
            for row in rows[1:]:
                console.print(f"        {row.actor} gets {format_wei(row.wei_out)} ({row.outcome})", highlight=False)
    _show_verdict(result, console)


def _show_verdict(result: CampaignResult, console: Console) -> None:
    for story in narratives(result.findings):
        console.print(Text("\n" + story))
    console.print(Text("\nPASS  " if result.ok else "\nFINDINGS  ", "bold green" if result.ok else "bold red"), end="")
    console.print(result.summary(), highlight=False)


def write_report(result: CampaignResult, folder: Path, command: str) -> None:
    """Writes `summary.md` and `ledger.csv` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger.write(result.rows, folder / "ledger.csv")
    (folder / "summary.md").write_text("\n".join(_markdown(result, command)) + "\n", encoding="utf-8")


def _markdown(result: CampaignResult, command: str) -> Iterator[str]:
    yield f"# {'Pass' if result.ok else 'Findings'}\n"
    yield f"{result.summary()}.\n\nMade by `{command}`.\n"
    if result.findings:
        yield "## Findings\n"
        for story in narratives(result.findings):
            yield f"```\n{story}\n```\n"
    yield "## Scenarios\n\n| scenario | runs | steps | transactions | findings |\n| --- | ---: | ---: | ---: | ---: |"
    for name, plays in _groups(result):
        counts = (sum(p.steps for p in plays), sum(p.transactions for p in plays), sum(len(p.findings) for p in plays))
        yield f"| {name} | {len(plays)} | {' | '.join(map(str, counts))} |"
    yield "\n## Reached\n\n| what | times |\n| --- | ---: |"
    for key, count in sorted(result.reached.items()):
        yield f"| {key} | {count} |"
    yield "\n## Who got what\n\nWei paid out or credited over all scenarios, by actor.\n"
    yield "| actor | received |\n| --- | ---: |"
    for actor, wei in ledger.received(result.rows).most_common(12):
        if wei:
            yield f"| {actor} | {format_wei(wei)} |"
