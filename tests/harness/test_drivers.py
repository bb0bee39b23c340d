"""One scenario has one ledger through all drivers, but for what a driver has no part in."""

from contextlib import closing

import pytest
from plainly_patched import plainly_patched
from stakesim import run
from stakesim.backend import Refused, Rows
from stakesim.generate.profiles import load_profile
from stakesim.generate.random_scenario import generate
from stakesim.paths import shipped
from stakesim.project import Project, ProjectError
from stakesim.runner import backend_lifecycle, scenario_files
from stakesim.runner.deployer import Deployer
from stakesim.runner.environment import default_engine, open_environment
from stakesim.runner.narrative import narrate
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import load, loads

SCENARIOS = shipped("scenarios")


def scenarios(profile):
    """All scripted ones and some of each profile."""
    files = sorted(SCENARIOS.glob("*.yaml"))[:: 6 if profile == "quick" else 1]
    drawn = range({"quick": 1, "ci": 3, "deep": 100}[profile])
    profiles = [load_profile(path) for path in scenario_files.profiles().values()]
    return [*map(load, files), *(generate(one, 3, index) for one in profiles for index in drawn)]


def narratives_of(result):
    return [narrate([finding]) for finding in result.findings]


@pytest.mark.in_turn
@pytest.mark.slow
def test_one_scenario_has_one_ledger_through_services_and_on_the_contract_alone(environment, engine_name, profile):
    """To the wei and the unit of gas; an unsigned transaction has no hash. `test_through_api.py` has the API's."""
    with closing(open_environment(engine_name, driver="contract")) as alone:
        for scenario in scenarios(profile):
            through, straight = run_scenario(environment, scenario), run_scenario(alone, scenario)
            assert narratives_of(through) == narratives_of(straight) == []
            assert [row._replace(tx_hash=None) for row in through.rows] == straight.rows
            assert through.reached == straight.reached


@pytest.mark.slow
def test_the_contract_alone_has_one_ledger_on_every_engine(profile):
    pytest.importorskip("pyrevm", reason="the engine revm is an extra: pip install -e '.[revm]'")
    some = scenarios("quick")
    reference = run(some, "revm", driver="contract")
    assert reference.ok
    assert run(some, "py-evm", driver="contract").rows == reference.rows
    signed = run(some[:3], "anvil", driver="contract")  # which takes signed transactions only
    assert [row._replace(tx_hash=None) for row in signed.rows] == [row for row in reference.rows if row.run < 3]
    assert all(row.tx_hash for row in signed.rows if row.gas)


BROKEN = [
    ("uint256 fee = revenue * FEE_BPS / BPS;", "uint256 fee = revenue * FEE_BPS / BPS + 1;", "INV-05"),
    ("return amount * STAKE_BPS / BPS;", "return amount * (STAKE_BPS + 1) / BPS;", "INV-03"),
    ("(run.seatsBooked - booking.seats, active - 1);", "(run.seatsBooked, active - 1);", "INV-13"),
    ("                emit BookingNoShow(active[i], booking.user, stake);\n", "", "INV-19"),
    ("        total = payment + stake;", "        total = payment + stake;\n        stake += 1;", "INV-04"),
    ("        total = payment + stake;", "        total = payment;", "INV-04"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "invariant"), BROKEN, ids=[f"{invariant} {new.strip()[-24:]}" for _, new, invariant in BROKEN]
)
def test_the_contract_alone_shows_what_is_wrong_with_it(old, new, invariant, engine_name):
    names = ("no-show", "cancel-around-the-cutoff")
    with closing(open_environment(engine_name, plainly_patched(old, new), "contract")) as environment:
        findings = [f for name in names for f in run_scenario(environment, load(SCENARIOS / f"{name}.yaml")).findings]
    assert invariant in {finding.id for finding in findings}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("function: nope", "The contract has no function nope"),
        ("function: setFee, args: [1, 2]", "The contract has no function setFee"),
        ("function: pause, args: [1]", "pause can't be called with"),
    ],
)
def test_a_call_of_what_is_not_there_is_the_files_mistake(call, said, engine_name):
    story = f"""
name: mistaken
story: A call that no contract answers.
actors: {{a: {{pays: self}}}}
actions:
  - {{at: 0, do: call, by: a, {call}}}
"""
    with closing(open_environment(engine_name, driver="contract")) as environment:
        (finding,) = run_scenario(environment, loads(story)).findings
    assert finding.id == "EXPECTATION"
    assert said in finding.message


@pytest.mark.slow
def test_a_required_function_is_encoded_as_the_interface_has_it(engine_name):
    """Whatever else of its name a contract has."""
    artifact = plainly_patched(
        "    // ---------------------------------------------------------------- money in",
        "    function bookEvent(uint256) external pure returns (uint256) {\n        return 0;\n    }\n",
    )
    with closing(open_environment(engine_name, artifact, "contract")) as environment:
        assert narratives_of(run_scenario(environment, load(SCENARIOS / "no-show.yaml"))) == []


def test_nothing_is_signed_and_no_node_is_asked(engine_name, monkeypatch):
    """The contract driver goes straight into the EVM."""

    def never(*_, **__):
        raise AssertionError("the contract driver signs nothing, and asks no node")

    monkeypatch.setattr("eth_account.signers.local.LocalAccount.sign_transaction", never)
    monkeypatch.setattr("app.services.transactions.signing.sign_attempt", never)
    with closing(open_environment(engine_name, driver="contract")) as environment:
        monkeypatch.setattr(environment.engine.w3.provider, "make_request", never)
        assert narratives_of(run_scenario(environment, load(SCENARIOS / "burning-and-flooding-receivers.yaml"))) == []


# ------------------------------------------------------------------------------------------ backends of other people


class Little:
    """A backend that only takes bookings down, and refuses them all."""

    drivers = ("services",)
    closed = 0

    def start(self, setup, driver):
        self.setup = setup
        return self

    def create_run(self, run, *, by, price_inr, seats, starts_at, signer, key):
        raise Refused("NotToday", "no runs on Mondays")

    def close(self):
        self.closed += 1


SCENARIO = """
name: little
story: What a backend does not have is left out.
actors: {host: {}, a: {}}
strict: false
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 2, starts: 7d}
  - {at: 8d, do: expire, run: gig, by: a}
  - {do: withdraw_fees, by: platform, fails: NothingToWithdraw}
"""


def test_a_backend_that_refuses_what_the_rules_allow_is_a_finding(engine_name):
    little = Little()
    with closing(open_environment(engine_name, backend=little)) as environment:
        result = run_scenario(environment, loads(SCENARIO))
    assert [finding.id for finding in result.findings] == ["INV-16"] * len(result.findings)
    assert "create run must succeed and was rejected: no runs on Mondays" in result.findings[0].message
    assert little.closed == 1


def test_use_cases_that_a_backend_lacks_are_left_out_and_reported(engine_name):
    """Withdrawals need no backend; everything else does."""
    little = Little()
    little.create_run, little.book = None, lambda *_, **__: None
    with closing(open_environment(engine_name, backend=little)) as environment:
        result = run_scenario(environment, loads(SCENARIO))
    assert narratives_of(result) == []
    left_out = {key: count for key, count in result.reached.items() if key.startswith("not supported")}
    assert left_out == {"not supported: create_run": 1, "not supported: expire": 1}
    assert result.reached["error NothingToWithdraw"] == 1


PAID = """
name: paid
story: One pays in time, the other does not pay.
actors: {host: {}, a: {}}
actions:
  - {at: 0, do: create_run, run: no, by: host, price_inr: "20000", seats: 2, starts: 7d, payment: never, fails: NotPaid}
  - {do: create_run, run: gig, by: host, price_inr: "20000", seats: 2, starts: 7d, payment: twice}
"""


def test_a_backend_without_payments_has_no_part_in_them(engine_name):
    """Nobody pays, so the ledger has no INR; what is only about payments is left out."""
    little, told = Little(), []
    little.create_run = lambda *_, **options: told.append(options)
    with closing(open_environment(engine_name, backend=little)) as environment:
        result = run_scenario(environment, loads(PAID))
        assert {key for key in result.reached if key.startswith("not supported")} == {
            "not supported: create_run paid never",
            "not supported: create_run paid twice",
        }
        assert narratives_of(result) == []
        run_scenario(environment, loads(SCENARIO))
    assert all("payment" not in options for options in told)
    assert {(row.inr_captured, row.inr_refunded) for row in result.rows} == {("0.00", "0.00")}


def test_the_contract_alone_has_the_payments_of_the_model(engine_name):
    with closing(open_environment(engine_name, driver="contract")) as environment:
        result = run_scenario(environment, loads(PAID))
    assert narratives_of(result) == []
    assert [(row.error, row.inr_captured, row.inr_refunded) for row in result.rows] == [
        ("NotPaid", "0.00", "0.00"),
        (None, "16000.00", "8000.00"),
    ]


def test_rows_are_compared_only_where_there_is_a_database(engine_name):
    little = Little()
    little.create_run = lambda run, **_: None
    with closing(open_environment(engine_name, backend=little)) as environment:
        without = [f.message for f in run_scenario(environment, loads(SCENARIO)).findings]
        little.rows = lambda: Rows()
        with_rows = [f.message for f in run_scenario(environment, loads(SCENARIO)).findings]
    assert not any("the database" in message for message in without)
    assert any("the database None" in message for message in with_rows)


def test_a_driver_that_is_not_there_is_refused_and_everything_closed(engine_name):
    little = Little()
    with pytest.raises(ProjectError, match="no driver 'api': choose one of services, contract"):
        open_environment(engine_name, driver="api", backend=little)
    assert little.closed == 1


def test_without_a_backend_the_contract_is_driven(monkeypatch, tmp_path):
    monkeypatch.setattr(backend_lifecycle, "current_project", lambda: Project(tmp_path))
    with closing(open_environment("py-evm")) as environment:
        assert (environment.driver, environment.backend) == ("contract", None)
    with pytest.raises(ProjectError, match="the project names no backend: use contract, or add `backend`"):
        open_environment("py-evm", driver="services")


def test_an_engine_that_fails_closes_the_backend(monkeypatch):
    little = Little()

    def fails(*_):
        raise ValueError("no")

    monkeypatch.setattr(Deployer, "set_contract", fails)
    with pytest.raises(ValueError, match="no"):
        open_environment("py-evm", backend=little)
    assert little.closed == 1


def test_the_fast_engine_is_the_contract_drivers_where_it_is_installed():
    assert default_engine("services") == "py-evm"
    assert default_engine("contract") in ("revm", "py-evm")
