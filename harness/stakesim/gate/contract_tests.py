"""Runs pytest tests on another contract."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

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
    with NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(
            {
                "contractName": artifact.name,
                "abi": artifact.abi,
                "bytecode": artifact.bytecode,
                "deployedBytecode": artifact.deployed_bytecode,
                "immutableReferences": artifact.immutables,
            },
            file,
        )
        file.flush()
        command = [
            sys.executable,
            "-m",
            "pytest",
            *first,
            str(tests.resolve() if isinstance(tests, Path) else tests),
            "-x",
            "-q",
            "--tb=no",
        ]
        command += ["-p", "no:cacheprovider", "--stakesim-engine", engine, "--stakesim-contract", file.name, *options]
        try:
            process = subprocess.run(
                command,
                cwd=current_project().root,
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
    failed = re.search(r"^FAILED (\S+)", process.stdout, re.MULTILINE)
    return failed[1] if failed else None
