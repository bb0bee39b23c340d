"""Every interleaving of workers that carry operations out, on a chain to which things happen.

A state consists of the rows in the database, the chain, and the progress of each worker. A worker sends requests to the
node and statements to the database. Its next one follows from the answers that it got. So a worker is stored as its
list of answers, and is run again from its beginning for each further answer. When the answers are used up, the next
request ends the run (`_Pending`). The backend's own code runs; only the provider of its web3 and its connections are
replaced.

From each state the exploration follows each worker's next answer, faulty ones included, and all that may happen to the
chain, within a budget for each kind of event. It does not follow a state a second time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import count
from typing import Any

import requests
from app.core.errors import ChainUnavailable
from app.services import operations as table
from app.services.codec import event_stake_codec
from app.services.operation_types import CLOSED_STATES, Draft, Operation
from app.services.transactions import sender as sending
from app.services.transactions.limits import Sealer
from app.services.transactions.policy import TransactionPolicy
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from sqlalchemy import Connection, FrozenResult
from web3 import Web3
from web3.middleware import AttributeDictMiddleware
from web3.providers import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from .chain import CONTRACT, PLATFORM, Chain, Refusal, Transaction

CHAIN_ID = 1
CONFIRMATIONS = 2
SEND = "eth_sendRawTransaction"
READS_OF_THE_CHAIN = ("eth_blockNumber", "eth_getBlockByNumber", "eth_getTransactionCount", "eth_getTransactionReceipt")


@dataclass(frozen=True)
class Request:
    """What a worker waits for: of the node (method, params) or of the database (statement, params)."""

    method: str
    params: Any
    statement: Any = None


class _Pending(BaseException):
    """A worker has no answer to this request yet."""

    def __init__(self, request: Request) -> None:
        self.request = request


@dataclass(frozen=True)
class Worker:
    """A process that carries one operation out.

    Attributes:
        key: The operation.
        program: What it does, in order: "load" the operation from the database, or one "step" of the sender.
        raises_fees: Whether each look at a transaction without a receipt raises its fees.
    """

    key: str
    program: tuple[str, ...]
    raises_fees: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a worker has got.

    Attributes:
        answers: All that it got so far.
        request: What it waits for; None when it is done.
        within_step: Whether it has begun a step that it has not ended.
        memory: A digest of what it remembers.
    """

    answers: tuple[Any, ...] = ()
    request: Request | None = None
    within_step: bool = False
    memory: str = ""


@dataclass(frozen=True)
class State:
    """One state of everything.

    Attributes:
        database: The rows of `operations` and `nonces` as JSON.
        running: The worker that is within a step, if one was not interrupted.
        budget: How often each kind of event may still happen.
        history: How it came about, for a person.
    """

    chain: Chain
    database: str
    workers: tuple[Progress, ...]
    budget: tuple[tuple[str, int], ...]
    running: int | None = None
    history: tuple[str, ...] = field(default=(), compare=False)

    def digest(self) -> bytes:
        rows = json.loads(self.database)
        for row in rows["operations"]:
            row["created_at"] = row["updated_at"] = None
        parts = (
            repr(self.chain),
            json.dumps(rows, sort_keys=True),
            [w.memory for w in self.workers],
            self.budget,
            self.running,
        )
        return bytes(keccak(text=repr(parts)))

    def spend(self, event: str) -> State | None:
        """The state with one less of this event; None where there is none left."""
        budget = dict(self.budget)
        if not budget.get(event):
            return None
        budget[event] -= 1
        return replace(self, budget=tuple(budget.items()), history=(*self.history, event))


class Violation(AssertionError):
    """Something that must hold does not; its text has the history."""


# --------------------------------------------------------------------------------------------------- a worker, run anew


class _Provider(JSONBaseProvider):
    """Asks for the worker that runs."""

    ask: Callable[[Request], Any]

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer: RPCResponse = self.ask(Request(str(method), params))
        return answer


class _Connection:
    """Statements of a transaction are asked as one, as row locks let no one come between."""

    def __init__(self, ask: Callable[[Request], Any], method: str) -> None:
        self._ask, self._method = ask, method

    def execute(self, statement: Any, params: Any = None) -> Any:
        frozen: FrozenResult = self._ask(Request(self._method, params, statement))
        self._method = "continued" if self._method != "statement" else self._method
        return frozen()


class _Database:
    def __init__(self, ask: Callable[[Request], Any]) -> None:
        self._ask = ask

    @contextmanager
    def autocommit(self) -> Iterator[Any]:
        yield _Connection(self._ask, "statement")

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        yield _Connection(self._ask, "transaction")


class _Account(LocalAccount):
    """The platform's account. It remembers its signatures, as each run of a worker asks for the same ones."""

    def sign_transaction(self, transaction_dict: Any, **options: Any) -> Any:
        key = repr(transaction_dict)
        if key not in _SIGNED:
            _SIGNED[key] = super().sign_transaction(transaction_dict, **options)
        return _SIGNED[key]


_SIGNED: dict[str, Any] = {}
_ALWAYS_THE_SAME = {"eth_estimateGas": 100_000, "eth_chainId": CHAIN_ID, "eth_getBalance": 10**24}
_ACCOUNT = _Account(PLATFORM._key_obj, Account)
_PROVIDER = _Provider()
_W3 = Web3(_PROVIDER, [AttributeDictMiddleware])


def run(worker: Worker, answers: Sequence[Any]) -> Progress:
    """Runs a worker from its beginning on these answers."""
    waiting = iter(answers)
    since_step: list[Any] = []

    def ask(request: Request) -> Any:
        if request.method in _ALWAYS_THE_SAME:  # so it is no place to come between
            return {"jsonrpc": "2.0", "id": 1, "result": hex(_ALWAYS_THE_SAME[request.method])}
        try:
            answer = next(waiting)
        except StopIteration:
            raise _Pending(request) from None
        since_step.append(answer)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    database: Any = _Database(ask)
    policy = TransactionPolicy(
        confirmations=CONFIRMATIONS,
        resend_after=0,
        bump_after=0 if worker.raises_fees else 10**9,
        bump_blocks=0,
        give_up_after=0,
    )
    _PROVIDER.ask = ask
    clock = count(0.0).__next__  # each look at it is a second later than the one before
    sender = sending.TransactionSender(_W3, _ACCOUNT, database, policy, clock=clock)
    sender.allow(CONTRACT.address)
    operation: Operation | None = None
    request, position = None, 0
    try:
        for command in worker.program:
            since_step.clear()
            if command == "load":
                with database.autocommit() as connection:
                    operation = table.find(connection, worker.key)
            else:
                assert operation is not None
                with suppress(ChainUnavailable):  # the next step looks again, as in `finish` and the reconciler
                    operation = sender.step(operation)
            position += 1
        since_step.clear()
    except _Pending as pending:
        request = pending.request
    within_step = request is not None and bool(since_step)
    memory = (position, _plain(operation), _plain(vars(sender)), [_plain(answer) for answer in since_step])
    return Progress(tuple(answers), request, within_step, keccak(text=repr(memory)).hex())


def _plain(value: Any) -> Any:
    """A value without times and what has no content, to compare what a worker remembers."""
    if isinstance(value, FrozenResult):
        return [_plain(tuple(row)) for row in value().all()]
    if is_dataclass(value) and not isinstance(value, type):
        return [_plain(getattr(value, each.name)) for each in fields(value)]
    if isinstance(value, dict):
        return [(key, _plain(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | bytes | bool) or value is None:
        return value
    if type(value).__module__.startswith("app.services.transactions"):
        return _plain(vars(value))
    return type(value).__name__  # times, locks, and what is the same in every run


# --------------------------------------------------------------------------------------------------------- exploration


class Exploration:
    """Explores from one beginning, on a database of its own."""

    def __init__(
        self,
        connection: Connection,
        workers: Sequence[Worker],
        budget: dict[str, int],
        before: Sequence[tuple[Worker, Sequence[str]]] = (),
    ) -> None:
        """Args:
        connection: To a migrated database of the exploration's own, which commits each statement.
        workers: What is interleaved.
        budget: How often each kind of event may happen, and how often a worker may be interrupted within a step.
        before: Workers that have run to their end before, and the events after each.
        """
        self._connection = connection
        self._workers = workers
        self._in_database: str | None = None
        self._settled: set[bytes] = set()
        self.visited: set[bytes] = set()
        self.transitions = 0
        self.reached: Counter[str] = Counter()
        self.start = self._begin(budget, before)

    def explore(self, most: int | None = None) -> None:
        """Visits every state that can be reached, depth first.

        Args:
            most: How many states at the most.

        Raises:
            Violation: Something does not hold.
        """
        stack = [self.start]
        self.visited.add(self.start.digest())
        while stack and (most is None or len(self.visited) < most):
            state = stack.pop()
            self._check(state)
            following = list(self._following(state))
            self.transitions += len(following)
            if all(worker.request is None for worker in state.workers):
                self._settle(state)
            for after in following:
                digest = after.digest()
                if digest not in self.visited:
                    self.visited.add(digest)
                    stack.append(after)

    # ----------------------------------------------------------------------------------------------- what follows

    def _begin(self, budget: dict[str, int], before: Sequence[tuple[Worker, Sequence[str]]]) -> State:
        self._connection.exec_driver_sql("DELETE FROM operations; DELETE FROM nonces")
        for key in sorted({worker.key for worker in self._workers}):
            call = event_stake_codec().call(CONTRACT.address, "bookEventFor", PLATFORM.address, ord(key), 1, value=1)
            draft = Draft(call, CHAIN_ID, PLATFORM.address, seal=Sealer(PLATFORM).seal)
            table.create(self._connection, key, "", draft)
        state = State(Chain(), self._read(), (), ())
        for worker, events in before:
            state = self._run_alone(state, worker)
            for event in events:
                state = replace(state, chain=getattr(state.chain, event)())
        progress = tuple(run(worker, ()) for worker in self._workers)
        return replace(state, workers=progress, budget=tuple(budget.items()), running=None)

    def _run_alone(self, state: State, worker: Worker, *, blocks: bool = False) -> State:
        """Runs a worker to its end, undisturbed.

        Args:
            state: From where. Its workers are replaced by this one.
            worker: What is run.
            blocks: Whether a block is mined after each transaction that is sent, and each receipt that is asked for.
        """
        state = replace(state, workers=(run(worker, ()),))
        while (request := state.workers[0].request) is not None:
            if request.statement is not None:
                state = self._after_statement(state, worker, request)
            else:
                chain, answer = _ask(state.chain, request)
                state = self._continue(replace(state, chain=chain), worker, answer)
            if blocks and request.method in (SEND, "eth_getTransactionReceipt"):
                state = replace(state, chain=state.chain.mine())
        return state

    def _following(self, state: State) -> Iterator[State]:
        for index, progress in enumerate(state.workers):
            if progress.request is None:
                continue
            interrupts = state.running not in (None, index)
            if allowed := state.spend("interruption") if interrupts else state:
                yield from self._answered(allowed, index, progress.request)
        yield from self._events(state)

    def _answered(self, state: State, index: int, request: Request) -> Iterator[State]:
        """The worker gets its answer: the true one, or a faulty one."""
        worker = self._workers[index]
        if request.statement is not None:
            yield self._after_statement(state, worker, request, index)
            return
        chain, answer = _ask(state.chain, request)
        yield self._continue(replace(state, chain=chain), worker, answer, index)
        if request.method == SEND:
            if spent := state.spend("lost request"):
                yield self._continue(spent, worker, requests.ReadTimeout("timed out"), index)
            if spent := state.spend("lost answer"):
                yield self._continue(replace(spent, chain=chain), worker, requests.ReadTimeout("timed out"), index)
        elif request.method in READS_OF_THE_CHAIN and (spent := state.spend("lagging node")):
            _, stale = _ask(state.chain.behind(), request)
            if stale != answer:
                yield self._continue(spent, worker, stale, index)

    def _after_statement(self, state: State, worker: Worker, request: Request, index: int = 0) -> State:
        """Carries out a statement, and what follows it in the same transaction."""
        self._restore(state.database)
        while True:
            result = self._connection.execute(request.statement, request.params)
            answer = result.freeze()
            state = self._continue(replace(state, database=self._read()), worker, answer, index)
            following = state.workers[index].request
            if following is None or following.method != "continued":
                return state
            request = following

    def _continue(self, state: State, worker: Worker, answer: Any, index: int = 0) -> State:
        before = state.workers[index]
        after = run(worker, (*before.answers, answer))
        workers = (*state.workers[:index], after, *state.workers[index + 1 :])
        asked = before.request.method if before.request else ""
        running = index if after.within_step else None
        return replace(state, workers=workers, running=running, history=(*state.history, f"worker {index}: {asked}"))

    def _events(self, state: State) -> Iterator[State]:
        chain = state.chain
        if spent := state.spend("block"):
            yield replace(spent, chain=chain.mine())
        if spent := state.spend("foreign transaction"):
            yield replace(spent, chain=chain.mine_foreign())
        if chain.mempool and (spent := state.spend("mempool dropped")):
            yield replace(spent, chain=chain.drop_mempool())
        for depth in range(1, CONFIRMATIONS):
            if any(block.transactions for block in chain.blocks[-depth:]) and (spent := state.spend("reorganisation")):
                yield replace(spent, chain=chain.reorganise(depth, keep=True))
                yield replace(spent, chain=chain.reorganise(depth, keep=False))

    # --------------------------------------------------------------------------------------------- the database

    def _read(self) -> str:
        text = self._connection.exec_driver_sql(
            "SELECT jsonb_build_object("
            "'operations', (SELECT coalesce(jsonb_agg(o ORDER BY key), '[]') FROM operations o), "
            "'nonces', (SELECT coalesce(jsonb_agg(n), '[]') FROM nonces n))::text"
        ).scalar_one()
        self._in_database = str(text)
        return self._in_database

    def _restore(self, content: str) -> None:
        if content == self._in_database:
            return
        self._connection.exec_driver_sql("WITH old AS (DELETE FROM operations), older AS (DELETE FROM nonces) SELECT 1")
        self._connection.exec_driver_sql(
            "WITH new AS (INSERT INTO operations SELECT * FROM jsonb_populate_recordset(NULL::operations, "
            "%(content)s::jsonb->'operations')) INSERT INTO nonces SELECT * FROM jsonb_populate_recordset("
            "NULL::nonces, %(content)s::jsonb->'nonces')",
            {"content": content},
        )
        self._in_database = content

    # ------------------------------------------------------------------------------------------- what must hold

    def _check(self, state: State) -> None:
        """What must hold in every state."""
        chain = state.chain
        mined, final = chain.mined(), chain.height - CONFIRMATIONS + 1
        rows = json.loads(state.database)["operations"]
        stored = {attempt["hash"]: row["key"] for row in rows for attempt in row["attempts"]}
        ours = [tx for tx in (*chain.mempool, *(t for b in chain.blocks for t in b.transactions)) if not _foreign(tx)]
        self._must(all(tx.hash in stored for tx in ours), state, "a transaction was sent before it was stored")
        for row in rows:
            self.reached[row["state"]] += 1
            self._check_row(state, row, mined, final)
        taken = [(row["nonce"], row["key"]) for row in rows if row["nonce"] is not None]
        self._must(len({nonce for nonce, _ in taken}) == len(taken), state, "two operations have one nonce")

    def _check_row(self, state: State, row: dict[str, Any], mined: dict[str, int], final: int) -> None:
        attempts = row["attempts"]
        effects = [attempt for attempt in attempts if attempt["hash"] in mined]
        self._must(len(effects) <= 1, state, f"{row['key']} has {len(effects)} effects")
        for nonce in sorted({attempt["nonce"] for attempt in attempts}):
            if nonce != row["nonce"]:
                winner = state.chain.at_nonce(nonce)
                gone = winner is not None and mined[winner.hash] <= final and _foreign(winner)
                self._must(gone, state, f"{row['key']} left nonce {nonce}, which may still be its own")
        if row["state"] == "confirmed":
            deep = mined.get(row["tx_hash"], final + 1) <= final
            self._must(deep, state, f"{row['key']} is confirmed, and its transaction is not final")
        if row["state"] == "failed":
            winner = state.chain.at_nonce(row["nonce"])
            gone = winner is not None and mined[winner.hash] <= final and _foreign(winner)
            self._must(gone, state, f"{row['key']} has failed, and its transaction may still be mined")
        self._must(row["state"] != "rejected", state, f"{row['key']} was rejected for no reason")

    def _settle(self, state: State) -> None:
        """All workers are gone. One that comes later closes every operation: with one effect, or with none."""
        key = replace(state, workers=(), budget=()).digest()
        if key in self._settled:
            return
        self._settled.add(key)
        for row in json.loads(state.database)["operations"]:
            if row["state"] not in CLOSED_STATES:
                state = self._run_alone(state, Worker(row["key"], ("load", *["step"] * 12)), blocks=True)
                self._check(state)
        for row in json.loads(state.database)["operations"]:
            self._must(row["state"] in CLOSED_STATES, state, f"{row['key']} is {row['state']} for ever: {row['held']}")

    def _must(self, holds: bool, state: State, what: str) -> None:
        if not holds:
            rows = json.dumps(json.loads(state.database)["operations"], indent=1)
            raise Violation(f"{what}\n" + "\n".join(state.history) + f"\n{rows}\n{state.chain}")


def _foreign(tx: Transaction) -> bool:
    return tx.data == b"foreign"


def _ask(chain: Chain, request: Request) -> tuple[Chain, Any]:
    try:
        if request.method == SEND:
            chain, result = chain.send(request.params[0])
        else:
            result = chain.answer(request.method, request.params)
    except Refusal as refusal:
        return chain, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": str(refusal)}}
    return chain, {"jsonrpc": "2.0", "id": 1, "result": result}
