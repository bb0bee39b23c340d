"""Random scenarios: scenario number `index` of a profile under a seed is always the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, get_args

from stakesim.generate import agents
from stakesim.generate.administrators import DEPUTY, administration_actions
from stakesim.generate.agents import OUTSIDER, RunPlan
from stakesim.generate.draws import draw_between, pick
from stakesim.generate.payment_draws import with_odd_payments
from stakesim.generate.profiles import Profile
from stakesim.generate.seeds import seed_word
from stakesim.generate.terms_draws import usual_or_other
from stakesim.prices.price_models import Crash, Gbm
from stakesim.scenario.actions import ACTOR_FIELDS, Action, Actor, ReentrantCall, Reentry
from stakesim.scenario.scenario import Scenario
from stakesim.units import DAY

if TYPE_CHECKING:
    from numpy.random import Generator


def generate(profile: Profile, seed: int, index: int) -> Scenario:
    """Scenario number `index` of a profile under a seed.

    The agents return their intended actions, which are then put in the order of their times.
    """
    from numpy.random import SeedSequence, default_rng

    rng = default_rng(SeedSequence([seed_word(seed), index]))
    # drawn apart, so that little else of a scenario depends on it
    terms_rng = default_rng(SeedSequence([seed_word(seed), index], spawn_key=(1,)))
    profile = profile.with_terms(usual_or_other(terms_rng, profile.terms, profile.other_terms))
    rate = random_rate(rng, profile)
    actors: dict[str, Actor] = {OUTSIDER: Actor(pays="self")}
    runs = 2 if rng.random() < profile.two_runs else 1
    plans = [_plan_run(rng, profile, number, rate, actors) for number in range(1, runs + 1)]
    actions: list[Action] = []
    for plan in plans:
        others = [attendee.booking for other in plans if other is not plan for attendee in other.attendees]
        actions += _agent_actions(rng, replace(plan, other_bookings=others))
    price = random_market(rng, profile, rate, max(plan.deadline for plan in plans))
    actions = with_odd_payments(rng, profile.odd_payment, actors, actions)
    actions += administration_actions(rng, plans)  # drawn last, so that all else of a scenario does not depend on it
    actions.sort(key=lambda action: action.at or 0)
    actors[DEPUTY] = Actor(pays="self")
    named = {getattr(action, field, None) for action in actions for field in ACTOR_FIELDS}
    return Scenario(
        name=f"{profile.name}-{seed}-{index}",
        story=f"Random scenario {index} of the profile {profile.name} under seed {seed}.",
        terms=profile.terms,
        price=price,
        seed=seed,
        strict=False,
        actors={name: actor for name, actor in actors.items() if name in named or name not in (OUTSIDER, DEPUTY)},
        actions=tuple(actions),
        origin={"profile": profile.name, "seed": seed, "index": index},
    )


def _plan_run(rng: Generator, profile: Profile, number: int, rate: Decimal, actors: dict[str, Actor]) -> RunPlan:
    """Plans a run and its attendees, and adds host and attendees to `actors`."""
    created = 0 if number == 1 else draw_between(rng, 60, 2 * DAY)
    plan = RunPlan(
        profile,
        run=f"run{number}",
        host=f"host{number}",
        created=created,
        start=created + draw_between(rng, *profile.lead_time),
        seats=draw_between(rng, *profile.seats),
        price_inr=_random_seat_price(rng, profile),
        rate=rate,
    )
    actors[plan.host] = random_actor(rng, profile)
    attendees = []
    for place in range(1, draw_between(rng, *profile.attendees) + 1):
        name = f"guest{number}{place}"
        actors[name] = random_actor(rng, profile)
        attendees.append(agents.plan_attendee(rng, plan, name, f"booking{number}{place}"))
    receivers = (plan.host, *(attendee.name for attendee in attendees))
    creditors = [name for name in receivers if not actors[name].takes_ether]
    return replace(plan, attendees=attendees, creditors=creditors)


def _agent_actions(rng: Generator, plan: RunPlan) -> Iterator[Action]:
    """What all agents of a run intend to do. The order of the agents is the order of their random draws."""
    yield from agents.host_actions(rng, plan)
    for attendee in plan.attendees:
        yield from agents.attendee_actions(attendee, plan)
    yield from agents.bad_price_actions(rng, plan)
    yield from agents.hostile_agent_actions(rng, plan)
    yield from agents.fee_actions(rng, plan)
    yield from agents.credit_actions(rng, plan)


def random_actor(rng: Generator, profile: Profile) -> Actor:
    """An actor who pays and receives as the profile's people do."""
    draw = rng.random()
    if draw < profile.pays_self:
        return Actor(pays="self")
    if draw < profile.pays_self + profile.walletless:
        return Actor(wallet="none")
    if draw < profile.pays_self + profile.walletless + profile.hostile_receiver:
        receiver = pick(rng, profile.receivers)
        if receiver != "reenters":
            return Actor(receiver=receiver)
        reenter = Reentry(call=pick(rng, get_args(ReentrantCall)), id=draw_between(rng, 1, 3))
        return Actor(receiver=receiver, reenter=reenter)
    return Actor()


def _random_seat_price(rng: Generator, profile: Profile) -> Decimal:
    """A price in INR, log-uniform over the profile's range, in whole paise."""
    low, high = (math.log(float(end) * 100) for end in profile.price_inr)
    return Decimal(round(math.exp(rng.uniform(low, high)))) / 100


def random_rate(rng: Generator, profile: Profile) -> Decimal:
    """The market's rate at the scenario's start, in INR per ETH."""
    return Decimal(draw_between(rng, *(int(end) for end in profile.inr_per_eth)))


def random_market(rng: Generator, profile: Profile, rate: Decimal, last: int) -> Crash | Gbm:
    """The model of a market as the profile describes it.

    Args:
        rng: The source of randomness.
        profile: What the market is like.
        rate: The first rate, in INR per ETH.
        last: The scenario's last second, up to which a crash may happen.
    """
    if rng.random() < profile.crash:
        recovery = draw_between(rng, DAY, 10 * DAY) if rng.random() < 0.5 else None
        at, drop = draw_between(rng, 0, last), draw_between(rng, *profile.drop_percent)
        return Crash(inr_per_eth=rate, at=at, drop_percent=drop, recover_over=recovery)
    seed = int(rng.integers(2**31))
    return Gbm(inr_per_eth=rate, annual_volatility=profile.annual_volatility, seed=seed)
