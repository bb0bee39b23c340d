"""What is done with an operation that is in no block, as a table: what is known of it, and the steps that follow.

The parts that do these steps are stand-ins that note them. What the parts do is tested with them, on a node.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from app.services.codec import Revert
from app.services.operation_types import (
    FILL_NONCE_GAP,
    NOT_HELD,
    Attempt,
    HeldCause,
    NoEffect,
    Operation,
    UsedNonce,
)
from app.services.rpc_refusals import RefusalKind
from app.services.rpc_types import BlockHeader
from app.services.transactions import unmined as module
from app.services.transactions.conclusions import Mined
from app.services.transactions.gaps import MAX_GAP, Obstacles
from app.services.transactions.mempool import Due, SendRefusal
from app.services.transactions.named_ids import Doubt
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.unmined import Unmined

PLATFORM, NOW = "0x" + "aa" * 20, datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNT: Any = SimpleNamespace(address=PLATFORM)
LIMITS: Any = SimpleNamespace()
W3, CONNECTION = SimpleNamespace(), SimpleNamespace()
DATABASE = SimpleNamespace(autocommit=lambda: nullcontext(CONNECTION), transaction=lambda: nullcontext(CONNECTION))
POLICY = TransactionPolicy(confirmations=3, bump_after=60, replace_after=600)
HEAD, FINAL, SIGNED_AT = 20, 18, 10
NOTHING, RESEND, BUMP = Due(False, False), Due(False, True), Due(True, False)
NEW = Attempt("0xnew", "0xraw", 4, 1, 1, 1, HEAD)
RECEIPT: Any = SimpleNamespace(tx_hash="0xmined", block_number=15)


def operation(state: str = "submitted", **values: Any) -> Operation:
    columns: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
    columns |= {"key": "k", "kind": "bookEventFor", "chain_id": 5, "sender": PLATFORM, "state": state, "nonce": 4}
    columns |= {"attempts": [Attempt("0xold", "0xraw", 4, 1, 1, 1, SIGNED_AT)], "requeued": 0, "reorged": False}
    return Operation(**columns | values)


def held(cause: str, state: str = "submitted", **values: Any) -> Operation:
    return operation(state, held="why", held_cause=cause, held_at=NOW, **values)


def given_up(**values: Any) -> Operation:
    return operation(attempts=[replace(NEW, no_effect=True, latest_block=SIGNED_AT)], **values)


class World:
    """An `Unmined` among stand-ins that note what they are asked for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log = list[str]()
        self.due, self.refusal, self.takes_it, self.has_sent = NOTHING, None, True, False
        self.used, self.obstacles, self.waits_for = 4, Obstacles([], [], []), None
        self.doubt: Doubt | None = None
        self.meanwhile: Operation | None = None
        self.conclusion: Any = None  # the operation as it is, if None
        self.signs, self.held_seconds = True, 0.0
        self.headers = {SIGNED_AT: 1_000, HEAD: 1_061}
        self.revert = "NotEnoughSeats"
        patch.setattr(module, "states", self)
        patch.setattr(module, "rpc", self)
        for name in ("conclude", "find_obstacles", "reason_to_wait", "revert_reason", "of_receipt"):
            patch.setattr(module, name, getattr(self, "_" + name))
        patch.setattr(module.operations, "held_seconds", self._held_seconds)
        named_ids = SimpleNamespace(find_doubt=self._find_doubt)
        signer: Any = SimpleNamespace(
            raise_fees=self._raise_fees,
            mend=self._mend,
            give_up_nonce=self._give_up_nonce,
            fill_gap=self._fill_gap,
            unsigned=SimpleNamespace(named_ids=named_ids),
        )
        mempool: Any = SimpleNamespace(
            due=self._due,
            resend=self._resend,
            send=self._send,
            has_sent=lambda each: self.has_sent,
            delay=lambda each: self.log.append("delay"),
            forget=lambda each: self.log.append(f"forget {each.state}"),
        )
        w3, database, account = W3, DATABASE, ACCOUNT
        self.unmined = Unmined(w3, database, mempool, signer, [account])  # type: ignore[arg-type]

    def follow(self, given: Operation, kind: str | None = None, account: Any = ACCOUNT, **refusal: Any) -> Any:
        refused = SendRefusal(RefusalKind[kind], "words", **refusal) if kind else None
        if refusal and kind is None:
            refused = SendRefusal(None, "words", **refusal)
        return self.unmined.follow(given, refused, account, POLICY, LIMITS)  # type: ignore[arg-type]

    # the mempool
    def _due(self, each: Operation, policy: Any) -> Due:
        assert policy is POLICY
        return self.due

    def _resend(self, each: Operation) -> Any:
        self.log.append("resend")
        return self.refusal, self.takes_it

    def _send(self, each: Operation) -> SendRefusal | None:
        self.log.append(f"send {each.attempts[-1].tx_hash}")
        return self.refusal

    # the signer
    def _added(self, each: Operation, no_effect: bool = False) -> Operation:
        return replace(each, attempts=[*each.attempts, replace(NEW, no_effect=no_effect)]) if self.signs else each

    def _raise_fees(self, each: Operation, account: Any, policy: Any, limits: Any, *, at_once: bool) -> Operation:
        assert (account, policy, limits) == (ACCOUNT, POLICY, LIMITS)
        self.log.append("raise at once" if at_once else "raise")
        return self._added(each)

    def _mend(self, each: Operation, account: Any, policy: Any, limits: Any, kind: Any) -> Operation:
        assert (account, policy, limits) == (ACCOUNT, POLICY, LIMITS)
        self.log.append(f"mend {kind and kind.name}")
        return self._added(each)

    def _give_up_nonce(self, each: Operation, account: Any, policy: Any, error: Any = None) -> Operation:
        assert (account, policy) == (ACCOUNT, POLICY)
        self.log.append(f"give up {error}")
        return self._added(each, no_effect=True)

    def _fill_gap(self, account: Any, chain_id: int, nonce: int, policy: Any) -> Operation | None:
        assert (account, chain_id, policy) == (ACCOUNT, 5, POLICY)
        self.log.append(f"fill {nonce}")
        return (
            operation("signed", kind=FILL_NONCE_GAP, attempts=[replace(NEW, tx_hash="0xgap")]) if nonce != 2 else None
        )

    def _find_doubt(self, each: Operation, policy: Any) -> Doubt | None:
        assert policy is POLICY
        return self.doubt

    # states
    def changed_meanwhile(self, database: Any, each: Operation) -> Operation | None:
        assert database is DATABASE
        return self.meanwhile

    def change(self, database: Any, each: Operation, from_states: Any, **values: Any) -> Operation:
        assert database is DATABASE
        cleared = {name: values.pop(name) for name in NOT_HELD if name in values}
        assert each.state in from_states
        assert cleared in (NOT_HELD, {})
        self.log.append(f"change {' '.join(f'{name}={value}' for name, value in values.items())}".strip())
        return replace(each, **values, **cleared)

    def hold(self, database: Any, each: Operation, cause: HeldCause, reason: str) -> Operation:
        assert database is DATABASE
        self.log.append(f"hold {cause}: {reason}")
        return replace(each, held=reason, held_cause=cause)

    def requeue(self, database: Any, proof: NoEffect, reason: str, *, counts_as_retry: bool = True) -> Operation:
        assert database is DATABASE
        self.log.append(f"start over{'' if counts_as_retry else ' free'}: {reason}")
        return replace(proof.operation, state="prepared", nonce=None)

    def fail(self, database: Any, proof: NoEffect, error: Any, **columns: Any) -> Operation:
        assert database is DATABASE
        self.log.append(f"fail {type(error).__name__} {error.message} {columns or ''}".strip())
        return replace(proof.operation, state="failed")

    def no_funds(self, each: Operation) -> str:
        return "poor"

    NO_BLOCK = module.states.NO_BLOCK
    log_fields = staticmethod(module.states.log_fields)

    # the node
    def transaction_count(self, w3: Any, sender: str, block: str) -> int:
        assert (w3, sender, block) == (W3, PLATFORM, "latest")
        return self.used

    def block_number(self, w3: Any) -> int:
        assert w3 is W3
        return HEAD

    def block_header(self, w3: Any, number: int) -> BlockHeader | None:
        assert w3 is W3
        return BlockHeader(number, "", "", self.headers[number], 7) if number in self.headers else None

    def latest_header(self, w3: Any) -> BlockHeader:
        header = self.block_header(w3, HEAD)
        assert header is not None
        return header

    # other modules
    def _conclude(self, w3: Any, database: Any, each: Operation, final_block: int) -> Any:
        assert (w3, database, final_block) == (W3, DATABASE, FINAL)
        self.log.append("conclude")
        return self.conclusion or each

    def _find_obstacles(self, connection: Any, each: Operation, used: int) -> Obstacles:
        assert (connection, used) == (CONNECTION, self.used)
        return self.obstacles

    def _reason_to_wait(self, obstacles: Obstacles) -> Any:
        assert obstacles is self.obstacles
        return self.waits_for

    def _revert_reason(self, w3: Any, each: Operation, receipt: Any) -> Revert:
        assert (w3, receipt) == (W3, RECEIPT)
        return Revert(self.revert, (), "a reason.")

    def _of_receipt(self, each: Operation, receipt: Any) -> NoEffect:
        assert receipt is RECEIPT
        return NoEffect(each, UsedNonce(receipt.tx_hash, receipt.block_number))

    def _held_seconds(self, connection: Any, key: str) -> float:
        assert (connection, key) == (CONNECTION, "k")
        return self.held_seconds


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# -------------------------------------------------------------------------------------------------- sent, and waiting


@pytest.mark.parametrize(
    ("given", "known", "steps", "state"),
    [
        # nothing is due
        (operation(), {}, [], "submitted"),
        (operation("signed"), {}, [], "signed"),  # its answer was lost: it is sent again
        (operation("signed"), {"has_sent": True}, ["change state=submitted"], "submitted"),
        (operation("signed"), {"has_sent": True, "used": 9}, ["change state=submitted"], "submitted"),
        (operation(), {"has_sent": True}, [], "submitted"),
        # sent again: the node's nonces are looked at
        (operation(), {"due": RESEND}, ["resend"], "submitted"),
        (operation("signed"), {"due": RESEND}, [], "signed"),  # the caller has sent it just now
        (operation(), {"due": RESEND, "used": 5}, ["resend", "conclude"], "submitted"),
        (operation(), {"due": RESEND, "meanwhile": operation("mined")}, [], "mined"),
        (held("no_funds"), {"due": RESEND}, ["resend", "change"], "submitted"),
        (held("refused"), {"due": RESEND}, ["resend", "change"], "submitted"),
        (held("limit"), {"due": RESEND}, ["resend", "change"], "submitted"),
        (held("reorg"), {"due": RESEND}, ["resend", "change"], "submitted"),
        (held("fees_at_cap"), {"due": RESEND}, ["resend"], "submitted"),
        (held("refused"), {"due": RESEND, "takes_it": False}, ["resend"], "submitted"),
        # fees are raised
        (operation(), {"due": BUMP}, ["raise", "send 0xnew"], "submitted"),
        (operation(), {"due": BUMP, "signs": False}, ["raise"], "submitted"),
        (operation(), {"due": BUMP, "used": 5}, ["conclude", "raise", "send 0xnew"], "submitted"),
        (operation(), {"due": Due(True, True)}, ["resend", "raise", "send 0xnew"], "submitted"),
        (operation("signed"), {"due": BUMP}, ["raise", "send 0xnew"], "signed"),
        # abandoned
        (operation(abandoned_at=NOW), {"due": Due(True, True)}, [], "submitted"),
        (operation(abandoned_at=NOW), {"used": 3}, [], "submitted"),
        (operation(abandoned_at=NOW), {"used": 5}, ["conclude"], "submitted"),
    ],
)
def test_what_is_due(world: World, given: Operation, known: dict[str, Any], steps: list[str], state: str) -> None:
    vars(world).update(known)
    outcome = world.follow(given)
    assert (world.log, outcome.state) == (steps, state)
    assert outcome.held == (None if "change" in steps else given.held)


@pytest.mark.parametrize(
    ("kind", "due", "steps"),
    [
        ("KNOWN", NOTHING, []),
        ("NONCE_TOO_LOW", NOTHING, ["conclude"]),
        ("NONCE_TOO_HIGH", NOTHING, []),
        ("UNDERPRICED", NOTHING, ["raise at once", "send 0xnew"]),
        ("FEE_TOO_LOW", NOTHING, ["raise at once", "send 0xnew"]),
        ("FEE_TOO_LOW", BUMP, ["raise", "send 0xnew"]),
        ("NO_FUNDS", NOTHING, ["delay", "hold no_funds: poor"]),
        (
            "POOL_FULL",
            NOTHING,
            ["delay", "hold refused: the node refuses its transaction: words", "mend POOL_FULL", "send 0xnew"],
        ),
    ],
)
def test_what_a_refusal_asks_for(world: World, kind: str, due: Due, steps: list[str]) -> None:
    world.due, world.used = due, 9 if kind == "NONCE_TOO_LOW" else 4
    world.follow(operation("signed"), kind)
    assert world.log == steps
    world.log.clear()
    world.follow(operation(), kind, account=None)
    assert world.log == [step for step in steps if step.split()[0] not in ("raise", "send", "mend")]


def test_the_refusal_of_what_is_sent_again_counts(world: World) -> None:
    world.due, world.refusal, world.takes_it = RESEND, SendRefusal(RefusalKind.NO_FUNDS, "words"), False
    world.follow(operation())
    assert world.log == ["resend", "delay", "hold no_funds: poor"]


@pytest.mark.parametrize(
    ("given", "seconds", "steps"),
    [
        (operation(), 0, ["mend INVALID", "send 0xnew"]),
        (held("no_funds"), 1000, ["mend INVALID", "send 0xnew"]),
        (held("refused"), 600, []),
        (held("refused"), 601, ["give up None", "send 0xnew"]),
        (held("refused", "mined"), 601, []),
        (held("refused", "signed"), 601, ["give up None", "send 0xnew"]),
    ],
)
def test_what_a_node_keeps_refusing_gives_its_nonce_up(
    world: World, given: Operation, seconds: float, steps: list[str]
) -> None:
    world.held_seconds = seconds
    world.follow(given, "INVALID")
    assert world.log == ["delay", "hold refused: the node refuses its transaction: words", *steps]
    world.log.clear()
    world.signs = False
    world.follow(given, "INVALID")
    assert world.log == ["delay", "hold refused: the node refuses its transaction: words", *steps[:1]]


@pytest.mark.parametrize(
    ("given", "conclusion", "steps"),
    [
        (operation(), None, []),
        (held("limit"), None, ["give up None", "send 0xnew"]),  # it is so for long
        (operation(), Mined(operation(), RECEIPT), None),
        (operation(), operation("mined"), None),
    ],
)
def test_bytes_that_this_process_does_not_send(
    world: World, given: Operation, conclusion: Any, steps: list[str] | None
) -> None:
    """They are not mended, and may be mined nevertheless: whoever wrote them may have sent them."""
    world.conclusion, world.held_seconds = conclusion, 601 if given.held else 599
    outcome = world.follow(given, cause=HeldCause.LIMIT)
    assert world.log == ["delay", "hold limit: words", "conclude", *(steps or [])]
    assert steps is not None or outcome is conclusion


# ------------------------------------------------------------------------------------------------- nonces before it


@pytest.mark.parametrize(
    ("known", "steps", "cause"),
    [
        ({"used": 4}, ["change"], None),
        ({"used": 3}, ["change"], None),
        ({"used": 1, "obstacles": Obstacles([operation(attempts=[NEW])], [2, 3], [])}, "filled", None),
        (
            {"used": 1, "obstacles": Obstacles([], [2, 3], []), "waits_for": (HeldCause.NONCE_GAP, "a gap")},
            ["fill 2", "fill 3", "send 0xgap", "hold nonce_gap: a gap"],
            "nonce_gap",
        ),
        ({"used": 1, "obstacles": Obstacles([], range(3, 3 + MAX_GAP), [])}, None, None),
        ({"used": 1, "obstacles": Obstacles([], range(3, 4 + MAX_GAP), [])}, ["change"], None),
        ({"used": 4, "waits_for": (HeldCause.NONCE_GAP, "a gap")}, ["change"], None),
    ],
)
@pytest.mark.parametrize("kind", [None, "NONCE_TOO_HIGH"])
def test_what_lies_before_it(world: World, kind: str | None, known: dict[str, Any], steps: Any, cause: Any) -> None:
    vars(world).update(known)
    world.due = Due(kind is None, False)
    outcome = world.follow(held("nonce_gap"), kind)
    expected = steps
    if steps == "filled":
        expected = ["fill 2", "fill 3", "send 0xgap", *(["send 0xnew"] if kind else []), "change"]
    elif steps is None:
        expected = [step for n in range(3, 3 + MAX_GAP) for step in (f"fill {n}", "send 0xgap")] + ["change"]
    raised = [] if kind or cause else ["raise", "send 0xnew"]
    assert world.log == expected + raised
    assert outcome.held_cause == cause


def test_gaps_of_an_account_that_is_not_ours_are_not_filled(world: World) -> None:
    world.unmined._accounts = []
    world.used, world.obstacles = 1, Obstacles([], [2, 3], [])
    world.follow(operation(), "NONCE_TOO_HIGH")
    assert world.log == []


@pytest.mark.parametrize("cause", list(HeldCause))
def test_only_waiting_for_others_ends_when_they_are_on_their_way(world: World, cause: HeldCause) -> None:
    world.due = BUMP
    world.follow(held(cause))
    ends = cause in ("nonce_gap", "earlier")
    assert world.log == [*(["change"] if ends else []), "raise", "send 0xnew"]


@pytest.mark.parametrize("cause", ["nonce_gap", "earlier"])
def test_fees_are_not_raised_of_what_waits_for_others(world: World, cause: str) -> None:
    world.due, world.used, world.waits_for = BUMP, 2, (HeldCause(cause), "another")
    world.follow(operation())
    assert world.log == [f"hold {cause}: another"]
