"""Random campaigns: scenario number `index` of a profile under a seed, the same each time it is asked for."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, get_args

from stakesim.generate import agents
from stakesim.generate.agents import OUTSIDER, View, between
from stakesim.generate.profiles import Profile, load_profile
from stakesim.prices.price_models import Crash, Gbm
from stakesim.scenario.actions import Action, Actor, ReentrantCall, Reentry
from stakesim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["OUTSIDER", "Profile", "generate", "load_profile", "random_actor", "random_market"]


def generate(profile: Profile, seed: int, index: int) -> Scenario:
    """Agents return their intents, these are put in order of time, and that is the scenario."""
    from numpy.random import SeedSequence, default_rng

    rng = default_rng(SeedSequence([seed, index]))
    rate = _rate(rng, profile)
    actors: dict[str, Actor] = {OUTSIDER: Actor(pays="self")}
    views: list[View] = []
    for number in range(1, 3 if rng.random() < profile.two_runs else 2):
        views.append(_view(rng, profile, number, rate, actors))
    intents: list[Action] = []
    for view in views:
        elsewhere = [visit.booking for other in views if other is not view for visit in other.visits]
        intents += _intents(rng, replace(view, elsewhere=elsewhere))
    intents.sort(key=lambda action: action.at or 0)
    last = max(view.deadline for view in views)
    return Scenario(
        name=f"{profile.name}-{seed}-{index}",
        story=f"Random scenario {index} of the profile {profile.name} under seed {seed}.",
        terms=profile.terms,
        price=_price(rng, profile, rate, last),
        seed=seed,
        strict=False,
        actors={name: actor for name, actor in actors.items() if name != OUTSIDER or _has_outsider(intents)},
        actions=tuple(intents),
        origin={"profile": profile.name, "seed": seed, "index": index},
    )


def _view(rng: Generator, profile: Profile, number: int, rate: Decimal, actors: dict[str, Actor]) -> View:
    """A run and who wants to come to it; its actors are entered in `actors`."""
    created = 0 if number == 1 else between(rng, (60, 2 * agents.DAY))
    view = View(
        profile,
        run=f"run{number}",
        host=f"host{number}",
        created=created,
        start=created + between(rng, profile.lead_time),
        seats=between(rng, profile.seats),
        price_inr=_price_inr(rng, profile),
        rate=rate,
    )
    actors[view.host] = random_actor(rng, profile)
    visits = []
    for place in range(1, between(rng, profile.attendees) + 1):
        attendee = f"guest{number}{place}"
        actors[attendee] = random_actor(rng, profile)
        visits.append(agents.plan_visit(rng, view, attendee, f"booking{number}{place}"))
    creditors = [name for name in (view.host, *(v.attendee for v in visits)) if not actors[name].takes_ether]
    return replace(view, visits=visits, creditors=creditors)


def _intents(rng: Generator, view: View) -> list[Action]:
    return [
        *agents.host(rng, view),
        *(action for visit in view.visits for action in agents.attend(visit, view)),
        *agents.bad_feed(rng, view),
        *agents.mischief(rng, view),
        *agents.collect_fees(rng, view),
        *agents.collect_credits(rng, view),
    ]


def random_actor(rng: Generator, profile: Profile) -> Actor:
    """Somebody of the profile's people."""
    draw = rng.random()
    if draw < profile.pays_self:
        return Actor(pays="self")
    if draw < profile.pays_self + profile.walletless:
        return Actor(wallet="none")
    if draw < profile.pays_self + profile.walletless + profile.hostile_receiver:
        receiver = profile.receivers[int(rng.integers(len(profile.receivers)))]
        return Actor(receiver=receiver, reenter=_reentry(rng) if receiver == "reenters" else None)
    return Actor()


def _reentry(rng: Generator) -> Reentry:
    calls = get_args(ReentrantCall)
    return Reentry(call=calls[int(rng.integers(len(calls)))], id=between(rng, (1, 3)))


def _price_inr(rng: Generator, profile: Profile) -> Decimal:
    """Log-uniform, in rupees with two digits: drawn as a whole number of paise."""
    low, high = (math.log(float(end) * 100) for end in profile.price_inr)
    return Decimal(round(math.exp(rng.uniform(low, high)))) / 100


def _rate(rng: Generator, profile: Profile) -> Decimal:
    low, high = (int(end) for end in profile.inr_per_eth)
    return Decimal(between(rng, (low, high)))


def random_market(rng: Generator, profile: Profile, last: int) -> Crash | Gbm:
    """A price path up to `last`, in seconds from the start, that begins where the profile says."""
    return _price(rng, profile, _rate(rng, profile), last)


def _price(rng: Generator, profile: Profile, rate: Decimal, last: int) -> Crash | Gbm:
    if rng.random() < profile.crash:
        recovery = between(rng, (agents.DAY, 10 * agents.DAY)) if rng.random() < 0.5 else None
        at, drop = between(rng, (0, last)), between(rng, profile.drop_percent)
        return Crash(inr_per_eth=rate, at=at, drop_percent=drop, recover_over=recovery)
    seed = int(rng.integers(2**31))
    return Gbm(inr_per_eth=rate, annual_volatility=profile.annual_volatility, seed=seed)


def _has_outsider(actions: list[Action]) -> bool:
    return any(OUTSIDER in (getattr(action, "by", None), getattr(action, "to", None)) for action in actions)
