"""Clients and networks let this project's backend down, and nothing is lost or done twice."""

from contextlib import closing

import pytest
from app.services.booking_service import BookingService
from app.services.event_run_service import EventRunService
from stakesim import run
from stakesim.backend import Refused
from stakesim.evm.contract_file import load_contract
from stakesim.paths import checkout
from stakesim.runner import scenario_files
from stakesim.runner.environment import open_environment
from stakesim.runner.narrative import narrate
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import dump, load, loads
from stakesim.search.backend_diagnosis import diagnose_backend
from stakesim_adapter.backend import EventStakeBackend
from stakesim_adapter.services import ServicesSession

FILES = scenario_files.for_backends()
LEGACY = checkout() / "contracts" / "test" / "MinimalEventStake.sol"


def test_there_are_such_scenarios():
    assert len(FILES) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["services", "api"])
def test_the_backend_passes_them(driver, engine_name):
    result = run(FILES, engine_name, driver=driver)
    assert [narrate([finding]) for finding in result.findings] == []
    assert result.reached["reverted"] == 1  # the last seat was lost in flight


@pytest.mark.slow
def test_the_backend_passes_them_with_the_contract_that_is_deployed(engine_name):
    assert run(FILES, engine_name, contract=load_contract(LEGACY), probing=False).ok


class KnowsNoKeys(BookingService):
    def book(self, event_run_id, user_id, seats, *, signer=None, idempotency_key=None):
        return super().book(event_run_id, user_id, seats, signer=signer)


@pytest.mark.slow
def test_a_service_that_knows_no_keys_is_named(engine_name):
    [file] = [file for file in FILES if file.stem == "asked-twice"]
    with closing(open_environment(engine_name, backend=EventStakeBackend(bookings=KnowsNoKeys))) as environment:
        told = diagnose_backend(environment, run_scenario(environment, load(file)), set())
    assert {finding.weakness for finding in told.findings} == {"a client's retry is done twice"}
    assert [action.do for action in told.scenario.actions] == ["create_run", "book"]


def test_a_backend_is_told_of_what_went_past_it_only_when_it_is_done(engine_name, monkeypatch):
    """The stranger's booking is mined in the middle of the guest's; the run is read again afterwards."""
    at_work, told = [], []
    book, refresh = BookingService.book, EventRunService.refresh

    def booking(self, *args, **kwargs):
        at_work.append(1)
        try:
            return book(self, *args, **kwargs)
        finally:
            at_work.pop()

    def refreshing(self, *args, **kwargs):
        told.append(bool(at_work))
        return refresh(self, *args, **kwargs)

    monkeypatch.setattr(BookingService, "book", booking)
    monkeypatch.setattr(EventRunService, "refresh", refreshing)
    [file] = [file for file in FILES if file.stem == "at-the-same-moment"]
    with closing(open_environment(engine_name, backend=EventStakeBackend())) as environment:
        assert run_scenario(environment, load(file)).ok
    assert told == [False]


@pytest.mark.parametrize(("answers", "status"), [((False, True), "ok"), ((False, False), "rejected"), ((True,), "ok")])
def test_a_client_that_is_told_no_after_a_lost_answer_asks_once_more(answers, status, engine_name, monkeypatch):
    """With the same key. So a backend may say that it does not know yet."""
    keys = []
    create = ServicesSession.create_run

    def create_run(self, run, *, key, **given):
        keys.append(key)
        if not answers[len(keys) - 1]:
            raise Refused("NotKnownYet")
        create(self, run, key=key, **given)

    monkeypatch.setattr(ServicesSession, "create_run", create_run)
    text = """
name: lost
story: The answer is lost.
actors: {host: {}}
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 1, starts: 7d, answer_lost: true}
"""
    with closing(open_environment(engine_name, backend=EventStakeBackend())) as environment:
        played = run_scenario(environment, loads(text))
    assert played.rows[0].outcome == status
    assert played.ok == (status == "ok")
    assert keys == ["create_run-1"] * len(answers)


def test_disturbances_are_written_to_files_and_read_again():
    for file in FILES:
        assert loads(dump(load(file))) == load(file)
