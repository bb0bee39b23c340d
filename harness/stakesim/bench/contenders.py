"""The contenders of `stakesim bench`: programs that run the same lifecycle and print how long it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from stakesim.paths import checkout
from stakesim.population.outcomes import SWITCH

ROOT = checkout() or Path()
PEERS = ROOT / "benchmarks" / "peers"
"""Programs without the library, to compare with."""
BASE, FAST_BASE = "bare web3.py loop on eth-tester/py-evm", "the same with our fast keccak"
"""Name of the contender that all ratios are to."""
TIMEOUT_S = 600
_APE_PYTHON = PEERS / ".ape" / "bin" / "python"


@dataclass
class Contender:
    """A program that runs lifecycles and prints its figures as a line of JSON.

    Attributes:
        name: Unique.
        description: What it does for each transaction.
        command: Program and arguments, to which `--lifecycles COUNT` is added.
        lifecycles: How many in a round, at scale 1.
        environment: Environment variables.
        counts_calls: Whether it can count its function calls: it runs in one process, and waits for nothing.
        rates: Transactions per second, by round; or per million function calls.
        versions: Of the packages that it measured, by name.
        trouble: Why it can't be measured; empty if it can.
    """

    name: str
    description: str
    command: list[str | Path]
    lifecycles: int
    environment: dict[str, str] = field(default_factory=dict)
    counts_calls: bool = False
    rates: list[float] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    trouble: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it runs this project's code, and is no peer."""
        return self.name.startswith(("stakesim", "the API"))

    @property
    def rate(self) -> float:
        """Median of the rates, in transactions per second.

        Raises:
            statistics.StatisticsError: It was never measured.
        """
        return median(self.rates)

    def run_round(self, scale: float) -> None:
        """Adds one more rate, in transactions per second, or says in `trouble` why there is none.

        Args:
            scale: Multiple of the usual number of lifecycles.
        """
        figures = self._run("--lifecycles", str(max(1, round(self.lifecycles * scale))))
        if figures:
            self.rates.append(figures["transactions"] / figures["seconds"])

    def count_calls(self) -> None:
        """Adds a rate in transactions per million function calls, or says in `trouble` why there is none."""
        figures = self._run("--calls", "--lifecycles", "2")
        if figures:
            self.rates.append(1e6 * figures["transactions"] / figures["calls"])

    def _run(self, *options: str) -> dict[str, Any]:
        """Runs the program, and returns its figures; none if there is trouble."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "harness"), str(ROOT / "backend")])
        try:
            process = subprocess.run(
                [*map(str, self.command), *options],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": path} | self.environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except FileNotFoundError:
            self.trouble = "not installed: make -C benchmarks/peers"
            return {}
        except subprocess.TimeoutExpired:
            self.trouble = f"no end after {TIMEOUT_S} s"
            return {}
        try:
            figures: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
            self.versions = figures["versions"]
        except (ValueError, IndexError, KeyError):
            errors = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            self.trouble = errors[-1][:160]
            return {}
        return figures


def all_contenders() -> list[Contender]:
    """All contenders, the base first and then the base with a faster keccak."""
    python, full_path = Path(sys.executable), ["-m", "stakesim.bench.full_path"]
    everything = "services, database, model, invariants"
    sweeps: list[str | Path] = [python, "-m", "stakesim.bench.sweeps"]
    no_chain = "no chain, bookings of many runs as arrays"
    bare: list[str | Path] = [python, PEERS / "web3_bare.py"]
    slow_keccak, fast_keccak = {"ETH_HASH_BACKEND": "pycryptodome"}, {"ETH_HASH_BACKEND": "pysha3"}
    return [
        Contender(BASE, "contract alone; keccak of a plain install", bare, 20, slow_keccak, counts_calls=True),
        Contender(FAST_BASE, "contract alone", bare, 20, fast_keccak),
        Contender("bare web3.py loop on anvil", "contract alone", [*bare, "--chain", "anvil"], 30, slow_keccak),
        Contender("stakesim on py-evm", everything, [python, *full_path, "py-evm"], 12, counts_calls=True),
        Contender("stakesim on revm", everything, [python, *full_path, "revm"], 40, counts_calls=True),
        Contender("stakesim on anvil", everything, [python, *full_path, "anvil"], 20),
        Contender(
            "stakesim on revm, over HTTP in process",
            f"API, each request twice, {everything}",
            [python, *full_path, "revm", "--driver", "api"],
            20,
            counts_calls=True,
        ),
        Contender(
            "the API served by uvicorn, on anvil",
            "API, services, database; bookings from 4 connections",
            [python, "-m", "benchmarks.over_http", "--json"],
            20,
        ),
        Contender(
            "stakesim's guided search",
            "contract alone; every call, by everybody, compared with the rules: outcome, events, and the whole state",
            [python, "-m", "stakesim.bench.guided_search"],
            4_000,
        ),
        Contender(
            "stakesim's sweep, with numba",
            f"{no_chain}; drawn, resolved, settled, measured",
            [*sweeps, "compiled"],
            100,
        ),
        Contender("stakesim's sweep, NumPy alone", "the same", [*sweeps, "numpy"], 50, {SWITCH: "0"}),
        Contender("stakesim's settlement", f"{no_chain}; to the wei, runs below 1.54 ETH", [*sweeps, "small"], 100),
        Contender("stakesim's settlement above 1.54 ETH", "the same of larger runs", [*sweeps, "large"], 100),
        Contender("Ape's test provider", "contract alone", [_APE_PYTHON, PEERS / "ape_provider.py"], 6),
        Contender("forge's invariant runner", "contract alone, in Solidity", [python, PEERS / "forge.py"], 2000),
        Contender(
            "raw pyrevm", "contract alone; no signatures, fees, receipts", [python, PEERS / "pyrevm_raw.py"], 2000
        ),
    ]
