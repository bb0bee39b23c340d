"""Units, as multiples of the smallest one: seconds, wei, basis points."""

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY

WEI_PER_GWEI = 10**9
WEI_PER_ETH = 10**18

BPS = 10_000
"""Basis points of a whole."""
