"""Every interleaving of processes on one database, on a chain to which things happen, with a node that errs and lies.

From each state the exploration follows the next request of each process with all that may be answered, and all that
may happen to the chain, within a budget for each kind of event. It does not follow a state a second time, but it knows
in how many ways each can be reached. `process.py` says how a process stops at each request, `invariants.py` what must
hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from . import invariants
from .chain import Chain
from .process import CONFIRMATIONS, Process
from .world import World

RECOVERY = Process(("full", "round"), repeats=True)
"""A process that starts after all others are gone: its reconciler must bring everything to its end."""
RECOVERY_ROUNDS = 12
"""Number of rounds, and of blocks, in which it must do so."""
DEEP = CONFIRMATIONS + 1


class State(NamedTuple):
    """One state of everything, by numbers of `World`.

    Attributes:
        chain: The chain.
        database: The content of the database.
        processes: The progress of each process.
        budget: How often each kind of event may still happen.
        running: The process that is within a step or round, if one was not interrupted; otherwise -1.
        past: The contents before, newest last, if commits may be lost.
    """

    chain: int
    database: int
    processes: tuple[int, ...]
    budget: tuple[int, ...]
    running: int = -1
    past: tuple[int, ...] = ()


class Beginning(NamedTuple):
    """A process that has run to its end before an exploration, and what happened to the chain then."""

    process: Process
    events: tuple[str, ...] = ()


class _Frame:
    """A state on the path that is being explored."""

    def __init__(self, state: State, label: str, following: Iterator[tuple[str, State]]) -> None:
        self.state, self.label, self.following, self.interleavings = state, label, following, 0


class Exploration:
    """Explores from one beginning, on a database of its own.

    Args:
        connection: To a migrated database of the exploration's own, which commits each statement.
        processes: What is interleaved.
        budget: How often each kind of event may happen. "interruption" is a process that goes on while another one is
            within a step, "round" a round of a process that repeats them.
        before: What has happened before.

    Attributes:
        interleavings: In how many ways each visited state can go on.
        reached: In how many checked states an operation has each state.
        transitions: Number of transitions between visited states.
    """

    def __init__(
        self,
        connection: Connection,
        processes: Sequence[Process],
        budget: Mapping[str, int],
        before: Sequence[Beginning] = (),
    ) -> None:
        everyone = [*processes, *(beginning.process for beginning in before)]
        self._keys = sorted({process.key for process in everyone if process.key})
        self._names = {name: index for index, name in enumerate(budget)}
        self._world = World(connection, [*processes, RECOVERY, *(beginning.process for beginning in before)])
        self._starts = tuple(range(len(processes)))
        self._recovery = len(processes)
        self._events: dict[int, list[tuple[str, int]]] = {}
        self._checked: set[tuple[int, int]] = set()
        self._settled: set[tuple[int, int, str]] = set()
        self._path: list[_Frame] = []
        self.interleavings: dict[State, int] = {}
        self.reached: Counter[str] = Counter()
        self.transitions = 0
        self._start = self._begin(tuple(budget.values()), before)

    @property
    def summary(self) -> str:
        """What was explored, in numbers."""
        world = self._world
        return (
            f"{len(self.interleavings):,} states, {self.transitions:,} transitions, "
            f"{self.interleavings.get(self._start, 0):,} interleavings; {len(world.chains):,} chains, "
            f"{len(world.databases):,} databases, {len(world.progresses):,} progresses"
        )

    def explore(self) -> None:
        """Visits every state that can be reached, depth first.

        Raises:
            Violation: Something does not hold; its text has the history.
        """
        self._enter(self._start, "")
        while self._path:
            frame = self._path[-1]
            for label, state in frame.following:
                self.transitions += 1
                known = self.interleavings.get(state)
                if known is None:
                    self._enter(state, label)
                    break
                frame.interleavings += known
            else:
                self._path.pop()
                self.interleavings[frame.state] = frame.interleavings or 1
                if self._path:
                    self._path[-1].interleavings += frame.interleavings or 1

    def _enter(self, state: State, label: str) -> None:
        self._path.append(_Frame(state, label, self._following(state)))
        try:
            self._check(state.chain, state.database, self._spent(state, "deep reorganisation", "lost commits"))
            self._settle(state)
        except invariants.Violation as violation:
            history = "\n".join(frame.label for frame in self._path)
            raise invariants.Violation(f"{violation}\n{history}\n{violation.details}") from None

    # ----------------------------------------------------------------------------------------------- what follows

    def _begin(self, budget: tuple[int, ...], before: Sequence[Beginning]) -> State:
        world = self._world
        database, chain = world.fill(self._keys), world.chains.number(Chain())
        for number, beginning in enumerate(before, self._recovery + 1):
            progress = world.start(number)
            while (request := world.progresses[progress].request) is not None:
                if request.statement is not None:
                    progress, database = world.after_statement(number, progress, database)
                else:
                    _, chain, progress = world.answered(number, progress, chain)[0]
            for event in beginning.events:
                chain = world.chains.number(getattr(world.chains[chain], event)())
        self._budget = budget
        return State(chain, database, tuple(world.start(number) for number in self._starts), budget)

    def _spend(self, budget: tuple[int, ...], event: str) -> tuple[int, ...] | None:
        """The budget with one less of this event; None where there is none left."""
        index = self._names.get(event, -1)
        if index < 0 or not budget[index]:
            return None
        return (*budget[:index], budget[index] - 1, *budget[index + 1 :])

    def _spent(self, state: State, *events: str) -> bool:
        """Whether one of these events has happened."""
        indices = [self._names[event] for event in events if event in self._names]
        return any(state.budget[index] != self._budget[index] for index in indices)

    def _following(self, state: State) -> Iterator[tuple[str, State]]:
        for index, number in enumerate(state.processes):
            progress = self._world.progresses[number]
            budget: tuple[int, ...] | None = state.budget
            if progress.request is None:
                continue
            if state.running not in (-1, index):
                budget = self._spend(state.budget, "interruption")
            if budget and self._world.processes[index].repeats and not progress.is_within:
                budget = self._spend(budget, "round")
            if budget is not None:
                yield from self._continued(state, index, budget)
        yield from self._happened(state)

    def _continued(self, state: State, index: int, budget: tuple[int, ...]) -> Iterator[tuple[str, State]]:
        """The process gets its answer: the true one, or a faulty one."""
        world, number = self._world, state.processes[index]
        request = world.progresses[number].request
        assert request is not None
        label = f"process {index}: {request.method}"
        if request.statement is None:
            for fault, chain, after in world.answered(index, number, state.chain):
                if (left := budget if fault is None else self._spend(budget, fault)) is not None:
                    yield f"{label}, {fault}", self._after(state, index, after, left, chain=chain)
            return
        after, database = world.after_statement(index, number, state.database)
        yield label, self._after(state, index, after, budget, database=database)
        if (left := self._spend(budget, "database gone")) is not None:
            after = world.after_failed_statement(index, number)
            yield f"{label}, not executed", self._after(state, index, after, left)
            if request.method == "statement" and database != state.database:
                yield f"{label}, answer lost", self._after(state, index, after, left, database=database)

    def _after(
        self,
        state: State,
        index: int,
        progress: int,
        budget: tuple[int, ...],
        *,
        chain: int | None = None,
        database: int | None = None,
    ) -> State:
        processes = (*state.processes[:index], progress, *state.processes[index + 1 :])
        running = index if self._world.progresses[progress].is_within else -1
        past = state.past
        if database is None:
            database = state.database
        elif "lost commits" in self._names and database != state.database:
            past = (*past, state.database)[-2:]
        return State(state.chain if chain is None else chain, database, processes, budget, running, past)

    def _happened(self, state: State) -> Iterator[tuple[str, State]]:
        """What happens to the chain, to a process, or to the database."""
        if state.chain not in self._events:
            events = [
                (name, self._world.chains.number(after)) for name, after in _events(self._world.chains[state.chain])
            ]
            self._events[state.chain] = events
        for event, chain in self._events[state.chain]:
            if (budget := self._spend(state.budget, event)) is not None:
                yield event, state._replace(chain=chain, budget=budget)
        if (budget := self._spend(state.budget, "crash")) is not None:
            for index in self._starts:
                fresh = (*state.processes[:index], self._world.start(index), *state.processes[index + 1 :])
                if fresh != state.processes:
                    running = -1 if state.running == index else state.running
                    yield f"process {index} restarts", state._replace(processes=fresh, budget=budget, running=running)
        if state.past and (budget := self._spend(state.budget, "lost commits")) is not None:
            fresh = tuple(self._world.start(index) for index in self._starts)
            for count, database in enumerate(reversed(state.past), 1):
                yield f"lost commits: {count}", State(state.chain, database, fresh, budget)

    # ------------------------------------------------------------------------------------------- what must hold

    def _check(self, chain: int, database: int, is_relaxed: bool) -> None:
        if (chain, database) in self._checked:
            return
        self._checked.add((chain, database))
        tables = self._world.tables(database)
        self.reached.update(row["state"] for row in tables["operations"])
        invariants.check(self._world.chains[chain], tables, is_relaxed=is_relaxed)

    def _settle(self, state: State) -> None:
        """All is quiet from now on. Rounds and blocks close every operation: with one effect, or with none.

        Either all processes are gone, and a new one starts, or a reconciler of the exploration goes on.
        """
        is_relaxed = self._spent(state, "deep reorganisation", "lost commits")
        self._recover(state.chain, state.database, self._recovery, self._world.start(self._recovery), is_relaxed)
        for index in self._starts:
            if self._world.processes[index].repeats and state.running == -1:
                self._recover(state.chain, state.database, index, state.processes[index], is_relaxed)

    def _recover(self, chain: int, database: int, process: int, progress: int, is_relaxed: bool) -> None:
        world = self._world
        passed = [(chain, database, world.progresses[progress].memory)]
        rounds = iter(()) if passed[0] in self._settled else world.undisturbed(process, progress, chain, database)
        for number, (chain, database, memory) in enumerate(rounds):
            self._check(chain, database, is_relaxed)
            tables = world.tables(database)
            if invariants.is_quiet(world.chains[chain], tables):
                invariants.check_quiet(world.chains[chain], tables)
                break
            if (chain, database, memory) in self._settled:
                break
            passed.append((chain, database, memory))
            if number == RECOVERY_ROUNDS:
                details = invariants.details(world.chains[chain], tables)
                raise invariants.Violation("an operation stands still: " + invariants.open_ones(tables), details)
        self._settled.update(passed)


def _events(chain: Chain) -> Iterator[tuple[str, Chain]]:
    yield "block", chain.mine()
    yield "foreign transaction", chain.mine_foreign()
    if chain.mempool:
        yield "mempool dropped", chain.drop_mempool()
    for failure in ("reverted", "out of gas"):
        if (mined := chain.mine(failure)).blocks[-1].failure:
            yield failure, mined
    for depth in range(1, DEEP + 1):
        if any(block.transactions for block in chain.blocks[-depth:]) and chain.height - depth >= chain.finalized:
            event = "reorganisation" if depth < CONFIRMATIONS else "deep reorganisation"
            yield event, chain.reorganise(depth, keep=True)
            yield event, chain.reorganise(depth, keep=False)
