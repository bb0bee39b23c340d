"""Sweeps: exact sums, correct intervals, results independent of how they are computed, and spot checks on a chain."""

import errno
import importlib
import json
import os
import pickle
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from stakesim import plots
from stakesim.commands.cli import cli
from stakesim.economics import blocks, metrics, read_sweep, report, spot_check, sweep, sweep_runs
from stakesim.economics.output import OutputError
from stakesim.economics.spot_check import MismatchError
from stakesim.economics.sweep_file import load_sweep, population_of
from stakesim.paths import checkout
from stakesim.population.behaviours import Cancel, LostToStake, NoShow
from stakesim.population.population import CHUNK_SIZE, Population, draw, load_population
from stakesim.population.to_scenario import generate
from stakesim.prices.gas_models import ConstantGas
from stakesim.prices.price_models import Constant, Gbm, Series
from stakesim.runner.scenario_files import populations
from stakesim.scenario.actions import Terms
from stakesim.schema.errors import InputError
from stakesim.studies import attacks, break_even, exposure
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
    @pytest.mark.slow
    def test_every_row_has_all_parameters(self, frame):
        assert len(frame) == 3 * 2 * 2 * len(metrics.metrics_of(has_gas=False))
        estimates = ["value", "low", "high", "change", "change_low", "change_high"]
        assert not frame.drop(columns=estimates).isna().any().any()
        row = frame.iloc[0]
        assert (row.runs, row.seed, row.population) == (6_000, 3, "small")
        assert {*Terms.model_fields} <= {*frame.columns}
        assert json.loads(row.behaviours_parameters)[0] == LostToStake().model_dump()
        assert json.loads(row.price_parameters)["path"] == "constant"
        assert Population.model_validate_json(row.population_parameters) == SMALL

    @pytest.mark.slow
    def test_sums_are_exact_in_memory_and_in_parquet(self, tmp_path):
        frame = small_sweep(500, out=tmp_path)
        table = pq.read_table(tmp_path / "sweep.parquet")
        assert str(table.schema.field("numerator").type) == "decimal128(38, 0)"
        read_back = table.to_pandas()
        assert read_back.numerator.map(int).tolist() == frame.numerator.tolist()
        assert all(isinstance(value, int) for value in frame.numerator)
        assert isinstance(read_back.numerator.iloc[0], Decimal)

    @pytest.mark.parametrize("seed", [1, 2**70])
    def test_a_written_table_is_read_as_it_was(self, seed, tmp_path):
        """Names are categories, sums Python integers, also beyond int64."""
        rich = Population(name="rich", story="Dear seats.", price_inr=("5000", "5000"), price=Constant(inr_per_eth="1"))
        frame = sweep(POLICIES, [NoShow()], rich.price, 50, seed, rich, out=tmp_path)
        assert frame.numerator.max() > 2**63
        pd.testing.assert_frame_equal(read_sweep(tmp_path / "sweep.parquet"), frame)
        assert {str(frame[name].dtype) for name in ("metric", "unit", "behaviours", "price")} == {"category"}

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
            assert row["change_high"] == pytest.approx(0, abs=1e-3)
            assert row["may_be_largest"]
            assert row["may_be_smallest"]
        assert only_row(frame, "platform income", stake_bps=0, behaviours="none", price="quiet")["change_high"] < 0

    def test_paired_intervals_of_changes_are_narrow(self, frame):
        row = only_row(frame, "host profit", stake_bps=0, behaviours="some", price="gbm")
        assert row["change_high"] - row["change_low"] < (row["high"] - row["low"]) / 3


class TestReport:
    @pytest.mark.slow
    def test_policies_after_the_first_have_the_paired_change(self, frame):
        """Narrower than what two intervals of values tell, in the table, on the command line and in the plot."""
        row = only_row(frame, "host profit", stake_bps=0, behaviours="some", price="gbm")
        half_width = (row["change_high"] - row["change_low"]) / 2
        for with_values in (True, False):
            cells = dict(report.table_rows(frame, ["stake_bps"], ["host profit"], with_values=with_values))
            [cell] = cells[0, "some", "gbm"]
            assert f"[{row['change']:+,.0f} ±{half_width:,.0f}]" in cell
            assert cell.startswith(f"{row['value']:,.0f} [" if with_values else "[")
            assert "[" not in cells[2_000, "some", "gbm"][0]
        assert half_width < (row["high"] - row["low"]) / 2 / 3
        axes = plots.metric_curves(frame, "stake_bps", ["host profit"]).axes[0]
        line = next(line for line in axes.lines if line.get_label() == "some, gbm")
        assert line.get_ydata()[0] == row["change"]

    def test_a_star_marks_the_policies_that_may_be_the_best(self, frame):
        for metric, best in (("platform income", "may_be_largest"), ("no-show rate", "may_be_smallest")):
            cells = dict(report.table_rows(frame, ["stake_bps"], [metric], with_values=True))
            rows = frame[(frame.metric == metric) & (frame.behaviours == "some") & (frame.price == "quiet")]
            assert not rows[best].all()
            for stake_bps, is_best in zip(rows.stake_bps, rows[best], strict=True):
                assert cells[stake_bps, "some", "quiet"][0].endswith("*") == is_best

    def test_ends_that_are_not_symmetric_are_written_out(self):
        row = pd.Series({"value": 0.0, "low": 0.0, "high": 0.07, "may_be_smallest": False, "unit": "share of runs"})
        assert report.format_cell(row, "cancelled runs", is_first=True) == "0.0% (0.0 to 7.0)"

    def test_the_spot_check_is_told_as_it_was(self):
        assert report.spot_check_sentence(0).startswith("No run was carried out")
        assert report.spot_check_sentence(1).startswith("1 run was carried out")
        assert report.spot_check_sentence(4).startswith("4 runs were carried out")

    def test_every_metric_but_wei_has_a_direction(self):
        assert set(metrics.METRICS) - set(metrics.BEST_IS_LARGEST) == {"wei paid in", "wei kept by the platform"}


class TestIntervals:
    def random_columns(self, rng, n=3_000):
        denominator = rng.integers(1, 9, n)
        return [(rng.binomial(denominator, p), denominator) for p in (0.25, 0.3)]

    def test_intervals_equal_those_of_the_linearised_ratio(self):
        policies = self.random_columns(np.random.default_rng(1))
        (base_n, base_d), (own_n, own_d) = policies
        ratio, base = own_n.sum() / own_d.sum(), base_n.sum() / base_d.sum()
        own_residual = (own_n - ratio * own_d) / own_d.mean()
        residual = own_residual - (base_n - base * base_d) / base_d.mean()
        n = len(own_n)
        for is_share, tolerance in ((False, 1e-6), (True, 0.03)):
            estimate = metrics.estimate(metrics.sum_runs(policies), is_share=is_share)[1]
            assert estimate.value == ratio
            assert estimate.change == ratio - base
            near = pytest.approx(1.9608 * own_residual.std(ddof=1) / n**0.5, rel=max(tolerance, 1e-4))
            assert estimate.high - ratio == near
            near = pytest.approx(1.9608 * residual.std(ddof=1) / n**0.5, rel=max(tolerance, 1e-4))
            assert estimate.change_high - estimate.change == near

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("share", "runs", "clustering"),
        [(0.02, 50, 0), (0.02, 50, 0.5), (0.1, 50, 0), (0.3, 20, 0.5), (0.98, 50, 0), (0.5, 400, 0), (0.2, 10, 0)],
    )
    def test_intervals_of_shares_and_changes_cover_them(self, share, runs, clustering):
        """In 93% of 500 samples or more, less four standard errors, also of rare shares and of few runs.

        Of a cluster of four bookings, `clustering` is the probability that all do the same. Under the second policy a
        tenth of those who stayed away do not.
        """
        rng = np.random.default_rng(7)
        samples, covered, changes_covered = 500, 0, 0
        for _ in range(samples):
            together, alone = rng.random((runs, 1)) < share, rng.random((runs, 4)) < share
            first = np.where(rng.random((runs, 1)) < clustering, together, alone)
            second = first & (rng.random((runs, 4)) >= 0.1)
            counts = np.full(runs, 4)
            sums = metrics.sum_runs([(flags.sum(axis=1), counts) for flags in (first, second)])
            before, after = metrics.estimate(sums, is_share=True)
            covered += before.low <= share <= before.high
            changes_covered += after.change_low <= -0.1 * share <= after.change_high
        least = 0.93 - 4 * (0.93 * 0.07 / samples) ** 0.5
        assert covered / samples > least
        assert changes_covered / samples > least

    @pytest.mark.parametrize("runs", [2, 3, 10])
    def test_intervals_of_means_cover_them_whatever_the_number_of_runs(self, runs):
        """95% of 600 samples, within four standard errors."""
        rng = np.random.default_rng(8)
        covered = 0
        for _ in range(600):
            amounts = rng.normal(10**6, 10**5, runs).astype(np.int64)
            [estimate] = metrics.estimate(metrics.sum_runs([(amounts, np.ones(runs, np.int64))]), is_share=False)
            covered += estimate.low <= 10**6 <= estimate.high
        assert abs(covered / 600 - 0.95) < 4 * (0.95 * 0.05 / 600) ** 0.5

    def test_one_run_tells_no_mean_and_little_of_a_share(self):
        one = metrics.sum_runs([(np.array([0]), np.array([1]))])
        [share], [mean] = metrics.estimate(one, is_share=True), metrics.estimate(one, is_share=False)
        assert (share.low, share.high > 0.7) == (0, True)
        assert np.isnan([mean.low, mean.high]).all()

    @pytest.mark.slow
    def test_the_best_policy_is_among_those_that_may_be_in_95_percent_of_samples(self):
        """Of eight that are equally good none is left out in more than 5% of 400 samples, and a better one stays alone.

        Independent, so that the one which is ahead is so by chance: without the correction the worst are left out.
        """
        rng = np.random.default_rng(9)
        kept = np.zeros(8)
        for _ in range(400):
            profits = [(rng.normal(10_000, 1_000, 200).astype(np.int64), np.ones(200, np.int64)) for _ in range(8)]
            estimates = metrics.estimate(metrics.sum_runs(profits), is_share=False)
            kept += [estimate.may_be_largest for estimate in estimates]
        assert (kept / 400 > 0.95 - 4 * (0.95 * 0.05 / 400) ** 0.5).all()
        assert kept.sum() < 8 * 400
        profits[3] = (profits[3][0] + 500, profits[3][1])
        estimates = metrics.estimate(metrics.sum_runs(profits), is_share=False)
        assert [estimate.may_be_largest for estimate in estimates] == [number == 3 for number in range(8)]
        assert not estimates[3].may_be_smallest

    def test_sums_of_parts_combine_to_the_sums_of_the_whole(self):
        policies = self.random_columns(np.random.default_rng(3))
        halves = [
            metrics.sum_runs([(numerator[part], denominator[part]) for numerator, denominator in policies])
            for part in (slice(1_000), slice(1_000, None))
        ]
        whole, combined = metrics.sum_runs(policies), metrics.combine(halves)
        assert combined.runs == whole.runs
        assert (combined.numerators, combined.denominators) == (whole.numerators, whole.denominators)
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

    def test_a_behaviour_may_be_any_object_that_is_called(self, tmp_path):
        """A dataclass is not hashable, and a folder may be named by text."""

        @dataclass
        class Everybody:
            share: float = 1.0

            def __call__(self, rng, state):
                return state.intents

        honest, own = (sweep(POLICIES, group, Constant(), 10, 0, SMALL) for group in ([NoShow(base=0)], [Everybody()]))
        assert honest.numerator.tolist() == own.numerator.tolist()
        saved = sweep(POLICIES, [NoShow(base=0)], Constant(), 10, 0, SMALL, out=str(tmp_path))
        pd.testing.assert_frame_equal(saved, honest)

    def test_a_function_is_a_valid_behaviour_but_its_results_are_not_saved(self, tmp_path):
        def everybody(rng, state):
            return state.intents

        frame = sweep(POLICIES, [everybody], Constant(), 10, 0, SMALL)
        assert set(frame.behaviours) == {"people"}
        with pytest.raises(InputError, match="is not data, so its results can't be saved"):
            sweep(POLICIES, [everybody], Constant(), 10, 0, SMALL, out=tmp_path)


class TestSavedResults:
    """A saved result is used for the same work only: whatever the result depends on is part of the file's name."""

    CLOSES = "date,close\n2024-01-01,200000\n2024-01-02,{second}\n2024-01-03,210000\n2024-01-04,{second}\n"

    def write_closes(self, file, second):
        """Rewrites a series and sets the time of its change back, as an archive or a clock may."""
        file.write_text(self.CLOSES.format(second=second))
        os.utime(file, (1_700_000_000, 1_700_000_000))

    @pytest.mark.parametrize("saved", [False, True])
    def test_a_changed_price_file_of_the_same_name_gives_new_results(self, saved, tmp_path):
        prices, incomes = tmp_path / "prices.csv", []
        out = tmp_path / "out" if saved else None
        for second in (200_000, 400_000):
            self.write_closes(prices, second)
            frame = sweep(POLICIES, [NoShow()], Series(file=str(prices)), 50, 1, SMALL, out=out)
            incomes.append(frame[frame.metric == "host profit"].numerator.tolist())
        assert incomes[0] != incomes[1]

    def test_a_worker_whose_price_file_is_another_one_refuses(self, tmp_path, monkeypatch):
        for folder, second in (("here", 200_000), ("there", 400_000)):
            (tmp_path / folder).mkdir()
            self.write_closes(tmp_path / folder / "prices.csv", second)
        monkeypatch.chdir(tmp_path / "here")
        price = Series(file="prices.csv")
        [block] = blocks.split_into_blocks(SMALL, (Terms(),), (NoShow(),), price, 10, 1)
        blocks.compute_block(pickle.loads(pickle.dumps(block)))
        monkeypatch.chdir(tmp_path / "there")
        with pytest.raises(InputError, match=r"prices.csv: has another content on .+ than where the sweep began"):
            blocks.compute_block(pickle.loads(pickle.dumps(block)))

    def test_other_code_of_a_behaviour_is_other_work_and_a_worker_that_has_it_refuses(self, tmp_path, monkeypatch):
        """A worker imports the module that it has. Here, what was imported goes on if the file changes."""
        module = tmp_path / "changing_people.py"
        code = "from stakesim.population.behaviours import NoShow\nclass Own(NoShow):\n    pass\n"
        module.write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        people = importlib.import_module("changing_people")

        def only_block():
            return blocks.split_into_blocks(SMALL, (Terms(),), (people.Own(),), Constant(), 10, 1)[0]

        block, sent = only_block(), pickle.dumps(only_block())
        module.write_text(code + "# changed\n")
        blocks.compute_block(block)
        importlib.reload(people)
        assert only_block().digest() != block.digest()
        with pytest.raises(InputError, match=r"changing_people: has another code on .+ than where the sweep began"):
            blocks.compute_block(pickle.loads(sent))

    def test_a_generated_scenario_follows_a_changed_price_file(self, tmp_path):
        rates = []
        for second in (200_000, 250_000):
            self.write_closes(tmp_path / "prices.csv", second)
            population = SMALL.model_copy(update={"price": Series(file=str(tmp_path / "prices.csv"))})
            rates.append(generate(population, 1, 0).price.rates[1].inr_per_eth)
        assert rates == [210_000, 250_000]  # equal rates are one step

    def test_everything_that_a_block_has_is_part_of_its_digest(self, tmp_path, monkeypatch):
        module = tmp_path / "digest_people.py"
        code = "from stakesim.population.behaviours import NoShow\nclass Own(NoShow):\n    pass\n"
        module.write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        own_people = importlib.import_module("digest_people")
        block = blocks.Block(SMALL, (Terms(),), (NoShow(),), Constant(), "", ("",), 1, 0, 10)
        changes = {
            "population": SMALL.model_copy(update={"seats": (6, 10)}),
            "policies": (Terms(stake_bps=1),),
            "behaviours": (own_people.Own(),),
            "price": Constant(inr_per_eth="1"),
            "price_data": "other",
            "people_code": ("other",),
            "seed": 2,
            "first_chunk": 1,
            "runs": 11,
            "gas": ConstantGas(gwei="1"),
            "gas_data": "other",
            "has_quantiles": True,
        }
        assert set(changes) == {field.name for field in fields(block)}
        digests = [block.digest(), *(replace(block, **{name: value}).digest() for name, value in changes.items())]
        monkeypatch.setattr(blocks, "library_hash", lambda: "a later version")
        digests.append(block.digest())
        assert len(set(digests)) == len(digests)

    def test_code_that_cannot_be_read_is_not_saved(self, tmp_path):
        unreadable = type("Unreadable", (NoShow,), {"__module__": "no_such_module"})
        with pytest.raises(InputError, match=r"the code of no_such_module.Unreadable can't be read"):
            sweep(POLICIES, [unreadable()], Constant(), 10, 0, SMALL, out=tmp_path)

    @pytest.mark.slow
    @pytest.mark.parametrize("content", ["", "{", '{"bookings": [1]}', "[]", "{}"])
    def test_a_damaged_file_is_computed_again(self, content, tmp_path):
        frame = small_sweep(20, out=tmp_path)
        parts = sorted((tmp_path / "parts").iterdir())
        parts[0].write_text(content)
        pd.testing.assert_frame_equal(small_sweep(20, out=tmp_path), frame)
        assert json.loads(parts[0].read_text())

    def test_a_full_disk_is_told_with_the_file(self, tmp_path, monkeypatch):
        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(OutputError, match=r"/parts/\w+\.json can't be written: No space left on device; make room"):
            small_sweep(2, out=tmp_path)
        monkeypatch.undo()
        monkeypatch.setattr(pq, "write_table", full)
        with pytest.raises(OutputError, match=r"/sweep.parquet can't be written"):
            small_sweep(2, out=tmp_path)


class TestRefusals:
    """What can't be computed is refused in one sentence that says what to write."""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"policies": {"stake_bps": []}}, "there is no policy"),
            ({"policies": []}, "there is no policy"),
            ({"policies": [2_000]}, "neither values of terms nor `Terms`"),
            ({"policies": {"stake_bps": 2_000}}, r"stake_bps: 2000 is no list of values; write \[2000\]"),
            ({"policies": {"stake_bps": [500, 0, 500]}}, "the policy with stake_bps 500 is there twice"),
            ({"policies": {"stake_bps": [500, "500"]}}, "policies, stake_bps: Input should be a valid integer"),
            ({"policies": {"cancellation_cutoff": ["1d", "24h"]}}, "the policy with stake_bps 2000, .* is there twice"),
            ({"behaviours": NoShow()}, r"NoShow\(.*\) is no list of behaviours; write \[NoShow"),
            ({"behaviours": {"some": NoShow()}}, "is no list of behaviours"),
            ({"behaviours": "honest"}, "'honest' is no list of behaviours"),
            ({"behaviours": [NoShow]}, r"NoShow is a class and no behaviour; write NoShow\(\)"),
            ({"behaviours": ["no_show"]}, "'no_show' is no behaviour"),
            ({"behaviours": {}}, "there is no group of people"),
            ({"prices": {}}, "there is no market"),
            ({"prices": "constant"}, "'constant' is no price model"),
            ({"prices": {"quiet": Constant}}, "quiet: .* is no price model"),
            ({"gas": {}}, "there is no market of gas"),
            ({"gas": {"rollup": ConstantGas}}, "rollup: .* is no model of gas; give one of"),
            ({"gas": 0.01}, "gas: 0.01 is no model of gas"),
            ({"policies": {"overbooking": [0]}}, "there is no term 'overbooking'; did you mean 'overbooking_bps'"),
            ({"runs": 0}, "runs is 0; give a whole number from 1"),
            ({"runs": -3}, "runs is -3"),
            ({"runs": 10.0}, "runs is 10.0"),
            ({"seed": -1}, "seed is -1; give a whole number from 0"),
            ({"spot_check": -1}, "spot_check is -1"),
            ({"jobs": 0}, "jobs is 0; give a whole number from 1"),
        ],
    )
    def test_of_the_function(self, changes, message):
        usual = {"policies": POLICIES, "behaviours": PEOPLE, "prices": MARKETS, "runs": 2, "seed": 1}
        with pytest.raises(InputError, match=message):
            sweep(**usual | changes, population=SMALL)

    def test_of_no_runs_in_studies(self):
        for study in (
            lambda: exposure.exposures(SMALL, Constant(), 0, 1),
            lambda: attacks.measure_attack(NoShow(), 0, 1),
            lambda: break_even.run_totals(SMALL, 0, 1, None),
        ):
            with pytest.raises(InputError, match="runs is 0; give a whole number from 1"):
                study()


class TestSweepFile:
    def test_a_question_about_other_runs_than_the_populations_is_answered_by_yaml(self, tmp_path):
        """Tickets of 500 INR: `change` gives the population's fields other values, and the others stay."""
        file = tmp_path / "mine.yaml"
        file.write_text(
            "name: mine\nquestion: Which stake?\npopulation: conference\nchange: {price_inr: ['500', '500']}\n"
            "policies: {stake_bps: [1000, 2000]}\n"
        )
        changed = population_of(load_sweep(file))
        usual = load_population(populations()["conference"])
        assert changed == usual.model_copy(update={"price_inr": (500, 500)})
        assert set(draw(changed, 1).state.price_paise) == {50_000}


class TestRuns:
    @pytest.mark.slow
    def test_the_runs_have_the_sums_and_means_of_the_sweep(self, frame):
        """More than a chunk of them; each is numbered, and every policy meets the same ones."""
        names = ("wei paid in", "host profit", "no-show rate")
        runs = sweep_runs(POLICIES, PEOPLE, MARKETS, 6_000, 3, SMALL, metrics=names)
        assert len(runs) == 6_000 * 3 * 2 * 2
        keys = ["stake_bps", "behaviours", "price"]
        rows_by_keys = dict(iter(frame.groupby(keys, observed=True)))
        for values, group in runs.groupby(keys, observed=True):
            assert group.run.tolist() == list(range(6_000))
            rows = rows_by_keys[values].set_index("metric")
            assert sum(group["wei paid in"]) == rows.numerator["wei paid in"]
            assert type(group["wei paid in"].iloc[0]) is int
            assert group["host profit"].mean() == pytest.approx(rows.value["host profit"])
        assert runs["no-show rate"].isna().any()

    def test_quantiles_of_runs(self):
        """A run of a seat that one person buys pays the host 95% of a price that is log-uniform."""
        one = Population(
            name="one",
            story="One seat.",
            price_inr=("100", "10000"),
            seats=(1, 1),
            attendees=(1, 1),
            seats_wanted=(1, 1),
            price=Constant(),
        )
        runs = sweep_runs([Terms()], [], one.price, 20_000, 1, one, metrics=["host profit"])
        for level in (0.05, 0.5, 0.95):
            assert runs["host profit"].quantile(level) == pytest.approx(0.95 * 100 * 100**level, rel=0.03)

    def test_an_unknown_metric_is_refused(self):
        with pytest.raises(InputError, match="there is no metric 'host profits'; did you mean 'host profit'"):
            sweep_runs(POLICIES, PEOPLE, MARKETS, 2, 1, SMALL, metrics=["host profits"])


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
    @pytest.mark.parametrize("kept", [True, False])
    def test_ctrl_c_says_what_is_kept(self, tmp_path, monkeypatch, run_stakesim, kept):
        def interrupted(block):
            raise KeyboardInterrupt

        monkeypatch.setattr(blocks, "compute_block", interrupted)
        file = ROOT / "scenarios" / "sweeps" / "stake-size.yaml"
        options = ("--out", tmp_path) if kept else ()
        ended = run_stakesim("sweep", file, "--runs", 50, "-j", 1, "--spot-check", 0, *options)
        told = f"the same command goes on from {tmp_path}" if kept else "nothing is kept without --out"
        assert (ended.returncode, ended.stderr.splitlines()[-1]) == (130, f"stakesim: interrupted: {told}")

    @pytest.mark.parametrize("file", sorted((ROOT / "scenarios" / "sweeps").glob("*.yaml")), ids=lambda f: f.stem)
    @pytest.mark.slow
    def test_every_shipped_sweep_runs(self, file, tmp_path):
        sweep_file = load_sweep(file)
        assert population_of(sweep_file).name == sweep_file.population
        result = CliRunner().invoke(
            cli,
            ["sweep", str(file), "--runs", "50", "-j", "1", "--spot-check", "0", "--per-run", "--out", str(tmp_path)],
        )
        assert result.exit_code == 0, result.output
        assert sweep_file.question in result.output
        per_policy = (
            50 * max(len(sweep_file.behaviours), 1) * max(len(sweep_file.prices), 1) * max(len(sweep_file.gas), 1)
        )
        policies = prod(len(values) for values in sweep_file.policies.values())
        assert len(pq.read_table(tmp_path / "runs.parquet")) == per_policy * policies
        page = (tmp_path / "report.html").read_text()
        for text in (" ".join(result.output.split()), page):
            assert "No run was carried out on a chain" in text
            assert "every payout was the same" not in text
        assert page.count("<svg") == 1
        assert "src=" not in page

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"policies": {"stake": [1]}}, "there is no term 'stake'; did you mean 'stake_bps'?"),
            ({"policies": {"stake_bps": [9_000]}}, "policies, stake_bps: Input should be less than or equal to 5000"),
            ({"population": "conferense"}, "did you mean 'conference'?"),
            ({"policies": {"stake_bps": []}}, "there is no policy"),
            ({"policies": {"stake_bps": [0, 0]}}, "the policy with stake_bps 0 is there twice"),
            ({"policies": {"stake_bps": 0}}, "policies.stake_bps: is 0; write a list"),
            ({"behaviours": {"some": {"do": "no_show"}}}, "write a list"),
            ({"change": {"price": ["1", "2"]}}, "change, price: "),
            ({"change": {"price_in_inr": ["1", "2"]}}, "a population has no 'price_in_inr'; did you mean 'price_inr'?"),
            ({"change": {"seats": [9, 3]}}, "change, seats: the range ends before it begins"),
            ({"change": {"name": "mine"}}, "a population has no 'name'"),
            ({"change": {"platform": {"runs": 4}}}, "runs is 10; give a multiple of 4, as a platform has so many"),
            ({"gas": {"rollup": {"path": "constant", "gwei": 0.01}}}, "0.01 is a float, which is not exact"),
            ({"gas": {"rollup": {"path": "const", "gwei": "1"}}}, "gas.rollup"),
            ({"gas": {"own": {"path": "series", "file": "none.csv"}}}, "none.csv: there is no such file"),
            ({"quantiles": [5]}, "quantiles"),
            (
                {"policies": {"overbooking_bps": [20_000]}},
                "policies, overbooking_bps: Input should be less than or equal",
            ),
            (
                {"behaviours": {"some": [{"do": "lost_to_stake", "screening": 0.5}]}},
                "lost_to_stake with `screening` looks at who stays away; write it after no_show",
            ),
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
        assert isinstance(result.exception, InputError)
        assert message in str(result.exception)
