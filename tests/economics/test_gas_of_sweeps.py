"""Gas in sweeps: costs by hand, series of one's own, a rollup's data; and quantiles of what runs earn."""

import pickle

import numpy as np
import pytest
from pydantic import ValidationError
from stakesim.economics import blocks, sweep, sweep_runs
from stakesim.economics.gas import costs_in_paise, draw_gas_prices, gas_used, measured_costs
from stakesim.economics.quantiles import add_buckets, count_buckets, quantile
from stakesim.model.state import RunStatus
from stakesim.population.behaviours import Cancel, CompleteLate, HostCancels, NoShow
from stakesim.population.outcomes import resolve_outcomes, timeline
from stakesim.population.population import CHUNK_SIZE, Platform, Population, draw
from stakesim.prices.gas_models import BootstrapGas, ConstantGas, SeriesGas, SpikingGas, simulate
from stakesim.prices.price_models import Constant, Steps
from stakesim.scenario.actions import Terms
from stakesim.schema.errors import InputError
from stakesim.studies import gas_costs
from stakesim.units import DAY, WEI_PER_ETH, WEI_PER_GWEI

PEOPLE = (NoShow(), Cancel(daily=0.05), HostCancels(chance=0.2), CompleteLate(never=0.2))
MIXED = Population(
    name="mixed", story="All ends.", price_inr=("500", "500"), attendees=(0, 12), behaviours=PEOPLE, price=Constant()
)


def costs_of(population, gas, seed=1):
    state = draw(population, seed).state
    outcomes = resolve_outcomes(state)
    prices = draw_gas_prices(population, gas, seed, 0)
    return state, outcomes, costs_in_paise(state, outcomes, measured_costs(), prices, gas)


class TestCosts:
    def test_at_one_price_they_are_the_gas_of_the_run_times_it(self):
        """Within a paisa for each transaction."""
        state, outcomes, paise = costs_of(MIXED, ConstantGas(gwei="2"))
        assert set(outcomes.final_status) >= {RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.EXPIRED}
        expected = gas_used(state, outcomes, measured_costs().gas) * (2 * 20_000_000 * WEI_PER_GWEI / WEI_PER_ETH)
        assert (abs(paise - expected) < 2 + state.shape[0]).all()

    def test_each_transaction_costs_what_its_day_costs(self):
        """By hand, for each run: price and rate of the day of each transaction, and 0.5 gwei for each byte."""
        rates = Steps(rates=({"at": 0, "inr_per_eth": "200000"}, {"at": 6 * DAY, "inr_per_eth": "300000"}))
        gas = SpikingGas(gwei="3", deviation=1.0, data_gwei="0.5")
        state, outcomes, paise = costs_of(MIXED.model_copy(update={"price": rates}), gas)
        units, sizes = measured_costs()
        prices, times = draw_gas_prices(MIXED, gas, 1, 0), timeline(state)
        for run in range(40):
            booked = sorted(outcomes.booked_at[outcomes.accepted[:, run], run].tolist())
            active, status = outcomes.active[:, run], outcomes.final_status[run]
            attended = int((active & state.intents.reported_attended[:, run]).sum())
            each = {"COMPLETED": units.complete_each, "CANCELLED": units.cancel_each, "EXPIRED": units.expire_each}
            name = RunStatus(status).name
            closing = {"COMPLETED": units.complete, "CANCELLED": units.cancel, "EXPIRED": units.expire}[name]
            size = {"COMPLETED": sizes.complete + 10 * attended, "CANCELLED": sizes.cancel, "EXPIRED": sizes.expire}
            transactions = [(0, units.create, sizes.create)]
            for number, at in enumerate(booked):
                used = units.booking if number else units.first_booking
                transactions.append((at, used + units.new_slot * (number == 8), sizes.booking))
            for at in times.cancels_at[outcomes.cancelled[:, run], run].tolist():
                transactions.append((at, units.cancel_booking, sizes.cancel_booking))
            used = closing + each[name] * int(active.sum()) + units.complete_attended * attended * (name == "COMPLETED")
            transactions.append((int(outcomes.closed_at[run]), used, size[name]))
            expected = 0
            for at, used, data in transactions:
                day = min(at // DAY, len(prices) - 1)
                wei = used * int(prices[day, run]) + data * WEI_PER_GWEI // 2
                expected += wei * int(state.rates[min(at // DAY, len(state.rates) - 1), run]) / WEI_PER_ETH
            assert paise[run] == pytest.approx(expected, abs=len(transactions))

    def test_gas_beyond_int64_is_counted_exactly(self):
        _, _, paise = costs_of(MIXED, ConstantGas(gwei="1"))
        _, _, dear = costs_of(MIXED, ConstantGas(gwei="1000000"))
        assert (abs(dear - paise.astype(object) * 10**6) <= 10**6 * 30).all()

    def test_the_data_that_comes_with_the_library_is_the_measured_one(self):
        assert measured_costs().data == gas_costs.measure_data()

    @pytest.mark.slow
    def test_in_a_sweep_they_are_the_platforms(self):
        gas = {
            "rollup": ConstantGas(gwei="0.01"),
            "data": ConstantGas(gwei="0.01", data_gwei="1"),
            "moving": SpikingGas(),
        }
        frame = sweep({"stake_bps": [2_000, 0]}, PEOPLE, Constant(), 2_000, 1, MIXED, gas=gas)
        wide = frame.pivot(index=["gas", "stake_bps"], columns="metric", values="value")
        costs = wide["transaction costs"]
        assert np.allclose(wide["platform profit"], wide["platform income"] - costs)
        assert costs["data", 0] > 1.05 * costs["rollup", 0]
        assert costs["moving", 0] > 40 * costs["rollup", 0]
        assert (wide["host profit"].groupby("stake_bps").nunique() == 1).all()
        without = sweep({"stake_bps": [2_000, 0]}, PEOPLE, Constant(), 2_000, 1, MIXED)
        assert "gas" not in without
        assert not without.metric.isin(["transaction costs", "platform profit"]).any()
        runs = sweep_runs([Terms()], PEOPLE, Constant(), 2_000, 1, MIXED, gas=gas, metrics=["transaction costs"])
        means = runs.groupby("gas", observed=True)["transaction costs"].mean()
        assert means["moving"] == pytest.approx(costs["moving", 2_000])


class TestSeries:
    def write(self, folder, second):
        file = folder / "gas.csv"
        file.write_text(f"date,gwei\n2026-01-01,0.5\n2026-01-02,{second}\n2026-01-03,2\n")
        return str(file)

    def test_a_series_is_the_price_of_each_day_and_its_last_one_holds(self, tmp_path):
        file = self.write(tmp_path, "1.25")
        wei = simulate(SeriesGas(file=file, start="2026-01-02"), np.random.default_rng(1), 2, 4)
        assert wei.tolist() == [[WEI_PER_GWEI * 5 // 4] * 2, *[[2 * WEI_PER_GWEI] * 2] * 3]
        drawn = simulate(BootstrapGas(file=file, block_days=2), np.random.default_rng(1), 500, 30)
        assert set(drawn.ravel()) == {WEI_PER_GWEI // 2, WEI_PER_GWEI * 5 // 4, 2 * WEI_PER_GWEI}
        follows = (drawn[1:] == 2 * WEI_PER_GWEI)[drawn[:-1] == WEI_PER_GWEI * 5 // 4].mean()
        assert follows == pytest.approx(1 / 2 + 1 / 2 / 3, abs=0.02)

    def test_a_changed_file_is_other_work_and_a_worker_that_has_another_one_refuses(self, tmp_path):
        price = SeriesGas(file=self.write(tmp_path, "1.25"))
        [block] = blocks.split_into_blocks(MIXED, (Terms(),), (NoShow(),), Constant(), 200, 1, price)
        before = blocks.compute_block(pickle.loads(pickle.dumps(block)))
        self.write(tmp_path, "99")
        with pytest.raises(InputError, match=r"gas.csv: has another content on .+ than where the sweep began"):
            blocks.compute_block(block)
        [changed] = blocks.split_into_blocks(MIXED, (Terms(),), (NoShow(),), Constant(), 200, 1, price)
        assert changed.digest() != block.digest()
        assert blocks.compute_block(changed)["transaction costs"] != before["transaction costs"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("date,close\n2026-01-01,1\n", "has no column 'gwei'; begin the file with `date,gwei`"),
            ("date,gwei\n2026-01-01,0\n", "0 is not a gas price; write gwei above zero"),
            ("date,gwei\n2026-01-01,1\n", "has 1 gas prices; give at least 2"),
        ],
    )
    def test_a_bad_file_gets_one_sentence(self, text, message, tmp_path):
        (tmp_path / "gas.csv").write_text(text)
        for model in (SeriesGas, BootstrapGas):
            with pytest.raises((InputError, ValidationError), match=message):
                model(file=str(tmp_path / "gas.csv"))

    def test_runs_of_a_platform_share_the_path_and_its_calendar(self):
        platform = MIXED.model_copy(update={"platform": Platform(runs=64, over=9 * DAY)})
        prices = draw_gas_prices(platform, SpikingGas(), 1, 0)
        assert prices.shape[1] == platform.chunk_size == CHUNK_SIZE
        assert len(np.unique(prices[0, :64])) == 10
        assert len(np.unique(draw_gas_prices(MIXED, SpikingGas(), 1, 0)[0])) > 4_000


class TestQuantiles:
    @pytest.mark.parametrize("level", [0.0, 0.05, 0.5, 0.99, 1.0])
    def test_they_are_those_of_the_values_whatever_the_parts(self, level):
        rng = np.random.default_rng(5)
        values = np.concatenate([rng.normal(200, 3_000, 5_000), np.zeros(500), [np.nan]])
        counted = add_buckets(count_buckets(part) for part in np.array_split(values, 7))
        assert counted == count_buckets(values)
        known = np.sort(values[:-1])
        found = quantile(counted, level)
        rank = max(int(np.ceil(level * len(known) - 1e-9)), 1)
        assert found.value == pytest.approx(known[rank - 1], rel=0.0021)
        beyond = (
            known[: round(level * len(known))]
            if level <= 0.5
            else known[len(known) - round((1 - level) * len(known)) :]
        )
        assert found.beyond == pytest.approx(
            (beyond if len(beyond) else known[[0 if level < 1 else -1]]).mean(), rel=0.004
        )

    @pytest.mark.slow
    def test_95_percent_of_the_intervals_have_the_quantile(self):
        rng, covered = np.random.default_rng(6), 0
        for _ in range(400):
            found = quantile(count_buckets(rng.exponential(1_000, 300)), 0.1)
            covered += found.low <= -1_000 * np.log(0.9) <= found.high
        assert covered / 400 > 0.95 - 4 * (0.95 * 0.05 / 400) ** 0.5

    @pytest.mark.slow
    def test_a_sweep_has_those_of_its_runs(self, tmp_path, monkeypatch):
        monkeypatch.setattr(blocks, "CHUNKS_PER_BLOCK", 1)
        arguments = ([Terms()], PEOPLE, Constant(), 6_000, 1, MIXED)
        for _ in range(2):  # computed, and read from the saved parts
            frame = sweep(*arguments, quantiles=[0.05, 0.5, 0.975], out=tmp_path).set_index("metric")
        runs = sweep_runs(*arguments, metrics=["host profit", "no-show rate"])
        for metric in ("host profit", "no-show rate"):
            values = np.sort(runs[metric].dropna())
            for level in (0.05, 0.5, 0.975):
                expected = values[int(np.ceil(level * len(values) - 1e-9)) - 1]
                assert frame[f"q{100 * level:g}"][metric] == pytest.approx(expected, rel=0.0021), (metric, level)
        assert frame["q97.5_low"]["host profit"] <= frame["q97.5"]["host profit"] < frame["q97.5_beyond"]["host profit"]
        assert frame["q97.5"]["no-show rate"] <= 1
        with pytest.raises(InputError, match="quantiles: 5 is no share; give levels from 0 to 1"):
            sweep(*arguments, quantiles=[5])
