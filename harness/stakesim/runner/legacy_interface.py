"""Adapts scenarios to a contract that has other terms, or only the interface deployed on Sepolia.

On a contract with that interface everybody signs for themselves. What a contract can't do is left out, and reported as
not supported.
"""

from __future__ import annotations

from stakesim.model.state import State
from stakesim.runner.session import StakeContract
from stakesim.scenario.actions import (
    Action,
    Actor,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    Withdraw,
)
from stakesim.scenario.administration import Administration
from stakesim.scenario.scenario import Scenario

_ADDED_ACTIONS = CancelBooking | Expire | Withdraw | Administration
"""Actions that only contracts with the full interface have."""


def adapt_scenario(scenario: Scenario, contract: StakeContract) -> tuple[Scenario, list[str]]:
    """Adapts actors and terms of a scenario to a contract.

    An adapted scenario expects nothing, as its expectations are about `EventStake`.

    Args:
        scenario: What is to be run.
        contract: What it is run on.

    Returns:
        The scenario, and what of it the contract does not support.
    """
    if contract.full_interface and contract.traits.like_event_stake:
        return scenario, []
    terms, actors, actions = contract.traits.terms or scenario.terms, scenario.actors, scenario.actions
    if contract.full_interface:
        actions = tuple(action.model_copy(update={"fails": None}) for action in actions)
    else:
        actors = {name: _paying_for_themselves(actor) for name, actor in actors.items()}
    changes = {"terms": terms, "actors": actors, "actions": actions, "strict": False, "received": {}}
    return scenario.model_copy(update=changes), ["other terms"] if terms != scenario.terms else []


def adapt_action(action: Action, state: State) -> Action | None:
    """Adapts an action to a contract without the additions.

    A contract account sends its own actions past the backend, which has no key for it; so does everybody who acts on a
    run or booking of one.

    Args:
        action: What is to be done.
        state: The model before it.

    Returns:
        None for an action that such a contract does not support.
    """
    if isinstance(action, _ADDED_ACTIONS) or getattr(action, "paid_by", None):
        return None
    changes: dict[str, object] = {"fails": None}
    if isinstance(action, CreateRun | Book | CancelRun | Complete) and _is_past_backend(action, state):
        changes |= {"direct": True, "retried": False, "answer_lost": False, "reorganised": None}
    if isinstance(action, CreateRun | Book) and (changes.get("direct") or _signs(action.by, state)):
        changes |= {"payment": "in_time"}  # nobody pays INR
    if isinstance(action, CreateRun | Book) and changes.get("direct"):
        changes["feed_moves"] = False
    return action.model_copy(update=changes)


def _paying_for_themselves(actor: Actor) -> Actor:
    has_key = actor.wallet == "own" and not actor.is_contract
    return actor.model_copy(update={"pays": "self"}) if has_key else actor


def _signs(name: str, state: State) -> bool:
    actor = state.actors.get(name)
    return actor is not None and actor.pays == "self"


def _is_past_backend(action: CreateRun | Book | CancelRun | Complete, state: State) -> bool:
    run = None if isinstance(action, CreateRun) else state.runs.get(action.run)
    actor = state.actors.get(action.by or (run.actor if run else ""))
    if (run and run.direct) or (actor and actor.is_contract):
        return True
    attended = action.attended if isinstance(action, Complete) else ()
    return any(label in state.bookings and state.bookings[label].direct for label in attended)
