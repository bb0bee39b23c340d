"""Many episodes, from one seed, in one process or several."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass

from app.services.transaction_sender import TransactionSender

from stakesim.evm.errors import EngineError
from stakesim.faults import processes
from stakesim.faults.chain_faults import AROUND
from stakesim.faults.checks import STATEMENTS
from stakesim.faults.episodes import BY_CLIENTS, Outcome, play
from stakesim.faults.processes import KILLS, STOPS, WORKERS
from stakesim.faults.rpc_faults import FAULTS
from stakesim.faults.testbed import Stage
from stakesim.workers.pool import pool

ROW_OF = {fault.name: fault.row for fault in FAULTS} | AROUND | BY_CLIENTS | KILLS | STOPS | WORKERS
"""Every fault by name, with its row in the table."""
KINDS = ("network", "kill", "workers", "database")


@dataclass(frozen=True)
class Result:
    """What came of a campaign. lost: names of faults in episodes with findings, by how often."""

    seed: int
    outcomes: list[Outcome]
    seconds: float

    @property
    def ok(self) -> bool:
        return not any(outcome.findings for outcome in self.outcomes)

    @property
    def injected(self) -> Counter[str]:
        return sum((outcome.counts for outcome in self.outcomes), Counter())

    @property
    def survived(self) -> Counter[str]:
        """Those of the episodes in which all that must hold held."""
        return sum((outcome.counts for outcome in self.outcomes if not outcome.findings), Counter())

    def stories(self) -> Iterator[str]:
        """Of each episode with findings."""
        for outcome in self.outcomes:
            if outcome.findings:
                wrong = [f"  {f.invariant} ({STATEMENTS[f.invariant]}): {f.message}" for f in outcome.findings]
                yield "\n".join(
                    [
                        f"{outcome.name} of seed {self.seed}",
                        *(f"    {line}" for line in outcome.story),
                        *wrong,
                        f"  again: stakesim faults --seed {self.seed} --only {outcome.name}",
                    ]
                )


def plan(runs: int) -> list[str]:
    """The episodes of a campaign: `runs` of the network, and in proportion those with processes of their own."""
    counts = {"network": runs, "kill": runs, "workers": -(-runs // 20), "database": -(-runs // 50)}
    return [f"{kind}:{number}" for kind in KINDS for number in range(counts[kind])]


def run(
    names: Sequence[str],
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[Outcome], None] | None = None,
    sender: type[TransactionSender] = TransactionSender,
) -> Result:
    """Plays these episodes, named as in `plan`. sender: what the services send with, to see that faults are found.

    Raises `EngineError`, also for a name that is none, and `DatabaseUnavailable`.
    """
    began = time.perf_counter()
    for name in names:
        kind, _, number = name.partition(":")
        if kind not in KINDS or not number.isdecimal():
            raise EngineError(f"{name} is no episode: give {', '.join(KINDS)}, a colon and a number, as network:3.")
    done = []
    for outcome in _play_all(names, seed, jobs, sender):
        done.append(outcome)
        if progress:
            progress(outcome)
    order = {name: at for at, name in enumerate(names)}
    return Result(seed, sorted(done, key=lambda outcome: order[outcome.name]), time.perf_counter() - began)


def _play_all(names: Sequence[str], seed: int, jobs: int, sender: type[TransactionSender]) -> Iterator[Outcome]:
    if jobs <= 1 or len(names) == 1:
        with closing(_open()) as stage:
            for name in names:
                yield _play(stage, name, seed, sender)
        return
    with pool(min(jobs, len(names)), open=_open) as submit:
        for done in as_completed([submit(_play, name, seed, sender) for name in names]):
            yield done.result()


def _open() -> Stage:
    logging.getLogger("app").addHandler(logging.NullHandler())  # trouble is what is wanted
    return Stage()


def _play(stage: Stage, name: str, seed: int, sender: type[TransactionSender]) -> Outcome:
    kind, _, number = name.partition(":")
    if kind == "network":
        return play(stage, seed, int(number), sender)
    if kind == "kill":
        return processes.kill(stage, seed, int(number))
    if kind == "workers":
        return processes.workers(stage, seed, int(number))
    return processes.database(seed, int(number))
