"""Studies: the analyses of the notebooks, on top of `stakesim.economics`.

notebook          | modules
02_no_shows       | no_shows, filling_seats
03_price_swings   | exposure, platform_risk
04_platform       | gas_costs, gas_markets, break_even, wallet
05_incentives     | attacks, incentives, cancellation_options, payout_methods
06_decide         | own_bookings
docs/PRICES.md    | price_statistics, synthetic_series, calibration, calibration_page
"""

import os


def sample_size(runs: int, *, least: int = 1) -> int:
    """Returns `runs`, or a fiftieth of it where `STAKESIM_SMALL` is set, so that tests of notebooks are fast.

    Args:
        runs: Runs of the notebook as it is published.
        least: What the notebook needs at least.
    """
    return max(runs // 50, least) if os.environ.get("STAKESIM_SMALL") else runs
