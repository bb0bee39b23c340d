"""Sweeps: exact sums, correct intervals, results independent of how they are computed, and spot checks on a chain."""

import json
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from stakesim.commands.cli import cli
from stakesim.economics import blocks, metrics, spot_check, sweep
from stakesim.economics.spot_check import MismatchError
from stakesim.economics.sweep_file import load_sweep, population_of
from stakesim.paths import checkout
from stakesim.population.behaviours import Cancel, LostToStake, NoShow
from stakesim.population.population import CHUNK_SIZE, Population
from stakesim.prices.price_models import Constant, Gbm
from stakesim.scenario.actions import Terms
from stakesim.schema.errors import ScenarioError
from typer.testing import CliRunner

ROOT = checkout()

SMALL = Population(name="small", story="Few people.", price_inr=("300", "5000"), seats=(5, 10), attendees=(2, 5))
POLICIES = {"stake_bps": [2_000, 0, 5_000]}
PEOPLE = {"some": [LostToStake(), NoShow(elasticity=1.0)], "none": [NoShow()]}
MARKETS = {"quiet": Constant(), "gbm": Gbm(inr_per_eth="200000", annual_volatility=0.8)}


def small_sweep(runs=6_000, seed=3, **options):
    return sweep(POLICIES, PEOPLE, MARKETS, runs, seed, SMALL, **options)


def only_row(frame, metric, **values):
    rows = frame[frame.metric == metric]
    for column, value in values.items():
        rows = rows[rows[column] == value]
    [row] = rows.to_dict("records")
    return row


@pytest.fixture(scope="module")
def frame():
    return small_sweep()


class TestTable:
    def test_every_row_has_all_parameters(self, frame):
        assert len(frame) == 3 * 2 * 2 * len(metrics.METRICS)
        estimates = ["value", "low", "high", "change", "change_low", "change_high"]
        assert not frame.drop(columns=estimates).isna().any().any()
        row = frame.iloc[0]
        assert (row.runs, row.seed, row.population) == (6_000, 3, "small")
        assert {*Terms.model_fields} <= {*frame.columns}
        assert json.loads(row.behaviours_parameters)[0] == {"do": "lost_to_stake", "elasticity": 0.5}
        assert json.loads(row.price_parameters)["path"] == "constant"
        assert Population.model_validate_json(row.population_parameters) == SMALL

    def test_sums_are_exact_in_memory_and_in_parquet(self, tmp_path):
        frame = small_sweep(500, out=tmp_path)
        table = pq.read_table(tmp_path / "sweep.parquet")
        assert str(table.schema.field("numerator").type) == "decimal128(38, 0)"
        read_back = table.to_pandas()
        assert read_back.numerator.map(int).tolist() == frame.numerator.tolist()
        assert all(isinstance(value, int) for value in frame.numerator)
        assert isinstance(read_back.numerator.iloc[0], Decimal)

    def test_exactly_the_requested_number_of_runs_is_counted(self, frame):
        """The number is more than a chunk and not a multiple of it."""
        assert 6_000 % CHUNK_SIZE
        assert set(frame[frame.metric == "bookings"].denominator) == {6_000}
        assert set(small_sweep(2)[lambda f: f.metric == "bookings"].denominator) == {2}

    def test_people_who_ignore_the_stake_behave_alike_under_every_policy(self, frame):
        """Common random numbers: not a single booking differs between the policies."""
        for metric in ("bookings", "no-show rate", "host profit", "cancelled bookings"):
            row = only_row(frame, metric, stake_bps=5_000, behaviours="none", price="quiet")
            assert row["change"] == 0
            assert row["change_high"] == pytest.approx(0, abs=1e-4)
        assert only_row(frame, "platform income", stake_bps=0, behaviours="none", price="quiet")["change_high"] < 0

    def test_paired_intervals_of_changes_are_narrow(self, frame):
        row = only_row(frame, "host profit", stake_bps=0, behaviours="some", price="gbm")
        assert row["change_high"] - row["change_low"] < (row["high"] - row["low"]) / 3


class TestIntervals:
    def random_columns(self, rng, n=3_000):
        denominator = rng.integers(1, 9, n)
        return rng.binomial(denominator, 0.3), denominator, rng.binomial(denominator, 0.25), denominator

    def test_intervals_equal_those_of_the_linearised_ratio(self):
        own_n, own_d, base_n, base_d = self.random_columns(np.random.default_rng(1))
        first_policy = metrics.sum_runs((base_n, base_d), (base_n, base_d))
        estimate = metrics.estimate(metrics.sum_runs((own_n, own_d), (base_n, base_d)), first_policy)
        ratio, base = own_n.sum() / own_d.sum(), base_n.sum() / base_d.sum()
        own_residual = (own_n - ratio * own_d) / own_d.mean()
        residual = own_residual - (base_n - base * base_d) / base_d.mean()
        n = len(own_n)
        assert estimate.value == ratio
        assert estimate.high - ratio == pytest.approx(1.959964 * own_residual.std(ddof=1) / n**0.5)
        assert estimate.change == ratio - base
        assert estimate.change_high - estimate.change == pytest.approx(1.959964 * residual.std(ddof=1) / n**0.5)

    def test_intervals_cover_the_true_value_in_95_percent_of_samples(self):
        """95% of 400 samples, within four standard errors."""
        rng = np.random.default_rng(2)
        covered = 0
        for _ in range(400):
            own_n, own_d, *_ = self.random_columns(rng, 300)
            sums = metrics.sum_runs((own_n, own_d), (own_n, own_d))
            estimate = metrics.estimate(sums, sums)
            covered += estimate.low <= 0.3 <= estimate.high
        assert 0.95 - 4 * (0.95 * 0.05 / 400) ** 0.5 <= covered / 400 <= 0.995

    def test_sums_of_parts_combine_to_the_sums_of_the_whole(self):
        own_n, own_d, base_n, base_d = self.random_columns(np.random.default_rng(3))
        halves = [
            metrics.sum_runs((own_n[part], own_d[part]), (base_n[part], base_d[part]))
            for part in (slice(1_000), slice(1_000, None))
        ]
        whole = metrics.sum_runs((own_n, own_d), (base_n, base_d))
        combined = metrics.combine(halves)
        assert combined.runs == whole.runs
        assert (combined.numerator, combined.denominator) == (whole.numerator, whole.denominator)
        assert combined.moments == pytest.approx(whole.moments)
        assert metrics.MetricSums.from_json(json.loads(json.dumps(combined.to_json()))) == combined


class TestComputation:
    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch):
        monkeypatch.setattr(blocks, "CHUNKS_PER_BLOCK", 1)

    @pytest.mark.slow
    def test_the_number_of_processes_does_not_change_the_result(self, frame):
        pd.testing.assert_frame_equal(small_sweep(jobs=2), small_sweep(jobs=1))

    @pytest.mark.slow
    def test_an_interrupted_sweep_resumes(self, tmp_path, monkeypatch):
        """Finished blocks are not computed again, and the result is that of an uninterrupted sweep."""
        whole = small_sweep()
        compute_block, computed = blocks.compute_block, []

        def interrupted(block):
            if len(computed) == 3:
                raise KeyboardInterrupt
            return counted(block)

        def counted(block):
            computed.append(block)
            return compute_block(block)

        monkeypatch.setattr(blocks, "compute_block", interrupted)
        with pytest.raises(KeyboardInterrupt):
            small_sweep(out=tmp_path)
        monkeypatch.setattr(blocks, "compute_block", counted)
        pd.testing.assert_frame_equal(small_sweep(out=tmp_path), whole)
        assert len(computed) == len(set(computed)) == 4 * 2
        small_sweep(out=tmp_path)
        assert len(computed) == 8
        small_sweep(out=tmp_path, seed=4)
        assert len(computed) == 16

    def test_an_incomplete_file_is_never_left(self, tmp_path, monkeypatch):
        monkeypatch.setattr(blocks.json, "dumps", lambda *_, **__: "{")
        small_sweep(2, out=tmp_path)
        files = sorted((tmp_path / "parts").iterdir())
        assert files
        assert {file.suffix for file in files} == {".json"}

    def test_a_function_is_a_valid_behaviour_but_its_results_are_not_saved(self, tmp_path):
        def everybody(rng, state):
            return state.intents

        frame = sweep(POLICIES, [everybody], Constant(), 10, 0, SMALL)
        assert set(frame.behaviours) == {"people"}
        with pytest.raises(ScenarioError, match="is not data, so its results can't be saved"):
            sweep(POLICIES, [everybody], Constant(), 10, 0, SMALL, out=tmp_path)


class TestSpotChecks:
    @pytest.mark.slow
    def test_payouts_on_the_chain_equal_the_model(self, engine_name):
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
    def test_a_difference_of_one_wei_stops_the_sweep(self, monkeypatch, engine_name):
        real = spot_check.settle
        monkeypatch.setattr(spot_check, "settle", lambda *args: replace(real(*args), platform=real(*args).platform + 1))
        with pytest.raises(
            MismatchError, match=r"check0-1-\d+: platform gets \d+ wei in the model, \d+ on the chain"
        ) as mismatch:
            sweep(POLICIES, [NoShow()], Constant(), 50, 1, SMALL, spot_check=1, engine=engine_name)
        assert "do: create_run" in str(mismatch.value)


class TestCommand:
    @pytest.mark.parametrize("file", sorted((ROOT / "scenarios" / "sweeps").glob("*.yaml")), ids=lambda f: f.stem)
    @pytest.mark.slow
    def test_every_shipped_sweep_runs(self, file, tmp_path):
        sweep_file = load_sweep(file)
        assert population_of(sweep_file).name == sweep_file.population
        result = CliRunner().invoke(
            cli, ["sweep", str(file), "--runs", "50", "-j", "1", "--spot-check", "0", "--out", str(tmp_path)]
        )
        assert result.exit_code == 0, result.output
        assert sweep_file.question in result.output
        page = (tmp_path / "report.html").read_text()
        assert page.count("<svg") == 1
        assert "src=" not in page

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"policies": {"stake": [1]}}, "there is no term 'stake'; did you mean 'stake_bps'?"),
            ({"policies": {"stake_bps": [9_000]}}, "policies, stake_bps: Input should be less than or equal to 5000"),
            ({"population": "conferense"}, "did you mean 'conference'?"),
        ],
    )
    def test_an_invalid_sweep_is_refused(self, change, message, tmp_path):
        text = {
            "name": "mine",
            "question": "Which?",
            "population": "conference",
            "policies": {"stake_bps": [0]},
        } | change
        (tmp_path / "mine.yaml").write_text(json.dumps(text))
        result = CliRunner().invoke(cli, ["sweep", str(tmp_path / "mine.yaml"), "--runs", "10", "--spot-check", "0"])
        assert isinstance(result.exception, ScenarioError)
        assert message in str(result.exception)
