"""Faults of requests and of the chain on a service that is not the backend: `payouts.py`."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from payouts import NO_CONTRACT, BlindPayer, CarefulPayer, PayoutCampaign
from stakesim.commands.cli import cli
from stakesim.evm.errors import EngineError
from stakesim.evm.lean_web3 import lean_web3
from stakesim.faults import campaign as campaigns
from stakesim.faults import regressions
from stakesim.faults.chain_actions import CHAIN_FAULTS, DATABASE_GONE, DEEP_REORG, NONCE_GAP, REORG_MOVES, SOLD_OUT
from stakesim.faults.chain_faults import MAX_REQUESTS, ChainFaults, ServiceHooks, ServiceStuckError
from stakesim.faults.episode_script import load_script, save_script
from stakesim.faults.events import RandomEvents, Swarm
from stakesim.faults.faulty_provider import FaultyProvider
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.faults.rpc_faults import FAULTS
from stakesim.faults.testbed import FaultTestbed, service_account, stranger
from stakesim.project import ProjectError
from typer.testing import CliRunner
from web3 import Web3

pytestmark = pytest.mark.slow

EPISODES = {"quick": 10, "ci": 60, "deep": 600}
_NAMES = {fault.name for fault in CHAIN_FAULTS}
ANOTHER_BACKEND = """
import sys

class NoBackend:
    def find_spec(self, name, *more):
        if name.partition(".")[0] in ("app", "stakesim_adapter", "sqlalchemy", "fastapi"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoBackend())
from stakesim.commands.cli import main
sys.argv = ["stakesim", "faults", "--runs", "2", "--seed", "4", "-j", "1"]
main()
"""


@pytest.fixture(scope="module")
def testbed() -> Iterator[FaultTestbed]:
    testbed = FaultTestbed(NO_CONTRACT)
    yield testbed
    testbed.close()


def around(testbed: FaultTestbed, hooks: ServiceHooks, *forced: str) -> tuple[ChainFaults, Web3]:
    """Chain faults around a service that has two payments in the mempool, and that service's web3."""
    testbed.reset()
    events = RandomEvents(np.random.default_rng(1), Swarm(first=forced, worker=0.05))
    faults = ChainFaults(testbed, events, CHAIN_FAULTS, confirmations=3, hooks=hooks)
    provider = FaultyProvider(testbed.provider(), FAULTS, events)
    events.quiet = True
    w3 = lean_web3(provider)
    nonce = testbed.nonce()
    for ahead in range(2):
        w3.eth.send_raw_transaction(testbed.sign(service_account(), nonce + ahead, stranger().address)[1])  # type: ignore[arg-type]
    faults.attach(provider)
    return faults, w3


@pytest.mark.in_turn
def test_a_careful_service_pays_each_invoice_once(profile: str) -> None:
    careful = PayoutCampaign(CarefulPayer)
    result = campaigns.run(campaigns.plan(EPISODES[profile], careful), seed=3, campaign=careful)
    assert result.ok, "\n".join(result.narratives())
    assert result.injected.total() > 5 * EPISODES[profile]
    happened = _NAMES - {DATABASE_GONE, SOLD_OUT, NONCE_GAP, DEEP_REORG}
    assert happened <= set(result.injected)


def test_a_service_that_retries_a_lost_send_pays_twice_and_is_found() -> None:
    blind = PayoutCampaign(BlindPayer)
    result = campaigns.run(campaigns.plan(4, blind), seed=3, campaign=blind)
    assert not result.ok
    narrative = next(result.narratives())
    assert "ONCE (each invoice is paid once): invoice" in narrative
    assert "is paid 2 times" in "\n".join(result.narratives())
    assert "again: stakesim faults --seed 3 --only payout:" in narrative


def test_a_violation_is_shrunk_to_the_one_payment_that_shows_it(tmp_path: Path) -> None:
    """The file has one payment and at most one fault, and is red for the blind payer and green for the careful one."""
    blind = PayoutCampaign(BlindPayer)
    result = campaigns.run(campaigns.plan(4, blind), seed=3, campaign=blind)
    episode = next(e for e in result.episodes if any(v.invariant == "ONCE" for v in e.violations))
    with closing(blind.open()) as runner:
        script = regressions.shrunk(episode, "ONCE", 3, runner)
    assert [step.do for step in script.steps] == ["pay"]
    assert script.fault_count <= 1
    file = tmp_path / "once.yaml"
    save_script(script, file)
    assert load_script(file) == script
    assert [v.invariant for v in regressions.replay_file(file, blind).violations] == ["ONCE"]
    assert not regressions.replay_file(file, PayoutCampaign(CarefulPayer)).violations


@dataclass(frozen=True)
class Breaks:
    """A campaign whose third episode can't be run; the second has a violation."""

    statements: ClassVar = {"ONCE": "each invoice is paid once"}
    faults: ClassVar[dict[str, int]] = {}

    def plan(self, runs: int) -> dict[str, int]:
        return {"payout": runs}

    def open(self) -> Breaks:
        return self

    def close(self) -> None:
        """Nothing is open."""

    def run_episode(self, kind: str, seed: int, number: int) -> EpisodeResult:
        if number == 2:
            raise EngineError("The node is gone.")
        wrong = [Violation("ONCE", "invoice 7 is paid 2 times")] if number == 1 else []
        return EpisodeResult(f"{kind}:{number}", Counter(), wrong, [])


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_episode_that_can_not_be_run_loses_nothing_that_was_found(jobs: int) -> None:
    result = campaigns.run(campaigns.plan(5, Breaks()), campaign=Breaks(), jobs=jobs)
    assert result.trouble == "The node is gone."
    if jobs == 1:
        assert [episode.name for episode in result.episodes] == ["payout:0", "payout:1"]
        assert "invoice 7" in "\n".join(result.narratives())


def test_a_name_that_is_no_episode_is_told_before_anything_runs() -> None:
    played: list[EpisodeResult] = []
    with pytest.raises(EngineError, match="abc is no episode: give payout, a colon and a number"):
        campaigns.run(["payout:0", "abc"], campaign=Breaks(), progress=played.append)
    assert played == []


@pytest.mark.parametrize(("only", "code"), [([], 1), (["--only", "payout:0", "--only", "payout:2"], 2)])
def test_the_command_shows_what_was_found_and_why_it_ended(
    monkeypatch: pytest.MonkeyPatch, only: list[str], code: int
) -> None:
    monkeypatch.setattr(campaigns, "project_campaign", Breaks)
    ended = CliRunner().invoke(cli, ["faults", "-j", "1", *only])
    assert ended.exit_code == code, ended.output
    assert "stakesim: The node is gone.\n" in ended.stderr
    assert "interrupted: " in ended.stdout
    assert ("invoice 7 is paid 2 times" in ended.stdout) is (code == 1)


def test_only_faults_that_fit_service_and_contract_are_possible(testbed: FaultTestbed) -> None:
    faults, _ = around(testbed, ServiceHooks())
    assert _NAMES - set(faults.possible) == {DATABASE_GONE, SOLD_OUT}
    faults, _ = around(testbed, ServiceHooks(stop_database=lambda: None))
    assert _NAMES - set(faults.possible) == {SOLD_OUT}


def test_hooks_are_called_around_requests_except_while_the_database_is_gone(testbed: FaultTestbed) -> None:
    events: list[str] = []
    hooks = ServiceHooks(
        before_request=lambda: events.append("request"),
        before_send=lambda raw: events.append(f"send {raw[:4]}"),
        stop_database=lambda: events.append("stop"),
        start_database=lambda: events.append("start"),
    )
    faults, w3 = around(testbed, hooks, DATABASE_GONE)
    raw = testbed.sign(service_account(), testbed.nonce() + 2, stranger().address)[1]
    w3.eth.send_raw_transaction(raw)  # type: ignore[arg-type]
    assert events == ["request", "send 0x02", "stop"]
    w3.eth.block_number  # noqa: B018
    assert events == ["request", "send 0x02", "stop"]
    faults.begin_operation()
    w3.eth.block_number  # noqa: B018
    assert events == ["request", "send 0x02", "stop", "start", "request"]
    assert faults.counts == {DATABASE_GONE: 1}


def test_another_worker_runs_between_requests_but_not_inside_itself(testbed: FaultTestbed) -> None:
    rounds: list[int] = []
    hooks = ServiceHooks()
    _, w3 = around(testbed, hooks)

    def another() -> None:
        rounds.append(w3.eth.block_number)

    hooks.other_worker = another
    for _ in range(70):
        w3.eth.block_number  # noqa: B018
    assert 1 <= len(rounds) < 10


def test_an_endless_operation_is_stopped(testbed: FaultTestbed) -> None:
    _, w3 = around(testbed, ServiceHooks())
    for _ in range(MAX_REQUESTS):
        w3.eth.block_number  # noqa: B018
    with pytest.raises(ServiceStuckError, match="no end after 1500 requests"):
        w3.eth.block_number  # noqa: B018


def test_a_lost_nonce_leaves_a_gap(testbed: FaultTestbed) -> None:
    faults, w3 = around(testbed, ServiceHooks(), NONCE_GAP)
    w3.eth.block_number  # noqa: B018
    assert faults.counts == {NONCE_GAP: 1}
    assert sorted(testbed.mempool(service_account().address)) == [testbed.nonce() + 1]


def test_a_reorg_keeps_transactions_of_others(testbed: FaultTestbed) -> None:
    """Such as those of a test that uses the chain directly."""
    faults, w3 = around(testbed, ServiceHooks(), REORG_MOVES)
    by = stranger()
    other, raw = testbed.sign(by, testbed.w3.eth.get_transaction_count(by.address), by.address)
    testbed.send(raw)
    testbed.mine()
    w3.eth.block_number  # noqa: B018
    assert faults.counts == {REORG_MOVES: 1}
    assert testbed.w3.eth.get_transaction_receipt(other)["status"] == 1  # type: ignore[arg-type]


def test_a_project_without_a_backend_runs_its_own_campaign(tmp_path: Path) -> None:
    here = Path(__file__).parent
    (tmp_path / "pyproject.toml").write_text(f'[tool.stakesim]\nfaults = "payouts:campaign"\npath = ["{here}"]\n')
    command = [sys.executable, "-c", ANOTHER_BACKEND]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "in 2 episodes of seed 4" in process.stdout
    assert "no violation" in process.stdout


def test_a_project_without_faults_gets_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match=r"`\[tool.stakesim\] faults = ") as raised:
        campaigns.run(["payout:0"])
    assert "\n" not in str(raised.value)
