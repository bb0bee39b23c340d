"""What never ends gives a verdict, and the rest is run all the same. No test waits for a limit of the library's own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stakesim.campaign import campaign, execution
from stakesim.evm.client import RpcClient
from stakesim.evm.engines import open_engine
from stakesim.evm.errors import EngineError
from stakesim.faults import campaign as fault_campaigns
from stakesim.faults import limited_runner
from stakesim.faults.protocol import EpisodeResult
from stakesim.runner import backend_lifecycle, scenario_run
from stakesim.scenario.scenario import loads
from stakesim.workers import time_limit as module
from stakesim.workers.pool import worker_pool
from stakesim.workers.time_limit import NeverEnds, expirations, time_limit

pytestmark = pytest.mark.slow

SHORT_S = 0.2
STORY = """
name: story
story: A host opens a run, and somebody books a seat.
actors: {host: {}, a: {}}
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 2, starts: 7d}
  - {do: book, booking: seat, run: gig, by: a, seats: 1}
"""


def loops():
    while True:
        pass


def sleeps():
    time.sleep(20)  # long beside all limits, short for a test that fails


def waits_for_a_thread():
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(threading.Event().wait, 3 * SHORT_S)
        waiting.result()
        threads.submit(threading.Event().wait, SHORT_S).result()


@pytest.mark.parametrize("operation", [loops, sleeps, waits_for_a_thread])
def test_an_operation_is_stopped_where_it_is(operation):
    before = expirations()
    place = rf"had not ended after 0\.2 s, and was at .*\({operation.__name__}\)"
    with pytest.raises(NeverEnds, match=place), time_limit(SHORT_S):
        operation()
    assert expirations() == before + 1


def test_an_operation_that_waits_again_as_it_cleans_up_is_stopped_again(monkeypatch):
    monkeypatch.setattr(module, "AGAIN_S", SHORT_S)

    cleaned_up = []

    def operation():
        try:
            sleeps()
        finally:
            sleeps()
            cleaned_up.append(True)

    with pytest.raises(NeverEnds), time_limit(SHORT_S):
        operation()
    assert not cleaned_up


def test_an_operation_that_ends_leaves_no_timer_and_no_handler():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(1_000):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_timer_that_ran_before_goes_on():
    with time_limit(1_000):
        with pytest.raises(NeverEnds), time_limit(SHORT_S):
            loops()
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] < 1_000
        with pytest.raises(NeverEnds, match=r"after 0\.1 s"), time_limit(0.1):
            loops()


def test_a_place_is_told_for_each_thread_in_the_projects_code():
    """A driver that waits for a server in a thread of its own: what the server does there matters."""
    ended = threading.Event()

    def serve():
        ended.wait(60)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    with pytest.raises(NeverEnds) as caught, time_limit(SHORT_S):
        server.join()
    ended.set()
    here = [place for place in caught.value.places if place.startswith("tests/harness/test_never_ends.py:")]
    assert [place.rpartition("(")[2] for place in here] == [
        "test_a_place_is_told_for_each_thread_in_the_projects_code)",
        "serve)",
    ]


# ------------------------------------------------------------------------------------------------------------- run


class Backend:
    """An adapter whose use cases hang in the scenario `story`, and do nothing in any other. Each one is used once."""

    drivers = ("services",)

    def start(self, setup, driver):
        return self

    def create_run(self, *_, **__):
        if self.hangs:
            sleeps()

    def book(self, *_, **__):
        pass

    def __init__(self):
        opened.append(self)
        self.hangs = len(opened) == 1

    def close(self):
        closed.append(self)
        if self.hangs:
            sleeps()


opened: list[Backend] = []
closed: list[Backend] = []


@pytest.fixture
def backends(monkeypatch):
    """Each environment has a `Backend` of its own, and limits are short."""
    opened.clear()
    closed.clear()
    open_environment = execution.open_environment
    monkeypatch.setattr(
        execution, "open_environment", lambda *where, **more: open_environment(*where, backend=Backend, **more)
    )
    monkeypatch.setattr(scenario_run, "ACTION_LIMIT_S", SHORT_S)
    monkeypatch.setattr(backend_lifecycle, "BACKEND_LIMIT_S", SHORT_S)
    return opened


def test_an_action_that_never_ends_is_a_finding_and_the_next_scenario_has_another_environment(
    backends, engine_name, caplog
):
    result = campaign.run([loads(STORY), loads(STORY.replace("name: story", "name: later"))], engine_name)
    story, later = result.results
    (finding,) = story.findings
    assert (finding.id, finding.step) == ("HANG", 1)
    assert finding.statement == "every operation ends"
    assert finding.message.startswith("the action never ends: it had not ended after 0.2 s, and was at tests/harness/")
    assert " (sleeps)" in finding.message
    assert {finding.id for finding in later.findings} == {"INV-16", "INV-19"}
    assert backends == closed
    assert len(backends) == 2
    assert "the backend can't be closed: NeverEnds" in caplog.text


def test_nothing_else_is_run_in_an_environment_that_hangs(engine_name, monkeypatch):
    monkeypatch.setattr(scenario_run, "ACTION_LIMIT_S", SHORT_S)
    monkeypatch.setattr(backend_lifecycle, "BACKEND_LIMIT_S", SHORT_S)
    opened.clear()
    environment = execution.open_environment(engine_name, backend=Backend)
    assert scenario_run.run_scenario(environment, loads(STORY)).findings[0].id == "HANG"
    assert environment.hangs
    (finding,) = scenario_run.run_scenario(environment, loads(STORY)).findings
    assert (finding.id, finding.step) == ("HANG", 0)
    assert "it is not run" in finding.message
    environment.close()


def test_a_backend_whose_start_never_ends_is_an_error(backends, engine_name, monkeypatch):
    monkeypatch.setattr(Backend, "start", lambda *_: sleeps())
    with pytest.raises(execution.BackendError, match=r"can't start a scenario: it had not ended after .* \(sleeps\)"):
        campaign.run(loads(STORY), engine_name)


def test_a_node_that_does_not_mine_is_an_error(monkeypatch):
    engine = open_engine("anvil")
    try:
        engine._request("evm_setAutomine", False)
        monkeypatch.setattr("stakesim.evm.client._MINING_LIMIT_S", SHORT_S)
        sender, receiver = engine.accounts[:2]
        with pytest.raises(EngineError, match=r"The node does not mine 0x[0-9a-f]{64}: look whether it mines at all"):
            RpcClient(engine.w3).transact(sender, receiver.address, b"", 1)
    finally:
        engine.close()


def test_the_command_ends_though_the_backend_hangs_in_threads(tmp_path):
    """One that waits for another thread, as a driver waits for a server; Python would wait for that thread, too."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys, threading, time
from functools import partial
from pathlib import Path
from stakesim.campaign import execution
from stakesim.commands import cli
from stakesim.runner import backend_lifecycle, scenario_run
from stakesim.workers import time_limit

def wait():
    time.sleep(20)
    Path("{tmp_path}/waited").touch()

class Backend:
    drivers = ("services",)

    def start(self, setup, driver):
        return self

    def create_run(self, *_, **__):
        backend_lifecycle.BACKEND_LIMIT_S = 0.2  # from now on: it can't be closed
        threading.Thread(target=wait).start()
        threading.Event().wait()

    def close(self):
        threading.Event().wait()

execution.open_environment = partial(execution.open_environment, backend=Backend)
scenario_run.ACTION_LIMIT_S, time_limit.AGAIN_S = 0.5, 0.1
sys.argv = ["stakesim", "run", "no-show", "--out", "{tmp_path}"]
cli.main()
""")
    own_state = os.environ | {"STAKESIM_HOME": str(tmp_path / "state")}
    command = [sys.executable, script]
    ended = subprocess.run(command, env=own_state, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "HANG is broken: every operation ends" in ended.stdout
    assert re.search(r"and was at script\.py:\d+ \(create_run\) and script\.py:11 \(wait\)\n", ended.stdout)
    assert not (tmp_path / "waited").exists()


def hangs_with_a_thread(file: Path) -> str:
    """Starts a thread that touches a file at its end, and waits until it may not wait any longer."""

    def touches_at_its_end():
        sleeps()
        file.touch()

    threading.Thread(target=touches_at_its_end).start()
    try:
        with time_limit(SHORT_S):
            sleeps()
    except NeverEnds as error:
        return str(error)
    return "it ended"


def test_a_worker_process_ends_though_a_thread_in_it_hangs(tmp_path):
    with worker_pool(1) as submit:
        assert "(sleeps)" in submit(hangs_with_a_thread, tmp_path / "ended").result()
    assert not (tmp_path / "ended").exists()


def test_an_operation_that_can_not_be_stopped_ends_the_process_with_its_verdict():
    code = f"""
import time
from stakesim.workers import time_limit
time_limit.AGAIN_S = 0.01

def stubborn():
    while True:
        try:
            time.sleep(1_000)
        except BaseException:
            pass

with time_limit.time_limit({SHORT_S}):
    stubborn()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "stakesim: an operation can't be stopped: it had not ended after 0.2 s, and was at " in ended.stderr


# ---------------------------------------------------------------------------------------------------------- faults


class Runner:
    """Runs episodes; those of the kind `endless` never end."""

    def __init__(self, number: int) -> None:
        self._number = number

    def run_episode(self, kind: str, seed: int, number: int) -> EpisodeResult:
        if kind == "endless":
            sleeps()
        return EpisodeResult(f"{kind}:{number}", Counter(), [], [f"in testbed {self._number}"])

    def close(self) -> None:
        if self._number == 1:
            sleeps()


class Campaign:
    """A campaign whose testbeds are numbered."""

    statements: Mapping[str, str] = {}
    faults: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.opened = 0

    def plan(self, runs: int) -> Mapping[str, int]:
        return {"short": runs, "endless": runs}

    def open(self) -> Runner:
        self.opened += 1
        return Runner(self.opened)


def test_an_episode_that_never_ends_is_a_violation_and_the_next_one_has_another_testbed(monkeypatch):
    monkeypatch.setattr(limited_runner, "EPISODE_LIMIT_S", SHORT_S)
    monkeypatch.setattr(limited_runner, "CLOSE_LIMIT_S", SHORT_S)
    result = fault_campaigns.run(["short:0", "endless:0", "short:1"], 7, campaign=Campaign())
    first, endless, last = result.episodes
    assert (first.log, last.log) == (["in testbed 1"], ["in testbed 2"])
    (violation,) = endless.violations
    assert violation.invariant == limited_runner.ENDS
    assert violation.message.startswith("the episode never ends: it had not ended after 0.2 s, and was at ")
    (narrative,) = result.narratives()
    assert "ENDS (every operation ends: an episode takes at most" in narrative
    assert narrative.endswith("again: stakesim faults --seed 7 --only endless:0")


def test_a_limit_in_another_thread_than_the_main_one_is_none():
    with ThreadPoolExecutor(1) as threads:

        def limited() -> bool:
            with time_limit(0.001):
                time.sleep(0.01)
            return True

        assert threads.submit(limited).result()


def test_paths_outside_the_project_are_shown_by_name(tmp_path):
    file = tmp_path / "elsewhere.py"
    file.write_text("def endless():\n    while True:\n        pass\n")
    scope: dict = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    with pytest.raises(NeverEnds, match=r"was at elsewhere\.py:[23] \(endless\)"), time_limit(SHORT_S):
        scope["endless"]()
    assert Path(file).exists()
