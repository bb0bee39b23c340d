"""Somebody else's platform: each of its faults is named, and none of them once it is mended."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import closing

import pytest
from eth_account.signers.local import LocalAccount
from stakesim import run
from stakesim.backend import NOT_STORED
from stakesim.campaign.report import save_failures
from stakesim.evm.contract_file import load_contract
from stakesim.paths import checkout
from stakesim.runner import scenario_files
from stakesim.runner.environment import open_environment
from stakesim.runner.known_faults import BackendFault
from stakesim.runner.narrative import narrate
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import load, loads
from stakesim.search.backend_diagnosis import diagnose_backend

EXAMPLE = checkout() / "examples" / "first_version"
FAULTS = {
    "floats": ("INR are turned into wei inexactly", 1),
    "no keys": ("a client's retry is done twice", 1),
    "time-out is failure": ("a time-out is taken for a failure", 1),
    "guessed ids": ("an id on chain is guessed", 2),
    "latest nonce": ("a nonce is used twice", 3),
    "status before receipt": ("a status is written before the receipt", 3),
}
"""Name and number of steps, by habit."""

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")


@pytest.fixture
def first_version(monkeypatch):
    """The module of the adapter, in the folder that it is in."""
    monkeypatch.chdir(EXAMPLE)
    monkeypatch.syspath_prepend(EXAMPLE)
    import adapter

    return adapter


@pytest.fixture
def opened(first_version, engine_name):
    """An environment with the platform in it, by the habits that it has."""
    environments = []

    def open_it(*habits):
        contract = load_contract(EXAMPLE / "Stake.sol")
        environments.append(open_environment(engine_name, contract, backend=first_version.Backend(habits)))
        return environments[-1]

    yield open_it
    for environment in environments:
        environment.close()


def names(result):
    return [finding.weakness for finding in {id(f.scenario): f for f in result.findings}.values()]


# ------------------------------------------------------------------------------------------------------- the faults


def test_the_list_of_faults_is_the_one_that_the_library_has_names_for(first_version):
    assert tuple(FAULTS) == first_version.HABITS
    assert [name for name, _ in FAULTS.values()] == list(BackendFault)


@pytest.mark.slow
@pytest.mark.parametrize("habit", FAULTS)
def test_each_fault_alone_is_named_as_itself(habit, first_version, monkeypatch, engine_name, tmp_path):
    """With the shortest story there is, which fails again when it is replayed, and passes on the mended platform."""
    name, steps = FAULTS[habit]
    monkeypatch.setenv("HABITS", habit)
    result = run(scenario_files.for_backends(), engine_name)
    assert names(result) == [name]
    told = narrate(result.findings)
    assert told.startswith(f"FAULT: {name}")
    assert len(result.findings[0].scenario.actions) == steps

    save_failures(result, tmp_path)
    [file] = tmp_path.glob("*.yaml")
    assert names(run(file, engine_name, probing=False)) == [name]
    monkeypatch.setenv("HABITS", "none")
    assert run(file, engine_name, probing=False).ok


@pytest.mark.slow
def test_a_fault_is_not_named_after_a_disturbance_that_it_does_not_need(opened):
    """Nothing about the clients or the network is needed to be wrong about INR."""
    environment = opened("floats")
    text = (scenario_files.for_backends()[1].parent / "asked-twice.yaml").read_text().replace('"20000"', '"3333.33"')
    played = run_scenario(environment, loads(text))
    assert {finding.weakness for finding in diagnose_backend(environment, played, set()).findings} == {
        FAULTS["floats"][0]
    }


@pytest.mark.slow
def test_a_transaction_that_is_replaced_is_told_of(opened, monkeypatch):
    """The platform offers more for the same nonce, and the transaction that waits is lost."""
    sign = LocalAccount.sign_transaction

    def sign_dearly(self, fields):
        if fields["maxFeePerGas"] < 10**11:  # not the library's own
            fields = {**fields, "maxFeePerGas": 2 * 10**11, "maxPriorityFeePerGas": 2 * 10**9}
        return sign(self, fields)

    monkeypatch.setattr(LocalAccount, "sign_transaction", sign_dearly)
    file = scenario_files.for_backends()[0].parent / "nonce-in-use.yaml"
    assert run_scenario(opened(), load(file)).ok
    said = [finding.message for finding in run_scenario(opened("latest nonce"), load(file)).findings]
    assert "cancel run must succeed and was rejected: another transaction took its nonce" in said


def test_what_waits_for_a_transaction_that_is_never_sent_is_left_out(opened):
    text = """
name: never-sent
story: The backend refuses the action that a transaction waits for.
actors: {host: {}, stranger: {pays: self}}
strict: false
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 2, starts: 7d}
  - {do: create_run, run: theirs, by: stranger, price_inr: "20000", seats: 2, starts: 7d, direct: true, pending: true}
  - {do: book, booking: none, run: gig, by: stranger, seats: 0}
  - {do: create_run, run: more, by: host, price_inr: "20000", seats: 2, starts: 7d}
"""
    played = run_scenario(opened(), loads(text))
    assert played.findings == []
    assert [row.action for row in played.rows] == ["create_run", "wait", "book", "create_run"]
    assert played.reached["runs"] == 2


def test_a_price_at_another_rate_is_not_called_inexact(opened, monkeypatch):
    from platform_app import Platform

    monkeypatch.setattr(Platform, "rate", lambda self: self.price_feed()[0] + 1)
    environment = opened()
    file = scenario_files.for_backends()[0].parent / "at-the-same-moment.yaml"
    told = diagnose_backend(environment, run_scenario(environment, load(file)), set())
    assert {finding.weakness for finding in told.findings} == {""}
    assert any("price of a seat: it is another one" in finding.message for finding in told.findings)


# ------------------------------------------------------------------------------------- a backend that stores less


def test_what_a_backend_does_not_store_is_not_compared_and_what_it_stores_is(opened, monkeypatch):
    """It has no wei of bookings. Its INR are compared with the wei on chain."""
    from platform_app import Platform

    everybody = scenario_files.for_backends()[0].parent / "at-the-same-moment.yaml"
    environment = opened()
    session = environment.prepare(load(everybody)).driver
    assert session.rows() == ([], [])
    assert run_scenario(environment, load(everybody)).ok
    right = Platform.to_inr
    monkeypatch.setattr(Platform, "to_inr", lambda self, wei, rate: right(self, wei * 101 // 100, rate))
    [finding] = run_scenario(environment, load(everybody)).findings
    assert finding.id == "INV-18"


@pytest.mark.slow
def test_a_value_that_is_missing_is_told_of(opened, first_version, monkeypatch):
    """None is not `NOT_STORED`."""
    row = first_version.BookingRow
    scenario = load(scenario_files.for_backends()[0].parent / "at-the-same-moment.yaml")
    for value, ids in ((NOT_STORED, set()), (None, {"INV-16"})):
        monkeypatch.setattr(first_version, "BookingRow", lambda value=value, **fields: row(payment_wei=value, **fields))
        assert {finding.id for finding in run_scenario(opened(), scenario).findings} == ids
    assert repr(NOT_STORED) == "not stored"


# ---------------------------------------------------------------------------------------------------- the how-to


def test_the_adapter_is_short_and_neither_side_is_a_long_way_from_a_first_version():
    def lines(name):
        return len((EXAMPLE / name).read_text().splitlines())

    assert lines("adapter.py") < 100
    assert lines("platform_app.py") < 260


def test_the_readme_shows_the_files_that_are_there():
    readme = (EXAMPLE / "README.md").read_text()
    [shown] = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    assert tomllib.loads(shown) == tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    assert [f"| {name} |" in readme for name, _ in FAULTS.values()] == [True] * 6


@pytest.mark.slow
def test_the_readme_shows_what_its_commands_say(tmp_path, engine_name):
    """In a copy of the folder, far from the checkout; on this engine, and whatever the times."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "mine", ignore=shutil.ignore_patterns("reports", "__pycache__"))
    blocks = re.findall(r"```\n\$ (.*?)\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert [command for command, _ in blocks] == [
        "stakesim run",
        "stakesim replay reports/failures/a-nonce-is-used-twice.yaml --driver http",
        "HABITS=none stakesim run",
    ]
    for command, shown in blocks:
        line = command.replace("stakesim", f"{sys.executable} -m stakesim.commands.cli", 1) + f" --engine {engine_name}"
        script = line.replace("-m stakesim.commands.cli", "-c 'from stakesim.commands.cli import main; main()'")
        done = subprocess.run(script, shell=True, cwd=folder, env=os.environ, capture_output=True, text=True)
        said = done.stdout
        assert done.returncode == (0 if "HABITS=none" in command else 1), done.stdout + done.stderr
        parts = [re.escape(_plain(part)) for part in re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)]
        assert re.fullmatch(r"\n?" + "(?:.*\n)*?".join(parts) + r"\n?", _plain(said)), f"{command}:\n{said}"
        assert _plain(said).count("FAULT: ") == {"stakesim run": 6, "HABITS=none stakesim run": 0}.get(command, 1)


def _plain(text):
    """Without times, engine, and blanks at the ends of lines."""
    text = re.sub(r"\d+\.\d\d(?=  )", "T", text)
    text = re.sub(r"in \d+\.\d s", "in T s", text).replace(" --engine revm", "")
    text = re.sub(r"engine [a-z-]+,", "engine E,", text)
    return re.sub(r" +(?=\n|T)", " ", text).replace(" \n", "\n")


# ------------------------------------------------------------------------------------------------- without a backend


def test_the_contract_alone_knows_no_disturbances(engine_name):
    with closing(open_environment(engine_name, load_contract(EXAMPLE / "Stake.sol"), "contract")) as environment:
        for file in scenario_files.for_backends():
            assert run_scenario(environment, load(file)).findings == []
