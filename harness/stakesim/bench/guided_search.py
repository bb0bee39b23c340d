"""The speed of the guided search of a contract: calls a second that are compared with the rules."""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from typing import Any

from stakesim.evm.compiler import compile_contracts
from stakesim.search.contract_search import open_search

CALLS = 10
"""Calls for each lifecycle that the other contenders run: a sequence has about as many."""
_SEED = 1


def search(lifecycles: int) -> dict[str, Any]:
    """Searches `EventStake` with nothing kept, and returns the number of calls, the seconds and the versions."""
    found = open_search(compile_contracts()["EventStake"], _SEED)
    before, started = found.moves, time.perf_counter()
    found.run(watch=lambda: found.moves - before < lifecycles * CALLS)
    seconds = time.perf_counter() - started
    assert not found.findings
    return {
        "transactions": found.moves - before,
        "seconds": seconds,
        "versions": {name: version(name) for name in ("stakesim", "pyrevm")},
    }


def main() -> None:
    """Prints the figures of a search."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifecycles", type=int, default=2_000)
    print(json.dumps(search(parser.parse_args().lifecycles)))  # noqa: T201


if __name__ == "__main__":
    main()
