"""Stateful search: runs random actions, each chosen from what is possible after the one before it.

A walk (`stakesim.search.walks`) is planned ahead by the model, for the actors and terms of a profile. The search has
all kinds of actors in every example, and unusual terms, and follows the contract at hand. A failure is
shrunk to a scenario, which replays it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from numpy.random import Generator, SeedSequence, default_rng

from stakesim.generate.draws import draw_between, pick
from stakesim.generate.moves import MOVES, Move, next_action_time
from stakesim.model.state import State
from stakesim.runner.environment import Environment
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import ScenarioRun
from stakesim.scenario.actions import Action, Actor, Reentry, Terms
from stakesim.scenario.scenario import Scenario
from stakesim.search.shrink import shrink
from stakesim.search.walks import random_action
from stakesim.units import HOUR

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
TERMS = (
    Terms(),
    Terms(forfeit_to_host_bps=5_000),
    Terms(stake_bps=3_333, fee_bps=333, forfeit_to_host_bps=3_333, cancellation_cutoff=0, completion_grace=HOUR),
    Terms(stake_bps=0, fee_bps=0),
)
_ALWAYS_ENABLED = ("open_run", "book")
"""Moves without which hardly any other is possible."""


def search(
    environment: Environment, examples: int, steps: int, seed: int = 0, *, hostile: bool = True
) -> ScenarioResult | None:
    """Runs examples of random actions until one fails, and shrinks that one.

    Args:
        environment: What they are run in.
        examples: How many to run at most.
        steps: Actions of each example.
        seed: The same one gives the same examples.
        hostile: Also try what the rules forbid.

    Returns:
        The failure with the shortest scenario found; None if no example failed.

    Raises:
        EngineError: The engine can't do what is needed.
    """
    moves = [move for move in MOVES if hostile or not move.hostile]
    for number in range(examples):
        rng = default_rng(SeedSequence([seed, number]))
        result = _run_example(environment, rng, moves, steps)
        if result.findings:
            return shrink(environment, result)
    return None


def _run_example(environment: Environment, rng: Generator, moves: Sequence[Move], steps: int) -> ScenarioResult:
    scenario = Scenario(
        name="search",
        story="Found by stateful search.",
        terms=pick(rng, TERMS),
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
    run.result.scenario = scenario.model_copy(update={"actions": tuple(actions)})
    return run.result


def _enabled(rng: Generator, moves: Sequence[Move]) -> list[Move]:
    """A random subset of the moves, so that examples differ in kind: without cancellations, for example, runs fill up.

    This is swarm testing (A. Groce et al., Swarm Testing, 2012).
    """
    return [move for move in moves if move.name in _ALWAYS_ENABLED or draw_between(rng, 0, 2) > 0]


def _next_action(rng: Generator, moves: Sequence[Move], model: State) -> Action:
    at = next_action_time(rng, model)
    action = random_action(rng, moves, replace(model, now=model.epoch + at))
    return action.model_copy(update={"at": at})
