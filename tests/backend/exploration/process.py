"""A process of the backend that stops at each request, and is run again from its beginning for each further answer.

A process sends requests to the node and statements to the database. Its next one follows from the answers that it got.
So its progress is stored as the list of its answers. When these are used up, the next request ends the run
(`_Pending`).
The backend's own code runs; only the provider of its web3 and its connections are replaced.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any

from app.core.errors import ChainUnavailable, InterventionRefused
from app.db.statements import Rows
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from sqlalchemy import CursorResult
from sqlalchemy.exc import OperationalError
from web3 import Web3
from web3.providers import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from .chain import CHAIN_ID, CONTRACT, PLATFORM

CONFIRMATIONS = 2
MAX_FEE = 4 * 10**9
"""The cap in wei per gas; the fees of a first attempt can be raised once or twice below it."""
HELD_FOR_LONG = timedelta(hours=1)
_WITHOUT_MEMORY = ("codec", "health", "head", "log_reader")
"""Modules whose objects remember nothing that changes what a process does here."""
ALWAYS_THE_SAME = {"eth_chainId": hex(CHAIN_ID), "eth_estimateGas": hex(100_000), "eth_getBalance": hex(10**20)}
"""Answers that nothing in an exploration changes, so that they are no place to come between."""


@dataclass(frozen=True)
class Request:
    """What a process waits for: of the node (method, params) or of the database (statement, params).

    The method of a statement is "statement", "transaction" for the first one of a transaction, or "continued" for one
    that follows in the same transaction.
    """

    method: str
    params: Any
    statement: Any = None


@dataclass(frozen=True)
class Process:
    """A program on the backend's code.

    Attributes:
        program: What it does, in order: "load" the operation, one "step" of the sender with it, a "full" round of the
            reconciler or an ordinary "round"; or what an operator does, "retry", "cancel" or "abandon".
        key: The operation that "load" loads.
        raises_fees: Whether each look at a transaction without a receipt raises its fees.
        repeats: Whether the last part of the program is repeated for ever.
        has_key: Whether it has the platform's key; otherwise another one, as after a new wallet was set up.
    """

    program: tuple[str, ...]
    key: str = ""
    raises_fees: bool = False
    repeats: bool = False
    has_key: bool = True


@dataclass(frozen=True)
class Progress:
    """How far a process has got.

    Attributes:
        answers: All that it got so far.
        request: What it waits for; None when it is done.
        is_within: Whether it has begun a step or round that it has not ended.
        memory: A digest of what it remembers.
    """

    answers: tuple[Any, ...]
    request: Request | None
    is_within: bool
    memory: str


class _Pending(BaseException):
    """A process has no answer to this request yet."""

    def __init__(self, request: Request) -> None:
        self.request = request


Ask = Callable[[Request], Any]


class _Provider(JSONBaseProvider):
    """Asks for the process that runs."""

    ask: Ask

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        if method in ALWAYS_THE_SAME:
            return {"jsonrpc": "2.0", "id": 1, "result": ALWAYS_THE_SAME[method]}
        answer: RPCResponse = self.ask(Request(str(method), params))
        return answer


class Answer:
    """The result of a statement, to be read any number of times."""

    def __init__(self, result: CursorResult[Any] | Rows) -> None:
        self._rowcount = result.rowcount
        self._rows: Callable[[], Any] | None
        if isinstance(result, Rows):
            self._rows = lambda: result
        else:
            self._rows = result.freeze() if result.returns_rows else None

    def read(self) -> Any:
        return SimpleNamespace(rowcount=self._rowcount) if self._rows is None else self._rows()

    def plain(self) -> Any:
        return self._rowcount, [] if self._rows is None else [plain(tuple(row)) for row in self._rows().all()]


class _Connection:
    """Statements of a transaction are asked as one, as row locks let no one come between."""

    def __init__(self, ask: Ask, method: str) -> None:
        self._ask, self._method = ask, method

    def execute(self, statement: Any, params: Any = None) -> Any:
        answer: Answer = self._ask(Request(self._method, params, statement))
        self._method = "continued" if self._method != "statement" else self._method
        return answer.read()

    def exec_driver_sql(self, statement: str) -> None:
        assert statement.startswith("LOCK TABLE"), statement  # its transaction is asked as one all the same

    def scalars(self, statement: Any, params: Any = None) -> Any:
        return self.execute(statement, params).scalars()

    def scalar(self, statement: Any, params: Any = None) -> Any:
        return self.execute(statement, params).scalar()


class _Database:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    @contextmanager
    def autocommit(self) -> Iterator[Any]:
        yield _Connection(self._ask, "statement")

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        yield _Connection(self._ask, "transaction")


class _Account(LocalAccount):
    """The platform's account. It remembers its signatures, as each run of a process asks for the same ones."""

    def sign_transaction(self, transaction_dict: Any, **options: Any) -> Any:
        key = repr(transaction_dict)
        if key not in _SIGNED:
            _SIGNED[key] = super().sign_transaction(transaction_dict, **options)
        return _SIGNED[key]


_SIGNED: dict[str, Any] = {}
_ACCOUNT = _Account(PLATFORM._key_obj, Account)
_OTHER_ACCOUNT = _Account(Account.from_key(keccak(text="another platform"))._key_obj, Account)
_PROVIDER = _Provider()
_W3 = Web3(_PROVIDER, [])


def code(module: str) -> ModuleType:
    """A module of `app.services` as it is at present: a test of an old bug loads others for a while."""
    return importlib.import_module(f"app.services.{module}")


class Services:
    """The backend's services, as a process has them."""

    def __init__(self, database: Any, ask: Ask, *, raises_fees: bool = False, has_key: bool = True) -> None:
        """Args:
        database: Gives the connections.
        ask: Answers requests to the node.
        raises_fees: As `Process.raises_fees`.
        has_key: As `Process.has_key`.
        """
        options: dict[str, Any] = {"bump_after": 0 if raises_fees else 10**9, "resend_after": 0, "give_up_after": 0}
        policy_type = code("transactions.policy").TransactionPolicy
        seconds = HELD_FOR_LONG.total_seconds()
        further = {"bump_blocks": 0, "hold_after": 0, "replace_after": seconds, "expire_after": seconds}
        options |= {name: value for name, value in further.items() if name in policy_type.__dataclass_fields__}
        policy = policy_type(confirmations=CONFIRMATIONS, max_fee_per_gas=MAX_FEE, **options)
        _PROVIDER.ask = ask
        clock = count(0.0).__next__  # each look at it is a second later than the one before
        self.database, account = database, _ACCOUNT if has_key else _OTHER_ACCOUNT
        self.sender = code("transactions.sender").TransactionSender(_W3, account, database, policy, clock=clock)
        self.chain = code("blockchain_service").BlockchainService(_W3, CONTRACT.address, self.sender)
        runs = code("event_run_service").EventRunService(database, self.chain, None)
        self.reconciler = code("reconciler").Reconciler(database, self.chain, runs, 0)
        self._operator = code("interventions").Interventions(_W3, database, self.sender, "operator")

    def carry_out(self, command: str, key: str, operation: Any) -> Any:
        """Carries one part of a program out, and returns the operation as it knows it then."""
        if command == "load":
            return self._load(key)
        with suppress(ChainUnavailable, InterventionRefused, OperationalError):  # the next step or round looks again
            if command == "step":
                return self.sender.step(operation)
            if command in ("retry", "cancel", "abandon"):
                self._operator.intervene(command, operation)
            elif command == "full":
                self.reconciler.run_full()
            else:
                self.reconciler.run_once(timedelta(0))
        return operation

    def _load(self, key: str) -> Any:
        while True:  # a client that gets no answer asks again
            with suppress(OperationalError), self.database.autocommit() as connection:
                return code("operations").find(connection, key)


class Execution:
    """Runs a process from its beginning: on the answers that it got before, and then on others.

    Args:
        process: The process.
        answers: What it got before.
        further: Gives each further answer.
    """

    def __init__(self, process: Process, answers: Sequence[Any], further: Ask) -> None:
        self._process, self._before, self._further = process, iter(answers), further
        self._services = Services(
            _Database(self._ask), self._ask, raises_fees=process.raises_fees, has_key=process.has_key
        )
        self._operation: Any = None
        self._position = 0
        self._since_begin: list[Any] = []
        self.is_anew = False

    def parts(self) -> Iterator[None]:
        """Carries its program out; comes back after each part."""
        program, last = self._process.program, len(self._process.program) - 1
        while self._position <= last:
            _PROVIDER.ask = self._ask
            self._operation = self._services.carry_out(program[self._position], self._process.key, self._operation)
            self._position += 0 if self._position == last and self._process.repeats else 1
            self._since_begin.clear()
            yield

    @property
    def is_within(self) -> bool:
        """Whether it has begun a part that it has not ended."""
        return bool(self._since_begin)

    def memory(self) -> str:
        """A digest of what it remembers between two parts."""
        services = self._services
        return digest(self._position, plain((self._operation, vars(services.sender), vars(services.reconciler)), set()))

    def _ask(self, request: Request) -> Any:
        try:
            answer = next(self._before)
        except StopIteration:
            self.is_anew = True
            answer = self._further(request)
        self._since_begin.append(answer)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def run(process: Process, before: Progress | None, *answers: Any) -> Progress:
    """Runs a process from its beginning on the answers that it got before, and on further ones."""

    def stop(request: Request) -> Any:
        raise _Pending(request)

    all_answers = (*(before.answers if before else ()), *answers)
    execution, request = Execution(process, all_answers, stop), None
    try:
        for _ in execution.parts():
            pass
    except _Pending as pending:
        request = pending.request
    if before is None or not execution.is_within:
        memory = execution.memory()
    else:
        memory = digest(before.memory, [plain(answer) for answer in answers])
    return Progress(all_answers, request, execution.is_within, memory)


def digest(*parts: Any) -> str:
    return keccak(text=repr(parts)).hex()


def plain(value: Any, seen: set[int] | None = None) -> Any:
    """A value without times and what has no content, to compare what a process remembers.

    Args:
        value: Any value.
        seen: Objects of services that are in the result already.
    """
    if isinstance(value, str | int | bytes | bool) or value is None:
        return value
    if isinstance(value, Answer):
        return value.plain()
    if isinstance(value, Exception):
        return repr(value)
    if isinstance(value, dict):
        return [(key, plain(item, seen)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [plain(item, seen) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [plain(getattr(value, each.name), seen) for each in fields(value)]
    module = type(value).__module__
    is_service = module.startswith("app.services.") and module.rpartition(".")[2] not in _WITHOUT_MEMORY
    if is_service and hasattr(value, "__dict__") and seen is not None and id(value) not in seen:
        seen.add(id(value))
        return plain(vars(value), seen)
    return type(value).__name__  # times, locks, and what is the same in every run
