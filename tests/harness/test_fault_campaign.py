"""The fault campaign of the backend: a small one finds nothing wrong, and one with a broken sender does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from app.core.errors import Superseded
from app.services.operation_types import NoEffect, Operation, UsedNonce
from app.services.rpc_errors import NODE_ERRORS, classify
from app.services.transactions import states
from app.services.transactions.mempool import Mempool
from app.services.transactions.sender import TransactionSender
from app.services.transactions.signing import sign_attempt
from stakesim.commands.faults import faults
from stakesim.evm.errors import EngineError
from stakesim.faults import campaign as campaigns
from stakesim.faults.catalogue import IN_CAMPAIGN, ROWS
from stakesim_adapter.faults import BackendCampaign, campaign
from stakesim_adapter.faults.episodes import run_episode
from stakesim_adapter.faults.testbed import BackendTestbed
from typer.testing import CliRunner
from web3 import Web3

pytestmark = pytest.mark.slow

EPISODES = {"quick": 1, "ci": 20, "deep": 200}


@pytest.fixture(scope="module")
def testbed() -> Iterator[BackendTestbed]:
    testbed = BackendTestbed()
    yield testbed
    testbed.close()


def test_a_small_campaign_survives(profile: str) -> None:
    result = campaigns.run(campaigns.plan(EPISODES[profile], campaign), seed=11, campaign=campaign)
    assert result.ok, "\n".join(result.narratives())
    assert result.injected.total() > 5 * EPISODES[profile]
    assert result.survived == result.injected


def test_the_same_seed_and_number_give_the_same_episode(testbed: BackendTestbed) -> None:
    one, two = run_episode(testbed, 3, 1), run_episode(testbed, 3, 1)
    assert one.counts == two.counts
    assert one.counts.total() > 0


def test_every_row_between_service_and_node_has_a_fault() -> None:
    assert set(campaigns.rows_by_fault(campaign).values()) == set(IN_CAMPAIGN) <= set(ROWS)


class _GivesUpAfterLostAnswer(Mempool):
    """Does something to the operation if the node's answer to it is lost."""

    def __init__(self, w3: Web3, give_up: Callable[[Operation], Any]) -> None:
        super().__init__(w3, time.monotonic)
        self._give_up = give_up

    def send(self, operation: Operation) -> Any:
        try:
            self._w3.eth.send_raw_transaction(operation.attempts[-1].raw_transaction)
        except NODE_ERRORS as error:
            if classify(error) is None:
                self._give_up(operation)
                return None
        return super().send(operation)


def _unproven(operation: Operation) -> NoEffect:
    return NoEffect(operation, UsedNonce("", 0))


class NewNonceAfterTrouble(TransactionSender):
    """Assumes that a transaction was not sent if the response is lost."""

    def __init__(self, w3: Web3, *parts: Any) -> None:
        super().__init__(w3, *parts)
        requeue = partial(states.requeue, self._database, reason="no answer")
        self._mempool = _GivesUpAfterLostAnswer(w3, lambda operation: requeue(_unproven(operation)))
        self._unmined._mempool = self._mempool


class TroubleIsFailure(TransactionSender):
    """Assumes that a time-out is a failure."""

    def __init__(self, w3: Web3, *parts: Any) -> None:
        super().__init__(w3, *parts)
        error = Superseded("no answer")
        fail = partial(states.fail, self._database, error=error)
        self._mempool = _GivesUpAfterLostAnswer(w3, lambda operation: fail(_unproven(operation)))
        self._unmined._mempool = self._mempool


class FinalAtOnce(TransactionSender):
    """Does not wait for the confirmation depth."""

    def _handle_receipt(self, operation: Operation, receipt: Any) -> Any:
        step = super()._handle_receipt(operation, receipt)
        return type(step)(self._close(operation, receipt), receipt)


class SendsBeforeStoring(TransactionSender):
    """Sends a transaction before it is stored."""

    def _sign_attempt(self, *args: Any) -> Any:
        attempt = sign_attempt(*args)
        with suppress(*NODE_ERRORS):
            self._w3.eth.send_raw_transaction(attempt.raw_transaction)
        return attempt


class NoCap(TransactionSender):
    """Ignores the cap of the fee."""

    def _sign_attempt(self, operation: Any, account: Any, nonce: int, gas: int, fees: Any, *more: Any) -> Any:
        return sign_attempt(operation, account, nonce, gas, fees._replace(max_fee_per_gas=10**12), *more)


@pytest.mark.parametrize(
    ("sender", "invariants"),
    [
        (NewNonceAfterTrouble, {"I1", "I5"}),
        (TroubleIsFailure, {"I2", "I5"}),
        (FinalAtOnce, {"I5"}),
        (SendsBeforeStoring, {"I3"}),
        (NoCap, {"I7"}),
    ],
)
def test_a_broken_sender_is_found(
    testbed: BackendTestbed, sender: type[TransactionSender], invariants: set[str]
) -> None:
    found: set[str] = set()
    for number in range(12):
        found |= {violation.invariant for violation in run_episode(testbed, 5, number, sender).violations}
        if invariants <= found:
            return
    pytest.fail(f"found {sorted(found)}, not {sorted(invariants)}")


def test_a_violation_has_a_narrative() -> None:
    result = campaigns.run(["network:0"], seed=5, campaign=BackendCampaign(FinalAtOnce))
    (story,) = result.narratives()
    assert "network:0 of seed 5" in story
    assert "again: stakesim faults --seed 5 --only network:0" in story
    assert "are needed" in story
    assert result.survived.total() == 0


def test_an_unknown_episode_name_is_refused() -> None:
    with pytest.raises(EngineError, match="weather:1 is no episode"):
        campaigns.run(["weather:1"], campaign=campaign)


def test_the_command() -> None:
    import typer

    app = typer.Typer()
    app.command()(faults)
    done = CliRunner().invoke(app, ["--seed", "2", "--only", "network:1", "-j", "1"])
    assert done.exit_code == 0, done.output
    assert "faults in 1 episodes of seed 2" in done.output
    assert "no violation" in done.output
