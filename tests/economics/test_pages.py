"""The code on the pages about tables and behaviours runs, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from stakesim.paths import shipped
from stakesim.runner import ledger

pytestmark = pytest.mark.slow


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (shipped("docs") / page).read_text(encoding="utf-8"), re.DOTALL)


def names_after(code: list[str], page: str) -> dict[str, Any]:
    """What the code has made of names, run as one program."""
    names: dict[str, Any] = {}
    exec(compile("\n".join(code), page, "exec"), names)
    return names


def test_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = names_after(blocks_of("TABLES.md"), "TABLES.md")
    assert names["received"].sum() == sum(ledger.received(names["result"].rows).values())
    assert names["best"] == [0]
    assert float(sum(names["exact"])) == pytest.approx(names["eth"].sum())
    assert names["share_of_runs_that_earn_more"] > 0.5


def test_behaviours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, *rest = blocks_of("BEHAVIOURS.md")
    (tmp_path / "own_people.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    names = names_after(rest, "BEHAVIOURS.md")
    assert (names["rates"].loc["reminder"] < names["rates"].loc["no reminder"]).all()
