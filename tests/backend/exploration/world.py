"""The database of an exploration, and what a process does next: each found out once, and remembered.

Chains, contents of the database and progresses of processes have numbers, so that a state is a few numbers. Many
states have the same process before the same answer: the backend's code runs only for the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import requests
from app.db.statements import Compiled
from app.db.tables import event_run_bookings, event_runs, experiences, users
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from .chain import PLATFORM, RUN_ID, SEAT_PRICE, SEAT_STAKE, Chain, Refusal
from .process import Answer, Execution, Process, Progress, Request, Services, code, plain, run

SEND = "eth_sendRawTransaction"
READS = (
    "eth_blockNumber",
    "eth_getBlockByNumber",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "eth_getLogs",
)
REFUSALS = (
    "already known",
    "nonce too low",
    "replacement transaction underpriced",
    "transaction lacks the right spirit",
)
"""Words with which a node refuses a transaction without a reason. Nobody knows the last ones."""
TABLES = (
    "event_runs",
    "event_run_bookings",
    "operations",
    "nonces",
    "chain_cursors",
    "orphans",
    "exploration_clock",
    "operation_totals",
)
"""Tables that change, each after those that it refers to. A trigger writes the last one."""
CLOCK = """
    CREATE TABLE public.exploration_clock (now timestamptz);
    INSERT INTO public.exploration_clock VALUES ('2026-01-01T00:00Z');
    CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT now FROM public.exploration_clock';
"""
"""Replaces PostgreSQL's clock where `public` comes before `pg_catalog` in the search path: time stands still, so that
the same statement gives the same content."""
SEATS = {"a": 1, "b": 2}
"""Operations by key, with the number of seats that each books."""

T = TypeVar("T", bound=Hashable)


class Numbers(Generic[T]):
    """Numbers for values."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._values: list[T] = []

    def number(self, value: T, key: Hashable = None) -> int:
        """The number of a value, or of the first one with this key."""
        key = value if key is None else key
        if key not in self._numbers:
            self._numbers[key] = len(self._values)
            self._values.append(value)
        return self._numbers[key]

    def __getitem__(self, number: int) -> T:
        return self._values[number]

    def __len__(self) -> int:
        return len(self._values)


class World:
    """Chains, databases and progresses by number, and what follows from what.

    Args:
        connection: To a migrated database of the exploration's own, which commits each statement.
        processes: What runs in it. The index of each is its number.
    """

    def __init__(self, connection: Connection, processes: Sequence[Process]) -> None:
        self._connection = connection
        self.processes = processes
        self.chains: Numbers[Chain] = Numbers()
        self.databases: Numbers[str] = Numbers()
        self.progresses: Numbers[Progress] = Numbers()
        self._in_database = -1
        self._executed: dict[Hashable, tuple[Answer, int]] = {}
        self._writes: dict[Hashable, bool] = {}  # by statement
        self._starts: dict[int, int] = {}
        self._parsed: dict[int, dict[str, Any]] = {}
        self._after_answer: dict[tuple[int, int, str], int] = {}
        self._after_statement: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._answered: dict[tuple[int, int, int], list[tuple[str | None, int, int]]] = {}

    def tables(self, database: int) -> dict[str, Any]:
        """The rows of each table."""
        if database not in self._parsed:
            self._parsed[database] = json.loads(self.databases[database])
        return self._parsed[database]

    # --------------------------------------------------------------------------------------------- processes

    def start(self, process: int) -> int:
        """The progress of a process that has just started."""
        if process not in self._starts:
            self._starts[process] = self._number(process, run(self.processes[process], None))
        return self._starts[process]

    def answered(self, process: int, progress: int, chain: int) -> list[tuple[str | None, int, int]]:
        """What a node may answer: the fault (None for the true answer), the chain afterwards, the progress."""
        key = (process, progress, chain)
        if key not in self._answered:
            request = self.progresses[progress].request
            assert request is not None
            self._answered[key] = [
                (fault, self.chains.number(after), self.after_answer(process, progress, answer))
                for fault, after, answer in answers(self.chains[chain], request)
            ]
        return self._answered[key]

    def after_answer(self, process: int, progress: int, answer: Any) -> int:
        """The progress after one more answer."""
        key = (process, progress, repr(plain(answer)))
        if key not in self._after_answer:
            after = run(self.processes[process], self.progresses[progress], answer)
            self._after_answer[key] = self._number(process, after)
        return self._after_answer[key]

    def after_statement(self, process: int, progress: int, database: int) -> tuple[int, int]:
        """Progress and database after a statement, and all that follow it in the same transaction."""
        key = (process, progress, database)
        if key not in self._after_statement:
            now, after, request = progress, database, self.progresses[progress].request
            while True:
                assert request is not None
                answer, after = self._execute(after, request)
                now = self.after_answer(process, now, answer)
                request = self.progresses[now].request
                if request is None or request.method != "continued":
                    break
            self._after_statement[key] = now, after
        return self._after_statement[key]

    def after_failed_statement(self, process: int, progress: int) -> int:
        """The progress after a statement that the database did not answer."""
        return self.after_answer(process, progress, OperationalError("", {}, Exception("server closed the connection")))

    def _number(self, process: int, progress: Progress) -> int:
        request = progress.request and (progress.request.method, repr(progress.request.params))
        return self.progresses.number(progress, (process, progress.memory, request))

    def undisturbed(self, process: int, progress: int, chain: int, database: int) -> Iterator[tuple[int, int, str]]:
        """Lets a process go on with no fault and no other process.

        Yields:
            Chain, database and its memory after each part of its program. A block is mined afterwards.
        """
        now = self.chains[chain]

        def ask(request: Request) -> Any:
            nonlocal now, database
            if request.statement is not None:
                answer, database = self._execute(database, request)
            else:
                now, answer = _ask(now, request)
            return answer

        execution = Execution(self.processes[process], self.progresses[progress].answers, ask)
        for _ in execution.parts():
            if execution.is_anew:
                yield self.chains.number(now), database, execution.memory()
                now = now.mine()

    # --------------------------------------------------------------------------------------------- the database

    def fill(self, keys: Sequence[str]) -> int:
        """Empties the database, stores an operation with each key, and returns its number."""
        connection = self._connection
        connection.exec_driver_sql(
            f"TRUNCATE {', '.join(set(TABLES) - {'exploration_clock'})}, experiences, users CASCADE"
        )
        host = connection.execute(users.insert().values(name="host").returning(users.c.id)).scalar_one()
        statement = experiences.insert().values(host_id=host, title="experience").returning(experiences.c.id)
        of_run = {"host_id": host, "experience_id": connection.execute(statement).scalar_one()}
        of_run |= {"starts_at": "2033-01-01T00:00Z", "max_seats": 10, "price_inr": 1, "blockchain_status": "confirmed"}
        of_run |= {"blockchain_event_run_id": RUN_ID, "blockchain_block": 1}
        run_id = connection.execute(event_runs.insert().values(**of_run).returning(event_runs.c.id)).scalar_one()
        services = Services(None, _no_request)
        for key in keys:
            self._let_pass("1 second")
            seats = SEATS[key]
            total = seats * (SEAT_PRICE + SEAT_STAKE)
            call = services.chain.book_event_call(RUN_ID, seats, attendee=PLATFORM.address, total_wei=total)
            booking = {"event_run_id": run_id, "user_id": host, "seats": seats, "total_inr": 1}
            new_row = code("operation_types").NewRow(event_run_bookings, booking)
            code("operations").create(connection, key, "", services.sender.draft(call, None, new_row))
        return self.read()

    def _let_pass(self, interval: str) -> None:
        self._connection.exec_driver_sql(f"UPDATE exploration_clock SET now = now + interval '{interval}'")

    def _execute(self, database: int, request: Request) -> tuple[Answer, int]:
        """The answer to a statement on a content of the database, and the content afterwards."""
        identity, values = _identity(request.statement)
        key = (database, identity, repr(values), repr(request.params))
        if key not in self._executed:
            self._restore(database)
            answer = Answer(self._connection.execute(request.statement, request.params))
            if identity not in self._writes:
                self._writes[identity] = _changes_rows(request.statement)
            self._executed[key] = answer, self.read() if self._writes[identity] else database
        return self._executed[key]

    def read(self) -> int:
        """The number of the database's present content."""
        content = str(self._connection.exec_driver_sql(_SELECT).scalar_one())
        self._in_database = self.databases.number(content)
        return self._in_database

    def _restore(self, database: int) -> None:
        if database == self._in_database:
            return
        self._connection.exec_driver_sql(_DELETE)
        for statement in (_INSERT, _INSERT_TOTALS):
            self._connection.exec_driver_sql(statement, {"content": self.databases[database]})
        self._in_database = database


_ROWS = ", ".join(f"'{name}', (SELECT coalesce(jsonb_agg(t ORDER BY t::text), '[]') FROM {name} t)" for name in TABLES)
_SELECT = f"SELECT jsonb_build_object({_ROWS})::text"
_DELETES = ", ".join(f"deleted_{name} AS (DELETE FROM {name})" for name in reversed(TABLES))
_DELETE = f"WITH {_DELETES} SELECT 1"
_INSERTS = ", ".join(
    f"inserted_{name} AS (INSERT INTO {name}"
    f" SELECT * FROM jsonb_populate_recordset(NULL::{name}, %(content)s::jsonb->'{name}'))"
    for name in TABLES[:-1]
)
_INSERT = f"WITH {_INSERTS} SELECT 1"
_INSERT_TOTALS = (
    "WITH by_trigger AS (DELETE FROM operation_totals) INSERT INTO operation_totals"
    " SELECT * FROM jsonb_populate_recordset(NULL::operation_totals, %(content)s::jsonb->'operation_totals')"
)


def _identity(statement: Any) -> tuple[Any, list[Any]]:
    """What is the same for all executions of a statement, and its values besides its parameters."""
    if isinstance(statement, Compiled):
        return statement, []
    key = statement._generate_cache_key()
    return key.key, [parameter.effective_value for parameter in key.bindparams]


def _changes_rows(statement: Any) -> bool:
    """Whether it is more than a query; a query may have common table expressions that are more."""
    text = str(statement.statement if isinstance(statement, Compiled) else statement)
    return any(word in text for word in ("INSERT", "UPDATE", "DELETE"))


def _no_request(request: Request) -> Any:
    raise AssertionError(f"{request.method} has no answer here")


# ---------------------------------------------------------------------------------------------------- a node's answers


def answers(chain: Chain, request: Request) -> Iterator[tuple[str | None, Chain, Any]]:
    """What a node may answer: the fault that this is (None for the true answer), the chain afterwards, the answer."""
    method, params = request.method, request.params
    after, true = _ask(chain, request)
    yield None, after, true
    if method == SEND:
        yield from _faulty_sends(chain, after, true)
    elif method in READS:
        for fault, view in (
            ("lagging node", chain.behind()),
            ("node on a dropped branch", chain.before_reorganisation()),
        ):
            _, stale = _ask(view, request)
            if stale != true:
                yield fault, chain, stale
    if method == "eth_getTransactionCount":
        count = int(true["result"], 16)
        yield "count too high", chain, _result(hex(count + 1))
        if count:
            yield "count too low", chain, _result(hex(count - 1))
    if method == "eth_getTransactionReceipt":
        if true["result"] is not None:
            yield "no receipt", chain, _result(None)
        for mined in chain.mined():
            if mined.transaction.hash != params[0]:
                yield "receipt of another", chain, _result(chain.answer(method, [mined.transaction.hash]))


def _faulty_sends(chain: Chain, after: Chain, true: Any) -> Iterator[tuple[str, Chain, Any]]:
    timeout = requests.ReadTimeout("timed out")
    yield "lost request", chain, timeout
    if after == chain:
        return
    yield "lost answer", after, timeout
    yield "false acceptance", chain, true
    for words in REFUSALS:
        yield "false refusal", chain, _error(Refusal(words))
        yield "false refusal", after, _error(Refusal(words))


def _ask(chain: Chain, request: Request) -> tuple[Chain, Any]:
    try:
        if request.method == SEND:
            after, result = chain.send(request.params[0])
            return after, _result(result)
        return chain, _result(chain.answer(request.method, request.params))
    except Refusal as refusal:
        return chain, _error(refusal)


def _result(result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": result}


def _error(refusal: Refusal) -> dict[str, Any]:
    error: dict[str, Any] = {"code": -32000, "message": str(refusal)}
    error |= {"data": refusal.data} if refusal.data else {}
    return {"jsonrpc": "2.0", "id": 1, "error": error}
