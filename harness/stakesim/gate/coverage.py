"""Which lines and branches of a contract the scenarios, and tests, reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from stakesim.evm.coverage import Coverage, measure
from stakesim.evm.engines import open_engine
from stakesim.evm.errors import EngineError
from stakesim.evm.in_process.trace import ExecutionTrace
from stakesim.gate.contract_tests import TESTS_LIMIT_S, first_failing_test
from stakesim.gate.errors import UnsoundContract
from stakesim.gate.plain_build import COVERAGE_SETTINGS, build
from stakesim.gate.scenario_suite import scenario_suite
from stakesim.runner.environment import open_environment
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.workers.time_limit import NeverEnds


class OutOfTime(EngineError):
    """Not all scenarios and tests ran in the time."""

    def __init__(self) -> None:
        super().__init__("The time was up before all scenarios and tests had run.")


def measure_coverage(
    contract: str | None = None,
    tests: Path | None = None,
    *,
    seconds: float = TESTS_LIMIT_S,
    progress: Callable[[ScenarioResult], None] | None = None,
) -> Coverage:
    """Runs the scenario suite on py-evm, and then the tests.

    It measures the project's own files that the contract's code comes from, see `PlainBuild.files`.

    Args:
        contract: FILE.sol, or FILE.sol:Name; by default the packaged `EventStake`.
        tests: File or folder of tests that take the contract of the option `--stakesim-contract`, and write their
            trace to the file of `--stakesim-coverage-trace`.
        seconds: Time for all of them.
        progress: Called with the result of each scenario.

    Raises:
        CompileError: The contract can't be compiled.
        UnsoundContract: The contract has findings, or a test fails.
        OutOfTime: They take longer than `seconds`.
    """
    ends = time.monotonic() + seconds
    plain = build(contract, COVERAGE_SETTINGS)
    trace = ExecutionTrace()
    with closing(open_environment(open_engine("py-evm", trace=trace), plain.artifact)) as environment:
        for scenario in scenario_suite():
            if time.monotonic() >= ends:
                raise OutOfTime
            result = run_scenario(environment, scenario)
            if result.findings:
                first = result.findings[0]
                raise UnsoundContract(
                    f"{plain.artifact.name} has findings: {scenario.name}, {first.id}, {first.message.rstrip('.')}. "
                    "Fix it first.",
                    result.findings,
                )
            if progress:
                progress(result)
    if tests:
        with TemporaryDirectory() as folder:
            trace_file = Path(folder) / "trace.json"
            options = ["--stakesim-coverage-trace", str(trace_file)]
            try:
                failed = first_failing_test(
                    plain.artifact, tests, "py-evm", options, limit=max(1.0, ends - time.monotonic())
                )
            except NeverEnds:
                raise OutOfTime from None
            if failed or not trace_file.exists():
                raise UnsoundContract(f"{failed or tests} fails with {plain.artifact.name}: fix it first.")
            trace.add(trace_file)
    main, *others = (
        measure(
            trace,
            plain.artifact,
            file=_relative_path(each.path),
            source=each.source,
            tree=each.tree,
            index=each.index,
            name="" if each.name == plain.file else each.name,
        )
        for each in plain.files
    )
    return replace(main, others=tuple(others), left_out=plain.left_out)


def _relative_path(file: Path) -> str:
    """The path relative to the working directory, if it is below it."""
    resolved = file.resolve()
    return (resolved.relative_to(Path.cwd()) if resolved.is_relative_to(Path.cwd()) else resolved).as_posix()
