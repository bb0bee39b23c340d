"""Studies: the analyses of the notebooks, on top of `stakesim.economics`.

notebook          | modules
02_no_shows       | no_shows
03_price_swings   | exposure
04_platform       | gas_costs, gas_prices, break_even, wallet
05_incentives     | attacks, incentives, cancellation_options, payout_methods
docs/PRICES.md    | price_statistics, synthetic_series, calibration, calibration_page
"""
