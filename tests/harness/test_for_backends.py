"""Scenarios with repeated requests and lost responses: this project's backend loses nothing and does nothing twice."""

from contextlib import closing

import pytest
from app.core.errors import PaymentUnusable
from app.services.booking_service import BookingService
from app.services.event_run_service import EventRunService
from paying import paid_quote
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

pytestmark = pytest.mark.slow

FILES = scenario_files.for_backends()
LEGACY = checkout() / "contracts" / "test" / "MinimalEventStake.sol"


def test_there_are_scenarios_for_backends():
    assert len(FILES) >= 6


@pytest.mark.parametrize("driver", ["services", "api"])
def test_the_backend_passes_all(driver, engine_name):
    result = run(FILES, engine_name, driver=driver)
    assert [narrate([finding]) for finding in result.findings] == []
    assert result.reached["reverted"] == 1  # the last seat was lost in flight


def test_the_backend_passes_all_with_the_deployed_contract(engine_name):
    assert run(FILES, engine_name, contract=load_contract(LEGACY), probing=False).ok


class IgnoresKeys(BookingService):
    def book(self, event_run_id, user_id, seats, *, signer=None, idempotency_key=None, quote_id=None):
        try:
            return super().book(event_run_id, user_id, seats, signer=signer, quote_id=quote_id)
        except PaymentUnusable:  # used by the first request
            another = paid_quote(self, event_run_id, user_id, seats)
            return super().book(event_run_id, user_id, seats, quote_id=another)


def test_a_service_that_ignores_keys_is_diagnosed(engine_name):
    [file] = [file for file in FILES if file.stem == "asked-twice"]
    with closing(open_environment(engine_name, backend=EventStakeBackend(bookings=IgnoresKeys))) as environment:
        result = diagnose_backend(environment, run_scenario(environment, load(file)), set())
    assert {finding.weakness for finding in result.findings} == {"a client's retry is done twice"}
    assert [action.do for action in result.scenario.actions] == ["create_run", "book"]


def test_a_run_is_refreshed_only_after_the_backends_own_action(engine_name, monkeypatch):
    """The stranger's booking is mined in the middle of the guest's; the run is read again afterwards."""
    at_work, refreshed_at_work = [], []
    book, refresh = BookingService.book, EventRunService.refresh

    def booking(self, *args, **kwargs):
        at_work.append(1)
        try:
            return book(self, *args, **kwargs)
        finally:
            at_work.pop()

    def refreshing(self, *args, **kwargs):
        refreshed_at_work.append(bool(at_work))
        return refresh(self, *args, **kwargs)

    monkeypatch.setattr(BookingService, "book", booking)
    monkeypatch.setattr(EventRunService, "refresh", refreshing)
    [file] = [file for file in FILES if file.stem == "at-the-same-moment"]
    with closing(open_environment(engine_name, backend=EventStakeBackend())) as environment:
        assert run_scenario(environment, load(file)).ok
    assert refreshed_at_work == [False]


@pytest.mark.parametrize(("answers", "status"), [((False, True), "ok"), ((False, False), "rejected"), ((True,), "ok")])
def test_a_client_repeats_a_request_that_was_refused_after_a_lost_response(answers, status, engine_name, monkeypatch):
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
        result = run_scenario(environment, loads(text))
    assert result.rows[0].outcome == status
    assert result.ok == (status == "ok")
    assert keys == ["create_run-1"] * len(answers)


def test_disturbances_survive_writing_and_reading_a_file():
    for file in FILES:
        assert loads(dump(load(file))) == load(file)
