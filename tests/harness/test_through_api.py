"""Scenarios through the HTTP API as it is deployed: the same scenarios, checked by the same invariants."""

import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import httpx
import pytest
import uvicorn
from app.api import dependencies, idempotency, problems
from app.api.idempotency import IdempotentRequest
from app.core.errors import InvalidRequest
from paying import paid_quote
from stakesim import run
from stakesim.generate.profiles import load_profile
from stakesim.generate.random_scenario import generate
from stakesim.paths import checkout, shipped
from stakesim.project import ProjectError
from stakesim.runner.environment import open_environment
from stakesim.runner.narrative import narrate
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import load, loads
from stakesim_adapter.api import JWT_SECRET

pytestmark = pytest.mark.slow

SCENARIOS = shipped("scenarios")
PROFILES = SCENARIOS / "profiles"

ROOT = checkout()

QUICK = ["no-show", "bad-price-feed"]

STRANGE_SEATS = """
name: strange-seats
story: Numbers of seats that the API takes for malformed and the contract for invalid, and a caller who is nobody here.
actors: {host: {}, a: {}, stranger: {}}
actions:
  - {at: 0, do: create_run, run: none, by: host, price_inr: "20000", seats: 0, starts: 7d, fails: InvalidSeats}
  - {do: create_run, run: own, by: platform, price_inr: "20000", seats: 2, starts: 7d}
  - {do: create_run, run: gig, by: host, price_inr: "19999.99", seats: 2, starts: 7d}
  - {do: book, booking: no, run: gig, by: a, seats: 0, fails: InvalidSeats}
  - {do: book, booking: a1, run: gig, by: a, seats: 1}
  - {do: book, booking: p1, run: gig, by: platform, seats: 1}
  - {do: cancel_booking, booking: a1, by: stranger}
  - {do: cancel_run, run: gig, by: a}
  - {at: 14d, do: expire, run: own, by: stranger}
"""


@pytest.fixture(scope="module")
def api_environment():
    with closing(open_environment(driver="api")) as environment:
        yield environment


@contextmanager
def served(app):
    """Runs the app on a real server; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def narratives(result):
    return [narrate([finding]) for finding in result.findings]


def requests_of(environment):
    """Method, path and key of all requests that change something, which users send from now on."""
    requests = []
    client = environment.backend.api.client
    send = client.request

    async def record(method, path, **options):
        if method != "GET" and not path.startswith("/webhooks/"):
            requests.append((method, path, options["headers"]["Idempotency-Key"]))
        return await send(method, path, **options)

    client.request = record
    return requests


def test_scenarios_have_the_same_ledger_through_the_api_as_through_the_services(
    environment, api_environment, profile, sampled
):
    """To the wei, the unit of gas and the transaction hash: the same transactions are sent."""
    scripted = QUICK if profile == "quick" else [path.stem for path in SCENARIOS.glob("*.yaml")]
    profiles = ["hostile"] if profile == "quick" else [path.stem for path in PROFILES.glob("*.yaml")]
    scenarios = [load(SCENARIOS / f"{name}.yaml") for name in scripted]
    for name in profiles:
        drawn = range({"quick": 1, "ci": 2, "deep": 100}[profile])
        scenarios += [generate(load_profile(PROFILES / f"{name}.yaml"), 0, index) for index in drawn]
    for scenario in sampled(scenarios):
        result = run_scenario(api_environment, scenario)
        assert narratives(result) == []
        assert result.rows == run_scenario(environment, scenario).rows


@pytest.mark.in_turn
def test_campaigns_go_over_http_in_several_processes(profile):
    """In one where time is short: it takes seconds to start them."""
    runs, jobs = (2, 1) if profile == "quick" else (5, 2)
    result = run([SCENARIOS / "no-show.yaml"] * runs, driver="api", jobs=jobs)
    assert result.ok
    assert {row.run for row in result.rows} == set(range(runs))


def test_every_write_is_a_request_made_twice(api_environment):
    run_scenario(api_environment, load(SCENARIOS / "no-show.yaml"))
    requests = requests_of(api_environment)
    assert narratives(run_scenario(api_environment, load(SCENARIOS / "cancel-around-the-cutoff.yaml"))) == []
    assert requests[::2] == requests[1::2]
    assert {path.split("/")[1] for _, path, _ in requests} == {"event-runs", "bookings", "payments"}
    assert len({key for _, _, key in requests}) == len(requests) / 2


def test_the_contract_also_rejects_what_the_api_finds_malformed(api_environment):
    assert narratives(run_scenario(api_environment, loads(STRANGE_SEATS))) == []


@pytest.mark.in_turn
def test_scenarios_over_a_real_server_on_a_real_node(profile):
    more = ("everybody-comes", "wrong-attendance-list") if profile != "quick" else ()
    with closing(open_environment("anvil", driver="api")) as environment:
        run_scenario(environment, load(SCENARIOS / "no-show.yaml"))
        with served(environment.backend.api.app) as url:
            environment.backend.api.client = httpx.AsyncClient(base_url=url)
            for name in ("bad-price-feed", *more):
                assert narratives(run_scenario(environment, load(SCENARIOS / f"{name}.yaml"))) == []
            random = generate(load_profile(PROFILES / "hostile.yaml"), 1, 0)
            assert narratives(run_scenario(environment, random)) == []


# -------------------------------------------------------------------------------------------- a broken API is caught


def finding_ids(environment, name="everybody-comes"):
    return {finding.id for finding in run_scenario(environment, load(SCENARIOS / f"{name}.yaml")).findings}


def test_an_api_that_ignores_idempotency_keys_is_caught(api_environment, monkeypatch):
    """A repeated request has no quote that it can use, so it is refused instead of creating a second run."""
    real = dependencies._idempotent_request

    def without_key(request, services, caller, client_key, prefer):
        return real(request, services, caller, None, prefer)

    monkeypatch.setattr(dependencies, "_idempotent_request", without_key)
    assert {"INV-16", "INV-21"} <= finding_ids(api_environment)


def test_an_api_that_books_twice_is_caught(api_environment, monkeypatch):
    real = IdempotentRequest.respond_with_operation

    def twice(self, status, body, prepare, result):
        if self.endpoint == "POST /bookings/create":
            bookings, user_id = self.services.bookings, self.caller.acting_for(body.user_id, "attendee")
            quote_id = paid_quote(bookings, body.event_run_id, user_id, body.seats)
            bookings.book(body.event_run_id, user_id, body.seats, quote_id=quote_id)
        return real(self, status, body, prepare, result)

    monkeypatch.setattr(IdempotentRequest, "respond_with_operation", twice)
    assert "INV-17" in finding_ids(api_environment)


def test_an_api_that_responds_differently_the_second_time_is_caught(api_environment, monkeypatch):
    """It has one effect, but the second response is not the first one."""
    real = IdempotentRequest.respond_with_operation

    def numbered(self, status, body, prepare, result):
        response = real(self, status, body, prepare, result)
        self.services.pricing.asked = getattr(self.services.pricing, "asked", 0) + 1
        return idempotency.Response(response.body + b" " * self.services.pricing.asked, response.status_code)

    monkeypatch.setattr(IdempotentRequest, "respond_with_operation", numbered)
    played = run_scenario(api_environment, load(SCENARIOS / "everybody-comes.yaml"))
    assert any("with the same key again" in story for story in narratives(played))
    assert played.transactions == 1


def test_an_api_that_refuses_what_the_services_accept_is_caught(api_environment, monkeypatch):
    def refuse(self, *args):
        raise InvalidRequest("not on Mondays")

    monkeypatch.setattr(IdempotentRequest, "respond_with_operation", refuse)
    assert "INV-16" in finding_ids(api_environment)


def test_an_api_that_reports_other_error_arguments_is_caught(api_environment, monkeypatch):
    monkeypatch.setattr(problems, "json_arguments", lambda args: ["1" for _ in args])
    assert "INV-16" in finding_ids(api_environment, "last-seat-contested")


# ------------------------------------------------------------------------------------------------ when it is not there


def test_without_the_packages_of_the_api_a_sentence_says_what_to_install():
    """In a process of its own, as here they are imported."""
    code = "import sys; sys.modules['fastapi'] = None; from stakesim.commands.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "scenarios/no-show.yaml", "--driver", "api"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.strip().startswith("stakesim: The driver api needs fastapi, which is not installed: run")


def test_an_unknown_driver_is_refused():
    with pytest.raises(ProjectError, match="no driver 'post': choose one of services, api, contract"):
        run("calm", driver="post")


def test_the_adapters_secret_is_one_that_the_service_accepts():
    from app.core.keys import check_secret

    assert check_secret(JWT_SECRET) is JWT_SECRET
