"""Calibration: the likelihoods against closed forms, the sampler, coverage of synthetic bookings, and bad input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import exp, lgamma, log, pi

import numpy as np
import pandas as pd
import pytest
from numpy.random import default_rng
from small_platform import small_bookings
from stakesim.decisions import Posterior, calibrate, read_bookings
from stakesim.decisions.bookings import COLUMNS, check_bookings, write_bookings
from stakesim.decisions.coverage import coverage
from stakesim.decisions.importance import LEAST_EFFECTIVE, sample_posterior
from stakesim.decisions.likelihood import DemandData, NoShowData, normal_nodes
from stakesim.decisions.posterior import correlation
from stakesim.decisions.priors import DEMAND_PRIORS, NO_SHOW_PRIORS
from stakesim.decisions.synthetic import synthetic_bookings
from stakesim.economics.intervals import wilson_interval
from stakesim.population.measured_people import Demand, NoShowByRun, intercept, most_people
from stakesim.population.population import Population, draw
from stakesim.schema.errors import FileError, InputError

pytestmark = pytest.mark.slow

OPENED = datetime(2026, 3, 1, tzinfo=UTC)
STARTS = OPENED + timedelta(days=10)


def booking(run="a", hours=24.0, outcome="attended", **fields):
    return {
        "run": run,
        "experience": run,
        "opened_at": OPENED,
        "starts_at": STARTS,
        "run_seats": 10,
        "price_inr": Decimal(500),
        "stake_bps": 2_000,
        "booked_at": OPENED + timedelta(hours=hours),
        "seats": 1,
        "outcome": outcome,
        "cancelled_at": None,
    } | fields


def table(*rows):
    return check_bookings(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def one_stake():
    return calibrate(synthetic_bookings(runs=20, seed=77), draws=400, seed=1)


class TestLikelihood:
    def test_no_shows_are_the_integral_over_runs_and_experiences(self, campaign_seed):
        """Two runs of one experience and one of another, against sums over many random effects."""
        frame = table(
            *[booking("a", number, "no_show" if number < 2 else "attended", experience="x") for number in range(5)],
            *[booking("b", number, "no_show" if number < 1 else "attended", experience="x") for number in range(4)],
            *[booking("c", number, "attended", stake_bps=0) for number in range(3)],
        )
        rate, elasticity, spread, of_experience = 0.2, 1.5, 0.7, 0.6
        rng = default_rng(campaign_seed)
        effects = rng.standard_normal((200_000, 5))
        q = 1 / (1 + np.exp(-(intercept(rate, spread**2 + of_experience**2) + spread * effects[:, :3]
                              + of_experience * effects[:, [3, 3, 4]])))  # fmt: skip
        q[:, :2] *= 1.2**-elasticity
        k, n = np.array([2, 1, 0]), np.array([5, 4, 3])
        samples = (q**k * (1 - q) ** (n - k)).prod(axis=1)
        found = NoShowData.of(frame).log_likelihood(*(np.array([x]) for x in (rate, elasticity, spread, of_experience)))
        error = samples.std() / samples.mean() / np.sqrt(len(samples))
        assert abs(found[0] - log(samples.mean())) < 5 * error

    @pytest.mark.parametrize("spread", [0.2, 0.9])
    def test_demand_is_negative_binomial_where_seats_suffice(self, spread):
        """Up to what does not depend on the parameters, on an even flow and with one experience a run."""
        frame = table(*[booking("a", 10 + number) for number in range(4)], booking("b", 30))
        data = DemandData.of(frame, 500.0)

        def closed_form(mean):
            m, k = mean * 1.2**-0.5, spread**-2
            return sum(lgamma(n + k) - lgamma(k) + n * log(m / (k + m)) + k * log(k / (k + m)) for n in (4, 1))

        values = [
            data.log_likelihood(*(np.array([x]) for x in (mean, spread, 1e-6, 0.5, 0.8, 1.0, 1.0)))[0]
            for mean in (3.0, 9.0)
        ]
        assert values[1] - values[0] == pytest.approx(closed_form(9.0) - closed_form(3.0), abs=1e-6)

    def test_odd_proposals_are_unlikely_and_not_errors_of_rounding(self):
        data = DemandData.of(
            table(*[booking("a", 10 + 20 * number, price_inr=300) for number in range(6)], booking("b", 30)), 400.0
        )
        usual = np.array([6.0, 0.4, 0.3, 0.3, 0.8, 1.0, 0.7])
        at_usual = data.log_likelihood(*usual[:, None])[0]
        for number in range(len(usual)):
            for value in (1e-12, 1e-6, 1e6, 1e12):
                odd = usual.copy()
                odd[number] = value
                assert data.log_likelihood(*odd[:, None])[0] < at_usual + 3, (number, value)

    def test_a_run_is_looked_at_until_its_seats_run_short(self):
        frame = table(booking("a", 24, run_seats=2), booking("a", 48, run_seats=2), booking("b", 24, run_seats=9))
        data = DemandData.of(frame, 500.0)
        assert data.bookings.tolist() == [2, 1]
        assert data.until[0] == pytest.approx((48 * 60 - 1) / (240 * 60 - 61))
        assert data.until[1] == 1

    def test_a_cancelled_seat_is_free_again(self):
        cancelled = {"outcome": "cancelled", "cancelled_at": OPENED + timedelta(hours=40)}
        frame = table(booking("a", 24, run_seats=2) | cancelled, booking("a", 48, run_seats=2), booking("b", 24))
        assert DemandData.of(frame, 500.0).until.tolist() == [1, 1]

    def test_cancellation_hazards_are_the_conjugate_posterior(self):
        """One cancellation after 4 days at risk far from the start, and one booking at risk until the cutoff."""
        cancelled = {"outcome": "cancelled", "cancelled_at": OPENED + timedelta(days=5)}
        posterior = calibrate(table(booking("a", 24) | cancelled, booking("b", 24)), draws=4_000)
        far, near = (np.array(posterior.parameters[name]) for name in
                     ("daily cancellations", "daily cancellations near"))  # fmt: skip
        assert far.mean() == pytest.approx((1 + 1) / (1 / 0.01 + 4 + 6), rel=0.06)
        assert near.mean() == pytest.approx(1 / (1 / 0.05 + 2), rel=0.08)

    @pytest.mark.parametrize(("rate", "spread"), [(0.135, 0.5), (0.4, 1.2), (0.05, 0.8)])
    def test_the_intercept_gives_the_mean_rate(self, rate, spread):
        nodes, weights = normal_nodes(0.2)
        mean = np.exp(weights) @ (1 / (1 + np.exp(-(intercept(rate, spread**2) + spread * nodes))))
        assert mean == pytest.approx(rate, abs=0.006)


class TestSampler:
    def test_a_conjugate_posterior_is_found(self, campaign_seed):
        """Ten standard deviations from the prior's mean, a tenth as wide, and correlated."""
        root = np.array([[10.0, 0.0], [-8.0, 5.0]])
        target = np.array([3.0, -2.0])
        sample = sample_posterior(
            lambda draws: -0.5 * (((draws - target) @ root.T) ** 2).sum(axis=1), 2, 4_000, default_rng(campaign_seed)
        )
        precision = root.T @ root + np.eye(2)
        covariance = np.linalg.inv(precision)
        mean = covariance @ root.T @ root @ target
        error = 6 * np.sqrt(np.diag(covariance) / min(sample.effective, 4_000))
        assert sample.effective >= LEAST_EFFECTIVE
        assert (np.abs(sample.draws.mean(axis=0) - mean) < error).all()
        assert np.cov(sample.draws.T) == pytest.approx(covariance, rel=0.25)

    def test_without_data_the_posterior_is_the_prior(self, campaign_seed):
        sample = sample_posterior(lambda draws: np.zeros(len(draws)), 3, 2_000, default_rng(campaign_seed))
        assert np.abs(sample.draws.mean(axis=0)).max() < 0.13
        assert np.abs(sample.draws.std(axis=0) - 1).max() < 0.1


class TestCoverage:
    @pytest.mark.in_turn
    def test_intervals_hold_parameters_that_are_drawn_from_the_priors(self, campaign_seed):
        """Of all parameters together; docs/DECIDE.md has the table of many more data sets."""
        found = coverage(5, campaign_seed % 2**32, draws=300)
        trials = int(found["data sets"].sum())
        for level in (0.5, 0.95):
            inside = float((found[f"{level:.0%}"] * found["data sets"]).sum())
            low, high = wilson_interval(inside / 2, trials / 2)  # those of a data set depend on each other
            assert low - 0.03 < level < high + 0.03, f"{level:.0%}: {inside:.0f} of {trials}"

    def test_people_are_those_of_the_model(self):
        """The behaviours give the means and the clustering that their parameters say."""
        people = (
            Demand(mean=8.0, price_inr=Decimal(800), elasticity=0.5, price_elasticity=1.0, early=2.0),
            NoShowByRun(rate=0.2, elasticity=1.0, spread=0.8, experience_spread=0.0),
        )
        population = Population(
            name="x",
            story="",
            price_inr=(Decimal(400), Decimal(400)),
            attendees=(90, 90),
            seats=(200, 200),
        )
        state = draw(population, 3, behaviours=people).state
        booked = state.intents.books_at < 2**40
        assert booked.sum(axis=0).mean() == pytest.approx(8 * 2 * 1.2**-0.5, rel=0.04)
        away = booked & ~state.intents.intends_to_attend
        assert away.sum() / booked.sum() == pytest.approx(0.2 / 1.2, rel=0.04)
        assert np.median((state.intents.books_at / state.start)[booked]) == pytest.approx(0.5**0.5, abs=0.01)
        two = booked[0] & booked[1]
        assert np.corrcoef(away[0, two], away[1, two])[0, 1] == pytest.approx(correlation(0.2, 0.8) * 0.72, abs=0.06)
        assert most_people(people[0], [400.0]) > np.quantile(state.intents.interested.sum(axis=0), 0.999) * 0.8


class TestPosterior:
    def test_one_stake_says_so_and_leaves_its_effect_to_the_prior(self, one_stake):
        assert "Every booking had a stake of 20%" in one_stake.notes[0]
        summary = one_stake.summary()
        assert summary.learnt["demand elasticity"] < 0.25
        assert summary.learnt["late bookings"] > 0.8
        prior = DEMAND_PRIORS["demand elasticity"]
        assert prior.low == pytest.approx(0.045)
        assert summary["prior high"]["no-show elasticity"] == NO_SHOW_PRIORS["no-show elasticity"].high

    def test_two_stakes_say_more_about_their_effect(self):
        one, two = (
            calibrate(small_bookings(40, stakes, seed=9), draws=200).summary().learnt
            for stakes in ((2_000,), (5_000, 0))
        )
        assert two["no-show elasticity"] > one["no-show elasticity"] + 0.1

    def test_it_is_the_same_for_the_same_bookings_from_a_file(self, tmp_path):
        frame = synthetic_bookings(runs=6, seed=4)
        write_bookings(frame, tmp_path / "b.csv")
        posterior = calibrate(read_bookings(tmp_path / "b.csv"), draws=100, seed=3)
        assert posterior == calibrate(frame, draws=100, seed=3)
        posterior.save(tmp_path / "p.json")
        assert Posterior.load(tmp_path / "p.json") == posterior

    def test_a_draw_is_a_population_of_runs_like_those_in_the_data(self, one_stake):
        population = one_stake.population(0)
        state = draw(population, 1).state
        kinds = {(seats, int(price * 100), lead) for seats, price, lead in one_stake.runs_like}
        assert set(zip(state.seats.tolist(), state.price_paise.tolist(), state.start.tolist(), strict=True)) == kinds
        dearer = draw(one_stake.population(0, price_factor=Decimal("1.5")), 1).state
        assert dearer.price_paise.tolist() == pytest.approx((state.price_paise * 1.5).tolist(), abs=1)

    def test_runs_that_the_contract_does_not_take_are_refused_in_a_sentence(self, one_stake):
        with pytest.raises(InputError, match="does not take: the contract takes at most 30d"):
            one_stake.model_copy(update={"cutoff": 500 * 86_400}).population(0)
        cheap = one_stake.population(0, price_factor=Decimal("0.000001"))
        assert cheap.price_inr == (Decimal("0.01"), Decimal("0.01"))

    def test_no_posterior_is_refused_in_a_sentence(self, tmp_path):
        (tmp_path / "p.json").write_text("{}")
        with pytest.raises(InputError, match="is no posterior; write one with `stakesim calibrate"):
            Posterior.load(tmp_path / "p.json")


class TestBookingsFile:
    HEADER = ",".join(COLUMNS)
    GOOD = "a,x,2026-03-01T09:00,2026-03-11T09:00,10,500,2000,2026-03-02T09:00,1,attended,"

    def problems(self, tmp_path, *lines, cutoff=86_400):
        file = tmp_path / "bookings.csv"
        file.write_text("\n".join(lines) + "\n")
        with pytest.raises(InputError) as caught:
            read_bookings(file, cutoff)
        return str(caught.value).replace(f"{file}:", "").splitlines()

    def test_all_problems_are_told_at_once_each_with_its_line(self, tmp_path):
        found = self.problems(
            tmp_path,
            self.HEADER,
            self.GOOD,
            self.GOOD.replace("attended", "atended"),
            self.GOOD.replace(",500,", ",5e2,"),
            "",
            self.GOOD.replace("2026-03-02T09:00", "02/03/2026"),
            self.GOOD.replace(",2000,", ",20%,"),
            self.GOOD.replace("2026-03-11T09:00", "2026-03-01T10:00"),
            self.GOOD + "2026-03-05T09:00",
            self.GOOD.replace("attended,", "cancelled,2026-03-11T03:00"),
            self.GOOD.replace(",10,", ",12,"),
            "a,x",
        )
        assert [line.split(":")[0] for line in found] == ["3", "4", "6", "7", "8", "8", "9", "10", "11", "12"] or [
            line.split(":")[0] for line in found
        ] == ["3", "4", "6", "7", "8", "9", "10", "11", "12"]
        text = "\n".join(found)
        for part in ("did you mean 'attended'", "is not a decimal number", "is not a time", "'20%' is not a whole",
                     "less than 3 hours", "exactly if the outcome", "24 hours before the start", "of the same run",
                     "has 2 cells where the first line has 11"):  # fmt: skip
            assert part in text

    def test_a_missing_column_and_semicolons_are_told(self, tmp_path):
        assert "has no column 'stake_bps'" in self.problems(tmp_path, self.HEADER.replace("stake_bps", "stake"))[0]
        assert "save the file with commas" in self.problems(tmp_path, self.HEADER.replace(",", ";"))[0]

    def test_an_empty_file_a_file_without_bookings_and_too_many_seats_are_told(self, tmp_path):
        assert "has no column" in self.problems(tmp_path, "")[0]
        assert "has no bookings" in self.problems(tmp_path, self.HEADER)[0]
        many = self.GOOD.replace(",1,attended", ",11,attended")
        assert "has 10 seats, and 11 are booked" in self.problems(tmp_path, self.HEADER, many)[0]

    def test_times_with_and_without_an_offset_do_not_mix(self, tmp_path):
        mixed = self.GOOD.replace("2026-03-02T09:00", "2026-03-02T09:00+05:30")
        assert "some times have an offset" in self.problems(tmp_path, self.HEADER, mixed)[0]
        other = self.GOOD.replace("T09:00", "T09:00Z").replace("a,x", "b,x")
        assert "some times have an offset" in self.problems(tmp_path, self.HEADER, self.GOOD, other)[0]

    def test_a_run_without_bookings_and_without_optional_columns(self, tmp_path):
        file = tmp_path / "bookings.csv"
        header = "run,opened_at,starts_at,run_seats,price_inr,stake_bps,booked_at,seats,outcome"
        run = "2026-03-01T09:00,2026-03-11T09:00,10,500,2000"
        file.write_text(f"{header}\na,{run},2026-03-02T09:00,2,no_show\nb,{run},,,\n")
        data = DemandData.of(read_bookings(file), 500.0)
        assert data.bookings.tolist() == [1, 0]

    def test_a_table_tells_its_rows(self):
        with pytest.raises(FileError, match="row 1: outcome: 'came' is no outcome"):
            table(booking(), booking(outcome="came"))
        with pytest.raises(InputError, match="row 0: price_inr: 0 is not a price"):
            table(booking(price_inr=0))


def test_normal_nodes_integrate_a_normal_density():
    nodes, weights = normal_nodes(0.4)
    assert np.exp(weights) @ nodes**2 == pytest.approx(1, abs=1e-3)
    assert np.exp(weights) @ np.exp(-0.5 * nodes**2 / 0.25) == pytest.approx((1 / (1 + 1 / 0.25)) ** 0.5, abs=1e-4)
    assert exp(0.5 * log(2 * pi)) == pytest.approx(2.5066282746310002)
