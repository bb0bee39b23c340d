"""The gas table: measured gas is the reviewed gas, and a change is found."""

from __future__ import annotations

import json

import pytest
from stakesim import gas_table
from stakesim.commands.cli import cli
from stakesim.evm.compiler import compiler_version
from typer.testing import CliRunner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(environment):
    return gas_table.measure(environment)


def test_every_transaction_costs_what_was_reviewed(measured):
    """Within the tolerance. `stakesim gas` shows the table, `stakesim gas --write` accepts the measured gas."""
    assert [change for change in gas_table.changes(gas_table.reviewed(), measured) if not change.accepted] == []


@pytest.mark.parametrize(
    ("reviewed", "measured", "accepted"),
    [(100_000, 100_500, True), (100_000, 100_501, False), (100_000, 99_499, False), (None, 5, False), (5, None, False)],
)
def test_more_than_half_a_percent_either_way_is_a_change(reviewed, measured, accepted):
    assert gas_table.GasChange("a run is opened", reviewed, measured).accepted is accepted


def test_gas_of_another_compiler_is_not_compared(tmp_path, measured):
    gas_table.write(measured, tmp_path / "gas.json")
    assert gas_table.reviewed(tmp_path / "gas.json") == measured
    table = json.loads((tmp_path / "gas.json").read_text())
    assert table["compiler"] == compiler_version()
    (tmp_path / "gas.json").write_text(json.dumps(table | {"compiler": "0.8.0"}))
    assert gas_table.reviewed(tmp_path / "gas.json") == {}


def test_each_hard_fork_has_a_table_of_its_own(tmp_path):
    file = tmp_path / "gas.json"
    gas_table.write({"a run is opened": 7}, file, "osaka")
    gas_table.write({"a run is opened": 5}, file)
    assert gas_table.reviewed_tables(file) == {"prague": {"a run is opened": 5}, "osaka": {"a run is opened": 7}}
    assert list(gas_table.reviewed_tables(file)) == ["prague", "osaka"]
    assert gas_table.reviewed(file) == {"a run is opened": 5}
    assert gas_table.reviewed(file, "osaka") == {"a run is opened": 7}


def test_a_file_from_before_there_were_several_tables_is_that_of_the_default_rules(tmp_path):
    table = {"compiler": compiler_version(), "gas": {"a run is opened": 5}}
    (tmp_path / "gas.json").write_text(json.dumps(table))
    assert gas_table.reviewed_tables(tmp_path / "gas.json") == {"prague": {"a run is opened": 5}}


def test_a_folder_in_its_place_gives_one_sentence(tmp_path):
    with pytest.raises(gas_table.GasError, match="is no gas table"):
        gas_table.reviewed_tables(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1]", "[" * 200_000, '{"gas": 5, "compiler": "0"}', '{"gas": {"a": "b"}, "compiler": "0"}'),
        *(f'{{"gas": {{"prague": {{"a": {gas}}}}}, "compiler": "0"}}' for gas in ("1e400", "true", "-1", "0.5", '"5"')),
    ],
)
def test_a_file_that_is_no_table_gives_one_sentence(tmp_path, text):
    (tmp_path / "gas.json").write_text(text)
    with pytest.raises(
        gas_table.GasError, match=r"gas\.json is no gas table: remove it, then `stakesim gas --write` writes one"
    ):
        gas_table.reviewed(tmp_path / "gas.json")


def test_without_a_table_the_gas_is_shown_with_how_to_write_one(monkeypatch, tmp_path, engine_name):
    monkeypatch.setattr(gas_table, "table_file", lambda: tmp_path / "gas.json")
    result = CliRunner().invoke(cli, ["gas", "--engine", engine_name])
    assert isinstance(result.exception, gas_table.GasError)  # which is exit code 2
    assert str(result.exception).endswith("gas.json to compare with: write one with `stakesim gas --write`.")
    assert "an attendee books a seat" in result.stdout
    assert CliRunner().invoke(cli, ["gas", "--engine", engine_name, "--write"]).exit_code == 0
    assert CliRunner().invoke(cli, ["gas", "--engine", engine_name]).exit_code == 0


def test_each_transaction_costs_what_was_reviewed_under_the_rules_of_sepolia():
    """Measured on a node with Osaka's rules, and shown beside what it costs under Prague's."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["gas", "--hardfork", "osaka"])
    assert result.exit_code == 0, result.output
    header = next(line for line in result.stdout.splitlines() if "transaction" in line)
    assert [cell.strip() for cell in header.split("┃")[1:-1]] == [
        "transaction",
        "reviewed (prague)",
        "reviewed (osaka)",
        "now (osaka)",
        "change",
    ]
    tables = gas_table.reviewed_tables()
    assert tables["osaka"] == tables["prague"]


def test_a_change_fails_and_is_shown(monkeypatch, engine_name):
    reviewed = gas_table.reviewed()
    first = next(iter(reviewed))
    monkeypatch.setattr(gas_table, "reviewed_tables", lambda: {"prague": reviewed | {first: reviewed[first] * 2}})
    result = CliRunner().invoke(cli, ["gas", "--engine", engine_name])
    assert result.exit_code == 1
    assert "-50.00%" in result.stdout
    assert "1 of 21 changed by more than 0.5%" in result.stdout
