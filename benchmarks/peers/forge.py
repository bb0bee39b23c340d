"""forge's invariant runner. Each of its actions is a whole lifecycle: eight calls of the contract."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from lifecycle import TRANSACTIONS, options

HERE = Path(__file__).parent
PROOFS = HERE.parents[1] / "contracts" / "proofs"
DEPTH = 50
UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


def seconds(duration: str) -> float:
    """Seconds of a duration as forge prints it: "1m 2s 345ms 6µs 7ns"."""
    return sum(int(count) * UNITS[unit] for count, unit in re.findall(r"(\d+)(ms|µs|ns|h|m|s)", duration))


def forge() -> str:
    packaged = next(PROOFS.glob("node_modules/@foundry-rs/forge-*/bin/forge"), None)
    if packaged is not None:
        packaged.chmod(0o755)
        return str(packaged)
    if on_path := shutil.which("forge"):
        return on_path
    raise SystemExit("there is no forge: make -C benchmarks/peers forge, or put Foundry's own on PATH")


def main() -> None:
    program, runs = forge(), max(1, options().lifecycles // DEPTH)
    process = subprocess.run(
        [program, "test", "--json"],
        cwd=HERE / "forge",
        env={**os.environ, "FOUNDRY_INVARIANT_RUNS": str(runs), "FOUNDRY_OFFLINE": "true"},
        capture_output=True,
        text=True,
    )
    try:
        [suite] = json.loads(process.stdout.strip().splitlines()[-1]).values()
        [test] = suite["test_results"].values()
        invariant = test["kind"]["Invariant"]
    except (ValueError, IndexError, KeyError):
        raise SystemExit(f"forge says: {(process.stderr or process.stdout).strip()[-400:]}") from None
    if test["status"] != "Success" or invariant["reverts"]:
        raise SystemExit(f"forge says: {test['status']}, {test['reason']}, {invariant['reverts']} reverts")
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()[2]
    figures = {"transactions": TRANSACTIONS * invariant["calls"], "seconds": seconds(test["duration"])}
    print(json.dumps(figures | {"versions": {"forge": version}}))  # noqa: T201


main()
