"""What this process knows of the transactions that it sent: when each is due again, and what an answer means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from app.services.operation_types import HeldCause
from app.services.rpc_errors import Refused
from app.services.rpc_refusals import RefusalKind
from app.services.transactions import mempool as module
from app.services.transactions.mempool import Due, Mempool, SendRefusal
from app.services.transactions.policy import TransactionPolicy

POLICY = TransactionPolicy(bump_after=10, resend_after=5)
NOTHING, RESEND, BUMP, BOTH = Due(False, False), Due(False, True), Due(True, False), Due(True, True)


class World:
    """A mempool on a node that answers what the test says, with a clock; bytes are right if they end in `of KEY`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.sent, self.compared, self.answer = 100.0, list[str](), list[str](), None
        w3: Any = self
        patch.setattr(module.rpc, "send_raw", self._send)
        patch.setattr(module, "find_mismatch", self._compare)
        self.mempool = Mempool(w3, lambda: self.now)

    def _send(self, w3: Any, raw: str) -> None:
        assert w3 is self
        self.sent.append(raw)
        if self.answer is not None:
            raise self.answer

    def _compare(self, operation: Any, attempt: Any) -> str | None:
        self.compared.append(attempt.raw_transaction)
        return None if attempt.raw_transaction.endswith(f"of {operation.key}") else "they are another's"

    def due_at(self, now: float, operation: Any) -> Due:
        self.now = 100.0 + now
        return self.mempool.due(operation, POLICY)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def operation(*hashes: str, key: str = "k", abandoned_at: Any = None) -> Any:
    attempts = [SimpleNamespace(tx_hash=name, raw_transaction=f"{name} of {key}") for name in hashes]
    return SimpleNamespace(key=key, kind="f", state="signed", attempts=attempts, abandoned_at=abandoned_at)


def test_an_attempt_is_due_by_the_times_at_which_it_was_sent_first_and_last(world: World) -> None:
    sent = operation("0x1")
    assert world.due_at(0, sent) == RESEND  # nobody knows whether it was ever sent
    assert world.mempool.send(sent) is None
    assert world.mempool.has_sent(sent)
    assert [world.due_at(after, sent) for after in (0, 5, 5.5)] == [NOTHING, NOTHING, RESEND]
    world.mempool.send(sent)
    assert [world.due_at(after, sent) for after in (10, 10.4, 10.6)] == [NOTHING, BUMP, BOTH]
    raised = operation("0x1", "0x2")
    assert world.due_at(10.6, raised) == RESEND, "a new attempt was never sent"
    world.mempool.send(raised)
    assert [world.due_at(after, raised) for after in (15.6, 15.7, 20.6, 20.7)] == [NOTHING, RESEND, RESEND, BOTH]
    assert world.sent == ["0x1 of k", "0x1 of k", "0x2 of k"]


def test_a_held_operation_waits_before_its_next_try(world: World) -> None:
    held = operation("0x1")
    world.mempool.send(held)
    world.now += 20
    world.mempool.delay(held)
    assert [world.due_at(after, held) for after in (20, 25, 25.1)] == [NOTHING, NOTHING, BOTH]
    world.mempool.delay(held)
    world.mempool.forget(held)
    assert not world.mempool.has_sent(held)
    assert world.due_at(25.1, held) == RESEND


@pytest.mark.parametrize(
    ("answer", "refusal", "node_has_it"),
    [
        (None, None, True),
        (Refused(RefusalKind.KNOWN, "already known"), SendRefusal(RefusalKind.KNOWN, "already known"), True),
        (Refused(RefusalKind.NO_FUNDS, "poor"), SendRefusal(RefusalKind.NO_FUNDS, "poor"), False),
        (Refused(None, "what?"), SendRefusal(None, "what?", HeldCause.REFUSED), False),
        (OSError("no route"), None, False),  # nobody knows
    ],
)
def test_what_an_answer_means(world: World, answer: Any, refusal: Any, node_has_it: bool) -> None:
    sent = operation("0x1")
    world.answer = answer
    assert world.mempool.send(sent) == refusal
    assert world.mempool.has_sent(sent) == node_has_it
    world.now += 1
    assert world.mempool.resend(sent) == (refusal, node_has_it)
    assert world.due_at(5.5, sent) == (NOTHING if node_has_it else RESEND)


def test_bytes_are_compared_once_with_the_operation_that_has_them(world: World) -> None:
    stranger = operation("0x1")
    stranger.attempts[0].raw_transaction = "0x1 of another"
    for _ in range(2):
        refusal = SendRefusal(None, "its stored bytes are not sent, as they are another's", HeldCause.LIMIT)
        assert world.mempool.send(stranger) == refusal
    assert (world.sent, world.mempool.has_sent(stranger)) == ([], False)
    world.compared.clear()
    mine, own = operation("0x1"), operation("0x3", key="own")
    world.mempool.trust(own)
    assert (world.mempool.is_new(mine), world.mempool.is_new(own)) == (False, True)
    for _ in range(2):
        world.mempool.send(own)
        world.mempool.send(mine)
    assert not world.mempool.is_new(own)
    assert world.compared == ["0x1 of k"], "what was signed here, or compared already, need not be"
    for each in (mine, own):
        world.mempool.forget(each)
        world.mempool.send(each)
    assert world.compared == ["0x1 of k", "0x1 of k", "0x3 of own"]


def test_an_abandoned_operation_is_not_sent(world: World) -> None:
    abandoned = operation("0x1", abandoned_at="yesterday")
    world.mempool.trust(abandoned)
    assert world.mempool.send(abandoned) is None
    assert world.sent == []
    assert world.mempool.is_new(abandoned)
    assert not world.mempool.has_sent(abandoned)
