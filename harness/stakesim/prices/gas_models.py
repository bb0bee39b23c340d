"""Gas prices by the day: models, one's own series, and a rollup's price of data.

The field `path` of a file names the model. `simulate` makes many paths of a model at once.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from stakesim.prices import series
from stakesim.prices.market import stationary_blocks
from stakesim.schema.errors import InputError
from stakesim.schema.fields import Gwei, Number, StrictModel, Whole
from stakesim.units import WEI_PER_GWEI

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]


class _Gas(StrictModel):
    """What all models have.

    A rollup's transaction costs gas at the rollup's own price, and a fee for its data, which is published on Ethereum.
    On the rollups of the OP Stack the fee is bytes x (16 x base fee scalar x base fee + blob base fee scalar x blob
    base fee) / 10^6, with Ethereum's base fees and the scalars of the rollup, and the bytes of the compressed
    transaction (rules since Ecotone, 2024).

    Attributes:
        data_gwei: Gwei for a byte of a compressed transaction, the factor after it in that formula; None: no fee.
    """

    data_gwei: Gwei | None = None


class ConstantGas(_Gas):
    """The same price at all times.

    Attributes:
        gwei: Gwei per gas.
    """

    path: Literal["constant"] = "constant"
    gwei: Gwei


class SpikingGas(_Gas):
    """A price with calm times and spikes.

    The logarithm x of the price, relative to its median, reverts to 0 (E. Schwartz 1997, model 1: an Ornstein-Uhlenbeck
    process). Jumps upwards fade at the same speed (L. Clewlow, C. Strickland, Energy Derivatives, 2000, chapter 2):

        x(t+1) = p x(t) + deviation sqrt(1 - p^2) Z(t) + J(t)     with p = 0.5 ^ (1 / half_life)
        price(t) = median exp(x(t))

    Z is standard normal. J is 0 on most days; on a day with a spike it is normal, and at least 0. The parameters are
    assumptions about the shape of gas prices and are not fitted to a chain: a base fee (EIP-1559) follows demand, and
    demand has bursts that last for days. The median is the middle, on a logarithmic scale, of 0.05 to 5 gwei, between
    which averages of months in 2025 and 2026 were reported for Ethereum; on rollups 0.01 gwei and less is usual. Look
    up today's.

    Attributes:
        gwei: The median, in gwei per gas, without spikes.
        deviation: Standard deviation of the logarithm.
        half_life: Days in which half of a deviation from the median is gone.
        spikes: Spikes a year.
        spike: Mean logarithm of a spike's factor; 1.4 is four times the price.
        spike_deviation: Standard deviation of that logarithm.
    """

    path: Literal["spikes"] = "spikes"
    gwei: Gwei = Decimal("0.5")
    deviation: Annotated[Number, Field(ge=0, le=5)] = 0.5
    half_life: Annotated[Number, Field(gt=0, le=365)] = 3.0
    spikes: Annotated[Number, Field(ge=0, le=365)] = 12.0
    spike: Annotated[Number, Field(ge=0, le=10)] = 1.4
    spike_deviation: Annotated[Number, Field(ge=0, le=5)] = 0.5


class SeriesGas(_Gas):
    """The prices of a CSV file, each for its day; the last one holds from then on.

    Attributes:
        file: CSV with the columns date and gwei, see `stakesim.prices.series.read_closes`.
        start: The day on which runs are created, or the first of a platform's; by default the series' first.
    """

    path: Literal["series"] = "series"
    file: series.CsvFile
    start: date | None = None

    @model_validator(mode="after")
    def _start_is_in_the_series(self) -> Self:
        prices = series.read_closes(self.file, series.GWEI)
        if self.start is not None and not prices.first <= self.start <= prices.last:
            raise InputError(f"{self.file}: has no {self.start}; give a `start` from {prices.first} to {prices.last}")
        return self


class BootstrapGas(_Gas):
    """The prices of a CSV file in a random order, in blocks of random length that keep the dependence between days.

    It is the stationary bootstrap (Politis and Romano 1994) of the prices themselves, which return to where they were.

    Attributes:
        file: CSV with the columns date and gwei.
        block_days: Mean length of a block.
    """

    path: Literal["bootstrap"] = "bootstrap"
    file: series.CsvFile
    block_days: Annotated[Whole, Field(ge=1, le=1_000)] = 20

    @model_validator(mode="after")
    def _file_is_a_series(self) -> Self:
        series.read_closes(self.file, series.GWEI)
        return self


GasModel: TypeAlias = Annotated[ConstantGas | SpikingGas | SeriesGas | BootstrapGas, Field(discriminator="path")]
"""Any model of gas prices; as a field of a file, `path` names its kind."""


def gas_data_hash(price: GasModel | None) -> str:
    """Returns a hash of the data that a model reads from a file; empty if it reads none.

    Raises:
        InputError: The file is not there any more, or can't be read.
    """
    return series.content_hash(price.file) if isinstance(price, SeriesGas | BootstrapGas) else ""


def simulate(price: GasModel, rng: Generator, paths: int, days: int) -> Ints:
    """Simulates gas prices.

    Returns:
        Wei per gas on each day, at least 1; shape (days, paths).
    """
    import numpy as np

    match price:
        case ConstantGas():
            gwei = np.full((days, paths), float(price.gwei))
        case SpikingGas():
            gwei = float(price.gwei) * np.exp(_spiking_logs(price, rng, paths, days))
        case SeriesGas():
            prices = series.read_closes(price.file, series.GWEI)
            skipped = (price.start - prices.first).days if price.start else 0
            of_days = np.array(prices.rates[skipped:], dtype=np.float64)
            gwei = np.repeat(of_days[np.minimum(np.arange(days), len(of_days) - 1)][:, None], paths, axis=1)
        case BootstrapGas():
            of_days = np.array(series.read_closes(price.file, series.GWEI).rates, dtype=np.float64)
            gwei = of_days[stationary_blocks(rng, len(of_days), price.block_days, days, paths)]
    wei: Ints = np.maximum(np.rint(gwei * WEI_PER_GWEI), 1).astype(np.int64)
    return wei


def _spiking_logs(price: SpikingGas, rng: Generator, paths: int, days: int) -> Floats:
    """Logarithms of prices relative to their median, after a burn-in of ten half-lives, shape (days, paths)."""
    import numpy as np

    memory = 0.5 ** (1 / price.half_life)
    burn_in = int(np.ceil(10 * price.half_life))
    shape = (burn_in + days, paths)
    shocks = price.deviation * np.sqrt(1 - memory**2) * rng.standard_normal(shape)
    spike_sizes = np.maximum(price.spike + price.spike_deviation * rng.standard_normal(shape), 0)
    shocks += spike_sizes * (rng.random(shape) < price.spikes / 365)
    log_price = price.deviation * rng.standard_normal(paths)
    log_prices = np.empty(shape)
    for day, shock in enumerate(shocks):
        log_price = memory * log_price + shock
        log_prices[day] = log_price
    return log_prices[burn_in:]
