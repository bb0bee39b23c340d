"""Every fault of an adapter ends as a finding or as one sentence, and loses no findings."""

from contextlib import closing
from decimal import Decimal

import pytest
from stakesim import run
from stakesim.backend import NOT_STORED, BackendError, BookingRow, PaymentRow, Rows, RunRow
from stakesim.campaign import execution
from stakesim.evm.errors import CallReverted
from stakesim.runner.drivers.rows import checked_rows
from stakesim.runner.environment import open_environment
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import loads

STORY = """
name: story
story: One run, one booking.
actors: {host: {}, a: {}}
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 2, starts: 7d}
  - {do: book, booking: a1, run: gig, by: a, seats: 1}
"""


class Adapter:
    """A backend whose parts a test replaces. It does nothing, so every scenario has findings."""

    drivers = ("services",)
    closed = 0

    def start(self, setup, driver):
        return self

    def create_run(self, run, **_):
        pass

    def close(self):
        self.closed += 1


def raises(error):
    def do(*_, **__):
        raise error

    return do


@pytest.mark.parametrize("gives", [None, 5, object(), "services"], ids=["None", "number", "object", "text"])
def test_an_object_that_is_no_backend_is_refused(gives, engine_name):
    with pytest.raises(BackendError, match=r"which has no drivers or start or close: return a `stakesim.backend"):
        open_environment(engine_name, backend=lambda: gives)


@pytest.mark.parametrize("error", [RuntimeError("no"), TypeError("no"), SystemExit(0), KeyError("no")], ids=repr)
def test_an_error_at_open_is_a_sentence_with_its_place(error, engine_name):
    with pytest.raises(BackendError, match=r"The backend can't be opened: .* \(test_bad_adapters.py:\d+\)\.$"):
        open_environment(engine_name, backend=raises(error))


@pytest.mark.parametrize("drivers", [(), None, "services", (1,), ("contract",), ("services", "contract")], ids=repr)
def test_drivers_must_be_names_other_than_the_librarys_own(drivers, engine_name):
    adapter = Adapter()
    adapter.drivers = drivers
    with pytest.raises(BackendError, match="The backend's `drivers`"):
        open_environment(engine_name, backend=adapter)
    assert adapter.closed == 1


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3)], ids=repr)
def test_an_error_at_start_is_a_sentence(error, engine_name):
    adapter = Adapter()
    adapter.start = raises(error)
    opened = closing(open_environment(engine_name, backend=adapter))
    with opened as environment, pytest.raises(BackendError, match="The backend can't start a scenario: "):
        run_scenario(environment, loads(STORY))
    assert adapter.closed == 1


@pytest.mark.parametrize("session", [None, object()], ids=["None", "object"])
def test_a_session_without_a_use_case_is_refused(session, engine_name):
    adapter = Adapter()
    adapter.start = lambda *_: session
    opened = closing(open_environment(engine_name, backend=adapter))
    with opened as environment, pytest.raises(BackendError, match="has no use case, as `create_run` or `book`"):
        run_scenario(environment, loads(STORY))


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), SystemExit(0), CallReverted("no")], ids=repr)
def test_a_method_that_raises_is_a_finding(error, engine_name):
    adapter = Adapter()
    adapter.create_run = raises(error)
    with closing(open_environment(engine_name, backend=adapter)) as environment:
        played = run_scenario(environment, loads(STORY))
    assert [finding.id for finding in played.findings] == ["CRASH"]
    assert type(error).__name__ in played.findings[0].message


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), SystemExit(7)], ids=repr)
def test_an_error_at_close_loses_no_finding_and_closes_the_engine(error, engine_name, caplog):
    adapter = Adapter()
    adapter.close = raises(error)
    environment = open_environment(engine_name, backend=adapter)
    closed = []
    environment.engine.close = lambda: closed.append(True)
    assert run_scenario(environment, loads(STORY)).findings
    environment.close()
    assert closed == [True]
    assert f"the backend can't be closed: {type(error).__name__}" in caplog.text


def test_an_error_at_a_later_start_loses_no_finding(engine_name, monkeypatch):
    adapter = Adapter()
    started = []

    def start(setup, driver):
        started.append(True)
        if len(started) > 1:  # also when the first failure is played again
            raise BackendError("the database is gone")
        return adapter

    adapter.start = start
    opened = execution.open_environment
    monkeypatch.setattr(execution, "open_environment", lambda *where, **more: opened(*where, backend=adapter, **more))
    played = run([loads(STORY), loads(STORY.replace("name: story", "name: later"))], engine_name).results
    assert any(finding.id == "INV-16" for finding in played[0].findings)
    assert played[1].findings[0].message == "the backend could not start the scenario: the database is gone"


def test_a_run_with_all_actions_left_out_does_not_pass(engine_name, monkeypatch):
    adapter = Adapter()
    adapter.create_run, adapter.expire = None, lambda *_, **__: None
    opened = execution.open_environment
    monkeypatch.setattr(execution, "open_environment", lambda *where, **more: opened(*where, backend=adapter, **more))
    result = run(loads(STORY), engine_name)
    assert [finding.id for finding in result.findings] == ["VACUOUS"]
    assert "nothing was run, as contract or backend have no book, create_run" in result.findings[0].message


# ---------------------------------------------------------------------------------------------------------- rows

RUN = RunRow(1, True, "active", Decimal(20_000), 10**17, 4 * 10**16, Decimal(200_000))
BOOKING = BookingRow(1, True, "active", 1, Decimal(24_000), 10**17, 2 * 10**16, Decimal(200_000))


def test_whole_decimals_are_integers_and_generators_are_read_once():
    given = Rows((row for row in [RUN._replace(price_wei=Decimal(10**17))]), iter([BOOKING]))
    rows = checked_rows(given)
    assert rows == Rows([RUN], [BOOKING])
    assert type(rows.runs[0].price_wei) is int


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (RUN._replace(confirmed="no"), "confirmed of a RunRow is 'no': give True or False"),
        (RUN._replace(onchain_run_id=1.0), "onchain_run_id of a RunRow is 1.0: give an integer"),
        (RUN._replace(onchain_run_id=True), "onchain_run_id of a RunRow is True: give an integer"),
        (RUN._replace(onchain_run_id=NOT_STORED), "onchain_run_id of a RunRow is not stored: give an integer"),
        (RUN._replace(price_wei=Decimal("0.5")), "price_wei of a RunRow is Decimal"),
        (RUN._replace(price_inr=20_000.0), "price_inr of a RunRow is 20000.0: give a Decimal"),
        (RUN._replace(inr_per_eth=Decimal(0)), "inr_per_eth of a RunRow is Decimal"),
        (RUN._replace(status=None), "status of a RunRow is None: give text"),
        (BOOKING, "where a RunRow must be"),
        ({"id": 1}, "where a RunRow must be"),
    ],
    ids=repr,
)
def test_rows_of_wrong_types_are_refused(row, said):
    with pytest.raises(TypeError, match=said):
        checked_rows(Rows([row], []))


@pytest.mark.parametrize("amount", [Decimal("0.001"), 1, None, Decimal("NaN")], ids=repr)
def test_payments_are_of_whole_paise(amount):
    payment = PaymentRow("host", "run", 1, "used", Decimal("4000.00"), Decimal(0))
    assert checked_rows(Rows([], [], iter([payment]))) == Rows([], [], [payment])
    with pytest.raises(TypeError, match=r"captured_inr of a PaymentRow is .*: give a Decimal of whole paise"):
        checked_rows(Rows([], [], [payment._replace(captured_inr=amount)]))


@pytest.mark.parametrize("given", [None, [], ([], [])], ids=repr)
def test_an_object_that_is_no_rows_is_refused(given):
    with pytest.raises(TypeError, match="`rows` gave"):
        checked_rows(given)


def test_missing_and_not_stored_values_are_allowed():
    rows = Rows([RUN._replace(onchain_run_id=None, price_wei=NOT_STORED, stake_wei=None, inr_per_eth=None)], [])
    assert checked_rows(rows) == rows
