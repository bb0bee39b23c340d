"""A fault campaign as one HTML page: first what was lost or paid twice, then how, then all that happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stakesim.campaign.html_report import render
from stakesim.faults.campaign import FaultCampaignResult, rows_by_fault
from stakesim.faults.catalogue import ROWS
from stakesim.faults.limited_runner import statements
from stakesim.faults.protocol import EpisodeResult


class BrokenPromise(NamedTuple):
    """A statement that did not hold.

    Attributes:
        invariant: Its id.
        statement: What must hold, in words.
        message: How it did not, in the shortest episode.
        episode: That episode.
        others: Number of other episodes in which it did not hold either.
    """

    invariant: str
    statement: str
    message: str
    episode: EpisodeResult
    others: int


class Row(NamedTuple):
    """Faults of a row of the catalogue.

    Attributes:
        number: Of the row.
        kind: What goes wrong.
        injected: How often it happened.
        survived: How often it happened in episodes without violations.
    """

    number: int
    kind: str
    injected: int
    survived: int


def fault_page(result: FaultCampaignResult, command: str, figures: str) -> str:
    """The page.

    Args:
        result: The campaign.
        command: The command that gives the same result again.
        figures: What was done.
    """
    promises = broken_promises(result)
    return render(
        "faults_report.html",
        result=result,
        heading=_heading(result),
        headline=_headline(promises),
        figures=figures,
        promises=promises,
        rows=rows(result),
        not_tried=[ROWS[number] for number in result.rows_not_injected],
        command=command,
    )


def broken_promises(result: FaultCampaignResult) -> list[BrokenPromise]:
    """Each statement that did not hold once, told by the shortest episode that shows it."""
    texts = statements(result.campaign)
    shown: dict[str, list[tuple[EpisodeResult, str]]] = {}
    for episode in result.episodes:
        for invariant, message in {v.invariant: v.message for v in reversed(episode.violations)}.items():
            shown.setdefault(invariant, []).append((episode, message))
    promises = []
    for invariant, episodes in shown.items():
        episode, message = min(episodes, key=lambda one: len(one[0].log))
        promises.append(BrokenPromise(invariant, texts[invariant], message, episode, len(episodes) - 1))
    return promises


def rows(result: FaultCampaignResult) -> list[Row]:
    """The rows of the catalogue whose faults the campaign can inject."""
    injected, survived = result.injected, result.survived
    names: dict[int, list[str]] = {}
    for name, row in rows_by_fault(result.campaign).items():
        names.setdefault(row, []).append(name)
    return [
        Row(row, ROWS[row], sum(injected[name] for name in of_row), sum(survived[name] for name in of_row))
        for row, of_row in sorted(names.items())
    ]


def _heading(result: FaultCampaignResult) -> str:
    return "FINDINGS" if not result.ok else "INTERRUPTED" if result.interrupted else "PASS"


def _headline(promises: Sequence[BrokenPromise]) -> str:
    if not promises:
        return "Whatever went wrong between the service, its node and its database, all that must hold did hold."
    first, *others = promises
    more = f" Nor {'does 1 more statement' if len(others) == 1 else f'do {len(others)} more'}." if others else ""
    return f"When something goes wrong around the service, this does not hold: {first.statement.rstrip('.')}.{more}"
