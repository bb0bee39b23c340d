"""A first version of a platform: each of its faults is diagnosed, and none is found after it is fixed."""

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
from stakesim.backend import NOT_STORED, Rows
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
"""Name of the fault and steps of the shortest scenario, by habit."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")]


@pytest.fixture
def first_version(monkeypatch):
    """The adapter's module, imported in its folder."""
    monkeypatch.chdir(EXAMPLE)
    monkeypatch.syspath_prepend(EXAMPLE)
    import adapter

    return adapter


@pytest.fixture
def opened(first_version, engine_name):
    """Opens environments with the platform, which has the given habits."""
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


@pytest.mark.sampled
@pytest.mark.parametrize("habit", FAULTS)
def test_each_fault_alone_is_diagnosed(habit, first_version, monkeypatch, engine_name, tmp_path):
    """The shortest scenario fails again when it is replayed, and passes on the fixed platform."""
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


def test_a_fault_is_not_named_after_an_irrelevant_disturbance(opened):
    """Inexact INR amounts need no repeated request or lost response."""
    environment = opened("floats")
    text = (scenario_files.for_backends()[1].parent / "asked-twice.yaml").read_text().replace('"20000"', '"3333.33"')
    played = run_scenario(environment, loads(text))
    assert {finding.weakness for finding in diagnose_backend(environment, played, set()).findings} == {
        FAULTS["floats"][0]
    }


def test_a_replaced_transaction_is_reported(opened, monkeypatch):
    """The platform pays a higher fee for the same nonce, so the pending transaction is lost."""
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


def test_a_pending_action_is_left_out_if_its_transaction_is_never_sent(opened):
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


def test_only_stored_values_are_compared(opened, monkeypatch):
    """The platform stores no wei of bookings. Its INR are compared with the wei on chain."""
    from platform_app import Platform

    everybody = scenario_files.for_backends()[0].parent / "at-the-same-moment.yaml"
    environment = opened()
    session = environment.prepare(load(everybody)).driver
    assert session.rows() == Rows([], [])
    assert run_scenario(environment, load(everybody)).ok
    right = Platform.to_inr
    monkeypatch.setattr(Platform, "to_inr", lambda self, wei, rate: right(self, wei * 101 // 100, rate))
    [finding] = run_scenario(environment, load(everybody)).findings
    assert finding.id == "INV-18"


def test_a_missing_value_is_reported(opened, first_version, monkeypatch):
    """None is not `NOT_STORED`."""
    row = first_version.BookingRow
    scenario = load(scenario_files.for_backends()[0].parent / "at-the-same-moment.yaml")
    for value, ids in ((NOT_STORED, set()), (None, {"INV-16"})):
        monkeypatch.setattr(first_version, "BookingRow", lambda value=value, **fields: row(payment_wei=value, **fields))
        assert {finding.id for finding in run_scenario(opened(), scenario).findings} == ids
    assert repr(NOT_STORED) == "not stored"


# ---------------------------------------------------------------------------------------------------- the how-to


def test_adapter_and_platform_are_short():
    def lines(name):
        return len((EXAMPLE / name).read_text().splitlines())

    assert lines("adapter.py") < 100
    assert lines("platform_app.py") < 260


def test_the_readme_shows_the_files_that_are_there():
    readme = (EXAMPLE / "README.md").read_text()
    [shown] = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    assert tomllib.loads(shown) == tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    assert [f"| {name} |" in readme for name, _ in FAULTS.values()] == [True] * 6


@pytest.mark.in_turn
def test_the_readme_shows_the_output_of_its_commands(tmp_path, engine_name):
    """Runs in a copy of the folder outside of the checkout. Engine and times may differ."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "mine", ignore=shutil.ignore_patterns("reports", "__pycache__"))
    blocks = re.findall(r"```\n\$ (.*?)\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    assert [command for command, _ in blocks] == [
        "stakesim run --keep",
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
        faults = {"stakesim run --keep": 6, "HABITS=none stakesim run": 0}.get(command, 1)
        assert _plain(said).count("FAULT: ") == faults


def _plain(text):
    """The text without times, engine, and trailing blanks."""
    text = re.sub(r"\d+\.\d\d(?=  )", "T", text)
    text = re.sub(r"in \d+\.\d s", "in T s", text).replace(" --engine revm", "")
    text = re.sub(r"engine [a-z-]+,", "engine E,", text)
    return re.sub(r" +(?=\n|T)", " ", text).replace(" \n", "\n")


# ------------------------------------------------------------------------------------------------- without a backend


def test_the_contract_driver_ignores_disturbances(engine_name):
    with closing(open_environment(engine_name, load_contract(EXAMPLE / "Stake.sol"), "contract")) as environment:
        for file in scenario_files.for_backends():
            assert run_scenario(environment, load(file)).findings == []
