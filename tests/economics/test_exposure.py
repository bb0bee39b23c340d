"""Gains under three pricings: computed by hand, against each other, against the chain, and against closed forms."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from numpy.random import default_rng
from stakesim import plots
from stakesim.campaign import campaign
from stakesim.economics.settle import settle
from stakesim.evm.engines import fastest_engine
from stakesim.model.state import RunStatus
from stakesim.population.exact_int import paise_to_wei
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.policy import Policy
from stakesim.population.population import CHUNK_SIZE, draw, select_runs
from stakesim.population.state import NEVER, Intents, PopulationState
from stakesim.population.to_scenario import HOST, to_scenario
from stakesim.prices.market import simulate
from stakesim.prices.price_models import Constant, Gbm
from stakesim.studies.exposure import (
    LEADS,
    MARKETS,
    POSITIONS,
    PRICINGS,
    booking_quotes,
    exposures,
    gains,
    gains_by_position,
    host_revenue_risk,
    move_frequencies,
    population_with_lead,
    revenue_quantiles,
)
from stakesim.units import DAY, HOUR

RUNS = 400


def one_run(rates: list[int], books: list[int], seats: list[int], **changes: object) -> PopulationState:
    """A run of 4 seats at 2,500 INR that starts after three days. rates: INR per ETH on each day."""
    paise = 100 * np.array(rates, np.int64)[:, None]
    people = (len(books), 1)
    intents = Intents(
        interested=np.ones(people, np.bool_),
        books_at=np.array(books, np.int64)[:, None],
        seats=np.array(seats, np.int64)[:, None],
        cancels_at=np.full(people, NEVER),
        intends_to_attend=np.ones(people, np.bool_),
        reported_attended=np.ones(people, np.bool_),
        by_host=np.zeros(people, np.bool_),
        cancels_run_at=np.array([NEVER]),
        completes_run_at=np.array([3 * DAY + HOUR]),
        expires_run_at=np.array([11 * DAY]),
    )
    intents = replace(intents, **changes)
    price = np.array([250_000])
    seats = np.array([4])
    return PopulationState(
        Policy(), seats, seats, np.array([3 * DAY]), price, paise_to_wei(price, paise[0]), paise, intents
    )


def gains_inr(state: PopulationState, pricing: str) -> dict[str, float]:
    return {position: int(paise[0]) / 100 for position, paise in gains(state, resolve_outcomes(state))[pricing].items()}


MOVING_RATES = [200_000, 250_000, 250_000, 150_000, 150_000]


def test_wei_fixed_gains_by_hand() -> None:
    """A seat is 0.0125 ETH. The attendee pays 3,125 INR and a stake of 625, of which 375 are returned instead of 500.
    Of 1,875 INR instead of 2,500, the host gets 95% and the platform 5%. Of a stake of 2,000 the host gets 1,500."""
    state = one_run(MOVING_RATES, books=[DAY], seats=[1])
    assert gains_inr(state, "wei-fixed") == {
        "attendees": -(3_125 + 625 - 375) + (2_500 + 500 - 500),
        "host's revenue": 0.95 * (1_875 - 2_500),
        "host's stake": 1_500 - 2_000,
        "platform": 0.05 * (1_875 - 2_500),
    }


def test_requoted_and_inr_fixed_gains_by_hand() -> None:
    """A seat is 0.01 ETH: 2,500 INR and a stake of 500, of which 300 are returned. The host gets 95% of 1,500 INR."""
    state = one_run(MOVING_RATES, books=[DAY], seats=[1])
    requoted = {"attendees": -200, "host's revenue": -950, "host's stake": -500, "platform": -50}
    assert gains_inr(state, "re-quoted") == requoted
    assert gains_inr(state, "INR-fixed") == dict.fromkeys(POSITIONS, 0) | {"platform": sum(requoted.values())}


def test_gains_of_a_no_show_and_of_a_cancelled_run_by_hand() -> None:
    """A no-show forfeits 0.0025 ETH to the platform, 375 INR instead of 500. A run cancelled at 250,000 INR per ETH
    refunds at that rate, and the host's stake has gained a quarter."""
    absent = one_run(MOVING_RATES, books=[DAY], seats=[1], reported_attended=np.array([[False]]))
    assert gains_inr(absent, "wei-fixed")["platform"] == -31.25 - 125
    assert gains_inr(absent, "wei-fixed")["attendees"] == -(3_125 + 625) + (2_500 + 500)
    off = one_run(MOVING_RATES, books=[DAY], seats=[1], cancels_run_at=np.array([2 * DAY]))
    assert gains_inr(off, "wei-fixed") == dict.fromkeys(POSITIONS, 0) | {"host's stake": 500}


def test_a_cancelled_booking_is_refunded_at_the_rate_of_that_day() -> None:
    state = one_run([200_000, 250_000, 300_000, 150_000], [DAY], [1], cancels_at=np.array([[2 * DAY - HOUR]]))
    assert gains_inr(state, "wei-fixed")["attendees"] == 0
    later = one_run([200_000, 250_000, 300_000, 150_000], [HOUR], [1], cancels_at=np.array([[2 * DAY - HOUR]]))
    assert gains_inr(later, "wei-fixed")["attendees"] == 3_000 * 0.25


def drawn_runs(price: object, runs: int = RUNS) -> PopulationState:
    return select_runs(draw(population_with_lead(14), 5, price=price), np.arange(runs))  # type: ignore[arg-type]


def test_at_a_constant_rate_nobody_gains_except_by_rounding() -> None:
    state = drawn_runs(Constant(inr_per_eth="212345.67"))
    outcomes = resolve_outcomes(state)
    assert (booking_quotes(state, outcomes) == state.price_wei).all()
    fixed, requoted = settle(state, outcomes), settle(state, outcomes, quotes=booking_quotes(state, outcomes))
    assert all((getattr(fixed, name) == getattr(requoted, name)).all() for name in vars(fixed))
    roundings = 3 + 2 * outcomes.accepted.sum(axis=0)
    for pricing in PRICINGS:
        for paise in gains(state, outcomes)[pricing].values():
            assert (abs(paise) <= roundings).all()


def test_requoting_the_only_booking_equals_creating_the_run_at_that_moment() -> None:
    """Except for the host's stake, which was paid when the run was created."""
    booked_late = one_run([200_000, 160_000, 190_000, 250_000, 100_000], books=[2 * DAY], seats=[3])
    created_then = one_run([190_000, 190_000, 190_000, 250_000, 100_000], books=[HOUR], seats=[3])
    late, then = gains_inr(booked_late, "re-quoted"), gains_inr(created_then, "wei-fixed")
    for position in ("attendees", "host's revenue", "platform"):
        assert late[position] == then[position]


def test_quotes_beyond_int64_are_settled_exactly() -> None:
    """At a thousandth of the rate all amounts are a thousand times as many wei, up to rounding by a wei a seat."""
    state = drawn_runs(MARKETS["Merton"])
    outcomes = resolve_outcomes(state)
    cheap = PopulationState(**vars(state) | {"rates": state.rates // 1_000 * 1_000})
    tiny = PopulationState(**vars(cheap) | {"rates": cheap.rates // 1_000, "price_wei": None})
    tiny = PopulationState(**vars(tiny) | {"price_wei": paise_to_wei(tiny.price_paise, tiny.rates[0])})
    cheap = PopulationState(**vars(cheap) | {"price_wei": paise_to_wei(cheap.price_paise, cheap.rates[0])})
    small, large = (
        settle(cheap, outcomes, quotes=booking_quotes(cheap, outcomes)),
        settle(tiny, outcomes, quotes=booking_quotes(tiny, outcomes)),
    )
    assert small.paid.dtype == np.int64
    assert large.paid.dtype == object
    for name in ("paid", "received", "host", "platform"):
        assert (abs(getattr(large, name) - getattr(small, name).astype(object) * 1_000) < 1_000 * 100).all()


@pytest.mark.slow
def test_gains_equal_those_of_the_chain() -> None:
    """INR in and out at the rates of the ledger's rows, less what the list promised, computed by hand."""
    chunk = draw(population_with_lead(7), 3, price=MARKETS["Merton"])
    indices = list(range(4))
    result = campaign.run([to_scenario(chunk, index) for index in indices], fastest_engine())
    assert not result.findings
    state = select_runs(chunk, np.array(indices))
    outcomes = resolve_outcomes(state)
    gained = gains(state, outcomes)["wei-fixed"]
    ended = {}
    for index, scenario_result in zip(indices, result.results, strict=True):
        net: Counter[str] = Counter()
        for row in scenario_result.rows:
            party = row.actor if row.actor in (HOST, "platform") else "attendees"
            net[party] += (row.wei_out - row.wei_in) * Decimal(row.rate) / 10**18
        ended[index] = net
        seats, price = state.intents.seats[:, index], int(state.price_paise[index]) / 100
        kept = outcomes.active[:, index] & (outcomes.final_status[index] == RunStatus.COMPLETED)
        attended = kept & state.intents.reported_attended[:, index]
        listed = {
            "attendees": -price * (1.2 * (seats * (kept & ~attended)).sum() + (seats * attended).sum()),
            HOST: 0.95 * price * (seats * kept).sum(),
        }
        model = {
            "attendees": int(gained["attendees"][index]),
            HOST: int(gained["host's revenue"][index]) + int(gained["host's stake"][index]),
        }
        for party, promised in listed.items():
            assert float(net[party]) - promised == pytest.approx(model[party] / 100, abs=0.5)
    assert len({round(net[HOST]) for net in ended.values()}) == 4


@pytest.mark.slow
def test_a_seed_gives_the_same_runs_whatever_their_number() -> None:
    few, many = (
        exposures(population_with_lead(7), MARKETS["GARCH"], runs, 2) for runs in (CHUNK_SIZE // 2, CHUNK_SIZE + 10)
    )
    for pricing in PRICINGS:
        whole = many[many.pricing == pricing].reset_index(drop=True)
        part = few[few.pricing == pricing].reset_index(drop=True)
        assert len(whole) == CHUNK_SIZE + 10
        pd.testing.assert_frame_equal(whole.head(CHUNK_SIZE // 2), part)


def test_gains_are_summarised_over_runs_with_sales() -> None:
    """In 400 runs of 200 INR the host gains -49 to 50% of that. A run without sales is left out."""
    shares = [*range(-49, 51)] * 4
    rows = [
        {"pricing": how, "sales": 20_000, "promised": 19_000, "host's revenue": 200 * share, "host's stake": 0}
        | {"attendees": 0, "platform": 0}
        for how in PRICINGS
        for share in shares
    ]
    rows.append(rows[0] | {"sales": 0, "host's revenue": -(10**9)})
    table = gains_by_position(pd.DataFrame(rows))
    host = table.loc[("wei-fixed", "host's revenue")]
    assert (host["mean"], host["50%"], host["VaR 5%"], host["ES 5%"]) == pytest.approx((0.5, 0.5, 44, 47))
    assert host["INR a run, ES 5%"] == pytest.approx(2 * 47)


def test_move_frequencies_of_gbm_equal_the_closed_forms() -> None:
    """At the event, log returns are normal. For any close before it, the reflection principle holds with the barrier
    shifted by 0.5826 daily deviations (M. Broadie, P. Glasserman, S. Kou 1997), with an error of half a percent."""
    runs, days, volatility = 40_000, 30, 0.8
    price = Gbm(inr_per_eth="200000", annual_volatility=volatility, step="1d")
    row = move_frequencies({"GBM": price}, runs, 4, leads=[days]).loc[("GBM", days)]
    step = volatility / np.sqrt(365)
    deviation, drift = step * np.sqrt(days), -(step**2) / 2 * days
    normal = NormalDist()

    def touched(barrier: float) -> float:
        """The probability that a Brownian motion with drift falls below a negative barrier."""
        back = np.exp(2 * drift * barrier / deviation**2)
        return normal.cdf((barrier - drift) / deviation) + back * normal.cdf((barrier + drift) / deviation)

    low, high = np.log(0.8), np.log(1.2)
    at_the_event = (normal.cdf((low - drift) / deviation), 1 - normal.cdf((high - drift) / deviation))
    assert row["down, at the event"] == pytest.approx(100 * at_the_event[0], abs=1.25)
    assert row["up, at the event"] == pytest.approx(100 * at_the_event[1], abs=1.25)
    assert row["down, before it"] == pytest.approx(100 * touched(low - 0.5826 * step), abs=1.7)
    drift = -drift
    assert row["up, before it"] == pytest.approx(100 * touched(-high - 0.5826 * step), abs=1.7)


@pytest.mark.slow
def test_revenue_quantiles_of_gbm_equal_the_closed_forms() -> None:
    """VaR and ES of a lognormal (McNeil, Frey, Embrechts 2015, example 2.15), after 20 days."""
    volatility, days = 0.8, 20
    table = revenue_quantiles(Gbm(inr_per_eth="200000", annual_volatility=volatility, step="1d"), 60_000, days, 6)
    deviation = volatility * np.sqrt(days / 365)
    normal = NormalDist()
    for level in (5, 25, 50, 75, 95):
        exact = 100 * np.exp(deviation * normal.inv_cdf(level / 100) - deviation**2 / 2)
        assert table.loc[days, f"{level}%"] == pytest.approx(exact, rel=0.01)
    assert table.loc[days, "left at VaR 5%"] == pytest.approx(table.loc[days, "5%"], rel=1e-3)
    left = 100 * normal.cdf(normal.inv_cdf(0.05) - deviation) / 0.05
    assert table.loc[days, "left at ES 5%"] == pytest.approx(left, rel=0.01)
    assert set(table.loc[0]) == {100}


@pytest.mark.slow
def test_under_wei_fixed_pricing_the_host_bears_the_whole_lead_time() -> None:
    """The host's loss is the market's from creation to completion, which is at most a day after the start."""
    price = MARKETS["GBM"]
    table = host_revenue_risk({"GBM": price}, [14], 6_000, 8).set_index("pricing")
    rates = simulate(price, default_rng(1), 40_000, 15)
    market_losses = sorted(100 - 100 * (rates[14] / rates[0]))
    assert table.loc["wei-fixed", "var"] == pytest.approx(market_losses[int(0.95 * 40_000)], abs=1.5)
    assert table.loc["wei-fixed", "var"] > table.loc["re-quoted", "var"] > table.loc["INR-fixed", "var"] == 0


@pytest.mark.slow
def test_the_plots_show_every_pricing_and_market() -> None:
    frame = exposures(population_with_lead(7), MARKETS["GBM"], 600, 1)
    figure = plots.gains_by_position(gains_by_position(frame))
    assert [axes.get_title() for axes in figure.axes] == list(PRICINGS)
    two = {name: MARKETS[name] for name in ("GBM", "GARCH")}
    fans = plots.revenue_fans({name: revenue_quantiles(price, 600, 10, 1) for name, price in two.items()})
    assert [axes.get_title() for axes in fans.axes] == list(two)
    eth_moves = {"down": [1, 2, 3, 4], "up": [1, 2, 3, 4]}
    labels = plots.move_frequencies(move_frequencies(two, 200, 1), eth_moves).axes[0].get_legend_handles_labels()[1]
    assert labels == [*two, "ETH, 2015 to 2026"]
    lines = plots.host_revenue_risk(host_revenue_risk(two, LEADS[:2], 600, 1), "GBM").axes[1].lines
    assert [line.get_label() for line in lines] == list(PRICINGS)
