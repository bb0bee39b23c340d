"""Changes sequences of actions: inserts, drops, repeats, swaps and splices them, and moves them in time.

A child is built action by action, along with the model: what is drawn anew is drawn from what is possible at that
moment, arguments become boundary values of it, times move to its deadlines, and an action about what does not exist is
directed at what does. So a child is an ordinary scenario.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pydantic import ValidationError

from stakesim.generate.draws import draw_between, pick
from stakesim.generate.moves import MOVES, Move, deadlines, next_action_time
from stakesim.generate.payment_draws import ODD_PAYMENTS
from stakesim.model.reference import apply
from stakesim.model.rules import MAX_SEATS
from stakesim.model.state import Run, State, initial_state
from stakesim.prices.price_models import Constant, Crash, Gbm
from stakesim.scenario.actions import (
    ACTOR_FIELDS,
    PLATFORM,
    Action,
    Actor,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    SetPrice,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.administration import Administration
from stakesim.scenario.scenario import Scenario, check_actors
from stakesim.search.stateful import ACTORS
from stakesim.search.walks import random_action
from stakesim.units import DAY, HOUR

if TYPE_CHECKING:
    from numpy.random import Generator

MAX_ACTIONS = 24
"""Actions of a child at most."""
PRICES_INR = ("2000", "19999.99", "333.33", "0.01", "1", "1000000")
RATES = ("200000", "150000", "260000", "600000", "66666.67", "600000.01", "0", "NaN")
AGES = (0, 0, HOUR, HOUR + 1)
LEAD_TIMES = (DAY, 2 * DAY, 7 * DAY, HOUR, DAY + 1, DAY - 1, 1, 0, 400 * DAY)
MARKETS = (
    Constant(),
    Gbm(inr_per_eth=Decimal(200_000), annual_volatility=0.9, seed=1),
    Crash(inr_per_eth=Decimal(250_000), at=3 * DAY, drop_percent=40, recover_over=None),
)
_KEYED = (CreateRun, Book, CancelBooking, CancelRun, Complete, Expire)
"""Actions that the backend takes an idempotency key for."""
_REORGANISED = (*_KEYED, WithdrawFees)
_PLAIN: Mapping[str, Any] = {
    **dict.fromkeys(("direct", "pending", "retried", "answer_lost", "feed_moves"), False),
    **{"reorganised": None, "payment": "in_time"},
}
"""Options of actions, with the value that each has if it is left out."""

Option: TypeAlias = tuple[str, str, Any]
"""An action's kind, and the name and value of one of its options."""
Tried: TypeAlias = Counter[Option]
"""How often actions with each option succeeded."""


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


def mutate(rng: Generator, parent: Scenario, other: Scenario, tried: Tried) -> Scenario:
    """Changes a scenario in one to four ways.

    Args:
        rng: The source of randomness.
        parent: The scenario.
        other: Another one, of which a part may be spliced in.
        tried: How often each option of each kind of action was tried. Options are drawn by rarity.
    """
    genes = [Gene(at, action) for at, action in parent.timeline()]
    actors = ACTORS | parent.actors
    for _ in range(pick(rng, (1, 1, 2, 2, 3, 4))):
        change = pick(rng, _CHANGES)
        if change is _splice:
            genes, actors = _spliced(rng, genes, actors, other)
        else:
            genes = change(rng, genes)
    price = pick(rng, MARKETS) if rng.random() < 0.1 else parent.price
    return build(rng, parent.model_copy(update={"actors": actors, "price": price}), genes[:MAX_ACTIONS], tried)


def fresh(rng: Generator, base: Scenario, length: int, tried: Tried) -> Scenario:
    """Draws a new sequence of this length for the actors and terms of a scenario."""
    return build(rng, base.model_copy(update={"price": pick(rng, MARKETS)}), [Gene(None, None)] * length, tried)


def build(rng: Generator, base: Scenario, genes: Sequence[Gene], tried: Tried) -> Scenario:
    """Makes a scenario of the genes, with everything else from `base`."""
    return _Builder(rng, base, tried).build(genes)


# Changes of a sequence


def _insert(rng: Generator, genes: list[Gene]) -> list[Gene]:
    at = draw_between(rng, 0, len(genes))
    return [*genes[:at], *[Gene(None, None)] * draw_between(rng, 1, 3), *genes[at:]]


def _append(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """Goes on where a part of the sequence ends."""
    end = len(genes) if rng.random() < 0.5 else draw_between(rng, 0, len(genes))
    return [*genes[:end], *[Gene(None, None)] * draw_between(rng, 1, 6)]


def _drop(rng: Generator, genes: list[Gene]) -> list[Gene]:
    first = draw_between(rng, 0, len(genes))
    return genes[:first] + genes[first + draw_between(rng, 1, 3) :]


def _repeat(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """The same action once more, at once or later."""
    if not genes:
        return genes
    index = draw_between(rng, 0, len(genes) - 1)
    to = draw_between(rng, index + 1, len(genes))
    return [*genes[:to], genes[index]._replace(at=None), *genes[to:]]


def _swap(rng: Generator, genes: list[Gene]) -> list[Gene]:
    if not genes:
        return genes
    genes, one, two = [*genes], *(draw_between(rng, 0, len(genes) - 1) for _ in range(2))
    genes[one], genes[two] = genes[two]._replace(at=genes[one].at), genes[one]._replace(at=genes[two].at)
    return genes


def _tweak(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """Changes arguments, options or time of an action."""
    if not genes:
        return genes
    index, genes = draw_between(rng, 0, len(genes) - 1), [*genes]
    names = pick(rng, (("argument",), ("argument",), ("option",), ("option",), ("time",), ("argument", "option")))
    genes[index] = genes[index]._replace(tweaks=(*genes[index].tweaks, *names))
    return genes


def _change_all(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """Changes the options of all actions: what is wrong with one use case then shows in a sequence that has it."""
    return [gene._replace(tweaks=(*gene.tweaks, "option")) for gene in genes]


def _delay(rng: Generator, genes: list[Gene]) -> list[Gene]:
    """Moves all actions from one on in time."""
    index = draw_between(rng, 0, len(genes))
    seconds = pick(rng, (1, 60, HOUR, DAY, 7 * DAY, -60, -HOUR, -DAY))
    moved = [gene if gene.at is None else gene._replace(at=max(gene.at + seconds, 0)) for gene in genes[index:]]
    return genes[:index] + moved


def _splice(rng: Generator, genes: list[Gene]) -> list[Gene]:
    raise AssertionError("needs another scenario: `mutate` calls `_spliced`")


def _spliced(
    rng: Generator, genes: list[Gene], actors: dict[str, Actor], other: Scenario
) -> tuple[list[Gene], dict[str, Actor]]:
    """The first part of a sequence, and then a part of another one."""
    names = {name: _name_for(name, actor, actors) for name, actor in other.actors.items()}
    part = other.timeline()
    first = draw_between(rng, 0, len(part))
    cut = draw_between(rng, 0, len(genes))
    added = [Gene(None, _with_names(action, names)) for _, action in part[first : first + draw_between(rng, 1, 8)]]
    rest = genes[cut:] if rng.random() < 0.5 else []
    return [*genes[:cut], *added, *rest], actors | {names[name]: actor for name, actor in other.actors.items()}


def _name_for(name: str, actor: Actor, taken: Mapping[str, Actor]) -> str:
    while taken.get(name, actor) != actor:
        name = f"{name}2"
    return name


def _with_names(action: Action, names: Mapping[str, str]) -> Action:
    fields = {field: getattr(action, field, None) for field in ACTOR_FIELDS}
    return action.model_copy(update={field: names[name] for field, name in fields.items() if name and name in names})


_CHANGES: Sequence[Callable[[Generator, list[Gene]], list[Gene]]] = (
    *(_insert, _insert, _append, _append, _drop, _repeat, _swap),
    *(_tweak, _tweak, _tweak, _tweak, _change_all, _change_all, _delay, _splice),
)


# Building a sequence along with the model


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
        rng, action = self.rng, gene.action
        if action is None:
            action = random_action(rng, moves, state)
            if rng.random() < 0.3:
                action = self._changed(action, _options(rng, action, self.tried)) or action
        for name in gene.tweaks:
            if name == "option":
                action = self._changed(action, _options(rng, action, self.tried)) or action
            elif name == "argument":
                action = self._changed(action, _arguments(rng, action, state)) or action
        fitting = self._changed(action, self._directed(action, state) | {"fails": None})
        if fitting is None or not _is_judged(fitting, state) or not self._is_alone(fitting):
            return None
        return fitting

    def _is_alone(self, action: Action) -> bool:
        """Whether an action fits to those before: either the chain is reorganised, or the contract is administered.

        A backend whose reconciler has seen a pause or another owner may hold what the contract would refuse, and that
        it runs at all is what a reorganisation brings about.
        """
        kind = (
            "administered"
            if isinstance(action, Administration)
            else getattr(action, "reorganised", None) and "reorganised"
        )
        self.kind = self.kind or kind
        return kind in (None, self.kind)

    def _changed(self, action: Action, fields: Mapping[str, Any]) -> Action | None:
        """The action with other values; None if these do not fit together."""
        try:
            changed = type(action).model_validate({**dict(action), **fields})
            check_actors(self.base.actors, 0, changed)
        except (ValidationError, ValueError):
            return None
        return changed

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


# New arguments and options


def options_of(action: Action) -> Iterator[Option]:
    """The options of an action that are set, as `Tried` counts them."""
    for name in _PLAIN:
        value = getattr(action, name, _PLAIN[name])
        if value != _PLAIN[name]:
            yield action.do, name, value


def _options(rng: Generator, action: Action, tried: Tried) -> dict[str, Any]:
    """Another way in which client, network, chain, feed or payer behave; or the actor goes past the backend."""
    ways: list[dict[str, Any]] = []
    if isinstance(action, _KEYED):
        ways += [{"retried": True}, {"answer_lost": True}]
    if isinstance(action, _REORGANISED):
        ways += [{"reorganised": "moved"}, {"reorganised": "dropped"}]
    if isinstance(action, CreateRun | Book):
        ways += [{"feed_moves": True}, {"payment": pick(rng, ODD_PAYMENTS)}]
    if isinstance(action, (*_REORGANISED, Withdraw)):
        ways.append({"direct": True})
    if isinstance(action, _KEYED):
        ways.append({"direct": True, "pending": True})
    if not ways:
        return {}
    weights = [1 / (1 + min(tried[action.do, name, value] for name, value in way.items())) for way in ways]
    chosen = [*ways[_weighted(rng, weights)].items()]
    if rng.random() < 0.25:  # two at once
        chosen += ways[_weighted(rng, weights)].items()
    plain = {name: value for name, value in _PLAIN.items() if hasattr(action, name)}
    return plain | dict(chosen)


def _weighted(rng: Generator, weights: Sequence[float]) -> int:
    """Draws a position by the weights."""
    point = rng.random() * sum(weights)
    for position, weight in enumerate(weights):
        point -= weight
        if point <= 0:
            return position
    return len(weights) - 1


def _arguments(rng: Generator, action: Action, state: State) -> dict[str, Any]:
    """A boundary value for one of the action's arguments."""
    choices = list(_argument_choices(rng, action, state))
    return pick(rng, choices) if choices else {}


def _argument_choices(rng: Generator, action: Action, state: State) -> Iterator[dict[str, Any]]:
    if hasattr(action, "by"):
        yield {"by": pick(rng, (PLATFORM, *state.actors))}
    match action:
        case CreateRun():
            yield {"price_inr": pick(rng, PRICES_INR)}
            yield {"seats": pick(rng, (1, 2, 3, 7, 0, MAX_SEATS, MAX_SEATS + 1))}
            yield {"starts": state.now + pick(rng, LEAD_TIMES)}
            yield {"starts": state.now + draw_between(rng, 1, 30 * DAY)}
        case Book():
            run = state.runs.get(action.run)
            left = run.max_seats - run.seats_booked if run else 1
            yield {"seats": pick(rng, (left, left, max(left - 1, 0), left + 1, 1, 2, 0))}
            if state.runs:
                yield {"run": pick(rng, [*state.runs])}
        case Complete():
            yield {"attended": _attended(rng, state, state.runs.get(action.run))}
            yield {"attended": _attended(rng, state, state.runs.get(action.run))}
        case SetPrice():
            yield {"inr_per_eth": pick(rng, RATES), "age": pick(rng, AGES)}
        case Withdraw():
            with_wallets = [name for name, actor in state.actors.items() if actor.wallet == "own"]
            yield {"to": pick(rng, (None, PLATFORM, *with_wallets))}


def _attended(rng: Generator, state: State, run: Run | None) -> tuple[str, ...]:
    """An attendance list: some, all or none; now and then somebody twice, or of anywhere."""
    booked = [one.label for one in state.active_bookings_of(run)] if run else []
    some = [label for label in booked if draw_between(rng, 0, 1)]
    lists = [some, some, booked, [], booked[:1], booked[1:]]
    if state.bookings:
        lists += [[*some, pick(rng, [*state.bookings])]]
    return tuple(pick(rng, lists))
