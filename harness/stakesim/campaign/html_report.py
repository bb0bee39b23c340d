"""A campaign as one HTML page for two readers: first what is wrong and who loses, then how, then the technical part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader

from stakesim.campaign.campaign import unsupported
from stakesim.campaign.money_flow import money_flow
from stakesim.campaign.report import SUMMARY_KEYS, grouped
from stakesim.campaign.result import HEADINGS, CampaignResult
from stakesim.campaign.stories import Story, stories, whole_story
from stakesim.paths import package_data
from stakesim.runner.ledger import LedgerRow, by_party
from stakesim.units import WEI_PER_ETH, format_inr


def page(
    result: CampaignResult,
    command: str,
    *,
    title: str = "stakesim run",
    figures: str = "",
    not_tried: Mapping[str, str] | None = None,
) -> str:
    """The page.

    Args:
        result: What is reported.
        command: The command that gives the same result again.
        title: Its title.
        figures: What was done; the campaign's figures if left out.
        not_tried: What was not tried, and why; what the campaign left out if left out.
    """
    told = stories(result.findings, result.rows)
    if not_tried is None:
        why = "contract or backend don't have it"
        not_tried = {f"{name} ({count} times)": why for name, count in unsupported(result).items()}
    return render(
        "run_report.html",
        title=title,
        result=result,
        figures=figures or result.summary(),
        heading=HEADINGS[result.verdict],
        headline=headline(told),
        stories=told,
        groups=grouped(result),
        not_tried=not_tried,
        reached=", ".join(f"{result.reached[key]:,} {key}" for key in SUMMARY_KEYS),
        payouts=payouts(result.rows),
        command=command,
    )


def scenario_page(result: CampaignResult, command: str) -> str:
    """A page about the one scenario of a campaign, whether it passes or fails.

    Args:
        result: The campaign.
        command: The command that gives the same result again.
    """
    (played,) = result.results
    scenario, told = played.scenario, stories(result.findings, result.rows)
    return render(
        "replay_report.html",
        scenario=scenario,
        heading=HEADINGS[result.verdict],
        headline=headline(told),
        whole=whole_story(played),
        findings=told,
        not_supported=unsupported(result),
        command=command,
    )


def headline(told: Sequence[Story]) -> str:
    """The verdict in one sentence."""
    if not told:
        return "Nobody got a wei too much or too little, and nothing was possible that must not be."
    first = told[0]
    others = f" And {len(told) - 1} more." if len(told) > 1 else ""
    losses = f": {', '.join(first.losses)}" if first.losses else ""
    return f"{(first.meaning or first.title).rstrip('.')}{losses}.{others}"


def payouts(rows: Iterable[LedgerRow]) -> list[dict[str, str]]:
    """Amounts by party. A deferred payout counts when it is credited, and not again when it is withdrawn."""
    table = []
    for party, sums in sorted(by_party(rows).items()):
        received = sums["pushed"] + sums["deferred"]
        table.append(
            {
                "party": party,
                "paid": _eth(sums["paid"]),
                "eth": _eth(received),
                "wei": f"{received:,}",
                "inr": format_inr(sums["paise"]).removesuffix(" INR"),
            }
        )
    return table


def write_page(html: str, file: Path) -> Path:
    """Writes a page, and returns its path. Folders are made if they are not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(html, encoding="utf-8")
    return file


def render(template: str, **values: Any) -> str:
    """Fills in a template of the package's data.

    Args:
        template: Its file name.
        values: What it names.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: package_data(name).read_text(encoding="utf-8")),
    )
    environment.filters["money_flow"] = money_flow
    return environment


def _eth(wei: int) -> str:
    """ETH to three places, rounded down."""
    return f"{wei // WEI_PER_ETH:,}.{wei * 1_000 // WEI_PER_ETH % 1_000:03}"
