"""What a stake does: the sweep against closed forms, and the words against hand-made numbers."""

import math

import numpy as np
import pandas as pd
import pytest
from stakesim import plots
from stakesim.economics import sweep
from stakesim.economics.sweeps import DEFAULT_POPULATION
from stakesim.population.behaviours import LostToStake, NoShow
from stakesim.prices.price_models import Constant
from stakesim.studies import no_shows

pytestmark = pytest.mark.slow

ROOMY = DEFAULT_POPULATION.model_copy(
    update={"name": "roomy", "seats": (40, 40), "attendees": (20, 20), "seats_wanted": (1, 1)}
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return no_shows.stakes(runs=1_000, seed=3)


def made(values: dict[int, tuple[float, float, float]], metric: str = "host profit") -> pd.DataFrame:
    """value, change and half-width by stake, the first one first."""
    rows = [
        {"case": "c", "no-shows": "low", "demand": "low", "forfeit_to_host_bps": 0, "metric": metric}
        | {"stake_bps": bps, "value": value, "change": change}
        | {"change_low": change - half, "change_high": change + half}
        for bps, (value, change, half) in values.items()
    ]
    return pd.DataFrame(rows)


def test_every_pair_of_elasticities_meets_every_stake(frame: pd.DataFrame) -> None:
    rows = frame[frame["metric"] == "empty seats"]
    assert set(zip(rows["no-shows"], rows["demand"], strict=True)) == set(no_shows.pairs())
    assert len(rows) == 9 * len(no_shows.STAKES)


def test_no_shows_follow_the_elasticity(frame: pd.DataFrame) -> None:
    """p (1 + s)^-e lies in the sweep's interval, widened to four standard errors, for each stake and elasticity."""
    rows = frame[(frame["metric"] == "no-show rate") & (frame["demand"] == "none")]
    claimed = 0.135 * (1 + rows["stake_bps"] / 10_000) ** -rows["no-shows"].map(no_shows.NO_SHOW)
    assert ((rows["value"] - claimed).abs() <= 2.05 * (rows["high"] - rows["low"]) / 2).all()


def test_without_elastic_demand_no_stake_changes_what_the_host_earns(frame: pd.DataFrame) -> None:
    rows = frame[(frame["metric"] == "host profit") & (frame["demand"] == "none")]
    assert rows["numerator"].nunique() == 1
    found = no_shows.as_good(frame, "host profit")
    assert {len(found["13.5% stay away", n, "none", 0]) for n in no_shows.NO_SHOW} == {len(no_shows.STAKES)}


@pytest.mark.parametrize(("base", "no_show", "demand"), [(0.135, 4, 0.25), (0.4, 1, 0.25), (0.17, 2, 0.1)])
def test_the_fewest_empty_seats_are_where_the_formula_says(base: float, no_show: float, demand: float) -> None:
    """Against a fine grid over the formula's own objective, and against the sweep where seats do not run out."""
    x = np.linspace(1, 3, 200_001)
    attended = x**-demand * (1 - base * x**-no_show)
    best = no_shows.fewest_empty(base, no_show, demand)
    assert best is not None
    assert best == pytest.approx(x[attended.argmax()] - 1, abs=2e-5)
    people = [LostToStake(elasticity=demand), NoShow(base=base, elasticity=no_show)]
    swept = sweep({"stake_bps": [2_000, 0, 5_000]}, people, Constant(), 2_000, 1, ROOMY)
    rows = swept[swept["metric"] == "empty seats"]
    x = 1 + rows["stake_bps"] / 10_000
    claimed = 1 - x**-demand * (1 - base * x**-no_show) / 2
    assert ((rows["value"] - claimed).abs() <= 2.05 * (rows["high"] - rows["low"]) / 2).all()


def test_where_the_formula_has_no_stake_or_none_at_all() -> None:
    assert no_shows.fewest_empty(0.135, 0, 0) is None
    assert no_shows.fewest_empty(0.135, 1, 0) == math.inf
    assert no_shows.fewest_empty(0.135, 0, 1) == 0
    assert no_shows.fewest_empty(0.135, 1, 1) == 0  # p (d + e) / d = 0.27: less than no stake would be best


def test_only_what_is_told_apart_is_left_out() -> None:
    frame = made({2_000: (10, 0, 0), 0: (11, 1, 0.5), 500: (10.2, 0.2, 0.31), 5_000: (9, -1, 0.1)})
    assert no_shows.as_good(frame, "host profit").tolist() == [(0, 500)]
    assert no_shows.as_good(frame, "host profit", most=False).tolist() == [(5_000,)]


def test_stakes_in_words() -> None:
    assert no_shows.spoken([500]) == "5%"
    assert no_shows.spoken([2_000, 1_000, 5_000]) == "10 to 20%, 50%"
    assert no_shows.spoken(no_shows.STAKES) == "any: not identified"


def test_changes_are_told_from_no_stake_on() -> None:
    """20% earns 90 and none earns 100: 10% less, by 8 to 12."""
    told = no_shows.beside_none(made({2_000: (90, 0, 0), 0: (100, 10, 2)}), "host profit").iloc[0]
    assert [told[c] for c in ("without", "change", "change_low", "change_high")] == [100, -10, -12, -8]
    assert [told[c] for c in ("change %", "change_low %", "change_high %")] == [-10, -12, -8]


def test_what_somebody_who_sits_there_must_be_worth() -> None:
    """5% of seats not sold at 95% of a ticket, for 2% more people: 2.375 tickets each."""
    both = pd.concat(
        [
            made({2_000: (0.75, 0, 0), 0: (0.80, 0.05, 0)}, "seats filled"),
            made({2_000: (0.30, 0, 0), 0: (0.32, 0.02, 0)}, "empty seats"),
        ]
    )
    assert no_shows.worth_it(both).iloc[0] == pytest.approx(2.375)
    worse = both.assign(value=both["value"].where((both["metric"] != "empty seats") | (both["stake_bps"] == 0), 0.33))
    assert no_shows.worth_it(worse).iloc[0] == math.inf


def test_one_thing_is_changed_at_a_time() -> None:
    frame = no_shows.other_cases(runs=300, seed=3)
    rate = frame[(frame["metric"] == "no-show rate") & (frame["stake_bps"] == 0)].set_index("case")["value"]
    assert rate["ETH moves"] == rate["forfeits to the host"] == rate["13.5% stay away"]
    assert rate["10.0% stay away"] < rate["13.5% stay away"] < rate["bad weather"]
    assert rate["13.5% stay away"] < rate["17.0% stay away"] < rate["token price, 28% stay away"]
    paid = frame[(frame["metric"] == "platform income") & (frame["stake_bps"] == 5_000)].set_index("case")["value"]
    assert paid["forfeits to the host"] < paid["13.5% stay away"]
    assert paid["token price, 28% stay away"] < 10


def test_the_answer_is_two_sentences_with_the_sweeps_numbers(frame: pd.DataFrame) -> None:
    told = no_shows.answer(frame)
    loss = no_shows.beside_none(frame, "host profit").xs("high", level="demand").iloc[0]["change %"]
    assert f"{loss:+.1f}%" in told
    assert told.count(". ") == 1


def test_the_pictures_show_each_elasticity(frame: pd.DataFrame) -> None:
    assert [len(axes.collections) for axes in plots.people(frame).axes] == [3, 3]
    assert [len(axes.collections) for axes in plots.money(frame).axes] == [3, 3]
    drawn = plots.empty_seats(frame)
    assert len({axes.get_ylim() for axes in drawn.axes}) == 1
    bottom, top = drawn.axes[0].get_ylim()
    values = frame.loc[frame["metric"] == "empty seats", ["low", "high"]] * 100
    assert bottom <= values["low"].min()
    assert values["high"].max() <= top
