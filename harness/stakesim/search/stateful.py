"""Stateful search: runs random actions, each chosen from what is possible after the one before it.

A walk (`stakesim.search.walks`) is planned ahead by the model, for the actors and terms of a profile. The search has
all kinds of actors in every example, and follows the contract at hand. It goes on after a failure, and each kind of
failure is shrunk to a scenario, which replays it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace

from numpy.random import Generator, SeedSequence, default_rng

from stakesim.generate.draws import draw_between
from stakesim.generate.moves import MOVES, Move, next_action_time
from stakesim.generate.seeds import seed_word
from stakesim.generate.terms_draws import usual_or_other
from stakesim.model.state import State
from stakesim.runner.environment import Environment
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import ScenarioRun
from stakesim.scenario.actions import Action, Actor, Reentry, Terms
from stakesim.scenario.scenario import Scenario
from stakesim.search.contract_diagnosis import diagnose_contract
from stakesim.search.shrink import shrink
from stakesim.search.walks import random_action

ACTORS = {
    "host": Actor(),
    "guest": Actor(),
    "payer": Actor(pays="self"),
    "walletless": Actor(wallet="none"),
    "refuser": Actor(receiver="refuses"),
    "burner": Actor(receiver="burns_gas"),
    "flooder": Actor(receiver="floods"),
    "reenterer": Actor(receiver="reenters", reenter=Reentry(call="cancelEvent")),
    "outsider": Actor(pays="self"),
}
_OTHER_TERMS = 0.5
"""Probability that an example has other terms than the usual ones."""
_ALWAYS_ENABLED = ("open_run", "book")
"""Moves without which hardly any other is possible."""


def search(
    environment: Environment,
    examples: int,
    steps: int,
    seed: int = 0,
    *,
    hostile: bool = True,
    terms: Terms | None = None,
    most: int | None = None,
    watch: Callable[[], bool] | None = None,
) -> Iterator[ScenarioResult]:
    """Runs examples of random actions, and shrinks the first failure of each kind.

    Ctrl-C loses none: a failure that is being shrunk meanwhile is given as it is, before KeyboardInterrupt.

    Args:
        environment: What they are run in.
        examples: How many to run.
        steps: Actions of each example.
        seed: The same one gives the same examples.
        hostile: Also try what the rules forbid.
        terms: The usual terms of the contract, which half of the examples have; None: `Terms()`.
        most: How many failures to look for; None: all.
        watch: Called before each example; says whether to go on.

    Yields:
        A failure of each kind, or of each weakness of a contract written elsewhere, as soon as it is found.

    Raises:
        EngineError: The engine can't do what is needed.
    """
    moves = [move for move in MOVES if hostile or not move.hostile]
    found: set[Hashable] = set()
    for number in range(examples):
        if watch is not None and not watch():
            break
        rng = default_rng(SeedSequence([seed_word(seed), number]))
        result = _run_example(environment, rng, moves, steps, terms or Terms())
        if not result.findings:
            continue
        try:
            key, failure = _named(environment, result) if environment.foreign else (result.kind, result)
            if key in found:
                continue
            failure = failure if environment.foreign else shrink(environment, failure)
        except KeyboardInterrupt:
            yield result
            raise
        found.add(key)
        yield failure
        if len(found) == most:
            break


def _named(environment: Environment, result: ScenarioResult) -> tuple[Hashable, ScenarioResult]:
    """The failure under the name of its weakness, shrunk if that is new."""
    failure = diagnose_contract(environment, result, environment.known_weaknesses)
    first = failure.findings[0]
    return (first.weakness, first.place), failure


def _run_example(
    environment: Environment, rng: Generator, moves: Sequence[Move], steps: int, usual: Terms
) -> ScenarioResult:
    scenario = Scenario(
        name="search",
        story="Found by stateful search.",
        terms=usual_or_other(rng, usual, _OTHER_TERMS),
        strict=False,
        actors=ACTORS,
        actions=(),
    )
    enabled, actions = _enabled(rng, moves), list[Action]()
    run = ScenarioRun(environment, scenario)
    for number in range(1, steps + 1):
        action = _next_action(rng, enabled, run.model)
        actions.append(action)
        if not run.act(action.at or 0, action, last=number == steps):
            break
    run.end()
    result = run.result
    if not result.scenario.actions:  # else they were adapted to the contract
        result.scenario = result.scenario.model_copy(update={"actions": tuple(actions)})
        result.findings = [replace(finding, scenario=result.scenario) for finding in result.findings]
    return result


def _enabled(rng: Generator, moves: Sequence[Move]) -> list[Move]:
    """A random subset of the moves, so that examples differ in kind: without cancellations, for example, runs fill up.

    This is swarm testing (A. Groce et al., Swarm Testing, 2012).
    """
    return [move for move in moves if move.name in _ALWAYS_ENABLED or draw_between(rng, 0, 2) > 0]


def _next_action(rng: Generator, moves: Sequence[Move], model: State) -> Action:
    at = next_action_time(rng, model)
    action = random_action(rng, moves, replace(model, now=model.epoch + at))
    return action.model_copy(update={"at": at})
