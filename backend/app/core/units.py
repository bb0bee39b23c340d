"""Units of ether."""

WEI_PER_GWEI = 10**9
WEI_PER_ETH = 10**18
