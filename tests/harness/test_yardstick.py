"""The yardstick's bugs need as many calls as they say: with all of them money is lost, with one less none."""

import re
from contextlib import closing
from decimal import Decimal

import pytest
from planted_bugs import planted, yardstick
from stakesim.evm.compiler import CONTRACTS, Compiler, artifacts_from_output
from stakesim.evm.import_resolver import collect_sources
from stakesim.gate.plain_build import compile_plain
from stakesim.runner.environment import open_environment
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import Actor, Book, CancelBooking, CancelRun, Complete, CreateRun, Expire, Terms
from stakesim.scenario.scenario import Scenario

pytestmark = pytest.mark.slow

HOUR, DAY = 3600, 86_400
FILE = "EventStake.sol"

STORIES = {
    "refund-of-what-filled": "open.1.4 book.1.a.4 free.1.a",
    "sold-out-again-and-again": "open.1.4 book.1.a.4 free.1.a book.1.b.4 free.1.b call-off.1",
    "queue-of-a-run": "open.1.5 book.1.a.1 book.1.b.2 free.1.a book.1.c.2 free.1.b book.1.d.1 book.1.e.2 free.1.d "
    "call-off.1",
    "regular-guest": "open.1.4 book.1.a.1 free.1.a book.1.b.2 complete.1. open.2.4 book.2.c.1 free.2.c book.2.d.1 "
    "complete.2.d open.3.4 book.3.e.1 free.3.e book.3.f.1 expire.3",
    "season-of-a-host": "open.1.4 book.1.a.1 book.1.b.3 complete.1.ab open.2.4 book.2.c.1 free.2.c book.2.d.1 "
    "call-off.2 open.3.4 book.3.e.1 complete.3. open.4.4 book.4.f.4 free.4.f book.4.g.4 expire.4 "
    "open.5.4 book.5.h.1 book.5.i.1 free.5.i book.5.j.3 complete.5.hj open.6.4 call-off.6",
}
"""A call a word: what is done, in which run, then the booking or bookings, or a number of seats."""


def action(word: str, number: int):
    """The action that a word stands for. Run n is open on every second day, and starts when that day ends."""
    verb, run, *rest = word.split(".")
    day = 2 * (int(run) - 1) * DAY
    at = day + 60 * (1 + number)
    if verb == "open":
        return CreateRun(
            at=at, run=f"r{run}", by="host", price_inr=Decimal(20_000), seats=int(rest[0]), starts=day + DAY
        )
    if verb == "book":
        return Book(at=at, booking=rest[0], run=f"r{run}", by="guest", seats=int(rest[1]))
    if verb == "free":
        return CancelBooking(at=at, booking=rest[0])
    if verb == "complete":
        return Complete(at=day + DAY, run=f"r{run}", attended=tuple(rest[0]))
    if verb == "expire":
        return Expire(at=day + DAY + HOUR, run=f"r{run}")
    return CancelRun(at=at, run=f"r{run}")


def without(words: list[str], index: int) -> list[str]:
    """All words but one, and but those that can't be without it."""
    verb, run, *rest = words[index].split(".")
    others = words[:index] + words[index + 1 :]
    if verb == "open":
        return [word for word in others if word.split(".")[1] != run]
    if verb == "book":
        label = rest[0]
        others = [re.sub(rf"^(complete\.\d\.\w*){label}", r"\1", word) for word in others]
        return [word for word in others if not word.startswith(f"free.{run}.{label}")]
    return others


@pytest.fixture(scope="module")
def environment(engine_name):
    with closing(open_environment(engine_name, driver="contract")) as opened:
        opened.foreign = True  # the gas budgets of EventStake don't apply
        yield opened


def artifact(name: str):
    sources = {**collect_sources(CONTRACTS / FILE), FILE: planted(name)}
    with Compiler() as compiler:
        return artifacts_from_output(compile_plain(compiler, sources, FILE), sources)["EventStake"]


@pytest.mark.sampled
@pytest.mark.parametrize("name", yardstick())
def test_each_call_is_needed_and_together_they_cost_money(name, environment):
    words = STORIES[name].split()
    assert len(words) == yardstick()[name].actions
    environment.set_contract(artifact(name))

    def findings(some: list[str]):
        return run_scenario(
            environment,
            Scenario(
                name="story",
                story="A story of the yardstick.",
                strict=False,
                terms=Terms(cancellation_cutoff=0, completion_grace=HOUR),
                actors={"host": Actor(), "guest": Actor()},
                actions=tuple(action(word, number) for number, word in enumerate(some)),
            ),
        ).findings

    assert findings(words)
    for left_out in range(len(words)):
        assert not findings(without(words, left_out)), words[left_out]
