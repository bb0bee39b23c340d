"""`stakesim fuzz`: what it prints, writes and keeps, for a contract and for a backend."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import app.main  # noqa: F401 - its functions are patched
import pytest
from planted_bugs import planted, together, write
from planted_in_backend import PLANTS
from planted_in_backend import planted as planted_in_backend
from stakesim.campaign import failure_cache
from stakesim.evm.compiler import CONTRACTS
from stakesim.lane import search as lane_search
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.scenario import load, loads
from stakesim.search import backend_search, contract_search

pytestmark = pytest.mark.slow

SOUND = CONTRACTS / "EventStake.sol"
SEARCH = ("--seed", "7", "--sequences", "40")


@pytest.fixture
def fuzz(run_stakesim):
    """`stakesim fuzz` in this process."""
    return partial(run_stakesim, "fuzz")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose contract has several bugs, with a cache of failures of its own."""
    write(tmp_path / "src", planted(next(iter(together()))))
    settings = '[tool.stakesim]\ncontract = "src/EventStake.sol:EventStake"\nscenarios = "scenarios"\n'
    (tmp_path / "pyproject.toml").write_text(settings)
    (tmp_path / "scenarios").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(failure_cache, "state_dir", lambda: tmp_path / "state")
    return tmp_path


@pytest.mark.in_turn
def test_findings_are_told_written_kept_and_seen_at_once_the_next_time(project, fuzz):
    done = fuzz(*SEARCH, "--findings", "4", "--out", "found", "--keep", "--corpus", "corpus")
    assert done.returncode == 1, done.stderr
    stories = sorted((project / "found").glob("*.yaml"))
    assert len(stories) >= 4
    assert len([*(project / "found").glob("*.t.sol")]) == len(stories)
    regressions = sorted((project / "scenarios").rglob("*.yaml"))
    assert regressions
    for file in regressions:
        assert f"replay {file.relative_to(project)}" in done.stdout
        assert all(action.fails is None for action in load(file).actions if hasattr(action, "fails"))
    assert [*(project / "state").rglob("*.yaml")]

    replayed = [sys.executable, "-c", "from stakesim.commands.cli import main; main()", "replay", str(regressions[0])]
    again = subprocess.run([*replayed, "--driver", "contract"], cwd=project, capture_output=True, text=True)
    assert again.returncode == 1, again.stdout + again.stderr

    options = ("--corpus", "corpus", "--seed", "8", "--sequences", str(len(stories)))
    next_time = [json.loads(line) for line in fuzz(*options, "--json").stdout.splitlines()]
    assert next_time[-1]["findings"] >= len(stories)
    assert len(next_time) == next_time[-1]["findings"] + 1


def test_a_page_tells_what_no_scenario_confirms(project, monkeypatch, fuzz):
    """The lane alone says that it is wrong, and the page must not say that it passes."""
    play = contract_search.play_findings

    def unconfirmed(search):
        return [replace(found, result=ScenarioResult(found.scenario, "revm", "contract")) for found in play(search)]

    monkeypatch.setattr(contract_search, "play_findings", unconfirmed)
    done = fuzz(*SEARCH, "--out", "found", "--corpus", "corpus")
    assert done.returncode == 1
    page = (project / "found" / "report.html").read_text(encoding="utf-8")
    assert "<strong>FINDINGS</strong>" in page
    assert "Contract and rules agree on every call" in page


@pytest.mark.in_turn
def test_a_backends_findings_have_a_file_each(project, fuzz, monkeypatch):
    """What is found is a bug in cancelling and one in completing, from a scenario that shows both."""
    (project / "pyproject.toml").write_text('[tool.stakesim]\nbackend = "stakesim_adapter:open_backend"\n')
    story = """
name: both
story: A booking is cancelled twice by its key; a run is completed.
actors: {host: {}, a: {}, b: {pays: self}}
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 4, starts: 7d}
  - {do: book, booking: a1, run: gig, by: a, seats: 1}
  - {do: cancel_booking, booking: a1, retried: true}
"""
    other = story.replace(
        "{do: cancel_booking, booking: a1, retried: true}", "{at: 7d, do: complete, run: gig, DIRECT}"
    )
    monkeypatch.setattr(backend_search, "_project_scenarios", lambda: iter(scenarios))
    scenarios = [loads(story), loads(other.replace("DIRECT", "by: host, direct: true, attended: [a1]"))] * 6
    by_name = {plant.name: plant for plant in PLANTS}
    with (
        planted_in_backend(by_name["attended and no-show are swapped in a refresh"]),
        planted_in_backend(by_name["the idempotency key is dropped when a booking is cancelled"]),
    ):
        done = fuzz("--driver", "services", "--for", "5m", "--findings", "2", "--out", "found", "--corpus", "corpus")
    assert done.returncode == 1, done.stdout + done.stderr
    assert len([*(project / "found").glob("*.yaml")]) == 2, done.stdout
    assert done.stdout.count("written: found/found-") == 2


def interrupting(function, when=lambda *args: True):
    """The function, which is interrupted by Ctrl-C at its end, if that is the time."""

    def interrupted(*args, **options):
        result = function(*args, **options)
        if when(*args):
            os.kill(os.getpid(), signal.SIGINT)
        return result

    return interrupted


@pytest.mark.parametrize("meanwhile", ["a sequence is played", "a finding is made short"])
def test_ctrl_c_loses_nothing_that_was_found_in_a_contract(project, fuzz, monkeypatch, meanwhile):
    if meanwhile == "a sequence is played":
        search = contract_search.LaneSearch
        monkeypatch.setattr(search, "play_one", interrupting(search.play_one, lambda each: each.findings))
    else:
        monkeypatch.setattr(lane_search, "shrink", interrupting(lane_search.shrink))
    done = fuzz("--seed", "7", "--for", "1h", "--out", "found", "--corpus", "corpus")
    assert done.returncode == 1, done.stderr
    assert "FINDINGS  " in done.stdout
    assert "seed: 7" in done.stdout
    assert [*(project / "found").glob("found-*.yaml")]
    assert [*(project / "state").rglob("*.yaml")]
    assert [*(project / "corpus").rglob("*")]


def test_ctrl_c_before_anything_is_found_is_told(project, fuzz, monkeypatch):
    search = contract_search.LaneSearch
    monkeypatch.setattr(search, "play_one", interrupting(search.play_one, lambda each: each.sequences == 30))
    done = fuzz("--contract", str(SOUND), "--for", "1h", "--out", "found", "--corpus", "corpus", "--json")
    assert done.returncode == 130, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["verdict"] == "interrupted"
    assert "Ctrl-C came first" in summary["not_tried"].values()
    assert "<strong>INTERRUPTED</strong>" in (project / "found" / "report.html").read_text(encoding="utf-8")
    assert [*(project / "corpus").rglob("*")]


@pytest.mark.parametrize("meanwhile", ["a sequence is played", "a finding is made short"])
def test_ctrl_c_loses_nothing_that_was_found_in_a_backend(project, fuzz, monkeypatch, meanwhile):
    (project / "pyproject.toml").write_text('[tool.stakesim]\nbackend = "stakesim_adapter:open_backend"\n')
    story = """
name: completed
story: A run is completed.
actors: {host: {}, a: {pays: self}}
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 1, starts: 7d}
  - {do: book, booking: a1, run: gig, by: a, seats: 1}
  - {at: 7d, do: complete, run: gig, by: host, direct: true, attended: [a1]}
"""
    monkeypatch.setattr(backend_search, "_project_scenarios", lambda: iter([loads(story)] * 9))
    if meanwhile == "a sequence is played":
        search = backend_search._Search
        monkeypatch.setattr(search, "_play", interrupting(search._play, lambda each, _: each.found))
    else:
        monkeypatch.setattr(backend_search, "shrink", interrupting(backend_search.shrink))
    by_name = {plant.name: plant for plant in PLANTS}
    with planted_in_backend(by_name["attended and no-show are swapped in a refresh"]):
        done = fuzz("--driver", "services", "--for", "1h", "--out", "found", "--corpus", "corpus")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FINDINGS  " in done.stdout
    assert [*(project / "found").glob("found-*.yaml")]
    assert "--driver services" in (project / "found" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--keep", "--contract", "src/EventStake.sol:EventStake"), "leave out --contract"),
        (("--driver", "services", "--sequences", "3"), "use --for or --findings"),
        (("--for", "soon"), "a sum of parts in d, h, m, s"),
    ],
)
def test_what_can_not_be_done_is_said(project, fuzz, options, said):
    done = fuzz(*options)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
