"""The vectorised settlement equals the rules to the wei: in test vectors, the reference model, and beyond int64."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stakesim.economics import settle as settlements
from stakesim.economics.gas import measured_costs
from stakesim.economics.metrics import measure
from stakesim.economics.settle import Settlement, settle, settle_runs
from stakesim.economics.spot_check import expected_payouts
from stakesim.model.rehearsal import rehearse
from stakesim.model.state import RunStatus
from stakesim.population import behaviours as people
from stakesim.population.exact_int import as_large_as, as_python_ints, wei_to_paise
from stakesim.population.outcomes import Outcomes, resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, Population, draw, first_runs
from stakesim.population.to_scenario import to_scenario
from stakesim.population.wide_ints import WIDE_LIMIT, WideInts
from stakesim.prices.price_models import Gbm
from stakesim.scenario.actions import Terms
from stakesim.studies import attacks, exposure, payout_methods, wallet

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "settlements.json").read_text())
KINDS = {
    "int64": as_large_as,
    "two of int64": lambda largest, prices: (WideInts.of if largest < WIDE_LIMIT else as_python_ints)(prices),
    "Python integers": lambda largest, prices: as_python_ints(prices),
}
ENDS = {"completed": RunStatus.COMPLETED, "cancelled": RunStatus.CANCELLED, "expired": RunStatus.EXPIRED}


@pytest.mark.parametrize("kind", KINDS)
def test_every_vector(kind, monkeypatch):
    """Settlements computed from the rules alone. Where amounts do not fit in the kind, the next larger one is taken."""
    monkeypatch.setattr(settlements, "as_large_as", KINDS[kind])
    for vector in VECTORS:
        price, bookings = int(vector["pricePerSeat"]), vector["bookings"]
        terms = vector["terms"]
        column = np.ones((len(bookings), 1), np.bool_)
        fates = [[booking["fate"]] for booking in bookings]
        outcomes = Outcomes(
            column,
            np.array([[fate == "cancelled" for fate in row] for row in fates], np.bool_).reshape(column.shape),
            np.array([ENDS[vector["end"]]]),
            np.array([0]),
            *[np.zeros(column.shape, np.int64)] * 2,
        )
        settlement = settle_runs(
            Terms(
                stake_bps=terms["stakeBps"],
                fee_bps=terms["feeBps"],
                forfeit_to_host_bps=terms["forfeitToHostBps"],
            ),
            np.array([price], np.int64 if price < 2**63 else object),
            np.array([vector["maxSeats"]]),
            np.array([[booking["seats"]] for booking in bookings], np.int64).reshape(column.shape),
            outcomes,
            np.array([[fate == "attended" for fate in row] for row in fates], np.bool_).reshape(column.shape),
        )
        expected = vector["expected"]
        assert int(settlement.host_stake[0]) == int(expected["hostStake"])
        assert int(settlement.host[0]) == int(expected["hostReceives"])
        assert int(settlement.platform[0]) == int(expected["platformEarns"])
        assert [int(wei) for wei in settlement.received[:, 0]] == [int(b["received"]) for b in bookings]


EVERYBODY = (
    people.LostToStake(elasticity=0.7),
    people.NoShow(base=0.3, elasticity=1.5),
    people.Weather(chance=0.3, stay_away=0.6),
    people.Cancel(daily=0.03, daily_near=0.2),
    people.WalkAway(threshold=0.1, share=0.7),
    people.WalkAway(who="hosts", threshold=0.3, share=0.5),
    people.HostCancels(chance=0.1),
    people.FalseNoShows(share=0.3, hosts=0.5),
    people.SelfBook(seats=2, hosts=0.4),
    people.Grief(runs=0.3),
    people.CompleteLate(late=0.1, never=0.1),
)
TERMS = st.builds(
    Terms,
    stake_bps=st.integers(0, 5_000),
    fee_bps=st.integers(0, 1_000),
    forfeit_to_host_bps=st.integers(0, 10_000),
    cancellation_cutoff=st.integers(0, 4 * 86_400),
    completion_grace=st.integers(3_600, 20 * 86_400),
)
POPULATIONS = st.builds(
    Population,
    name=st.just("any"),
    story=st.just("Anybody."),
    seats=st.sampled_from([(1, 3), (5, 20), (150, 200)]),
    price_inr=st.sampled_from([("0.01", "0.05"), ("300", "5000"), ("100000", "90000000")]),
    lead_time=st.sampled_from([(10_800, 90_000), (7 * 86_400, 30 * 86_400)]),
    attendees=st.sampled_from([(0, 3), (8, 20)]),
    seats_wanted=st.sampled_from([(1, 1), (1, 4)]),
    price=st.builds(Gbm, inr_per_eth=st.just("200000"), annual_volatility=st.sampled_from([0, 0.8, 6.0])),
)
RUNS_EACH = {"quick": 2, "ci": 12, "deep": 40}


@pytest.mark.slow
@settings(max_examples=12)
@given(population=POPULATIONS, terms=TERMS, seed=st.integers(0, 2**32), data=st.data())
def test_payouts_equal_the_reference_model(population, terms, seed, data, profile):
    """For any people, terms and market: everybody gets what the reference model pays, action by action."""
    size = data.draw(st.integers(0, len(EVERYBODY)))
    chunk = draw(population, seed, 0, terms, data.draw(st.permutations(EVERYBODY))[:size])
    for index in np.random.default_rng(seed).integers(0, CHUNK_SIZE, RUNS_EACH[profile]).tolist():
        scenario = to_scenario(chunk, index)
        final_state = rehearse(scenario, takes_payments=False)[-1].state  # a sweep has no smallest payment
        received = {party: wei for party, wei in final_state.received.items() if wei}
        assert expected_payouts(chunk, index) == received, scenario


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32), dearer=st.sampled_from([1, 10**3, 10**5, 2**32]), terms=TERMS, with_quotes=st.booleans()
)
@settings(max_examples=8)
def test_every_kind_of_array_gives_the_amounts_of_python_integers(seed, dearer, terms, with_quotes):
    """Prices over eight orders of magnitude, from a paisa to more than the contract can hold."""
    population = Population(name="wide", story="Any price.", price_inr=("1", "90000000"), attendees=(0, 6))
    state = first_runs(draw(population, seed, 0, terms, EVERYBODY), 500)
    outcomes = resolve_outcomes(state)
    price = as_python_ints(state.price_wei) * dearer + np.random.default_rng(seed).integers(0, dearer, 500)
    quotes = price * 3 // (2 + np.arange(state.shape[0])[:, None]) if with_quotes else None
    arguments = (state.seats, state.intents.seats, outcomes, state.intents.reported_attended)
    with pytest.MonkeyPatch.context() as patch:
        settled = settle_runs(state.terms, price, *arguments, quotes=quotes)
        patch.setattr(settlements, "as_large_as", KINDS["Python integers"])
        expected = settle_runs(state.terms, price, *arguments, quotes=quotes)
    assert isinstance(settled.paid, np.ndarray) == (dearer == 2**32)
    for field in fields(Settlement):
        assert np.array_equal(getattr(settled, field.name), getattr(expected, field.name)), field.name
    rate = state.rate_at(outcomes.closed_at)
    for party in ("host", "platform"):
        net = [getattr(each, party) - each.host_stake for each in (settled, expected)]
        assert np.array_equal(*(wei_to_paise(amounts, rate) for amounts in net)), party


@pytest.mark.slow
def test_every_analysis_of_dear_runs_is_that_of_python_integers(monkeypatch):
    """What reads a settlement as arrays of NumPy may get `WideInts`."""
    rich = Population(name="rich", story="Dear seats.", price_inr=("300000", "5000000"), behaviours=EVERYBODY)
    state = first_runs(draw(rich, 11), 400)
    outcomes = resolve_outcomes(state)

    def analysed():
        flows = wallet.run_flows(rich, 50, 1, measured_costs().gas)
        gains = exposure.gains(state, outcomes)
        return [
            settle(state, outcomes).host // 7,
            flows.paid_in,
            flows.returned,
            payout_methods.payouts(state),
            attacks.interest_wei(state, outcomes),
            *attacks.net_receipts(state, outcomes).values(),
            *(amounts for positions in gains.values() for amounts in positions.values()),
            *(column for pair in measure(state, outcomes, settle(state, outcomes)).values() for column in pair),
        ]

    found = analysed()
    assert isinstance(settle(state, outcomes).paid, WideInts)
    monkeypatch.setattr(settlements, "as_large_as", KINDS["Python integers"])
    assert isinstance(settle(state, outcomes).paid, np.ndarray)
    for number, (amounts, expected) in enumerate(zip(found, analysed(), strict=True)):
        assert np.array_equal(amounts, expected), number


def test_all_wei_paid_in_are_paid_out():
    """Invariants INV-01 and INV-02 over 4,096 runs; a run that nobody closed still holds wei."""
    population = Population(name="usual", story="Anybody.", price_inr=("300", "5000"))
    state = draw(population, 5, behaviours=EVERYBODY).state
    outcomes = resolve_outcomes(state)
    settlement = settle(state, outcomes)
    paid_in = settlement.host_stake + settlement.paid.sum(axis=0)
    paid_out = settlement.host + settlement.platform + settlement.received.sum(axis=0)
    closed = outcomes.final_status != RunStatus.ACTIVE
    assert (paid_in == paid_out)[closed].all()
    assert {int(end) for end in outcomes.final_status} >= {3, 4, 5}
