"""How the people of a random scenario pay in INR."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, get_args

from stakesim.generate.draws import pick
from stakesim.scenario.actions import Action, Actor, Book, CreateRun
from stakesim.scenario.base_action import PLATFORM, PaymentBehaviour

if TYPE_CHECKING:
    from numpy.random import Generator

ODD_PAYMENTS: tuple[PaymentBehaviour, ...] = tuple(one for one in get_args(PaymentBehaviour) if one != "in_time")
"""All ways to pay but the usual one."""
_OF_HOSTS: tuple[PaymentBehaviour, ...] = ("twice", "charged_back")
"""Those that leave a run to go on with."""


def with_odd_payments(
    rng: Generator, probability: float, actors: Mapping[str, Actor], actions: Iterable[Action]
) -> list[Action]:
    """Returns the actions, some of which are paid in another way than in time.

    Args:
        rng: The source of randomness.
        probability: Probability for each run or booking whose wei the platform sends.
        actors: The actors by name.
        actions: The actions.
    """
    return [
        action.model_copy(update={"payment": pick(rng, _OF_HOSTS if isinstance(action, CreateRun) else ODD_PAYMENTS)})
        if isinstance(action, CreateRun | Book) and _pays_inr(action, actors) and rng.random() < probability
        else action
        for action in actions
    ]


def _pays_inr(action: CreateRun | Book, actors: Mapping[str, Actor]) -> bool:
    return not action.direct and (action.by == PLATFORM or actors[action.by].pays == "platform")
