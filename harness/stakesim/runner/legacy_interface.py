"""Scenarios on a contract that has only the interface deployed on Sepolia: everybody signs for themselves, and what
such a contract can't do is left out and said."""

from __future__ import annotations

from collections.abc import Mapping

from stakesim.model.reference import State
from stakesim.scenario.actions import (
    Action,
    Actor,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    Terms,
    Withdraw,
)
from stakesim.scenario.scenario import Scenario

ADDED = CancelBooking | Expire | Withdraw
"""Actions of what `EventStake` adds."""


def adapt_scenario(scenario: Scenario, *, full_interface: bool, takes_terms: bool) -> tuple[Scenario, list[str]]:
    """Its people and terms, where the contract has none of the additions, or terms of its own; and what is not
    supported. What the scenario itself expects is of `EventStake`, and is not asked."""
    if full_interface and takes_terms:
        return scenario, []
    terms = scenario.terms if takes_terms else Terms()
    actors = scenario.actors if full_interface else {name: _signing(actor) for name, actor in scenario.actors.items()}
    changes = {"terms": terms, "actors": actors, "strict": False, "received": {}}
    return scenario.model_copy(update=changes), ["other terms"] if terms != scenario.terms else []


def _signing(actor: Actor) -> Actor:
    signs = actor.wallet == "own" and not actor.is_contract
    return actor.model_copy(update={"pays": "self"}) if signs else actor


def adapt_action(action: Action, state: State) -> Action | None:
    """As somebody who signs for themselves takes it; None for what such a contract can't do. What a contract account
    does, or is done with a run or booking of one, goes past the service, which has no key for it."""
    if isinstance(action, ADDED):
        return None
    edit: dict[str, object] = {"fails": None}
    if isinstance(action, CreateRun | Book | CancelRun | Complete) and _past_service(action, state):
        edit |= {"direct": True, "retried": False, "answer_lost": False}
    return action.model_copy(update=edit)


def _past_service(action: CreateRun | Book | CancelRun | Complete, state: State) -> bool:
    run = None if isinstance(action, CreateRun) else state.runs.get(action.run)
    by = action.by or (run.actor if run else None)
    if (run and run.direct) or _is_contract(state.actors, by):
        return True
    attended = action.attended if isinstance(action, Complete) else ()
    return any(label in state.bookings and state.bookings[label].direct for label in attended)


def _is_contract(actors: Mapping[str, Actor], name: str | None) -> bool:
    return name is not None and name in actors and actors[name].is_contract
