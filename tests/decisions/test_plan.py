"""Plans of experiments: boundaries and power against published values, closed forms and simulation."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest
from numpy.random import default_rng
from small_platform import small_bookings
from stakesim.decisions import calibrate, decide
from stakesim.decisions.boundaries import boundaries
from stakesim.decisions.plan import best_experiment, effect_of, experiment_values, plan
from stakesim.decisions.power import Effect, closed_form_power, closed_form_runs, simulated_power
from stakesim.decisions.question import Question
from stakesim.schema.errors import InputError

pytestmark = pytest.mark.slow

EFFECTS = [
    Effect(),
    Effect(rate=0.2, fall=0.5, clustering=0.1),
    Effect(outcome="bookings", fall=0.25),
    Effect(fall=0.4, clustering=1e-6, booking_spread=0.0, bookings=20.0),
]


class TestBoundaries:
    @pytest.mark.parametrize(
        ("looks", "published"),
        [(1, [1.960]), (2, [2.963, 1.969]), (3, [3.710, 2.511, 1.993]), (5, [4.877, 3.357, 2.680, 2.290, 2.031])],
    )
    def test_they_are_those_of_lan_and_demets(self, looks, published):
        """C. Jennison, B. Turnbull, Group Sequential Methods, 2000: O'Brien-Fleming-like spending, two-sided 5%."""
        found = boundaries(looks)
        assert list(found.z) == pytest.approx(published, abs=0.002)
        assert sum(found.stops) == pytest.approx(1)

    def test_a_single_look_is_the_ordinary_test(self):
        assert boundaries(1, power=0.9).drift == pytest.approx(1.95996 + 1.28155, abs=1e-4)
        assert boundaries(1).inflation == 1
        assert 1 < boundaries(5).inflation < 1.03
        assert boundaries(5).expected_share < boundaries(2).expected_share < 1

    @pytest.mark.parametrize(("looks", "power"), [(0, 0.8), (21, 0.8), (3, 1.0), (3, 0.01)])
    def test_impossible_tests_are_refused(self, looks, power):
        with pytest.raises(InputError):
            boundaries(looks, power=power)


class TestPower:
    @pytest.mark.parametrize("effect", EFFECTS)
    def test_the_closed_form_inverts_itself(self, effect):
        runs = closed_form_runs(effect, power=0.9)
        assert closed_form_power(effect, runs) == pytest.approx(0.9, abs=1e-3)

    def test_independent_bookings_need_what_the_textbook_says(self):
        """J. Fleiss, Statistical Methods for Rates and Proportions: (z + z)^2 (p q + p' q') / (p - p')^2 an arm."""
        effect = Effect(rate=0.2, fall=0.5, clustering=1e-9, booking_spread=0.0, bookings=10.0)
        bookings = (1.95996 + 0.84162) ** 2 * (0.2 * 0.8 + 0.1 * 0.9) / 0.1**2
        assert closed_form_runs(effect) * 10 == pytest.approx(bookings, rel=1e-4)

    @pytest.mark.parametrize("effect", EFFECTS)
    def test_simulated_experiments_have_the_power_and_the_level(self, effect, campaign_seed):
        rng, test = default_rng(campaign_seed), boundaries(3)
        runs = ceil(closed_form_runs(effect) * test.inflation)
        found = simulated_power(effect, runs, test, rng, 1_500)
        assert found.power == pytest.approx(0.81, abs=0.03 + 4 * found.error)
        assert list(found.stops) == pytest.approx(test.stops, abs=0.09)
        level = simulated_power(replace(effect, fall=0.0), runs, test, rng, 1_500)
        assert level.power == pytest.approx(0.05, abs=0.005 + 4 * level.error)

    def test_clustering_that_is_ignored_would_claim_too_much(self, campaign_seed):
        """What the design effect is for: planned without it, an experiment has far less power."""
        effect = Effect(clustering=0.15, bookings=15.0, booking_spread=0.2, fall=0.4)
        naive = ceil(closed_form_runs(replace(effect, clustering=1e-9)))
        found = simulated_power(effect, naive, boundaries(1), default_rng(campaign_seed), 1_000)
        assert found.power < 0.65
        assert found.power == pytest.approx(closed_form_power(effect, naive), abs=0.06)

    @pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"fall": 1.0}, {"bookings": 0.2}, {"clustering": -0.1}])
    def test_impossible_effects_are_refused(self, wrong):
        with pytest.raises(InputError, match=next(iter(wrong))):
            plan(Effect(**wrong))

    def test_an_effect_that_nobody_can_tell_is_refused(self):
        with pytest.raises(InputError, match=r"needs .* runs in each arm"):
            plan(Effect(fall=0.02))


class TestPlan:
    def test_a_plan_says_runs_looks_power_and_level(self):
        found = plan(Effect(fall=0.5), looks=2, seed=3)
        assert found.runs == ceil(found.without_looks * found.test.inflation)
        assert found.simulated.power > 0.74
        assert found.null.power < 0.08
        assert found.simulated.runs < 2 * found.runs

    def test_an_experiment_is_worth_more_the_larger_it_is_and_less_than_to_know_everything(self):
        posterior = calibrate(small_bookings(16, (2_000,), seed=6), draws=400, seed=1)
        asked = Question(
            name="q",
            question="?",
            spot_check=0,
            draws=60,
            runs=120,
            season=40,
            choices={"stake_bps": (2_000, 0, 4_000)},
        )
        decision = decide(asked, posterior, with_unknowns=False)
        values = experiment_values(decision, posterior, seasons=5, setup_inr=100.0, sizes=(5, 500))
        by_stake = values.pivot(index="stake_bps", columns="runs_each", values="worth_inr")
        assert (by_stake[500] > by_stake[5]).all()
        scores = decision.emulator(posterior.table())
        assert by_stake[500].max() <= 5 * 1.05 * (scores.max(axis=1).mean() - scores.mean(axis=0).max())
        assert (values.cost_inr >= 100).all()
        assert best_experiment(values.assign(net_inr=-1.0)) is None
        effect = effect_of(posterior, 0.3)
        assert 0.05 < effect.rate < 0.3
        assert 2 < effect.bookings < 10
