"""The economics of stakes, fees and prices over many runs, settled exactly as the contract would settle them.

from stakesim import plots
from stakesim.economics import sweep
"""

from stakesim.economics.runs import sweep_runs
from stakesim.economics.sweeps import DEFAULT_POPULATION, read_sweep, sweep

__all__ = ["DEFAULT_POPULATION", "read_sweep", "sweep", "sweep_runs"]
