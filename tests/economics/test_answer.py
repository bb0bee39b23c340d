"""The answer of a shipped sweep in scenarios/README.md is what the sweep computes.

`python tests/economics/test_answer.py` writes it anew.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from stakesim.economics import report, sweep
from stakesim.economics.sweep_file import groups_and_markets, load_sweep, population_of
from stakesim.paths import shipped

PAGE = shipped("scenarios") / "README.md"
METRICS = ("no-show rate", "host profit", "transaction costs", "platform profit")
MARKS = re.compile(r"(<!-- answer of dear-stake -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def answer() -> str:
    """The table of the answer, and the sentence that it comes down to."""
    question = load_sweep(shipped("scenarios") / "sweeps" / "dear-stake.yaml")
    population = population_of(question)
    groups, markets = groups_and_markets(question, population)
    frame = sweep(
        question.policies,
        groups,
        markets,
        question.runs,
        question.seed,
        population,
        gas=question.gas,
        quantiles=question.quantiles,
    )
    rows = [["stake", "people", *METRICS, "platform profit, 5% / 95% of runs"], ["---"] * (len(METRICS) + 3)]
    quantiles = dict(report.quantile_rows(frame, ["stake_bps"], METRICS[-1:]))
    for keys, cells in report.table_rows(frame, ["stake_bps"], METRICS, with_values=False):
        rows.append([f"{keys[0] / 100:g}%", keys[1].replace("-", " "), *cells, *quantiles[keys]])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", *(_sentence(frame, people) for people in groups), "", ""])


def _sentence(frame: Any, people: str) -> str:
    rows = frame[(frame["metric"] == "host profit") & (frame["behaviours"] == people)]
    best = sorted(rows["stake_bps"][rows["may_be_largest"]])
    stakes = "any of them, not told apart" if len(best) == len(rows) else ", ".join(f"{bps / 100:g}%" for bps in best)
    return f"- {people.replace('-', ' ')}: the stake that pays the host most is {stakes}."


@pytest.mark.slow
def test_the_page_has_the_answer_that_the_sweep_computes() -> None:
    found = MARKS.search(PAGE.read_text(encoding="utf-8"))
    assert found
    assert found[2] == answer()


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(MARKS.sub(lambda found: found[1] + answer() + found[3], text), encoding="utf-8")
