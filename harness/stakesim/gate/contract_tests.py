"""Runs pytest tests on another contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stakesim.evm.compiler import Artifact
from stakesim.evm.errors import EngineError
from stakesim.project import current_project
from stakesim.workers.time_limit import NeverEnds

TESTS_LIMIT_S = 900.0
"""Seconds that all tests may take: many times what they do, so that only one that never ends exceeds it."""


def first_failing_test(
    artifact: Artifact,
    tests: Path | str,
    engine: str,
    options: Sequence[str] = (),
    first: Sequence[str] = (),
    limit: float = TESTS_LIMIT_S,
) -> str | None:
    """Runs tests until the first failure. A test whose set-up fails does not count as a failure.

    Args:
        artifact: The contract.
        tests: File or folder of tests that take the contract of the option `--stakesim-contract`, or the id of one.
        engine: As `--stakesim-engine`.
        options: More options of pytest.
        first: Ids of tests that run before all others.
        limit: Seconds that they may take.

    Returns:
        Id of the failing test; None if all tests pass.

    Raises:
        EngineError: pytest can't run the tests.
        NeverEnds: They have not ended after `limit`.
    """
    with TemporaryDirectory() as folder:
        contract, failed = Path(folder) / "contract.json", Path(folder) / "failed"
        contract.write_text(
            json.dumps(
                {
                    "contractName": artifact.name,
                    "abi": artifact.abi,
                    "bytecode": artifact.bytecode,
                    "deployedBytecode": artifact.deployed_bytecode,
                    "immutableReferences": artifact.immutables,
                }
            )
        )
        chosen = str(tests.resolve() if isinstance(tests, Path) else tests)
        command = [sys.executable, "-m", "pytest", *first, chosen, "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
        command += ["--keep-duplicates"]  # or the first tests would have their place among the chosen ones
        command += ["-p", __name__, "--stakesim-engine", engine, "--stakesim-contract", str(contract), *options]
        try:
            process = subprocess.run(
                command,
                cwd=current_project().root,
                env=os.environ | {_FAILED_TEST: str(failed)},
                capture_output=True,
                text=True,
                check=False,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            raise NeverEnds(limit, [str(tests)]) from None
        if process.returncode not in (0, 1):  # neither all passed nor some failed
            output = (process.stderr or process.stdout).strip().splitlines() or ["no output"]
            raise EngineError(f"pytest can't run {tests}: {output[-1]}")
        return failed.read_text() if failed.exists() else None


_FAILED_TEST = "STAKESIM_FAILED_TEST"
"""Environment variable with the file that the id of a failed test is written to: it may have any characters."""


_root = Path()


def pytest_configure(config: Any) -> None:
    """Notes the folder that ids of tests are relative to, as this module is a plugin of the pytest that is run."""
    global _root
    _root = config.rootpath


def pytest_runtest_logreport(report: Any) -> None:
    """Writes the id of the test that failed, relative to the working directory."""
    if report.failed and report.when == "call":
        file = os.path.relpath(_root / report.location[0])
        Path(os.environ[_FAILED_TEST]).write_text(f"{file}::{report.nodeid.partition('::')[2]}")
