"""The fault campaign of the backend: a small one finds nothing wrong, and one with a broken sender does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
from app.core.errors import Superseded
from app.services import nonce_queries, rpc
from app.services.operation_types import NoEffect, Operation, UsedNonce
from app.services.payments import razorpay, refunds, store
from app.services.payments.razorpay import RazorpayGateway
from app.services.payments.service import PaymentService
from app.services.rpc_errors import NODE_ERRORS, classify
from app.services.transactions import signer, states
from app.services.transactions.conclusions import Mined
from app.services.transactions.limits import Limits
from app.services.transactions.mempool import Mempool
from app.services.transactions.nonce_search import find_foreign_transaction
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from app.services.transactions.signing import sign_attempt
from app.services.transactions.unmined import Unmined
from stakesim.commands.faults import faults
from stakesim.evm.errors import EngineError
from stakesim.faults import campaign as campaigns
from stakesim.faults import regressions
from stakesim.faults.catalogue import IN_CAMPAIGN, ROWS
from stakesim.faults.episode_script import EpisodeScript, Event, Step, load_script, save_script
from stakesim.faults.events import FOR_GOOD
from stakesim.faults.protocol import EpisodeResult
from stakesim_adapter.faults import BackendCampaign, BackendEpisodeRunner, campaign
from stakesim_adapter.faults.episodes import replay_episode, run_episode
from stakesim_adapter.faults.testbed import BackendTestbed
from typer.testing import CliRunner, Result
from web3 import Web3

pytestmark = pytest.mark.slow

EPISODES = {"quick": 1, "ci": 4, "deep": 200}


@pytest.fixture(scope="module")
def testbed() -> Iterator[BackendTestbed]:
    testbed = BackendTestbed()
    yield testbed
    testbed.close()


def test_a_small_campaign_survives(profile: str, campaign_seed: int) -> None:
    """With another seed for each commit, so that a long row of commits explores."""
    result = campaigns.run(campaigns.plan(EPISODES[profile], campaign), campaign_seed, campaign=campaign)
    assert result.ok, "\n".join(result.narratives())
    assert result.injected.total() > 5 * EPISODES[profile]
    assert result.survived == result.injected


@pytest.mark.in_turn
@pytest.mark.parametrize("number", range(3))
def test_a_script_gives_the_same_episode_without_random_numbers(
    testbed: BackendTestbed, tmp_path: Path, number: int
) -> None:
    drawn = run_episode(testbed, 3, number)
    assert drawn.script is not None
    save_script(drawn.script, tmp_path / "episode.yaml")
    script = load_script(tmp_path / "episode.yaml")
    replayed = replay_episode(testbed, script)
    assert replayed.script == drawn.script
    assert replayed.counts == drawn.counts
    assert drawn.counts.total() > 0


@pytest.mark.parametrize("file", regressions.saved_scripts(), ids=lambda file: file.stem)
def test_a_saved_episode_has_no_violation_any_more(testbed: BackendTestbed, file: Path) -> None:
    with closing(BackendEpisodeRunner(testbed=testbed)) as runner:
        result = regressions.replay(load_script(file), runner)
    assert not result.violations, "\n".join([*result.log, *map(str, result.violations)])


def test_every_row_of_the_campaign_has_a_fault() -> None:
    assert set(campaigns.rows_by_fault(campaign).values()) == IN_CAMPAIGN <= set(ROWS)


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

    def __init__(self, w3: Web3, *parts: Any, **options: Any) -> None:
        super().__init__(w3, *parts, **options)
        requeue = partial(states.requeue, self._database, reason="no answer")
        self._mempool = _GivesUpAfterLostAnswer(w3, lambda operation: requeue(_unproven(operation)))
        self.unmined._mempool = self._mempool


class TroubleIsFailure(TransactionSender):
    """Assumes that a time-out is a failure."""

    def __init__(self, w3: Web3, *parts: Any, **options: Any) -> None:
        super().__init__(w3, *parts, **options)
        error = Superseded("no answer")
        fail = partial(states.fail, self._database, error=error)
        self._mempool = _GivesUpAfterLostAnswer(w3, lambda operation: fail(_unproven(operation)))
        self.unmined._mempool = self._mempool


class FinalAtOnce(TransactionSender):
    """Does not wait for the confirmation depth."""

    def _handle_receipt(self, operation: Operation, receipt: Any, latest_block: int | None) -> Any:
        step = super()._handle_receipt(operation, receipt, latest_block)
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


class NoLimits(TransactionSender):
    """Signs whatever is stored, whatever it costs."""

    @property
    def limits(self) -> Limits:
        return replace(super().limits, amounts=None)


class SendsElsewhere(TransactionSender):
    """Sends what is for the contract to somebody else."""

    def _sign_attempt(self, operation: Any, *more: Any) -> Any:
        elsewhere = replace(operation, to_address=self.address) if isinstance(operation, Operation) else operation
        return sign_attempt(elsewhere, *more)


class _AnOldCopyIsEnough(Unmined):
    """Neither reloads the operation nor compares its attempts with those that are stored."""

    def _handle_used_nonce(self, operation: Operation, policy: TransactionPolicy) -> Operation | Mined:
        foreign = find_foreign_transaction(self._w3, operation, policy.final_block(rpc.block_number(self._w3)))
        if foreign is None:
            return operation
        seen = replace(operation, attempts=states.reload(self._database, operation).attempts)  # disarms the lock
        return self.start_over(NoEffect(seen, foreign), "foreign nonce")


class ConcludesFromAnOldCopy(TransactionSender):
    """Takes an attempt that its copy of the operation lacks for a foreign transaction (row 30)."""

    def __init__(self, w3: Web3, *parts: Any, **options: Any) -> None:
        super().__init__(w3, *parts, **options)
        self.unmined = _AnOldCopyIsEnough(w3, self._database, self._mempool, self._signer, self.accounts)


class _SaysNothing(Unmined):
    """Does not store what the node says."""

    def _handle_refusal(self, operation: Operation, *args: Any) -> Operation:
        return operation


class HoldsInSilence(TransactionSender):
    """Does not say why an operation can't go on."""

    def __init__(self, w3: Web3, *parts: Any, **options: Any) -> None:
        super().__init__(w3, *parts, **options)
        self.unmined = _SaysNothing(w3, self._database, self._mempool, self._signer, self.accounts)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("sender", "invariants"),
    [
        (NewNonceAfterTrouble, {"I5"}),  # and I1 below: whether it comes to that depends on what else is drawn
        (TroubleIsFailure, {"I2", "I5"}),
        (FinalAtOnce, {"I5"}),
        (SendsBeforeStoring, {"I3"}),
        (NoCap, {"I7"}),
        (NoLimits, {"I8"}),
        (SendsElsewhere, {"I8"}),
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


@pytest.mark.in_turn
def test_an_order_that_is_signed_during_a_pause_is_found(
    testbed: BackendTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = nonce_queries.sign
    monkeypatch.setattr(nonce_queries, "sign", lambda *args, is_exit, **more: honest(*args, is_exit=True, **more))
    for number in range(20):
        if any("during a pause" in each.message for each in run_episode(testbed, 5, number).violations):
            return
    pytest.fail("no order was signed during a pause")


def believes_any_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(razorpay.hmac, "compare_digest", lambda *_: True)


def sends_unpaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PaymentService, "payment_for", lambda self, payment_id, *_: self.get(payment_id))
    monkeypatch.setattr(store, "use_of", lambda *_: None)
    monkeypatch.setattr(signer, "reason_unpaid", lambda *_: None)


def gives_nothing_back_for_what_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = refunds.what_is_owed
    closed = ("failed", "rejected")
    monkeypatch.setattr(
        refunds, "what_is_owed", lambda row, block: refunds.Settled() if row.state in closed else honest(row, block)
    )


def forgets_to_ask_for_refunds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PaymentService, "_ask_for", lambda *_: None)


def refunds_under_another_key_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is taken for lost."""
    honest = RazorpayGateway.refund

    def refund(self: Any, payment_id: str, amount_inr: Any, key: str, *, is_repeated: bool) -> Any:
        honest(self, payment_id, Decimal("1.00"), f"{key}-lost", is_repeated=False)
        return honest(self, payment_id, amount_inr - 1, key, is_repeated=is_repeated)

    monkeypatch.setattr(RazorpayGateway, "refund", refund)


def loses_what_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is paid twice, or is another amount, gets no row."""
    honest = PaymentService._capture

    def capture(self: Any, connection: Any, news: Any) -> None:
        ordered = store.payments.select().where(store.payments.c.gateway_order_id == news.order_id)
        row = connection.execute(ordered).one_or_none()
        if row is not None and row.gateway_payment_id is None and row.amount_inr == news.amount:
            honest(self, connection, news)

    monkeypatch.setattr(PaymentService, "_capture", capture)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "broken",
    [
        believes_any_webhook,
        sends_unpaid,
        gives_nothing_back_for_what_has_no_effect,
        forgets_to_ask_for_refunds,
        refunds_under_another_key_each_time,
        loses_what_nobody_asked_for,
    ],
)
def test_broken_payments_are_found(
    testbed: BackendTestbed, broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    found = (violation for number in range(12) for violation in run_episode(testbed, 5, number).violations)
    assert "I9" in (violation.invariant for violation in found)


def test_a_violation_has_a_narrative() -> None:
    names = [f"network:{number}" for number in range(6)]
    result = campaigns.run(names, seed=5, campaign=BackendCampaign(FinalAtOnce))
    narrative = next(result.narratives())
    name = next(episode.name for episode in result.episodes if episode.violations)
    assert f"{name} of seed 5" in narrative
    assert f"again: stakesim faults --seed 5 --only {name}" in narrative
    assert "are needed" in narrative
    assert result.survived.total() < result.injected.total()


def test_an_unknown_episode_name_is_refused() -> None:
    with pytest.raises(EngineError, match="weather:1 is no episode"):
        campaigns.run(["weather:1"], campaign=campaign)


@pytest.mark.parametrize(
    ("file", "sender"), [("row-30", ConcludesFromAnOldCopy), ("row-01-answer-lost", NewNonceAfterTrouble)]
)
def test_a_saved_episode_pays_twice_with_the_broken_sender(
    testbed: BackendTestbed, monkeypatch: pytest.MonkeyPatch, file: str, sender: type[TransactionSender]
) -> None:
    monkeypatch.setattr(states, "changed_meanwhile", lambda *_: None)  # a second guard against old copies
    script = load_script(regressions.folder() / f"{file}.yaml")
    violations = replay_episode(testbed, script, sender).violations
    assert "I1" in {violation.invariant for violation in violations}


def test_an_operation_that_stands_still_without_a_word_is_found(testbed: BackendTestbed) -> None:
    """A node that refuses everything in words of its own, and a service that drops the reason."""
    steps = [
        Step(do="create_run", args={"key": "key 1", "host": 0, "seats": 4, "price_inr": 1000}),
        Step(
            do="leave_alone",
            args={"rounds": 8},
            events=(
                Event(request="eth_sendRawTransaction", nth=1, event="unforeseen refusal", choices={"lasts": FOR_GOOD}),
            ),
        ),
    ]
    waiting_times = {"bump_after": 60, "resend_after": 0, "give_up_after": 0}
    settings = {"confirmations": 2, "services": [waiting_times, waiting_times]}
    script = EpisodeScript(kind="network", settings=settings, steps=tuple(steps))
    assert not replay_episode(testbed, script).violations
    for _ in range(5):  # some of the service's waiting times go by the database's clock
        silent = replay_episode(testbed, script, HoldsInSilence)
        if silent.violations:
            break
    assert {violation.invariant for violation in silent.violations} == {"SAID"}, "\n".join(silent.log)


def run_command(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(faults)
    return CliRunner().invoke(app, [*arguments, "-j", "1"])


def test_the_command() -> None:
    done = run_command("--seed", "2", "--only", "network:1")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("seed 2\n")
    assert "faults in 1 episodes of seed 2" in done.output
    assert "no violation" in done.output


def test_a_fresh_seed_is_shown_first() -> None:
    seeds = {int(run_command("--only", "network:1").output.split()[1]) for _ in range(2)}
    assert len(seeds) == 2


def test_the_command_runs_for_a_time() -> None:
    done = run_command("--for", "1s", "--seed", "3")
    assert done.exit_code == 0, done.output
    assert re.search(r"faults in [1-9]\d* episodes of seed 3", done.output)
    assert "no fault of these rows happened: " in done.output


def test_a_time_that_is_none_is_refused() -> None:
    assert run_command("--for", "soon").exit_code == 2


def test_the_command_replays_a_file() -> None:
    done = run_command("--replay", str(regressions.folder() / "row-30.yaml"))
    assert done.exit_code == 0, done.output
    assert "no violation" in done.output


def test_ctrl_c_shows_what_was_found_so_far() -> None:
    def interrupt(episode: EpisodeResult) -> None:
        raise KeyboardInterrupt

    result = campaigns.run(campaigns.plan(2, campaign), seed=3, campaign=campaign, progress=interrupt)
    assert result.interrupted
    assert [episode.name for episode in result.episodes] == ["network:0"]
