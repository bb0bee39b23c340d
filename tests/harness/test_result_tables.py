"""Tables are exact in memory and in files, and what is not in them is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pandas as pd
import pytest
import stakesim
from stakesim.campaign.result import CampaignResult
from stakesim.errors import StakesimError
from stakesim.paths import shipped
from stakesim.runner import ledger
from stakesim.runner.reached import NAMES


@pytest.fixture(scope="module")
def no_show() -> CampaignResult:
    return stakesim.run(shipped("scenarios") / "no-show.yaml", driver="contract")


def huge_ledger() -> list[ledger.LedgerRow]:
    """Rows with more wei than an int64 and a float hold, without an actor, an error or a transaction, and odd rates."""
    row = ledger.LedgerRow(
        0, "s", 7, 1, 4_102_444_800, "book", "", "ok", None, 0, 0, 21_000, "200000", "0.00", "0.00", None
    )
    return [
        row,
        row._replace(action="payout", actor="a", outcome="pushed", wei_out=10**37 + 1, rate="NaN"),
        row._replace(
            step=2, time=2**40, outcome="reverted", error="TooLate", wei_in=2**63, tx_hash="0x00", rate="01.50"
        ),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ledger.FORMATS)
def test_a_ledger_is_written_exactly_in_each_format_and_read_again(
    tmp_path: Path, file_format: str, no_show: CampaignResult
) -> None:
    """Wei as Python integers, times as datetimes, names as categories: the table is the one in memory."""
    large_seed = [row._replace(seed=2**70) for row in huge_ledger()]
    for number, rows in enumerate((no_show.rows, huge_ledger(), large_seed)):
        path = tmp_path / f"{number}.{file_format}"
        ledger.write(rows, path)
        back = stakesim.read_ledger(path)
        pd.testing.assert_frame_equal(back, ledger.to_frame(rows))
        assert back.wei_out.tolist() == [row.wei_out for row in rows]
        assert all(type(wei) is int for wei in (*back.wei_in, *back.wei_out))
        assert str(back.time.dtype) == "datetime64[ms, UTC]"
        assert [time.timestamp() for time in back.time[:2]] == [row.time for row in rows[:2]]
        assert {str(back[name].dtype) for name in ("scenario", "action", "actor", "outcome", "error")} == {"category"}


def test_a_result_writes_itself_as_parquet(tmp_path: Path, no_show: CampaignResult) -> None:
    no_show.to_parquet(tmp_path / "mine.parquet")
    pd.testing.assert_frame_equal(stakesim.read_ledger(tmp_path / "mine.parquet"), no_show.ledger)


def test_more_digits_than_parquet_holds_are_refused_in_a_sentence(tmp_path: Path) -> None:
    rows = [huge_ledger()[0]._replace(wei_in=10**38)]
    with pytest.raises(StakesimError, match="wei_in has an amount of more than 38 digits"):
        ledger.write(rows, tmp_path / "ledger.parquet")
    ledger.write(rows, tmp_path / "ledger.csv")
    assert stakesim.read_ledger(tmp_path / "ledger.csv").wei_in.tolist() == [10**38]


@pytest.mark.parametrize("name", ["missing.csv", "other.csv", "other.jsonl", "other.parquet", "other.xlsx"])
def test_what_is_no_ledger_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    if name.startswith("other"):
        (tmp_path / name).write_text("a,b\n1,2\n")
    with pytest.raises(StakesimError, match=rf"{name} (can't be read as a ledger|is no ledger)"):
        stakesim.read_ledger(tmp_path / name)


def test_what_was_reached_is_asked_for_by_its_name_or_refused(no_show: CampaignResult) -> None:
    """What was not reached is 0, what nothing is counted as is an error."""
    reached = no_show.reached
    assert reached["no-shows"] == 1
    assert reached["runs expired"] == reached["error TooLate"] == reached["action expire"] == 0
    assert reached["not supported: expire"] == 0
    for name, meant in (
        ("noshows", "no-shows"),
        ("error ToLate", "error TooLate"),
        ("action complet", "action complete"),
    ):
        with pytest.raises(KeyError, match=f"nothing is counted as '{name}'; did you mean '{meant}'"):
            reached[name]
    assert set(reached) <= set(NAMES)
    assert pickle.loads(pickle.dumps(reached)) == reached
