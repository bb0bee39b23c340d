"""What receivers see of the contract while it pays them: the state has changed by then (rule 8 of the contract)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lane_helpers import sound_contract
from pydantic import ValidationError
from stakesim.evm.compiler import Artifact, Compiler
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_operators import generate_mutants
from stakesim.gate.plain_build import PLAIN_SETTINGS, build, compile_contract
from stakesim.lane.moves import SCRIPT, Move, When
from stakesim.lane.play import STALE, Player, World
from stakesim.lane.search import LaneSearch
from stakesim.runner.environment import open_environment
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import LookWhilePaid, ScriptReceiver
from stakesim.scenario.scenario import dump, loads
from stakesim.search.contract_search import confirm
from stakesim.units import DAY

AT_START, AT_DEADLINE = When("start", 1, 0), When("deadline", 1, 0)
RUN = (
    Move("createEventRun", "mallory", ("a", 10**16, 4, 10 * DAY)),
    Move("bookEvent", "mallory", (1, 1)),
    Move("bookEvent", "trudy", (1, 1)),
)
"""Receivers host a run, and book two of its seats."""
REFUSES, ACCEPTS = (Move(SCRIPT, "trudy", (how, None)) for how in ("refuses", "accepts"))
PAYING = {
    "complete": (*RUN, Move("completeEvent", "mallory", (1, (1, 2)), when=AT_START)),
    "cancel the run": (*RUN, Move("cancelEvent", "mallory", (1,))),
    "expire": (*RUN, Move("expireEvent", "guest", (1,), when=AT_DEADLINE)),
    "cancel a booking": (*RUN, Move("cancelBooking", "trudy", (2,))),
    "withdraw": (*RUN, REFUSES, Move("cancelBooking", "trudy", (2,)), ACCEPTS, Move("withdraw", "trudy")),
    "withdraw fees": (
        *(*RUN, Move("completeEvent", "mallory", (1, (1, 2)), when=AT_START)),
        *(Move("transferOwnership", "platform", ("trudy",)), Move("acceptOwnership", "trudy")),
        Move("withdrawPlatformFees", "trudy"),
    ),
}
"""Sequences whose last move pays receivers."""
SEES = {"complete": 3, "cancel the run": 3, "expire": 2, "cancel a booking": 1, "withdraw": 1, "withdraw fees": 1}
"""How often the last move pays a receiver."""


@pytest.mark.parametrize("name", PAYING)
def test_each_payment_is_seen_and_the_state_is_final_by_then(name: str) -> None:
    player = Player(sound_contract(), World("plain"))
    results = [player.play(move, position) for position, move in enumerate(PAYING[name])]
    assert [each.differences for each in results if each.differences] == []
    executed = results[-1].executed
    assert executed is not None
    assert len(list(player.arena.seen(executed.logs))) == SEES[name]


def test_what_is_refused_may_still_become_a_credit() -> None:
    """Then more is owed in the end than the first receiver sees."""
    player = Player(sound_contract(), World("plain"))
    moves = (*RUN, REFUSES, Move("cancelEvent", "mallory", (1,)))
    results = [player.play(move, position) for position, move in enumerate(moves)]
    executed = results[-1].executed
    assert executed is not None
    seen = list(player.arena.seen(executed.logs))
    assert {each.puppet for each in seen} == {"mallory"}
    assert {each.liabilities for each in seen} == {0, player.state.credits["trudy"]}
    assert results[-1].differences == []


def late_effects(sampled: Callable[[list[Mutant]], list[Mutant]]) -> Iterator[tuple[str, Artifact]]:
    """The contract with a change of its state behind what it pays: mutants of this kind, which all compile."""
    plain = build()
    mutants = generate_mutants(plain.source, plain.tree, plain.artifact.name)
    late = [mutant for mutant in mutants if mutant.operator == "late effect"]
    assert len(late) >= 10
    with Compiler() as compiler:
        for mutant in sampled(late):
            sources = {**plain.sources, plain.file: mutant.apply(plain.source)}
            contract = compile_contract(compiler, sources, plain.file, plain.artifact.name, PLAIN_SETTINGS)
            assert contract is not None, mutant.key
            yield mutant.key, contract


@pytest.mark.slow
def test_each_late_effect_is_found_and_its_story_fails_as_a_scenario(
    campaign_seed: int, sampled: Callable[[list[Mutant]], list[Mutant]]
) -> None:
    missed = {}
    sound = open_environment("revm", None, "contract")
    for number, (key, contract) in enumerate(late_effects(sampled)):
        search = LaneSearch(contract, campaign_seed + number)
        search.run(sequences=6_000, watch=lambda found=search.findings: not found)  # type: ignore[misc]
        kinds = {cause[0] for cause in search.findings}
        if kinds != {STALE}:
            missed[key] = str(kinds)
            continue
        for found in confirm(search):  # one sequence may show several
            text = dump(found.scenario)
            if {each.id for each in found.result.findings} != {"INV-23"}:
                missed[key] = text
            assert run_scenario(sound, loads(text)).findings == [], text
    sound.close()
    assert missed == {}
    assert number >= 3


def test_a_receiver_does_one_thing_while_it_is_paid() -> None:
    look = LookWhilePaid(function="getEventRun", args=(1,))
    with pytest.raises(ValidationError, match="a receiver that looks does nothing else; leave out `looks_at`, or"):
        ScriptReceiver(by="mallory", how="refuses", looks_at=look)
