"""Decisions: certainty equivalents and values of information against closed forms, whole questions, and the command."""

from __future__ import annotations

import json
from decimal import Decimal
from math import exp, pi, sin
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from numpy.random import default_rng
from small_platform import small_bookings
from stakesim.decisions import calibrate, decide
from stakesim.decisions.bookings import write_bookings
from stakesim.decisions.emulator import fit
from stakesim.decisions.information import information, perfect_information
from stakesim.decisions.predictive import sweep_posterior
from stakesim.decisions.question import Crra, Cvar, Neutral, Question
from stakesim.decisions.scores import certain, overall_scores, scores_by_draw
from stakesim.decisions.seasons import simulate_seasons
from stakesim.decisions.unknowns import sobol_indices
from stakesim.economics import sweep
from stakesim.economics.risk import expected_shortfall
from stakesim.prices.price_models import Constant
from stakesim.schema.errors import InputError

pytestmark = pytest.mark.slow

NORMAL = NormalDist()


def question(**fields):
    return Question(
        **{"name": "q", "question": "Which?", "spot_check": 0, "draws": 50, "runs": 120, "season": 40} | fields
    )


@pytest.fixture(scope="module")
def bookings():
    return small_bookings(16, (2_000, 0), seed=21)


@pytest.fixture(scope="module")
def posterior(bookings):
    return calibrate(bookings, draws=300, seed=2)


@pytest.fixture(scope="module")
def decision(posterior):
    choices = {"stake_bps": (2_000, 0), "fee_bps": (500, 400), "forfeit_to_host_bps": (0, 5_000)}
    return decide(question(choices=choices, weights={"host": 1.0, "platform": 0.5}), posterior)


class TestScores:
    def test_crra_of_a_lognormal_outcome_is_its_closed_form(self, campaign_seed):
        """The certainty equivalent of exp(N(m, s^2)) is exp(m + (1 - aversion) s^2 / 2)."""
        m, s = 10.0, 0.3
        values = np.exp(m + s * default_rng(campaign_seed).standard_normal((400_000, 1)))
        for aversion in (0.0, 0.5, 1.0, 2.0, 4.0):
            assert certain(values, Crra(aversion=aversion))[0] == pytest.approx(
                exp(m + (1 - aversion) * s**2 / 2), rel=0.01
            )

    def test_cvar_of_a_normal_outcome_is_its_closed_form(self, campaign_seed):
        values = 5 + 2 * default_rng(campaign_seed).standard_normal((200_000, 1))
        tail = 0.1
        closed = 5 - 2 * NORMAL.pdf(NORMAL.inv_cdf(tail)) / tail
        assert certain(values, Cvar(tail=tail))[0] == pytest.approx(closed, abs=0.05)
        few = values[:37]
        assert certain(few, Cvar(tail=tail))[0] == pytest.approx(-expected_shortfall(-few[:, 0], tail=tail))
        assert certain(few, Cvar(tail=1.0))[0] == pytest.approx(certain(few, Neutral())[0])

    def test_ruin_is_refused(self):
        with pytest.raises(InputError, match="a season costs up to 5 INR"):
            certain(np.array([[-5.0], [1.0]]), Crra(wealth_inr=2.0))

    def test_the_mean_of_draws_is_the_whole_without_aversion_and_more_with_it(self, campaign_seed):
        values = 10 + default_rng(campaign_seed).standard_normal((30, 20, 3))
        assert scores_by_draw(values, Neutral()).mean(axis=0) == pytest.approx(overall_scores(values, Neutral()))
        assert (scores_by_draw(values, Cvar()).mean(axis=0) > overall_scores(values, Cvar())).all()


class TestInformation:
    def test_a_gain_of_a_normal_unknown_is_worth_its_unit_normal_loss(self, campaign_seed):
        """Two policies, 0 and a normal gain: E max(gain, 0) - max(mean, 0) (H. Raiffa, R. Schlaifer 1961)."""
        rng = default_rng(campaign_seed)
        mean, prior_sd, noise_sd, count = -1.0, 2.0, 3.0, 40_000
        gain = mean + prior_sd * rng.standard_normal(count)
        scores = np.stack([np.zeros(count), gain], axis=1)

        def worth(sd):
            z = mean / sd
            return mean * NORMAL.cdf(z) + sd * NORMAL.pdf(z) - max(mean, 0)

        assert perfect_information(scores) == pytest.approx(worth(prior_sd), rel=0.05)
        for sample in (1, 9):
            data = gain + noise_sd / sample**0.5 * rng.standard_normal(count)
            preposterior = prior_sd**2 / (prior_sd**2 + noise_sd**2 / sample) ** 0.5
            assert information(scores, data[:, None]) == pytest.approx(worth(preposterior), rel=0.06)
        assert information(scores, rng.standard_normal((count, 1))) < 0.01

    def test_sobol_indices_are_those_of_the_ishigami_function(self, campaign_seed):
        """T. Ishigami, T. Homma 1990, with a = 7 and b = 0.1: 0.314, 0.442, 0; in total 0.558, 0.442, 0.244."""

        def ishigami(u):
            x = pi * (2 * u - 1)
            return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])

        found = sobol_indices(ishigami, ["a", "b", "c"], campaign_seed % 2**31)
        assert found["first"].tolist() == pytest.approx([0.314, 0.442, 0.0], abs=0.06)
        assert found["total"].tolist() == pytest.approx([0.558, 0.442, 0.244], abs=0.06)
        assert sin(pi) == pytest.approx(0)

    def test_the_emulator_finds_a_quadratic_and_says_what_it_explains(self, campaign_seed):
        rng = default_rng(campaign_seed)
        table = pd.DataFrame(
            {"demand": np.exp(rng.standard_normal(200)), "no-show elasticity": rng.standard_normal(200)}
        )
        gain = np.log(table["demand"]) - table["no-show elasticity"] ** 2
        scores = np.stack([np.zeros(200), gain, rng.standard_normal(200)], axis=1)
        emulator = fit(table, scores)
        assert emulator.explained[1] > 0.99
        assert emulator.explained[2] < 0.2
        assert emulator(table)[:, 1] == pytest.approx(gain.to_numpy(), abs=0.1)


class TestDecision:
    def test_seasons_are_what_a_sweep_settles(self, posterior):
        """Fee and split by arithmetic, against the settlement of each policy to the wei, over the same runs."""
        asked = question(choices={"stake_bps": (2_000, 500), "forfeit_to_host_bps": (0, 4_000)}, runs=120)
        outcomes = simulate_seasons(asked, posterior.thin(1))
        population = posterior.population(0, price=asked.market)
        terms = {"stake_bps": [2_000, 500], "forfeit_to_host_bps": [0, 4_000]}
        frame = sweep(terms, population.behaviours, asked.market, 120, asked.seed, population)
        for part, metric in (("host", "host profit"), ("platform", "platform income")):
            by_policy = getattr(outcomes, part)[0].sum(axis=0) / 120
            assert by_policy.tolist() == pytest.approx(frame[frame.metric == metric].value.tolist(), abs=0.02)

    def test_the_best_is_first_and_regret_is_counted_from_it(self, decision):
        table = decision.table
        assert (table.score.diff().dropna() <= 0).all()
        assert table.regret.tolist() == pytest.approx((table.score.iloc[0] - table.score).tolist())
        assert decision.best == decision.question.policies()[table.index[0]]
        assert decision.regret_inr >= 0
        assert "Not told apart" in decision.answer() or "told apart from the best" in decision.answer()

    def test_what_is_better_for_sure_is_told_apart(self, posterior):
        """The host counts twice as much as the platform, so the host's share of forfeits is better in every draw."""
        choices = {"stake_bps": (2_000,), "forfeit_to_host_bps": (0, 5_000)}
        found = decide(
            question(choices=choices, weights={"host": 1.0, "platform": 0.5}), posterior, with_unknowns=False
        )
        assert found.best.forfeit_to_host_bps == 5_000
        assert found.table.better.tolist() == [0, 0]
        assert found.table.told_apart.all()
        assert found.regret_inr == 0
        assert "Every other policy is told apart" in found.answer()

    def test_policies_that_are_the_same_to_the_objective_are_no_runner_up(self, posterior):
        choices = {"stake_bps": (2_000,), "forfeit_to_host_bps": (0, 5_000)}
        found = decide(question(choices=choices), posterior)
        assert found.table.same.sum() == 1
        assert found.runner_up is None
        assert found.unknowns is None
        assert "the same to this objective: 1" in found.answer()

    def test_unknowns_have_worths_up_to_that_of_all(self, decision):
        worth = decision.unknowns.worth_inr
        assert worth.between(0, perfect_information(decision.emulator(decision.posterior.table())) * 2 + 1e-6).all()
        assert decision.unknowns.total.is_monotonic_decreasing

    def test_a_higher_fee_makes_hosts_leave(self, posterior):
        asked = question(choices={"stake_bps": (2_000,), "fee_bps": (500, 1_000)})
        outcomes = simulate_seasons(asked, posterior.thin(2))
        for number in range(2):
            stay = (0.90 / 0.95) ** posterior.parameters["host exit"][number]
            assert outcomes.seats[number, 0, 1] / outcomes.seats[number, 0, 0] == pytest.approx(stay)

    def test_a_posterior_is_swept_with_what_it_leaves_open(self, posterior):
        frame = sweep_posterior({"stake_bps": [2_000, 0]}, posterior, Constant(), runs=200, seed=1, draws=20)
        rate = frame[frame.metric == "no-show rate"].set_index("stake_bps")
        single = sweep({"stake_bps": [2_000, 0]}, posterior.people(0), Constant(), 4_000, 1, posterior.population(0))
        of_one = single[single.metric == "no-show rate"].set_index("stake_bps")
        assert (rate.high - rate.low > 1.5 * (of_one.high - of_one.low)).all()
        assert rate.draws.tolist() == [20, 20]
        assert rate.runs.tolist() == [4_000, 4_000]
        assert type(rate.numerator.iloc[0]) is int
        assert rate.change_low[0] < rate.change[0] < rate.change_high[0]


class TestCommands:
    QUESTION = (
        "name: ask\nquestion: Which stake?\nbookings: bookings.csv\nchoices: {stake_bps: [2000, 0]}\n"
        "draws: 50\nruns: 100\nseason: 50\nspot_check: 1\n"
    )

    def test_from_a_file_of_bookings_to_a_decision(self, bookings, tmp_path, run_stakesim):
        write_bookings(bookings, tmp_path / "bookings.csv")
        (tmp_path / "ask.yaml").write_text(self.QUESTION)
        found = run_stakesim("decide", "ask.yaml", "--json", "--out", "all.csv", cwd=tmp_path)
        assert found.returncode == 0, found.stderr
        told = json.loads(found.stdout.splitlines()[-1])
        assert len(told["policies"]) == len(pd.read_csv(tmp_path / "all.csv")) == 2
        assert set(told["best"]) == {"stake_bps", "fee_bps", "forfeit_to_host_bps", "price_factor"}
        assert told["answer"].startswith("Best: stake")
        shown = run_stakesim("calibrate", "bookings.csv", "--out", "p.json")
        assert shown.returncode == 0
        assert "no-show rate" in shown.stdout
        (tmp_path / "two.yaml").write_text(
            self.QUESTION.replace("bookings: bookings.csv", "posterior: p.json").replace("ask", "two")
        )
        planned = run_stakesim("plan", "two.yaml", "--fall", 0.5, "--json")
        assert planned.returncode == 0
        experiments = json.loads(planned.stdout.splitlines()[-1])["experiments"]
        assert {row["stake_bps"] for row in experiments} == {0}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (("stake_bps: [2000, 0]", "stake_bps: [2000, 6000]"), "ask.yaml:4: choices.stake_bps[1]: "),
            (("stake_bps: [2000, 0]", "stake_bps: []"), "is empty"),
            (("stake_bps: [2000, 0]", "stake: [0]"), "ask.yaml:4: choices.stake: "),
            (("season: 50", "season: 500"), "a season has more runs than are simulated"),
            (("bookings: bookings.csv\n", ""), "names neither bookings nor a posterior"),
            (("bookings.csv", "other.csv"), "other.csv: can't be read"),
            (("name: ask", "name: ask\nposterior: p.json"), "there are bookings as well"),
            (("name: ask", "name: ask\nweights: {host: 0, platform: 0}"), "nothing counts"),
            (("name: ask", "name: ask\nrisk: {kind: brave}"), "risk"),
        ],
    )
    def test_a_wrong_question_is_a_sentence_with_its_line(self, change, said, tmp_path, run_stakesim):
        (tmp_path / "ask.yaml").write_text(self.QUESTION.replace(*change))
        found = run_stakesim("decide", "ask.yaml", cwd=tmp_path)
        assert found.returncode == 2
        assert said in found.stderr
        assert "Traceback" not in found.stderr

    def test_bad_bookings_are_told_with_their_lines(self, tmp_path, run_stakesim):
        (tmp_path / "b.csv").write_text("run,booked_at\na,b\n")
        found = run_stakesim("calibrate", "b.csv", cwd=tmp_path)
        assert (found.returncode, found.stderr.split(":")[:2]) == (2, ["b.csv", "1"])
        found = run_stakesim("calibrate", "b.csv", "--cutoff", "soon", cwd=tmp_path)
        assert found.returncode == 2
        assert "--cutoff: 'soon' is not a time" in found.stderr


def test_a_price_factor_is_a_decimal():
    assert question(choices={"price_factor": ("1", "1.1")}).policies()[1].price_factor == Decimal("1.1")
