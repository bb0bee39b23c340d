"""ETH/INR prices: models, single paths, simulations of many paths, and stored series."""
