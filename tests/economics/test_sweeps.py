"""Sweeps: exact sums, honest intervals, the same figures however they are carried out, and a chain that agrees."""

import json
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from stakesim.commands.cli import cli
from stakesim.economics import metrics, spot_check, sweep, sweeps
from stakesim.economics.spot_check import Mismatch
from stakesim.economics.sweep_file import load_sweep, population_of
from stakesim.paths import checkout
from stakesim.population.behaviours import Cancel, LostToStake, NoShow
from stakesim.population.population import CHUNK_SIZE, Population
from stakesim.prices.price_models import Constant, Gbm
from stakesim.scenario.actions import Terms
from stakesim.schema.yaml_file import ScenarioError
from typer.testing import CliRunner

ROOT = checkout()

SMALL = Population(name="small", story="Few.", price_inr=("300", "5000"), seats=(5, 10), attendees=(2, 5))
POLICIES = {"stake_bps": [2_000, 0, 5_000]}
PEOPLE = {"some": [LostToStake(), NoShow(elasticity=1.0)], "none": [NoShow()]}
MARKETS = {"quiet": Constant(), "gbm": Gbm(inr_per_eth="200000", annual_volatility=0.8)}


def swept(runs=6_000, seed=3, **more):
    return sweep(POLICIES, PEOPLE, MARKETS, runs, seed, SMALL, **more)


def pick(frame, metric, **which):
    rows = frame[frame.metric == metric]
    for column, value in which.items():
        rows = rows[rows[column] == value]
    [row] = rows.to_dict("records")
    return row


@pytest.fixture(scope="module")
def frame():
    return swept()


class TestTable:
    def test_every_parameter_is_on_every_row(self, frame):
        assert len(frame) == 3 * 2 * 2 * len(metrics.METRICS)
        assert (
            not frame.drop(columns=["value", "low", "high", "change", "change_low", "change_high"]).isna().any().any()
        )
        row = frame.iloc[0]
        assert (row.runs, row.seed, row.population) == (6_000, 3, "small")
        assert {*Terms.model_fields} <= {*frame.columns}
        assert json.loads(row.behaviours_parameters)[0] == {"do": "lost_to_stake", "elasticity": 0.5}
        assert json.loads(row.price_parameters)["path"] == "constant"
        assert Population.model_validate_json(row.population_parameters) == SMALL

    def test_sums_are_exact_also_in_the_file(self, tmp_path):
        frame = swept(500, out=tmp_path)
        table = pq.read_table(tmp_path / "sweep.parquet")
        assert str(table.schema.field("numerator").type) == "decimal128(38, 0)"
        again = table.to_pandas()
        assert again.numerator.map(int).tolist() == frame.numerator.tolist()
        assert all(isinstance(value, int) for value in frame.numerator)
        assert isinstance(again.numerator.iloc[0], Decimal)

    def test_only_so_many_runs_as_were_asked_for(self, frame):
        """More than a chunk, and no whole number of them."""
        assert 6_000 % CHUNK_SIZE
        assert set(frame[frame.metric == "bookings"].denominator) == {6_000}
        assert set(swept(2)[lambda f: f.metric == "bookings"].denominator) == {2}

    def test_what_nobody_minds_changes_only_what_the_stake_pays(self, frame):
        """Common random numbers: with people who look at no stake, not a booking differs between the policies."""
        for metric in ("bookings", "no-show rate", "host profit", "cancelled bookings"):
            row = pick(frame, metric, stake_bps=5_000, behaviours="none", price="quiet")
            assert row["change"] == 0
            assert row["change_high"] == pytest.approx(0, abs=1e-4)
        assert pick(frame, "platform income", stake_bps=0, behaviours="none", price="quiet")["change_high"] < 0

    def test_pairing_makes_the_intervals_of_changes_narrow(self, frame):
        row = pick(frame, "host profit", stake_bps=0, behaviours="some", price="gbm")
        assert row["change_high"] - row["change_low"] < (row["high"] - row["low"]) / 3


class TestIntervals:
    def columns(self, rng, n=3_000):
        denominator = rng.integers(1, 9, n)
        return rng.binomial(denominator, 0.3), denominator, rng.binomial(denominator, 0.25), denominator

    def test_as_of_the_linearised_ratio(self):
        own_n, own_d, base_n, base_d = self.columns(np.random.default_rng(1))
        first = metrics.sums((base_n, base_d), (base_n, base_d))
        found = metrics.estimate(metrics.sums((own_n, own_d), (base_n, base_d)), first)
        ratio, base = own_n.sum() / own_d.sum(), base_n.sum() / base_d.sum()
        own_residual = (own_n - ratio * own_d) / own_d.mean()
        residual = own_residual - (base_n - base * base_d) / base_d.mean()
        n = len(own_n)
        assert found.value == ratio
        assert found.high - ratio == pytest.approx(1.959964 * own_residual.std(ddof=1) / n**0.5)
        assert found.change == ratio - base
        assert found.change_high - found.change == pytest.approx(1.959964 * residual.std(ddof=1) / n**0.5)

    def test_they_hold_the_truth_as_often_as_they_say(self):
        """95% of 400, within four standard errors."""
        rng = np.random.default_rng(2)
        held = 0
        for _ in range(400):
            own_n, own_d, *_ = self.columns(rng, 300)
            found = metrics.estimate(*2 * (metrics.sums((own_n, own_d), (own_n, own_d)),))
            held += found.low <= 0.3 <= found.high
        assert 0.95 - 4 * (0.95 * 0.05 / 400) ** 0.5 <= held / 400 <= 0.995

    def test_parts_make_the_whole(self):
        own_n, own_d, base_n, base_d = self.columns(np.random.default_rng(3))
        halves = [
            metrics.sums((own_n[part], own_d[part]), (base_n[part], base_d[part]))
            for part in (slice(1_000), slice(1_000, None))
        ]
        whole = metrics.sums((own_n, own_d), (base_n, base_d))
        both = metrics.added(halves)
        assert (both.runs, both.sums) == (whole.runs, whole.sums)
        assert both.moments == pytest.approx(whole.moments)
        assert metrics.from_data(json.loads(json.dumps(metrics.as_data(both)))) == both


class TestCarryingOut:
    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch):
        monkeypatch.setattr(sweeps, "BLOCK", 1)

    @pytest.mark.slow
    def test_processes_make_no_difference(self, frame):
        pd.testing.assert_frame_equal(swept(jobs=2), swept(jobs=1))

    @pytest.mark.slow
    def test_what_is_done_is_not_done_again(self, tmp_path, monkeypatch):
        """A sweep that was stopped goes on, and comes to the same figures."""
        whole = swept()
        real, done = sweeps.carry_out, []

        def stops(unit):
            if len(done) == 3:
                raise KeyboardInterrupt
            done.append(unit)
            return real(unit)

        monkeypatch.setattr(sweeps, "carry_out", stops)
        with pytest.raises(KeyboardInterrupt):
            swept(out=tmp_path)
        monkeypatch.setattr(sweeps, "carry_out", lambda unit: done.append(unit) or real(unit))
        pd.testing.assert_frame_equal(swept(out=tmp_path), whole)
        assert len(done) == len(set(done)) == 4 * 2
        swept(out=tmp_path)
        assert len(done) == 8
        swept(out=tmp_path, seed=4)
        assert len(done) == 16

    def test_half_a_file_is_never_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sweeps.json, "dumps", lambda *_, **__: "{")
        swept(2, out=tmp_path)
        kept = sorted((tmp_path / "parts").iterdir())
        assert kept
        assert {file.suffix for file in kept} == {".json"}

    def test_a_function_is_a_behaviour_too_but_is_not_kept(self, tmp_path):
        def everybody(rng, state):
            return state.intents

        frame = sweep(POLICIES, [everybody], Constant(), 10, 0, SMALL)
        assert set(frame.behaviours) == {"people"}
        with pytest.raises(ScenarioError, match="is not data, so that its results can't be kept"):
            sweep(POLICIES, [everybody], Constant(), 10, 0, SMALL, out=tmp_path)


class TestOnTheChain:
    @pytest.mark.slow
    def test_runs_are_played_and_the_same(self, engine_name):
        frame = sweep(
            {"stake_bps": [2_000, 37], "fee_bps": [500, 1_000], "forfeit_to_host_bps": [0, 3_333]},
            [NoShow(base=0.4), Cancel(daily_near=0.2)],
            MARKETS["gbm"],
            50,
            1,
            SMALL,
            spot_check=4,
            engine=engine_name,
        )
        assert set(frame.spot_checked) == {4}

    @pytest.mark.slow
    def test_a_wei_too_much_stops_it(self, monkeypatch, engine_name):
        real = spot_check.settle
        monkeypatch.setattr(spot_check, "settle", lambda *args: replace(real(*args), platform=real(*args).platform + 1))
        with pytest.raises(
            Mismatch, match=r"check0-1-\d+: platform gets \d+ wei in the model, \d+ on the chain"
        ) as told:
            sweep(POLICIES, [NoShow()], Constant(), 50, 1, SMALL, spot_check=1, engine=engine_name)
        assert "do: create_run" in str(told.value)


class TestFiles:
    @pytest.mark.parametrize("file", sorted((ROOT / "scenarios" / "sweeps").glob("*.yaml")), ids=lambda f: f.stem)
    @pytest.mark.slow
    def test_those_that_are_shipped(self, file, tmp_path):
        wanted = load_sweep(file)
        assert population_of(wanted).name == wanted.population
        done = CliRunner().invoke(
            cli, ["sweep", str(file), "--runs", "50", "-j", "1", "--spot-check", "0", "--out", str(tmp_path)]
        )
        assert done.exit_code == 0, done.output
        assert wanted.question in done.output
        page = (tmp_path / "report.html").read_text()
        assert page.count("<svg") == 1
        assert "src=" not in page

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"policies": {"stake": [1]}}, "there is no term 'stake'; did you mean 'stake_bps'?"),
            ({"policies": {"stake_bps": [9_000]}}, "policies, stake_bps: Input should be less than or equal to 5000"),
            ({"population": "conferense"}, "did you mean 'conference'?"),
        ],
    )
    def test_what_is_wrong_is_said(self, change, said, tmp_path):
        text = {
            "name": "mine",
            "question": "Which?",
            "population": "conference",
            "policies": {"stake_bps": [0]},
        } | change
        (tmp_path / "mine.yaml").write_text(json.dumps(text))
        done = CliRunner().invoke(cli, ["sweep", str(tmp_path / "mine.yaml"), "--runs", "10", "--spot-check", "0"])
        assert isinstance(done.exception, ScenarioError)
        assert said in str(done.exception)
