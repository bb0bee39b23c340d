"""ETH/INR price paths: formulas, random models and stored series."""
