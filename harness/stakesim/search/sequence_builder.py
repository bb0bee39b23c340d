"""Builds a scenario from a plan of actions, along with the model.

What is drawn anew is drawn from what is possible at that moment, times move to the deadlines of a run, and an action
about what does not exist is directed at what does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from stakesim.generate.draws import draw_between, pick
from stakesim.generate.moves import MOVES, Move, deadlines, next_action_time
from stakesim.model.reference import apply
from stakesim.model.state import State, initial_state
from stakesim.scenario.actions import (
    ACTOR_FIELDS,
    PLATFORM,
    Action,
    Book,
    CancelBooking,
    Complete,
    CreateRun,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.administration import Administration
from stakesim.scenario.scenario import Scenario, actor_errors
from stakesim.search.variants import Tried, draw_arguments, draw_options
from stakesim.search.walks import random_action

if TYPE_CHECKING:
    from numpy.random import Generator


_DISTURBED = 0.3
"""Probability that an action that is drawn gets options."""


class Gene(NamedTuple):
    """An action to be, in a sequence that is built along with the model.

    Attributes:
        at: Its time, in seconds from the scenario's start; None: a little after the action before it.
        action: The action; None: one is drawn.
        tweaks: Whether its arguments, options or time are changed, each by name.
    """

    at: int | None
    action: Action | None
    tweaks: tuple[str, ...] = ()


def build(rng: Generator, base: Scenario, genes: Sequence[Gene], tried: Tried) -> Scenario:
    """Makes a scenario of the genes, with everything else from `base`.

    Args:
        rng: The source of randomness.
        base: Everything but the actions.
        genes: The actions.
        tried: How often each option of each kind of action was tried. Options are drawn by rarity.
    """
    return _Builder(rng, base, tried).build(genes)


@dataclass
class _Builder:
    """Builds one scenario.

    Attributes:
        rng: The source of randomness.
        base: Everything but the actions.
        tried: How often each option of each kind of action was tried.
        labels: Of all runs and bookings that an action so far was to make.
        kind: "reorganised" or "administered", once an action was.
    """

    rng: Generator
    base: Scenario
    tried: Tried
    labels: set[str] = field(default_factory=set)
    kind: str | None = None

    def build(self, genes: Sequence[Gene]) -> Scenario:
        """Returns the scenario."""
        rng, base = self.rng, self.base
        rate_at, moves = base.rate_path(), _swarm(rng)
        state = initial_state(base.terms, base.actors, 0)
        actions = list[Action]()
        for number, gene in enumerate(genes):
            at = self._time(gene, state, is_last=number == len(genes) - 1, is_first=not actions)
            later = replace(state, now=at)
            action = self._action(gene, moves, later)
            if action is None:
                continue
            state, _ = apply(state, action, at, rate_at(at))
            actions.append(action.model_copy(update={"at": at}))
            self.labels |= {action.run} if isinstance(action, CreateRun) else set()
            self.labels |= {action.booking} if isinstance(action, Book) else set()
        if actions and getattr(actions[-1], "pending", False):  # nothing comes after it
            actions[-1] = actions[-1].model_copy(update={"pending": False})
        named = {getattr(action, name, None) for action in actions for name in ACTOR_FIELDS}
        acting = {name: actor for name, actor in base.actors.items() if name in named}
        return Scenario.model_validate({**dict(base), "actors": acting, "actions": tuple(actions)})

    def _time(self, gene: Gene, state: State, *, is_first: bool, is_last: bool) -> int:
        rng, least = self.rng, 0 if is_first else state.now + 1
        if "time" in gene.tweaks:
            edges = [edge for edge in deadlines(state) if edge > state.now]
            if edges:
                return max(pick(rng, edges) + draw_between(rng, -1, 1), least)
        if gene.at is not None:
            return max(gene.at, least)
        if is_first:
            return 0
        return max(next_action_time(rng, state) if is_last else state.now + pick(rng, (1, 2, 60)), least)

    def _action(self, gene: Gene, moves: Sequence[Move], state: State) -> Action | None:
        """The action of a gene, as it fits into this state; None if it does not fit."""
        rng = self.rng
        drawn = gene.action or random_action(rng, moves, state)
        action = self._fitting(drawn, self._directed(drawn, state) | {"fails": None}, state)
        changes = gene.tweaks if gene.action or rng.random() > _DISTURBED else ("option",)
        if action is None:
            return None
        for name in changes:
            action = self._changed(action, name, state)
        return self._alone(action)

    def _changed(self, action: Action, what: str, state: State) -> Action:
        """The action with other arguments or options; the same if none fit."""
        if what == "argument":
            fields = draw_arguments(self.rng, action, state)
        elif what == "option":
            fields = draw_options(self.rng, action, self.tried, lambda way: bool(self._fitting(action, way, state)))
        else:
            return action
        return self._fitting(action, fields, state) or action

    def _fitting(self, action: Action, fields: Mapping[str, Any], state: State) -> Action | None:
        """The action with other values; None if these do not fit together, or the model can't judge it."""
        try:
            changed = type(action).model_validate({**dict(action), **fields})
        except (ValidationError, ValueError):
            return None
        fits = not any(actor_errors(self.base.actors, 0, changed))
        return changed if fits and _is_judged(changed, state) else None

    def _alone(self, action: Action) -> Action | None:
        """The action as it fits to those before: either the chain is reorganised, or the contract is administered.

        A backend whose reconciler has seen a pause or another owner may hold what the contract would refuse, and that
        it runs at all is what a reorganisation brings about.
        """
        if isinstance(action, Administration):
            self.kind = self.kind or "administered"
            return action if self.kind == "administered" else None
        if getattr(action, "reorganised", None):
            self.kind = self.kind or "reorganised"
            return action if self.kind == "reorganised" else action.model_copy(update={"reorganised": None})
        return action

    def _new_label(self, kind: str, label: str, state: State) -> str:
        """The label if it is new; else another one."""
        candidates = (f"{kind}{state.now + later}" for later in count())
        return label if label not in self.labels else next(one for one in candidates if one not in self.labels)

    def _directed(self, action: Action, state: State) -> dict[str, Any]:
        """New labels for what exists already, and those of what exists instead of what does not."""
        rng, fields = self.rng, dict[str, Any]()
        runs = [run.label for run in state.runs.values() if getattr(action, "direct", False) or not run.direct]
        if isinstance(action, CreateRun):
            fields["run"] = self._new_label("run", action.run, state)
        elif hasattr(action, "run") and action.run not in runs:
            fields["run"] = pick(rng, runs) if runs else ""
        bookings = [one.label for one in state.bookings.values() if getattr(action, "direct", False) or not one.direct]
        if isinstance(action, Book):
            fields["booking"] = self._new_label("b", action.booking, state)
        elif isinstance(action, CancelBooking) and action.booking not in bookings:
            fields["booking"] = pick(rng, bookings) if bookings else ""
        elif isinstance(action, Complete):
            fields["attended"] = tuple(label for label in action.attended if label in state.bookings)
        return fields


def _goes_past(action: Action, state: State) -> bool:
    """Whether an action is sent past the backend by an account that it can't take for its own.

    A transaction of the platform's own key is one of the backend's for it, whoever sent it. A contract has no ether.
    """
    by = _signer(action, state)
    return by != PLATFORM and not state.actors[by].is_contract and state.actors[by].wallet == "own"


def _signer(action: Action, state: State) -> str:
    """Who signs a direct action."""
    by = getattr(action, "paid_by", None) or getattr(action, "by", None)
    if by is not None:
        return str(by)
    booking = state.bookings.get(getattr(action, "booking", ""))
    run = state.runs.get(getattr(action, "run", ""))
    return booking.actor if booking else run.actor if run else PLATFORM


def _is_judged(action: Action, state: State) -> bool:
    """Whether the model says what comes of an action with these options.

    A transaction that waits in the mempool is not of a key that the backend signs with as well, as the backend takes
    one with the same effect for its own. A run without a stake has no quote to be paid, so its price is that of the
    request. Withdrawals have no idempotency key.
    """
    if getattr(action, "direct", False) and not isinstance(action, Withdraw) and not _goes_past(action, state):
        return False
    if getattr(action, "pending", False) and state.actors[_signer(action, state)].pays == "self":
        return False
    if isinstance(action, CreateRun) and action.feed_moves and not state.terms.stake_bps:
        return False
    is_repeated = getattr(action, "retried", False) or getattr(action, "answer_lost", False)
    return not (isinstance(action, Withdraw | WithdrawFees) and is_repeated)


def _swarm(rng: Generator) -> list[Move]:
    """A random part of the moves, so that sequences differ in kind; see `stateful.search`."""
    is_hostile = rng.random() < 0.4
    chosen = [move for move in MOVES if draw_between(rng, 0, 2) and (is_hostile or not move.hostile)]
    return [*chosen, *(move for move in MOVES if move.name in ("open_run", "book", "complete") and move not in chosen)]
