"""Runs from Python: on each engine, in several processes, replayed, and failing."""

import os
from contextlib import closing
from itertools import count
from types import SimpleNamespace

import pytest
import stakesim
from app.db.database import connect, create_database, drop_database
from sqlalchemy import text
from stakesim import Scenario, run
from stakesim.campaign import campaign, execution, selection
from stakesim.campaign.report import replayable, save_failures
from stakesim.campaign.result import CampaignResult
from stakesim.evm.compiler import CONTRACTS, compile_sources
from stakesim.evm.errors import EngineError
from stakesim.paths import checkout, shipped, state_dir
from stakesim.runner import ledger, scenario_files
from stakesim.runner.environment import open_environment
from stakesim.runner.narrative import narrate, narratives
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import dump, load, loads
from stakesim.schema.errors import InputError

SCENARIOS = shipped("scenarios")
PROFILES = SCENARIOS / "profiles"

ROOT = checkout()

RUNS = {"quick": 1, "ci": 25, "deep": 500}
"""Of each profile."""
WORKED_EXAMPLES = [ROOT / "scenarios" / f"{name}.yaml" for name in ("everybody-comes", "no-show", "host-cancels-full")]


@pytest.fixture(scope="module")
def no_show():
    """The result of a worked example."""
    return run(WORKED_EXAMPLES[1])


@pytest.mark.slow
def test_the_worked_examples_give_one_ledger_on_py_evm_and_on_anvil(profile):
    """To the wei and the unit of gas; transaction hashes differ, as fees do."""
    examples = WORKED_EXAMPLES[1:2] if profile == "quick" else WORKED_EXAMPLES
    py_evm, anvil = run(examples), run(examples, engine="anvil")
    assert py_evm.ok
    assert anvil.ok
    assert [row._replace(tx_hash=None) for row in py_evm.rows] == [row._replace(tx_hash=None) for row in anvil.rows]


@pytest.mark.in_turn
@pytest.mark.slow
def test_every_scenario_gives_one_ledger_on_py_evm_and_on_revm(profile, sampled):
    """To the wei and the unit of gas; where a sample of them goes through the services, the transaction's hash, too."""
    pytest.importorskip("pyrevm", reason="the engine revm is an extra: pip install -e '.[revm]'")
    files = sorted(SCENARIOS.glob("*.yaml"))
    profiles = [path.stem for path in sorted(PROFILES.glob("*.yaml"))]
    every, runs = (files[::8] + profiles[1:3], 1) if profile == "quick" else (files + profiles, 2)
    for driver, names in ("contract", every), ("services", sampled(every)):
        py_evm, revm = run(names, runs=runs, driver=driver), run(names, "revm", runs=runs, driver=driver)
        assert [f for f in revm.findings if f.id != "VACUOUS"] == []
        assert py_evm.rows == revm.rows


@pytest.mark.slow
def test_every_scripted_scenario_holds_under_the_rules_of_sepolia(profile, sampled):
    """On a node with Osaka's rules: the same ledger as in this process, to the wei and the unit of gas."""
    files = sampled(sorted(SCENARIOS.glob("*.yaml")))
    for driver in ("contract", "services") if profile == "deep" else ("contract",):
        here, osaka = run(files, driver=driver), run(files, "anvil:osaka", driver=driver)
        assert narratives(osaka.findings) == []
        assert {result.engine for result in osaka.results} == {"anvil:osaka"}
        assert [row._replace(tx_hash=None) for row in osaka.rows] == [row._replace(tx_hash=None) for row in here.rows]


@pytest.mark.slow
def test_random_scenarios_hold_on_anvil_too(profile):
    result = run(list(PROFILES.glob("*.yaml")) and ["hostile", "flaky"], "anvil", runs=1 if profile == "quick" else 4)
    assert [f for f in result.findings if f.id != "VACUOUS"] == []


@pytest.mark.in_turn
@pytest.mark.slow
def test_one_seed_gives_one_ledger_whatever_the_processes_and_the_database(monkeypatch, profile, engine_name):
    """In one process on the embedded database, in two on that of DATABASE_URL, each in a schema of its own."""
    runs = 1 if profile == "quick" else 3
    monkeypatch.setattr(execution, "BATCH", runs)
    once = run(["calm", "hostile"], engine_name, runs=runs, seed=3)
    server = connect(None, state_dir() / "postgres").url
    shared = create_database(server, f"shared_{os.getpid()}")
    monkeypatch.setenv("DATABASE_URL", shared.url.render_as_string(hide_password=False))
    try:
        assert run(["calm", "hostile"], engine_name, runs=runs, seed=3, jobs=2).rows == once.rows
        with shared.connect() as connection:
            schemas = "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'scenarios_%'"
            assert list(connection.scalars(text(schemas))) == []
    finally:
        shared.dispose()
        drop_database(server, f"shared_{os.getpid()}")


@pytest.mark.slow
def test_for_a_time_scenarios_are_drawn_from_each_profile_in_turn(profile, monkeypatch):
    """Those that a number of runs would draw, until the time is up; only what failed is kept whole.

    Each look at the clock takes a second, so that a busy machine draws as many.
    """
    first = run(["no-show", "calm", "hostile"], driver="contract", runs=1, seed=3)
    for jobs in (1, 2) if profile == "deep" else (1,):
        monkeypatch.setattr(selection, "time", SimpleNamespace(monotonic=count().__next__))
        result = run(["no-show", "calm", "hostile"], driver="contract", seconds=6, seed=3, jobs=jobs)
        assert [r.reached for r in result.results[:3]] == [r.reached for r in first.results]
        names = [result.scenario.name for result in result.results]
        turns = [name for index in range(len(names)) for name in (f"calm-3-{index}", f"hostile-3-{index}")]
        assert names == ["no-show", *turns[: len(names) - 1]]
        assert {row.scenario for row in result.rows} == {"no-show"}


def test_no_scenario_is_drawn_once_the_time_is_up(monkeypatch):
    """Each look at the clock takes a second, also the first one."""
    draws = [lambda seed, index, name=name: f"{name}-{seed}-{index}" for name in ("calm", "hostile")]
    monkeypatch.setattr(selection.time, "monotonic", count().__next__)
    drawn = list(selection.Selection([], 0, draws).draw_for(6, seed=7))
    assert drawn == ["calm-7-0", "hostile-7-0", "calm-7-1", "hostile-7-1", "calm-7-2"]


def test_for_a_time_there_must_be_something_to_draw_from():
    with pytest.raises(InputError, match="nothing to draw scenarios from for a time: name a profile or a population"):
        run("no-show", driver="contract", seconds=1)


@pytest.mark.slow
def test_another_seed_gives_another_campaign(engine_name):
    assert run("calm", engine_name, seed=3).rows != run("calm", engine_name, seed=4).rows


@pytest.mark.parametrize("name", ["administered", "calm", "flaky", "hostile", "volatile"])
@pytest.mark.slow
def test_a_campaign_of_each_profile_finds_nothing_and_reaches_what_it_should(name, profile, engine_name, campaign_seed):
    """All of it on the contract; through the services a fifth, with another seed for each commit."""
    runs = RUNS[profile]
    few = -(-runs // 5)
    for driver, seed, drawn in ("contract", 16, runs), ("services", campaign_seed, few):
        result = run(name, engine_name, runs=drawn, seed=seed, driver=driver)
        assert [narrate([f]) for f in result.findings if drawn >= 25 or f.id != "VACUOUS"] == []
        assert len(result.results) == drawn
        assert result.reached["bookings"] >= drawn


@pytest.mark.slow
def test_a_campaign_that_reaches_too_little_fails_as_vacuous(tmp_path, monkeypatch, engine_name):
    text = (PROFILES / "calm.yaml").read_text()
    (tmp_path / "calm.yaml").write_text(_without_no_shows(text))
    monkeypatch.setattr(scenario_files, "profiles", lambda: {"calm": tmp_path / "calm.yaml"})
    result = run("calm", engine_name, runs=2)
    assert [f.id for f in result.findings] == ["VACUOUS"]
    assert "no no-show" in result.findings[0].message


@pytest.mark.slow
def test_a_large_campaign_must_reach_every_outcome_of_payments(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "MANY", 10)
    assert run("calm", driver="contract", runs=20, seed=3).ok
    text = (PROFILES / "calm.yaml").read_text()
    (tmp_path / "calm.yaml").write_text(text.replace("odd_payment: 0.1", "odd_payment: 0"))
    monkeypatch.setattr(scenario_files, "profiles", lambda: {"calm": tmp_path / "calm.yaml"})
    (finding,) = run("calm", driver="contract", runs=20, seed=3).findings
    assert finding.id == "VACUOUS"
    assert "no expired payment, no disputed payment" in finding.message


def _without_no_shows(text: str) -> str:
    """The profile with nobody who stays away or cancels."""
    import yaml

    fields = yaml.safe_load(text)
    for name, value in fields.items():
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and any(w in name for w in ("no_show", "cancel"))
        ):
            fields[name] = 0
    return yaml.safe_dump(fields)


@pytest.mark.slow
def test_the_result_reads_well_and_has_a_ledger(no_show):
    frame = no_show.ledger
    assert list(frame.columns) == list(ledger.LedgerRow._fields)
    paid = frame[frame.action == "payout"].groupby("actor").wei_out.sum()
    assert dict(paid) == {"a": 4 * 10**16, "host": 46 * 10**16, "platform": 6 * 10**16}
    assert frame.wei_in.sum() == 56 * 10**16
    assert "everything that must hold held" in no_show.summary()
    assert "PASS" in no_show._repr_html_()


@pytest.mark.slow
def test_a_scenario_can_be_handed_over_as_data():
    scenario = load(WORKED_EXAMPLES[0])
    assert isinstance(scenario, Scenario)
    assert run(scenario).ok
    assert stakesim.run is campaign.run


def test_a_ledger_of_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.xlsx.*use .csv, .jsonl or .parquet"):
        ledger.write([], tmp_path / "ledger.xlsx")


@pytest.mark.in_turn
@pytest.mark.slow
def test_a_failing_scenario_is_narrated_and_saved_for_replay(tmp_path):
    source = {name: (CONTRACTS / name).read_text() for name in ("EventStake.sol", "IEventStake.sol")}
    honest = "uint256 hostPayout = revenue - fee + forfeitsToHost;"
    source["EventStake.sol"] = source["EventStake.sol"].replace(honest, honest.replace("revenue - fee", "revenue"))
    with closing(open_environment(contract=compile_sources(source)["EventStake"])) as environment:
        played = run_scenario(environment, load(WORKED_EXAMPLES[1]))
        result = CampaignResult([played], list(played.findings))
        save_failures(result, tmp_path)
        (saved,) = tmp_path.glob("*.yaml")
        assert len(load(saved).actions) == 4
        assert {f.id for f in run_scenario(environment, load(saved)).findings} >= {f.id for f in played.findings}
    narrative = narrate([next(f for f in result.findings if f.id == "INV-08")])
    assert "INV-08 is broken: host: the host gets revenue - fee + own stake, once" in narrative
    assert "expected 0.46 ETH (460000000000000000 wei), 92,000.00 INR, found 0.48 ETH" in narrative
    assert "> " in narrative.splitlines()[-2]
    assert narrative.splitlines()[-1].startswith("  replay it: stakesim replay ")


@pytest.mark.slow
def test_a_scenario_that_contradicts_the_rules_fails(run_scenario):
    text = (ROOT / "scenarios" / "no-show.yaml").read_text()
    with pytest.raises(AssertionError, match="received another amount"):
        run_scenario(loads(text.replace('"460000000000000000"', '"460000000000000001"')))
    with pytest.raises(AssertionError, match=r"says nothing of a failure.*TooLate"):
        run_scenario(loads(text.replace("at: 2d, do: book", "at: 7d, do: book")))
    with pytest.raises(AssertionError, match="this fails with TooEarly; by the rules it is ok"):
        run_scenario(loads(text.replace("attended: [a1]}", "attended: [a1], fails: TooEarly}")))


def test_an_unforeseen_error_of_a_service_is_a_finding(environment, monkeypatch):
    from app.services.booking_service import BookingService

    def book(*_args, **_options):
        raise ZeroDivisionError("off by one")

    monkeypatch.setattr(BookingService, "book", book)
    played = run_scenario(environment, load(WORKED_EXAMPLES[0]))
    assert [f.id for f in played.findings] == ["CRASH"]
    assert "ZeroDivisionError: off by one (test_runs.py:" in played.findings[0].message


def test_too_many_actors_are_refused_in_a_sentence(environment):
    scenario = load(WORKED_EXAMPLES[0])
    actors = {**scenario.actors, **{f"extra{i}": scenario.actors["host"] for i in range(40)}}
    with pytest.raises(EngineError, match="use fewer actors"):
        run_scenario(environment, scenario.model_copy(update={"actors": actors}))


def test_an_unknown_name_is_refused_in_a_sentence():
    with pytest.raises(InputError, match=r"there is no scenario, profile or population"):
        run("clam")


@pytest.mark.slow
def test_a_scenario_is_found_by_its_name(engine_name):
    assert run("no-show", engine_name).results[0].scenario == load(WORKED_EXAMPLES[1])


@pytest.mark.slow
def test_a_saved_failure_keeps_where_it_comes_from():
    result = run("hostile", runs=1).results[0]
    from stakesim.runner.findings import Finding

    result.findings.append(Finding("INV-01", "", "", result.scenario, step=3))
    saved = replayable(result)
    assert loads(dump(saved)) == saved
    assert saved.origin["profile"] == "hostile"
    assert len(saved.actions) == 3


def test_nobody_else_signs_for_an_account_that_is_no_contract():
    """As a shrunk story may say it, of a contract that has become an ordinary account."""
    story = {"name": "a", "story": "b", "actors": {"guest": {}}}
    call = {"do": "call", "function": "createEventRun", "args": ["x", 1, 2, 4102618200], "by": "guest"}
    assert run(Scenario(**story, actions=[call | {"signed_by": "platform"}]), driver="contract").ok
