"""Units, as multiples of the smallest one: seconds, wei, basis points."""

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY

WEI_PER_GWEI = 10**9
WEI_PER_ETH = 10**18

BPS = 10_000
"""Basis points of a whole."""


def format_inr(paise: int) -> str:
    """Formats an amount as Indian readers group it, in lakhs and crores: `12,34,567.89 INR`.

    Args:
        paise: INR x 100.
    """
    rupees, rest = divmod(abs(paise), 100)
    *groups, last = _groups(rupees)
    return f"{'-' * (paise < 0)}{''.join(f'{group},' for group in groups)}{last}.{rest:02} INR"


def _groups(rupees: int) -> list[str]:
    """The last three digits, and groups of two before them."""
    digits = str(rupees)
    head, last = digits[:-3], digits[-3:]
    first = len(head) % 2
    return [*([head[:first]] if first else []), *(head[i : i + 2] for i in range(first, len(head), 2)), last]
