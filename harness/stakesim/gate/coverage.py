"""What of a contract's lines and branches the scenarios, and tests, reach."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from stakesim.evm.coverage import Coverage, measure
from stakesim.evm.engines import open_engine
from stakesim.evm.errors import EngineError
from stakesim.evm.in_process.trace import ExecutionTrace
from stakesim.gate.mutation_run import scenarios
from stakesim.gate.plain_build import build, failing_test
from stakesim.runner.environment import open_environment
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario


def cover(
    source: Path, contract: str, tests: Path | None = None, progress: Callable[[ScenarioResult], None] | None = None
) -> Coverage:
    """Plays all scenarios on py-evm, and then the tests.

    source: a Solidity file. tests: a folder or file whose tests take the contract of the option
    `--stakesim-contract`, and trace it for `--stakesim-coverage-trace`. progress: called with each scenario played.
    Raises `CompileError`, and `EngineError` where the contract has findings or a test fails.
    """
    built = build(source, contract)
    trace = ExecutionTrace()
    with closing(open_environment(open_engine("py-evm", trace=trace), built.artifact)) as environment:
        for scenario in scenarios():
            played = run_scenario(environment, scenario)
            if played.findings:
                first = played.findings[0]
                raise EngineError(
                    f"{contract} has findings: {scenario.name}, {first.id}, {first.message}. Mend it first."
                )
            if progress:
                progress(played)
    if tests:
        with TemporaryDirectory() as folder:
            saved = Path(folder) / "trace.json"
            failed = failing_test(built.artifact, tests, "py-evm", ["--stakesim-coverage-trace", str(saved)])
            if failed or not saved.exists():
                raise EngineError(f"{failed or tests} fails with {contract}: mend it first.")
            trace.add(saved)
    shown = source.resolve()
    file = shown.relative_to(Path.cwd()) if shown.is_relative_to(Path.cwd()) else shown
    return measure(trace, built.artifact, file=file.as_posix(), source=built.source, tree=built.tree, index=built.index)
