"""What is left of the platform's income after its transactions, on Ethereum and on rollups."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from stakesim.economics import sweep
from stakesim.population.population import Platform
from stakesim.prices.gas_models import ConstantGas, GasModel, SpikingGas
from stakesim.prices.price_models import PriceModel
from stakesim.studies.break_even import POPULATION
from stakesim.units import DAY

if TYPE_CHECKING:
    import pandas as pd

MARKETS: Mapping[str, GasModel] = {
    "rollup, 0.01 gwei": ConstantGas(gwei=Decimal("0.01")),
    "and data at 0.02 gwei a byte": ConstantGas(gwei=Decimal("0.01"), data_gwei=Decimal("0.02")),
    "and data at 1 gwei a byte": ConstantGas(gwei=Decimal("0.01"), data_gwei=Decimal(1)),
    "Ethereum, 0.5 gwei, spikes": SpikingGas(),
    "Ethereum, 5 gwei, spikes": SpikingGas(gwei=Decimal(5)),
}
"""Prices of data are assumptions: with a base fee scalar of 2,000, a base fee of 0.6 gwei on Ethereum makes 0.02 gwei a
byte, and one of 30 gwei 1 gwei a byte, see `stakesim.prices.gas_models`."""
TICKET_INR = Decimal(500)
PLATFORM = Platform(runs=60, over=30 * DAY)


def platform_profit(
    price: PriceModel, runs: int, seed: int, *, spot_check: int = 0, engine: str = "py-evm"
) -> pd.DataFrame:
    """Sweeps `MARKETS` for platforms of 60 runs within 30 days, which share one path of ETH and one of gas.

    Args:
        price: The market of ETH.
        runs: Number of runs, a multiple of those of a platform.
        seed: Seed of all random numbers.
        spot_check: Runs to carry out on a chain first.
        engine: EVM engine of the spot check.

    Returns:
        A row for each market of gas, in INR a run: transaction costs and profit, and quantiles of the profit over
        platforms, each by itself the mean over its runs.
    """
    import pandas as pd

    population = POPULATION.model_copy(update={"price_inr": (TICKET_INR, TICKET_INR), "platform": PLATFORM})
    frame = sweep(
        {"stake_bps": [2_000]},
        POPULATION.behaviours,
        price,
        runs,
        seed,
        population,
        gas=MARKETS,
        quantiles=(0.05, 0.5, 0.95),
        spot_check=spot_check,
        engine=engine,
    )
    costs, profit = (frame[frame.metric == name].set_index("gas") for name in ("transaction costs", "platform profit"))
    return pd.DataFrame(
        {
            "transactions, INR a run": costs["value"],
            "profit, INR a run": profit["value"],
            "from": profit["low"],
            "to": profit["high"],
            "worst 5% of platforms below": profit["q5"],
            "and on the average": profit["q5_beyond"],
            "best 5% above": profit["q95"],
        }
    )
