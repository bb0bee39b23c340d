"""What a test that fails, or does not end, says of a mutant."""

import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import production_contract
from stakesim.evm.errors import EngineError
from stakesim.gate import mutation_judge
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_judge import MutantWorker, SoundContract
from stakesim.gate.mutation_result import Build, MutantStatus
from stakesim.workers.time_limit import NeverEnds

MUTANT = Mutant("constant", 0, 1, "1", "2", "f", 1, 1, "x = 1;")


@pytest.fixture
def worker():
    """Opens a worker that judges by tests alone."""
    with ExitStack() as stack:

        def open_worker(**changes):
            sound = SoundContract(Build.PLAIN, {}, "", production_contract(), False, "revm", (), CONTRACTS, None, 0)
            worker = MutantWorker(replace(sound, **changes))
            stack.callback(worker.close)
            return worker

        yield open_worker


def test_a_test_that_fails_with_the_contract_itself_kills_nothing(worker, monkeypatch):
    failing = {"mutant": "test_a.py::test_a", "EventStake": None}
    monkeypatch.setattr(mutation_judge, "first_failing_test", lambda contract, *_, **__: failing[contract.name])
    mutant = replace(production_contract(), name="mutant")
    assert worker().judge(MUTANT, mutant).status is MutantStatus.KILLED
    failing["EventStake"] = "test_a.py::test_a"
    with pytest.raises(
        EngineError, match=r"EventStake itself fails test_a.py::test_a, so that no mutant could be told"
    ):
        worker().judge(MUTANT, mutant)


def test_what_tests_do_not_tell_in_the_time_is_not_judged(worker, monkeypatch):
    """Beyond the time a test that has not ended says nothing; within it, it never ends."""

    def never_ends(*_, limit, **__):
        raise NeverEnds(limit, ["test_a"])

    monkeypatch.setattr(mutation_judge, "first_failing_test", never_ends)
    now = time.time()
    monkeypatch.setattr(mutation_judge.time, "time", lambda: next(times))
    for moments, status in (([now, now], "killed"), ([now, now + 9], "not judged"), ([now + 9], "not judged")):
        times = iter(moments)
        assert worker(ends=now + 8).judge(MUTANT, production_contract()).status == status
