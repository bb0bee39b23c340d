"""Reports count each amount once."""

from __future__ import annotations

import pytest
from stakesim import plots
from stakesim.campaign.html_report import payouts
from stakesim.runner.ledger import LedgerRow, by_party, received

ETH = 10**18


def row(action: str, actor: str, outcome: str = "ok", wei: int = 0) -> LedgerRow:
    return LedgerRow(0, "s", 0, 1, 0, action, actor, outcome, None, 0, wei, 0, "200000", "0.00", "0.00", None)


LEDGER = [
    row("create_run", "host"),
    row("complete", "host"),
    row("payout", "host", "deferred", 5 * ETH),
    row("payout", "a", "pushed", 2 * ETH),
    row("payout", "b", "deferred", 4 * ETH),
    row("withdraw", "b"),
    row("payout", "b", "withdrawn", 4 * ETH),
    row("withdraw", "host"),
    row("payout", "platform", "withdrawn", 3 * ETH),
    row("withdraw_fees", "platform"),
    row("payout", "platform", "pushed", ETH),
]
"""The host refuses 5 ETH and withdraws 3 of them to the platform's address, b refuses 4 and withdraws them."""


@pytest.mark.slow
def test_each_payout_is_counted_once_whoever_withdraws_it_to_whom() -> None:
    """The bars of each party are as long as what it received: a credit counts when it arises, not when it is taken."""
    sums = by_party(LEDGER)
    axes = plots.payouts(sums).axes[0]
    lengths = {
        str(bars.get_label()): {party: bar.get_width() for party, bar in zip(sorted(sums), bars, strict=True)}
        for bars in axes.containers
    }
    assert lengths == {
        "pushed": {"attendees and others": 2, "hosts": 0, "platform": 1},
        "deferred and withdrawn": {"attendees and others": 4, "hosts": 3, "platform": 0},
        "deferred, still a credit": {"attendees and others": 0, "hosts": 2, "platform": 0},
    }
    totals = {party: sum(bars[party] for bars in lengths.values()) for party in sums}
    assert {each["party"]: int(each["wei"].replace(",", "")) / ETH for each in payouts(LEDGER)} == totals
    assert sum(totals.values()) == pytest.approx(sum(received(LEDGER).values()) / ETH)
