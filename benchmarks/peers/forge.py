"""forge's invariant runner, each action of which is a whole lifecycle: eight calls of the contract."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from story import TRANSACTIONS, options

HERE = Path(__file__).parent
PROOFS = HERE.parents[1] / "contracts" / "proofs"
DEPTH = 50
UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


def seconds(told: str) -> float:
    """Of forge's "1m 2s 345ms 6µs 7ns"."""
    return sum(int(count) * UNITS[unit] for count, unit in re.findall(r"(\d+)(ms|µs|ns|h|m|s)", told))


def forge() -> str:
    found = next(PROOFS.glob("node_modules/@foundry-rs/forge-*/bin/forge"), None)
    if found is not None:
        found.chmod(0o755)
        return str(found)
    if on_path := shutil.which("forge"):
        return on_path
    raise SystemExit("there is no forge: make -C benchmarks/peers forge, or put Foundry's own on PATH")


def main() -> None:
    program, runs = forge(), max(1, options().lifecycles // DEPTH)
    done = subprocess.run(
        [program, "test", "--json"],
        cwd=HERE / "forge",
        env={**os.environ, "FOUNDRY_INVARIANT_RUNS": str(runs), "FOUNDRY_OFFLINE": "true"},
        capture_output=True,
        text=True,
    )
    try:
        [suite] = json.loads(done.stdout.strip().splitlines()[-1]).values()
        [test] = suite["test_results"].values()
        invariant = test["kind"]["Invariant"]
    except (ValueError, IndexError, KeyError):
        raise SystemExit(f"forge says: {(done.stderr or done.stdout).strip()[-400:]}") from None
    if test["status"] != "Success" or invariant["reverts"]:
        raise SystemExit(f"forge says: {test['status']}, {test['reason']}, {invariant['reverts']} reverts")
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()[2]
    told = {"transactions": TRANSACTIONS * invariant["calls"], "seconds": seconds(test["duration"])}
    print(json.dumps(told | {"versions": {"forge": version}}))  # noqa: T201


main()
