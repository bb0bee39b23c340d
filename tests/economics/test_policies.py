"""Overbooking, waiting lists and platforms whose runs share a market: by hand, by a plain loop, and on a chain."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from stakesim.economics import metrics, sweep, sweep_runs
from stakesim.economics.settle import settle
from stakesim.model.rules import MAX_SEATS
from stakesim.population.behaviours import Cancel, Grief, LostToStake, NoShow
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.policy import Policy
from stakesim.population.population import Platform, Population, draw
from stakesim.population.state import NEVER
from stakesim.population.to_scenario import generate, to_scenario
from stakesim.prices.gas_models import SpikingGas
from stakesim.prices.price_models import Constant, Gbm, Merton
from stakesim.scenario.actions import Book, Terms
from stakesim.schema.errors import InputError
from stakesim.units import DAY

CROWD = Population(
    name="crowd",
    story="More people than seats, many of whom cancel or do not come.",
    seats=(5, 12),
    price_inr=("500", "500"),
    lead_time=(7 * DAY, 20 * DAY),
    attendees=(4, 12),
    seats_wanted=(1, 3),
    behaviours=(NoShow(base=0.3), Cancel(daily=0.03, daily_near=0.1)),
    price=Constant(),
)


def values_of(state):
    outcomes = resolve_outcomes(state)
    return metrics.measure(state, outcomes, settle(state, outcomes))


class TestOverbooking:
    def test_seats_beyond_those_there_are_are_sold_and_whoever_finds_none_is_paid(self):
        """10 seats, 12 sold, 12 people who come: two are turned away, and the host pays twice their tickets."""
        full = CROWD.model_copy(
            update={"seats": (10, 10), "attendees": (12, 12), "seats_wanted": (1, 1), "behaviours": ()}
        )
        plain = values_of(draw(full, 1).state)
        state = draw(full, 1, terms=Policy(overbooking_bps=2_000, compensation_bps=20_000)).state
        values = values_of(state)
        assert (set(state.seats), set(state.room)) == ({12}, {10})
        assert set(values["bookings"][0]) == {12}
        assert set(values["empty seats"][0]) == {0}
        assert np.array_equal(np.stack(values["turned away"])[:, 0], [2, 12])
        assert set(plain["turned away"][0]) == {0}
        gain = (values["host profit"][0] - plain["host profit"][0])[0]
        assert gain == 2 * 95 * 500 - 2 * 2 * 50_000  # two more tickets less the fee, and the compensation, in paise

    def test_the_contract_limits_the_seats_and_rounds_them_down(self):
        large = CROWD.model_copy(update={"seats": (MAX_SEATS - 9, MAX_SEATS)})
        state = draw(large, 1, terms=Policy(overbooking_bps=400)).state
        assert (state.seats == np.minimum(state.room + state.room * 400 // 10_000, MAX_SEATS)).all()
        assert state.seats.max() == MAX_SEATS

    def test_no_shows_leave_fewer_seats_empty(self):
        frame = sweep({"overbooking_bps": [0, 2_000]}, CROWD.behaviours, Constant(), 4_000, 1, CROWD)
        empty, away = (
            frame[frame.metric == name].set_index("overbooking_bps") for name in ("empty seats", "turned away")
        )
        assert empty.change_high[2_000] < 0
        assert away.change_low[2_000] > 0


def served_by_hand(state, run):
    """A waiting list as a loop over a run's events in the order of their times: the places that book, and when."""
    intents = state.intents
    events = [(at, 0, place) for place, at in enumerate(intents.books_at[:, run].tolist()) if at < NEVER]
    cutoff = int(state.cutoff[run])
    events += [
        (at, 1, place) for place, at in enumerate(intents.cancels_at[:, run].tolist()) if at < NEVER and at <= cutoff
    ]
    free, booked, waiting, times = int(state.seats[run]), set(), [], {}
    for at, is_cancellation, place in sorted(events):
        seats = intents.seats[:, run].tolist()
        if not is_cancellation:
            if seats[place] <= free:
                booked.add(place)
                free -= seats[place]
                times[place] = at
            else:
                waiting.append(place)
        elif place in booked:
            booked.discard(place)
            free += seats[place]
            for first in list(waiting):
                if seats[first] <= free:
                    waiting.remove(first)
                    booked.add(first)
                    free -= seats[first]
                    times[first] = at + 1
        elif place in waiting:
            waiting.remove(place)
    return times


class TestWaitingList:
    @pytest.mark.parametrize("seed", [1, 2])
    def test_who_waits_books_when_somebody_cancels_as_by_a_plain_loop(self, seed):
        first_come = draw(CROWD, seed).state
        state = draw(CROWD, seed, terms=Policy(waiting_list=True)).state
        accepted = resolve_outcomes(state).accepted
        moved = (state.intents.books_at != first_come.intents.books_at).any(axis=0)
        assert moved.mean() > 0.1
        distinct = [run for run in np.flatnonzero(moved)[:300] if self.has_distinct_times(first_come, run)]
        assert len(distinct) > 200
        for run in distinct:
            times = served_by_hand(first_come, run)
            assert set(np.flatnonzero(accepted[:, run]).tolist()) == times.keys(), run
            assert {place: int(state.intents.books_at[place, run]) for place in times} == times, run
        assert accepted.sum() > resolve_outcomes(first_come).accepted.sum()

    @staticmethod
    def has_distinct_times(state, run):
        times = np.concatenate([state.intents.books_at[:, run], state.intents.cancels_at[:, run]])
        times = np.sort(times[times < NEVER])
        return (np.diff(times) > 20).all()

    def test_who_waits_is_in_the_scenario_at_the_later_time(self):
        chunk = draw(CROWD, 3, terms=Policy(waiting_list=True))
        before = draw(CROWD, 3).state.intents.books_at
        place, run = np.argwhere(chunk.state.intents.books_at != before)[0]
        scenario = to_scenario(chunk, int(run))
        assert type(scenario.terms) is Terms
        [at] = [a.at for a in scenario.actions if isinstance(a, Book) and a.booking == f"guest{place + 1}"]
        assert at == chunk.state.intents.books_at[place, run] > before[place, run]

    def test_a_run_that_was_blocked_is_sold_after_all(self):
        """Whoever blocks all seats gives them up at the cutoff: those who wait book them then."""
        blocked = (*CROWD.behaviours, Grief())
        frame = sweep({"waiting_list": [False, True]}, blocked, Constant(), 2_000, 1, CROWD)
        bookings = frame[frame.metric == "bookings"].set_index("waiting_list").value
        assert bookings[True] > 1.5 * bookings[False]


class TestPlatform:
    SHARED = CROWD.model_copy(
        update={"platform": Platform(runs=60, over=10 * DAY), "price": Merton(inr_per_eth="200000")}
    )

    def test_runs_share_a_path_from_the_day_on_which_they_are_created(self):
        state = draw(self.SHARED, 1).state
        assert state.run_count == self.SHARED.chunk_size == 4_080
        rates = state.rates
        assert len(np.unique(rates[0, :60])) == 11  # of the days from 0 to 10
        for run in range(1, 60):
            days = [d for d in range(11) if np.array_equal(rates[d:5, 0][: 5 - d], rates[: 5 - d, run][: 5 - d])]
            assert days or (rates[:, run] != rates[:, 0]).any()
        first, other = (next(r for r in range(a, a + 60) if rates[0, r] == 20_000_000) for a in (0, 60))
        assert (rates[1:, first] != rates[1:, other]).all()
        together = [run for run in range(60) if rates[0, run] == 20_000_000]
        assert (rates[:, together] == rates[:, together[:1]]).all()
        later = next(run for run in range(60) if rates[0, run] == rates[1, first])
        assert (rates[:-1, later] == rates[1:, first]).all()

    def test_the_same_people_come_whether_runs_share_a_market_or_not(self):
        alone, shared = (draw(population, 1).state for population in (CROWD, self.SHARED))
        for name, values in vars(shared.intents).items():
            assert np.array_equal(values, vars(alone.intents)[name][..., :4_080])
        assert np.array_equal(shared.seats, alone.seats[:4_080])

    def test_runs_are_of_whole_platforms(self):
        for call in (sweep, sweep_runs):
            with pytest.raises(InputError, match="runs is 100; give a multiple of 60, as a platform has so many"):
                call([Terms()], [], Constant(), 100, 1, self.SHARED)

    def test_a_run_is_the_same_as_a_scenario(self):
        index = self.SHARED.chunk_size + 5
        scenario = generate(self.SHARED, 1, index)
        assert scenario.origin["index"] == index
        rate = scenario.price.rates[0].inr_per_eth
        assert rate == Decimal(int(draw(self.SHARED, 1, 1).state.rates[0, 5])) / 100

    @pytest.mark.slow
    def test_a_common_path_is_a_common_risk_and_intervals_know_it(self):
        """Of the intervals of 40 sweeps of 20 platforms 95% have the mean, which narrower ones would not."""
        shared = self.SHARED.model_copy(update={"platform": Platform(runs=60), "behaviours": ()})
        price = Gbm(inr_per_eth="200000", annual_volatility=0.8)
        truth = sweep([Terms()], [], price, 60_000, 99, shared.model_copy(update={"platform": None}))
        expected = truth[truth.metric == "host profit"].value.iloc[0]
        covered, widths = 0, []
        for seed in range(40):
            frame = sweep([Terms()], [], price, 60 * 20, seed, shared)
            [row] = frame[frame.metric == "host profit"].to_dict("records")
            covered += row["low"] <= expected <= row["high"]
            widths.append(row["high"] - row["low"])
        assert covered >= 33
        alone = sweep([Terms()], [], price, 60 * 20, 1, shared.model_copy(update={"platform": None}))
        [row] = alone[alone.metric == "host profit"].to_dict("records")
        assert np.mean(widths) > 2 * (row["high"] - row["low"])

    @pytest.mark.slow
    def test_quantiles_are_of_the_means_of_platforms(self):
        """A path of its own for each run hides the risk of a platform."""
        shared = self.SHARED.model_copy(update={"platform": Platform(runs=60)})
        spread = {}
        for name, population in (("shared", shared), ("alone", shared.model_copy(update={"platform": None}))):
            runs = sweep_runs([Terms()], [NoShow()], population.price, 6_000, 1, population, metrics=["host profit"])
            means = runs.groupby(runs.run // 60)["host profit"].mean()
            spread[name] = means.quantile(0.05) / means.mean()
        assert spread["shared"] < 0.75 < 0.9 < spread["alone"]
        runs = sweep_runs([Terms()], [NoShow()], shared.price, 6_000, 1, shared, metrics=["host profit"])
        assert (runs.platform == runs.run // 60).all()
        frame = sweep([Terms()], [NoShow()], shared.price, 6_000, 1, shared, quantiles=[0.05])
        means = np.sort(runs.groupby("platform")["host profit"].mean())
        [row] = frame[frame.metric == "host profit"].to_dict("records")
        assert row["q5"] == pytest.approx(means[4], rel=0.003)
        assert row["q5_beyond"] == pytest.approx(means[:5].mean(), rel=0.003)
        assert row["q5_low"] < row["q5"] < row["q5_high"]


@pytest.mark.slow
def test_all_of_it_plays_on_the_chain(engine_name):
    population = TestPlatform.SHARED.model_copy(update={"booking_curve": ((0.0, 0.0), (0.8, 0.3), (1.0, 1.0))})
    people = [
        NoShow(base=0.3, elasticity=1, observed_inr=Decimal(800)),
        LostToStake(elasticity=1, screening=0.5),
        *CROWD.behaviours[1:],
    ]
    policies = {"overbooking_bps": [0, 3_000], "waiting_list": [True]}
    frame = sweep(
        policies, people, population.price, 600, 1, population, gas=SpikingGas(), spot_check=5, engine=engine_name
    )
    assert set(frame.spot_checked) == {5}


def test_policies_of_terms_are_those_of_before():
    plain = draw(CROWD, 1, terms=Terms(stake_bps=500)).state
    assert plain.terms == Policy(stake_bps=500)
    assert replace(plain, terms=Policy()).stake_share == 0.2
