"""Each behaviour changes what it says, and draws the same random numbers under every policy."""

from dataclasses import replace
from decimal import Decimal
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError
from stakesim.economics import sweep
from stakesim.economics.sweep_file import load_sweep, population_of
from stakesim.model.state import RunStatus
from stakesim.paths import checkout
from stakesim.population import behaviours as people
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, Population, draw, load_population
from stakesim.population.state import NEVER
from stakesim.population.streams import stream
from stakesim.prices.price_models import Constant, Gbm, Steps
from stakesim.runner.scenario_files import populations
from stakesim.scenario.actions import Terms
from stakesim.schema.errors import InputError
from stakesim.schema.fields import StrictModel
from stakesim.studies import attacks, break_even, exposure
from stakesim.units import DAY, HOUR

QUIET = Population(
    name="quiet",
    story="There is room for everybody.",
    seats=(100, 100),
    price_inr=("300", "5000"),
    attendees=(20, 20),
    seats_wanted=(1, 1),
    price=Constant(),
)
N = CHUNK_SIZE * 20


def state(*behaviours, terms=None, population=QUIET, seed=1):
    return draw(population, seed, 0, terms, behaviours).state


def rate(flags):
    return float(np.mean(flags))


def near(value, expected, n=N):
    """Within four standard errors of a share."""
    return abs(value - expected) <= 4 * (expected * (1 - expected) / n) ** 0.5 + 1e-12


class TestNoShows:
    @pytest.mark.parametrize(("stake_bps", "elasticity"), [(0, 3.0), (2_000, 0.0), (2_000, 1.0), (5_000, 3.0)])
    def test_as_many_as_the_stake_leaves(self, stake_bps, elasticity):
        after = state(people.NoShow(base=0.15, elasticity=elasticity), terms=Terms(stake_bps=stake_bps))
        assert near(rate(~after.intents.intends_to_attend), 0.15 * (1 + stake_bps / 10_000) ** -elasticity)
        assert (after.intents.intends_to_attend == after.intents.reported_attended).all()

    @pytest.mark.parametrize(
        ("stake_bps", "expected"), [(0, 0.4), (10, 0.4), (1_000, 0.2 / 0.7), (2_000, 0.2), (4_000, 0.2 * 0.7)]
    )
    def test_they_fall_by_the_same_share_with_each_doubling_of_the_stake(self, stake_bps, expected):
        behaviour = people.NoShowByDoubling(rate=0.2, stake_bps=2_000, fall=0.3, base=0.4)
        after = state(behaviour, terms=Terms(stake_bps=stake_bps))
        assert near(rate(~after.intents.intends_to_attend), expected)

    def test_a_higher_stake_brings_people_and_drives_none_away(self):
        """Common random numbers: the same people, each with the same intents."""
        low, high = (state(people.NoShow(base=0.4, elasticity=2), terms=Terms(stake_bps=bps)) for bps in (0, 5_000))
        assert (high.intents.intends_to_attend | ~low.intents.intends_to_attend).all()
        assert (high.intents.intends_to_attend & ~low.intents.intends_to_attend).any()

    def test_bad_weather_keeps_them_away_together(self):
        after = state(people.Weather(chance=0.25, stay_away=0.5))
        by_run = (~after.intents.intends_to_attend).mean(axis=0)
        assert near(rate(by_run > 0), 0.25, CHUNK_SIZE)
        assert abs(by_run[by_run > 0].mean() - 0.5) < 0.02
        alone = 0.125 * 0.875 / 20  # variance of a run's share if each stayed away for themselves
        assert by_run.var() > 5 * alone


class TestWorth:
    """With `observed_inr` people weigh INR: what was observed holds at that price, and otherwise the loss counts."""

    BEHAVIOURS = (
        people.NoShow(base=0.15, elasticity=1),
        people.NoShowByDoubling(rate=0.15, base=0.5),
        people.LostToStake(elasticity=2),
        people.Weather(chance=1, stay_away=0.2, elasticity=1),
        people.Cancel(daily=0.1, observed_cutoff=0, elasticity=1),
    )

    def at(self, inr, price=None, terms=None):
        changes = {"price_inr": (inr, inr)} | ({"price": price} if price else {})
        return lambda behaviour: (
            state(
                behaviour, population=QUIET.model_validate(QUIET.model_dump() | changes), terms=terms or Terms()
            ).intents
        )

    @pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.do)
    def test_at_the_observed_price_nothing_changes(self, behaviour):
        in_inr = behaviour.model_copy(update={"observed_inr": Decimal(800)})
        before, after = self.at("800")(behaviour), self.at("800")(in_inr)
        for name, values in vars(before).items():
            assert np.array_equal(values, vars(after)[name]), name

    @pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.do)
    def test_a_dearer_ticket_counts_for_more_and_a_token_for_little(self, behaviour):
        in_inr = behaviour.model_copy(update={"observed_inr": Decimal(800)})
        token, cheap, dear = (self.at(inr)(in_inr) for inr in ("1", "400", "1600"))
        if behaviour.do == "lost_to_stake":
            assert near(rate(dear.books_at == NEVER), 1 - 1.4**-2)
            assert near(rate(token.books_at == NEVER), 1 - (1 + 0.2 / 800) ** -2)
        else:
            away = [rate(~intents.intends_to_attend) for intents in (token, cheap, dear)]
            assert away[0] >= away[1] > away[2]
            share = {"no_show": people.MOST_NO_SHOWS, "no_show_by_doubling": 0.5}.get(behaviour.do)
            assert share is None or near(away[0], share)

    def test_a_stake_whose_eth_has_fallen_deters_less(self):
        """At a quarter of the rate a stake is worth a quarter: two doublings less."""
        crash = Steps(rates=({"at": 0, "inr_per_eth": "200000"}, {"at": 12 * HOUR, "inr_per_eth": "50000"}))
        behaviour = people.NoShowByDoubling(rate=0.15, base=0.5, fall=0.3)
        in_inr = behaviour.model_copy(update={"observed_inr": Decimal(800)})
        assert near(rate(~self.at("800", crash)(behaviour).intends_to_attend), 0.15)
        assert near(rate(~self.at("800", crash)(in_inr).intends_to_attend), 0.15 / 0.7**2)


class TestBookings:
    def test_lost_to_the_stake(self):
        after = state(people.LostToStake(elasticity=2), terms=Terms(stake_bps=2_000))
        assert near(rate(after.intents.books_at == NEVER), 1 - 1.2**-2)
        assert (state(people.LostToStake(elasticity=0)).intents.books_at < NEVER).all()

    @pytest.mark.parametrize("screening", [0.0, 0.5, 1.0])
    @pytest.mark.parametrize("elasticity", [0.25, 1.0])
    def test_a_stake_that_screens_deters_those_first_who_would_stay_away(self, screening, elasticity):
        """As many in all, but of those who stay away L + screening x (min(1, L / q) - L)."""
        terms, lost = Terms(stake_bps=2_000), people.LostToStake(elasticity=elasticity, screening=screening)
        away = ~state(people.NoShow(base=0.2), terms=terms).intents.intends_to_attend
        gone = state(people.NoShow(base=0.2), lost, terms=terms).intents.books_at == NEVER
        share, q = 1 - 1.2**-elasticity, away.mean()
        expected = share + screening * (min(1, share / q) - share)
        assert near(rate(gone), share)
        assert near(rate(gone[away]), expected, away.sum())
        assert near(rate(gone[~away]), (share - q * expected) / (1 - q), (~away).sum())

    def test_a_stake_that_screens_comes_after_the_no_shows(self):
        lost = people.LostToStake(screening=0.5)
        for wrong in ((lost, people.NoShow()), (people.Weather(), lost)):
            with pytest.raises(ValidationError, match=r"lost_to_stake with `screening` .* write it after no_show"):
                Population(name="wrong", story="Wrong.", price_inr=("1", "2"), behaviours=wrong)
            with pytest.raises(InputError, match="write it after no_show"):
                sweep([Terms()], list(wrong), Constant(), 10, 1)
        Population(name="right", story="Right.", price_inr=("1", "2"), behaviours=(people.NoShowByDoubling(), lost))

        class Own(StrictModel):
            def __call__(self, rng, state):
                return state.intents

        sweep([Terms()], [Own(), lost], Constant(), 10, 1)  # what one's own behaviour knows is not asked
        nobody = QUIET.model_copy(update={"attendees": (0, 0)})
        assert (state(people.NoShow(), lost, population=nobody).intents.books_at == NEVER).all()

    def test_a_booking_curve_is_when_people_book(self):
        curve = ((0.0, 0.0), (0.1, 0.3), (0.7, 0.5), (1.0, 1.0))
        late = state(population=QUIET.model_copy(update={"booking_curve": curve}))
        elapsed = late.intents.books_at / late.start
        for until, made in curve:
            assert near(rate(elapsed <= until), made)

    @pytest.mark.parametrize("curve", [[], [[0, 0]], [[0, 0], [0.5, 0.6]], [[0, 0], [0.5, 0.5], [0.6, 0.5], [1, 1]]])
    def test_a_booking_curve_that_is_none_is_refused(self, curve):
        with pytest.raises(ValidationError, match=r"it rises from \[0, 0\] to \[1, 1\]"):
            Population(name="wrong", story="Wrong.", price_inr=("1", "2"), booking_curve=curve)

    def test_cancellations_follow_their_hazard(self):
        """Of those who booked at least ten days ahead: 1% a day until three days before, then 10%."""
        after = state(people.Cancel(daily=0.01, daily_near=0.1), terms=Terms(cancellation_cutoff=0))
        books, cancels, start = after.intents.books_at, after.intents.cancels_at, after.start
        early = np.broadcast_to(start, books.shape) - books > 10 * DAY
        far = (cancels < start - 3 * DAY) & early
        exposure = (np.minimum(cancels, start - 3 * DAY) - books)[early].sum() / DAY
        assert abs(far.sum() / exposure / 0.01 - 1) < 0.05
        reach = early & (cancels >= start - 3 * DAY)
        assert near(rate((cancels < NEVER)[reach]), 1 - np.exp(-0.3), reach.sum())

    @pytest.mark.parametrize(("stake_bps", "elasticity"), [(0, 3.0), (2_000, 0.0), (2_000, 3.0)])
    def test_people_who_would_cancel_too_late_stay_away_unless_the_stake_brings_them(self, stake_bps, elasticity):
        """Of those who booked before the last three days 1 - exp(-2 x 0.1) would cancel in the next two."""
        late = people.Cancel(daily=0, daily_near=0.1, near=3 * DAY, elasticity=elasticity)
        after = state(late, terms=Terms(stake_bps=stake_bps, cancellation_cutoff=3 * DAY))
        booked_before = after.intents.books_at < after.start - 3 * DAY
        assert (after.intents.cancels_at == NEVER).all()
        expected = (1 - np.exp(-0.2)) * (1 + stake_bps / 10_000) ** -elasticity
        assert near(rate(~after.intents.intends_to_attend[booked_before]), expected, booked_before.sum())

    def test_people_who_would_cancel_too_late_are_no_shows_already_under_the_cutoff_of_the_observations(self):
        """No rate changes: of the bookings that were not cancelled in time as many stay away as without `Cancel`."""
        for bps in (0, 2_000):
            drawn = state(
                people.NoShow(base=0.3, elasticity=2),
                people.Cancel(daily=0.05, daily_near=0.2),
                terms=Terms(stake_bps=bps),
            )
            active = resolve_outcomes(drawn).active
            assert not active.all()
            assert near(rate(~drawn.intents.intends_to_attend[active]), 0.3 * (1 + bps / 10_000) ** -2, active.sum())

    def test_seats_are_gone_while_a_griefer_holds_them(self):
        """Those who book meanwhile are refused, and the griefer is refunded."""
        small = QUIET.model_copy(update={"seats": (10, 10)})
        drawn = state(people.Grief(), population=small)
        outcomes = resolve_outcomes(drawn)
        assert outcomes.accepted[0].all()
        assert outcomes.cancelled[0].all()
        early = drawn.intents.books_at[1:] < drawn.cutoff
        assert not outcomes.accepted[1:][early].any()
        assert outcomes.accepted[1:][~early].any()

    def test_hosts_book_their_own_runs(self):
        drawn = state(people.SelfBook(seats=3, hosts=0.5), people.FalseNoShows(share=1.0))
        assert near(rate(drawn.intents.by_host[0] & resolve_outcomes(drawn).accepted[0]), 0.5, CHUNK_SIZE)
        assert drawn.intents.reported_attended[0].all()
        assert not drawn.intents.reported_attended[1:].any()


class TestHosts:
    def test_cancel_before_the_start(self):
        drawn = state(people.HostCancels(chance=0.3))
        outcomes = resolve_outcomes(drawn)
        assert near(rate(outcomes.final_status == RunStatus.CANCELLED), 0.3, CHUNK_SIZE)
        assert (outcomes.closed_at < drawn.start)[outcomes.final_status == RunStatus.CANCELLED].all()

    def test_complete_late_or_never(self):
        outcomes = resolve_outcomes(state(people.CompleteLate(late=0.2, never=0.1)))
        assert near(rate(outcomes.final_status == RunStatus.EXPIRED), 0.3, CHUNK_SIZE)
        assert set(outcomes.final_status.tolist()) == {RunStatus.COMPLETED, RunStatus.EXPIRED}


class TestWalkingAway:
    def steps(self, *rates):
        return Steps(rates=[{"at": f"{day}d", "inr_per_eth": str(rate)} for day, rate in rates])

    def walked(self, price, *behaviours, terms=None):
        return draw(QUIET, 1, 0, terms, behaviours, price).state

    def test_attendees_cancel_on_the_first_day_on_which_it_pays(self):
        drawn = self.walked(self.steps((0, 100_000), (5, 121_000), (6, 90_000)), people.WalkAway(threshold=0.2))
        before = drawn.intents.books_at < 5 * DAY + 3_600
        assert (drawn.intents.cancels_at[before] == 5 * DAY + 3_600).all()
        assert (drawn.intents.cancels_at[~before] == NEVER).all()
        assert resolve_outcomes(drawn).cancelled[before].all()

    def test_nobody_cancels_below_the_threshold_or_after_the_cutoff(self):
        stay = self.walked(self.steps((0, 100_000), (5, 119_000)), people.WalkAway(threshold=0.2))
        assert (stay.intents.cancels_at == NEVER).all()
        late = self.walked(
            self.steps((0, 100_000), (5, 200_000)), people.WalkAway(), terms=Terms(cancellation_cutoff=30 * DAY)
        )
        assert (late.intents.cancels_at == NEVER).all()

    def test_hosts_cancel_when_the_rate_has_fallen(self):
        drawn = self.walked(
            self.steps((0, 100_000), (4, 60_000)), people.WalkAway(who="hosts", threshold=0.3, share=0.5)
        )
        assert near(rate(resolve_outcomes(drawn).final_status == RunStatus.CANCELLED), 0.5, CHUNK_SIZE)
        assert set(drawn.intents.cancels_run_at.tolist()) == {4 * DAY + 3_600, NEVER}


@pytest.mark.parametrize("behaviour", get_args(get_args(people.AnyBehaviour)[0]), ids=lambda b: b.__name__)
def test_the_same_people_meet_every_policy(behaviour):
    """What a behaviour draws is independent of the terms: whatever follows it is the same under each."""
    after = [
        state(behaviour(), people.HostCancels(chance=0.5), terms=Terms(stake_bps=bps, forfeit_to_host_bps=bps))
        for bps in (0, 4_000)
    ]
    assert (after[0].intents.cancels_run_at == after[1].intents.cancels_run_at).all()
    assert (after[0].rates == after[1].rates).all()
    assert (after[0].price_wei == after[1].price_wei).all()


STATED = {"speculators": 0.15, "dear-stake": 0.3}
"""What populations and sweeps say of no-shows without a stake; all others 13.5%."""


def populations_and_rates():
    """Every group of people that ships, with the share that stays away without a stake."""
    for file in populations().values():
        population = load_population(file)
        yield pytest.param(population, STATED.get(population.name, 0.135), id=population.name)
    for file in sorted((checkout() / "scenarios" / "sweeps").glob("*.yaml")):
        sweep = load_sweep(file)
        for name, group in sweep.behaviours.items():
            population = population_of(sweep).model_copy(update={"behaviours": group})
            yield pytest.param(population, STATED.get(sweep.name, 0.135), id=f"{sweep.name}, {name}")
    for population in (exposure.population_with_lead(), break_even.POPULATION, attacks.HONEST):
        yield pytest.param(population, 0.135, id=population.name)


@pytest.mark.parametrize(("population", "expected"), list(populations_and_rates()))
def test_the_shipped_people_stay_away_as_often_as_is_said(population, expected):
    """Without a stake, of the bookings that were not cancelled in time; days on which many stay away included."""
    drawn = draw(population, 1, 0, population.terms.model_copy(update={"stake_bps": 0})).state
    active = resolve_outcomes(drawn).active & drawn.intents.interested
    by_run = (active & ~drawn.intents.intends_to_attend).sum(axis=0) - expected * active.sum(axis=0)
    assert abs(by_run.sum()) < 4 * by_run.std() * CHUNK_SIZE**0.5


def test_what_people_do_does_not_depend_on_who_else_there_is_or_on_their_place():
    """Whoever does nothing, in front of the others, changes nothing; nor does another order of independent ones."""
    group = [people.NoShow(base=0.3), people.Weather(), people.HostCancels(chance=0.3), people.CompleteLate()]
    inert = [people.LostToStake(elasticity=0), people.FalseNoShows(share=0), people.Weather(chance=0)]
    usual = state(*group).intents
    for others in ([*inert[:2], *group], group[::-1], [*group, *inert]):
        changed = state(*others).intents
        assert all((getattr(usual, name) == getattr(changed, name)).all() for name in vars(usual))


@pytest.mark.parametrize("seed", [2**32 + 5, 10 * 2**32 + 5, 2**64 + 5, 2**130 + 5])
def test_seeds_of_any_size_have_their_own_random_numbers(seed):
    """Each address of a large seed has other numbers than any of the seed that its words begin with."""
    addresses = [(chunk, part) for chunk in (0, 1, 10) for part in (0, 1, 10, 11, "behaviour")]
    drawn = [stream(number, *address).integers(2**63) for number in (5, seed) for address in addresses]
    assert len(set(drawn)) == len(drawn)
    large, small = draw(QUIET, seed, 10, behaviours=()).state, draw(QUIET, 5, 10, behaviours=()).state
    assert not (large.price_paise == small.price_paise).any()


def test_a_run_is_the_same_however_many_are_drawn():
    population = QUIET.model_copy(update={"price": Gbm(inr_per_eth="200000", annual_volatility=0.8)})
    one, again = (draw(population, 7, 3, behaviours=[people.NoShow()]).state for _ in range(2))
    other = draw(population, 7, 4, behaviours=[people.NoShow()]).state
    assert (one.intents.books_at == again.intents.books_at).all()
    assert (one.rates == again.rates).all()
    assert not (one.intents.books_at == other.intents.books_at).all()


def test_the_shipped_populations_have_every_behaviour():
    used = {b.do for file in populations().values() for b in load_population(file).behaviours}
    assert used == {b.model_fields["do"].default for b in get_args(get_args(people.AnyBehaviour)[0])}


def test_a_custom_behaviour_is_a_function():
    """Everybody asks for two seats."""

    def pairs(rng, now):
        return replace(now.intents, seats=np.full(now.shape, 2))

    assert (state(pairs).intents.seats == 2).all()
    assert replace(state(), seats=np.ones(CHUNK_SIZE, np.int64)).run_count == CHUNK_SIZE
