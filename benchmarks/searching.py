"""`stakesim fuzz` as a program of its own: on one core, at low priority, finding by finding."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

GRACE_S = 60
"""How long a program may take beyond its time, to start and to end."""


def alone(command: list[str | Path]) -> list[str]:
    """Returns the command that runs a program on one core, at low priority."""
    return ["nice", "taskset", "--cpu-list", str(max(os.sched_getaffinity(0))), *map(str, command)]


def fuzz(contract: str | Path, seed: int, limit: int) -> Iterator[dict[str, Any]]:
    """Searches a contract, with nothing to begin with, and yields each finding: `name`, `seconds`, `actions`.

    Closing the iterator ends the search.

    Args:
        contract: As for `--contract`.
        seed: Of all random choices.
        limit: Seconds.

    Raises:
        SystemExit: The search can't be made.
    """
    asked = ["fuzz", "--contract", str(contract), "--for", f"{limit}s", "--seed", str(seed), "--json"]
    program = Path(sys.executable).parent / "stakesim"
    with TemporaryFile("w+") as errors, TemporaryDirectory() as corpus:
        process = subprocess.Popen(
            alone([program, *asked, "--corpus", corpus]), stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("{") and "name" in (finding := json.loads(line)):
                    yield finding
            if process.wait(GRACE_S) > 1:
                errors.seek(0)
                raise SystemExit(f"stakesim fuzz says: {errors.read().strip()[-600:]}")
        finally:
            process.terminate()
            process.communicate()
