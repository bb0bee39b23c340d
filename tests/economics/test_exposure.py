"""Gains under three pricings: by hand, as identities between them, on the chain, and against closed forms."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from numpy.random import default_rng
from stakesim import plots
from stakesim.campaign import campaign
from stakesim.economics.settle import settle
from stakesim.economics.spot_check import fastest_engine
from stakesim.model.state import RunStatus
from stakesim.population.exact_int import paise_to_wei
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, draw, select_runs
from stakesim.population.state import DAY, HOUR, NEVER, Intents, PopulationState
from stakesim.population.to_scenario import HOST, to_scenario
from stakesim.prices.market import simulate
from stakesim.prices.price_models import Constant, Gbm
from stakesim.scenario.actions import Terms
from stakesim.studies.exposure import (
    LEADS,
    MARKETS,
    POSITIONS,
    PRICINGS,
    at_risk,
    bearers,
    exposures,
    fan,
    gains,
    market_of_runs,
    moves,
    quotes,
)

RUNS = 400


def one_run(rates: list[int], books: list[int], seats: list[int], **changes: object) -> PopulationState:
    """A run of 4 seats at 2,500 INR, starting after three days. rates: INR of each day."""
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
    ).but(**changes)
    price = np.array([250_000])
    return PopulationState(
        Terms(), np.array([4]), np.array([3 * DAY]), price, paise_to_wei(price, paise[0]), paise, intents
    )


def in_inr(state: PopulationState, pricing: str) -> dict[str, float]:
    return {who: int(paise[0]) / 100 for who, paise in gains(state, resolve_outcomes(state))[pricing].items()}


MOVING = [200_000, 250_000, 250_000, 150_000, 150_000]


def test_by_hand_an_attendee_pays_more_than_listed_and_a_host_gets_less() -> None:
    """0.0125 ETH a seat: 3,125 INR when A books and 625 of stake, of which 375 come back, instead of 500. The host gets
    95% of 1,875 instead of 2,500, and of a stake of 2,000 gets 1,500; the platform 5% of the same."""
    state = one_run(MOVING, books=[DAY], seats=[1])
    assert in_inr(state, "wei-fixed") == {
        "attendees": -(3_125 + 625 - 375) + (2_500 + 500 - 500),
        "host's revenue": 0.95 * (1_875 - 2_500),
        "host's stake": 1_500 - 2_000,
        "platform": 0.05 * (1_875 - 2_500),
    }


def test_by_hand_what_is_quoted_at_the_booking_costs_what_is_listed() -> None:
    """0.01 ETH a seat: 2,500 INR and 500 of stake, of which 300 come back; the host gets 95% of 1,500."""
    state = one_run(MOVING, books=[DAY], seats=[1])
    requoted = {"attendees": -200, "host's revenue": -950, "host's stake": -500, "platform": -50}
    assert in_inr(state, "re-quoted") == requoted
    assert in_inr(state, "INR-fixed") == dict.fromkeys(POSITIONS, 0) | {"platform": sum(requoted.values())}


def test_by_hand_a_no_show_and_a_cancelled_run() -> None:
    """Who stays away loses 0.0025 ETH to the platform, 375 INR instead of 500. What was paid into
    a run cancelled at 250,000 comes back at that rate, and the host's stake has gained a quarter."""
    absent = one_run(MOVING, books=[DAY], seats=[1], reported_attended=np.array([[False]]))
    assert in_inr(absent, "wei-fixed")["platform"] == -31.25 - 125
    assert in_inr(absent, "wei-fixed")["attendees"] == -(3_125 + 625) + (2_500 + 500)
    off = one_run(MOVING, books=[DAY], seats=[1], cancels_run_at=np.array([2 * DAY]))
    assert in_inr(off, "wei-fixed") == dict.fromkeys(POSITIONS, 0) | {"host's stake": 500}


def test_by_hand_a_cancelled_booking_comes_back_at_the_rate_of_that_day() -> None:
    state = one_run([200_000, 250_000, 300_000, 150_000], [DAY], [1], cancels_at=np.array([[2 * DAY - HOUR]]))
    assert in_inr(state, "wei-fixed")["attendees"] == 0
    later = one_run([200_000, 250_000, 300_000, 150_000], [HOUR], [1], cancels_at=np.array([[2 * DAY - HOUR]]))
    assert in_inr(later, "wei-fixed")["attendees"] == 3_000 * 0.25


def drawn_runs(price: object, runs: int = RUNS) -> PopulationState:
    return select_runs(draw(market_of_runs(14), 5, price=price), np.arange(runs))  # type: ignore[arg-type]


def test_without_a_move_nobody_gains_but_by_rounding() -> None:
    state = drawn_runs(Constant(inr_per_eth="212345.67"))
    outcomes = resolve_outcomes(state)
    assert (quotes(state, outcomes) == state.price_wei).all()
    settled, requoted = settle(state, outcomes), settle(state, outcomes, quotes(state, outcomes))
    assert all((getattr(settled, name) == getattr(requoted, name)).all() for name in vars(settled))
    roundings = 3 + 2 * outcomes.accepted.sum(axis=0)
    for pricing in PRICINGS:
        for paise in gains(state, outcomes)[pricing].values():
            assert (abs(paise) <= roundings).all()


def test_a_run_that_is_requoted_for_its_only_booking_is_a_run_created_then() -> None:
    """All but the host's stake, which was put down at the beginning."""
    booked_late = one_run([200_000, 160_000, 190_000, 250_000, 100_000], books=[2 * DAY], seats=[3])
    created_then = one_run([190_000, 190_000, 190_000, 250_000, 100_000], books=[HOUR], seats=[3])
    late, then = in_inr(booked_late, "re-quoted"), in_inr(created_then, "wei-fixed")
    assert {who: late[who] for who in POSITIONS if who != "host's stake"} == {
        who: then[who] for who in POSITIONS if who != "host's stake"
    }


def test_quoted_amounts_beyond_int64_are_settled_as_exactly() -> None:
    """At a thousandth of the rate all is a thousand times as many wei, give or take the rounding of a wei a seat."""
    state = drawn_runs(MARKETS["Merton"])
    outcomes = resolve_outcomes(state)
    cheap = PopulationState(**vars(state) | {"rates": state.rates // 1_000 * 1_000})
    tiny = PopulationState(**vars(cheap) | {"rates": cheap.rates // 1_000, "price_wei": None})
    tiny = PopulationState(**vars(tiny) | {"price_wei": paise_to_wei(tiny.price_paise, tiny.rates[0])})
    cheap = PopulationState(**vars(cheap) | {"price_wei": paise_to_wei(cheap.price_paise, cheap.rates[0])})
    small, large = settle(cheap, outcomes, quotes(cheap, outcomes)), settle(tiny, outcomes, quotes(tiny, outcomes))
    assert small.paid.dtype == np.int64
    assert large.paid.dtype == object
    for name in ("paid", "received", "host", "platform"):
        assert (abs(getattr(large, name) - getattr(small, name).astype(object) * 1_000) < 1_000 * 100).all()


@pytest.mark.slow
def test_a_run_played_on_the_chain_gains_the_same() -> None:
    """INR in and out at the rates of the ledger's own lines, less the listed price by hand: 20% back of who came."""
    drawn = draw(market_of_runs(7), 3, price=MARKETS["Merton"])
    picked = list(range(4))
    result = campaign.run([to_scenario(drawn, index) for index in picked], fastest_engine())
    assert not result.findings
    state = select_runs(drawn, np.array(picked))
    outcomes = resolve_outcomes(state)
    gained = gains(state, outcomes)["wei-fixed"]
    ended = {}
    for index, played in zip(picked, result.results, strict=True):
        net: Counter[str] = Counter()
        for row in played.rows:
            who = HOST if row.actor == HOST else "platform" if row.actor == "platform" else "attendees"
            net[who] += (row.wei_out - row.wei_in) * Decimal(row.rate) / 10**18
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
        for who, promised in listed.items():
            assert float(net[who]) - promised == pytest.approx(model[who] / 100, abs=0.5)
    assert len({round(net[HOST]) for net in ended.values()}) == 4


@pytest.mark.slow
def test_the_same_seed_gives_the_same_runs_however_many_are_asked_for() -> None:
    few, many = (exposures(market_of_runs(7), MARKETS["GARCH"], runs, 2) for runs in (CHUNK_SIZE // 2, CHUNK_SIZE + 10))
    for pricing in PRICINGS:
        whole = many[many.pricing == pricing].reset_index(drop=True)
        part = few[few.pricing == pricing].reset_index(drop=True)
        assert len(whole) == CHUNK_SIZE + 10
        pd.testing.assert_frame_equal(whole.head(CHUNK_SIZE // 2), part)


def test_who_bears_what_is_read_off_the_runs() -> None:
    """100 runs of 200 INR each, in which the host gains -49 to 50% of that; one without sales is left out."""
    shares = range(-49, 51)
    rows = [
        {"pricing": how, "sales": 20_000, "promised": 19_000, "host's revenue": 200 * share, "host's stake": 0}
        | {"attendees": 0, "platform": 0}
        for how in PRICINGS
        for share in shares
    ]
    rows.append(rows[0] | {"sales": 0, "host's revenue": -(10**9)})
    table = bearers(pd.DataFrame(rows))
    host = table.loc[("wei-fixed", "host's revenue")]
    assert (host["mean"], host["50%"], host["VaR 5%"], host["ES 5%"]) == pytest.approx((0.5, 0.5, 44, 47))
    assert host["INR a run, ES 5%"] == pytest.approx(2 * 47)


def test_gbm_is_beyond_the_stake_as_often_as_the_closed_forms_say() -> None:
    """At the event: log returns are normal. At some close before: by the reflection principle, the barrier moved by
    0.5826 daily deviations (M. Broadie, P. Glasserman, S. Kou 1997), which is good to half a percent here."""
    runs, days, volatility = 40_000, 30, 0.8
    found = moves({"GBM": Gbm(inr_per_eth="200000", annual_volatility=volatility, step="1d")}, runs, 4, [days])
    row = found.loc[("GBM", days)]
    step = volatility / np.sqrt(365)
    deviation, drift = step * np.sqrt(days), -(step**2) / 2 * days
    normal = NormalDist()

    def touched(barrier: float) -> float:
        """Chance that a Brownian motion with drift goes below a barrier below 0."""
        back = np.exp(2 * drift * barrier / deviation**2)
        return normal.cdf((barrier - drift) / deviation) + back * normal.cdf((barrier + drift) / deviation)

    low, high = np.log(0.8), np.log(1.2)
    at_the_event = (normal.cdf((low - drift) / deviation), 1 - normal.cdf((high - drift) / deviation))
    assert row["down, at the event"] == pytest.approx(100 * at_the_event[0], abs=1.25)
    assert row["up, at the event"] == pytest.approx(100 * at_the_event[1], abs=1.25)
    assert row["down, before it"] == pytest.approx(100 * touched(low - 0.5826 * step), abs=1.7)
    drift = -drift
    assert row["up, before it"] == pytest.approx(100 * touched(-high - 0.5826 * step), abs=1.7)


def test_the_fan_of_gbm_has_the_closed_forms() -> None:
    """VaR and ES of a lognormal (McNeil, Frey, Embrechts 2015, example 2.15), after 20 days."""
    volatility, days = 0.8, 20
    table = fan(Gbm(inr_per_eth="200000", annual_volatility=volatility, step="1d"), 60_000, days, 6)
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
def test_a_host_who_is_paid_in_wei_of_the_first_day_bears_the_whole_lead_time() -> None:
    """The host's loss in a wei-fixed run is the market's from creation to completion, a day after the start or less."""
    price = MARKETS["GBM"]
    table = at_risk({"GBM": price}, [14], 6_000, 8).set_index("pricing")
    rates = simulate(price, default_rng(1), 40_000, 15)
    alone = sorted(100 - 100 * (rates[14] / rates[0]))
    assert table.loc["wei-fixed", "var"] == pytest.approx(alone[int(0.95 * 40_000)], abs=1.5)
    assert table.loc["wei-fixed", "var"] > table.loc["re-quoted", "var"] > table.loc["INR-fixed", "var"] == 0


@pytest.mark.slow
def test_the_pictures_show_every_pricing_and_market() -> None:
    frame = exposures(market_of_runs(7), MARKETS["GBM"], 200, 1)
    drawn = plots.bearers(bearers(frame))
    assert [axes.get_title() for axes in drawn.axes] == list(PRICINGS)
    two = {name: MARKETS[name] for name in ("GBM", "GARCH")}
    fans = plots.fans({name: fan(price, 200, 10, 1) for name, price in two.items()})
    assert [axes.get_title() for axes in fans.axes] == list(two)
    known = {"down": [1, 2, 3, 4], "up": [1, 2, 3, 4]}
    labels = plots.moves(moves(two, 200, 1), known).axes[0].get_legend_handles_labels()[1]
    assert labels == [*two, "ETH, 2015 to 2026"]
    lines = plots.at_risk(at_risk(two, LEADS[:2], 100, 1), "GBM").axes[1].lines
    assert [line.get_label() for line in lines] == list(PRICINGS)
