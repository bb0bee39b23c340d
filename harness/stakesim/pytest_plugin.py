"""The pytest plugin: scenario files are tests, and the environment that runs them is a fixture.

Options:
    --stakesim-engine: py-evm (the default), revm, anvil, or rpc:URL.
    --stakesim-driver: `contract`, or a driver of the project's backend; by default the backend's first.
    --stakesim-contract: FILE.sol, FILE.sol:Name, or an artifact (.json); by default the project's contract.
    --stakesim-coverage-trace: File for the trace that `stakesim coverage --tests` reads.

Settings:
    stakesim_scenarios: Folders whose YAML files are collected as tests, and also the YAML files in their
        `regressions/`. Nothing is collected by default.

Fixtures:
    run_scenario: Runs a scenario, and fails the test if the scenario has findings.
    stakesim_environment: The session's environment.
    stakesim_engine: The session's engine; each test's changes to the chain are reverted.
    stakesim_trace: The session's trace, for `open_engine("py-evm", trace=...)`.

pytest loads the plugin in every project of the Python environment. So nothing else of the library is imported before
an option, setting or fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stakesim.evm.engine import Engine
    from stakesim.evm.in_process.trace import ExecutionTrace
    from stakesim.runner.environment import Environment
    from stakesim.runner.scenario_result import ScenarioResult
    from stakesim.scenario.scenario import Scenario


class _LazyEnvironment:
    """The environment of a test session, opened when it is first needed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._environment: Environment | None = None

    def get(self) -> Environment:
        from stakesim.evm.contract_file import load_contract
        from stakesim.project import current_project
        from stakesim.runner.environment import open_environment

        if self._environment is None:
            option = self._config.getoption
            file = option("--stakesim-contract") or current_project().contract
            contract = load_contract(file) if file else None
            self._environment = open_environment(option("--stakesim-engine"), contract, option("--stakesim-driver"))
        return self._environment

    def close(self) -> None:
        if self._environment is not None:
            self._environment.close()


_ENVIRONMENT = pytest.StashKey[_LazyEnvironment]()
_FOLDERS = pytest.StashKey[list[Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options and the setting."""
    group = parser.getgroup("stakesim", "scenarios for a stake contract and its backend")
    group.addoption("--stakesim-engine", default=None, help="EVM to run on: py-evm (default), revm, anvil, or rpc:URL")
    group.addoption(
        "--stakesim-driver",
        default=None,
        help="what carries out the actions: contract, or a driver of the project's backend (default: the backend's "
        "first)",
    )
    group.addoption(
        "--stakesim-contract",
        default=None,
        help="contract to test: FILE.sol, FILE.sol:Name, or an artifact (.json) (default: the project's contract, "
        "else EventStake)",
    )
    group.addoption(
        "--stakesim-coverage-trace", default=None, help="file for the trace of py-evm that stakesim coverage reads"
    )
    parser.addini("stakesim_scenarios", "folders whose scenario files are tests", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Reads the setting, and closes the environment at the end of the session."""
    environment = config.stash[_ENVIRONMENT] = _LazyEnvironment(config)
    config.add_cleanup(environment.close)
    config.stash[_FOLDERS] = [_folder(config, name) for name in config.getini("stakesim_scenarios")]


def _folder(config: pytest.Config, name: str) -> Path:
    folder = (config.rootpath / name).resolve()
    if not folder.is_dir():
        raise pytest.UsageError(
            f"stakesim_scenarios names {name}, and there is no such folder in {config.rootpath}: create it, or name "
            "another."
        )
    return folder


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collects YAML files of the folders that `stakesim_scenarios` names, and of their `regressions/`."""
    folders = parent.config.stash[_FOLDERS]
    if not folders or file_path.suffix not in (".yaml", ".yml"):
        return None
    folder = file_path.parent.parent if file_path.parent.name == "regressions" else file_path.parent
    return ScenarioFile.from_parent(parent, path=file_path) if folder.resolve() in folders else None


class ScenarioFile(pytest.File):
    """A scenario file, which has one test."""

    def collect(self) -> Iterator[pytest.Item]:
        """The file's test."""
        yield ScenarioItem.from_parent(self, name=self.path.stem)


class ScenarioItem(pytest.Item):
    """A scenario as a test, in the session's environment. A failure shows the text of the findings."""

    def runtest(self) -> None:
        """Runs the scenario."""
        from stakesim.scenario.scenario import load

        _run(self.config, load(self.path))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Shows findings, and errors that the user can mend, without a traceback."""
        from stakesim.errors import StakesimError

        if isinstance(excinfo.value, AssertionError | StakesimError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where the test is, and its name."""
        return self.path, None, f"scenario {self.name}"


def _run(config: pytest.Config, scenario: Scenario) -> ScenarioResult:
    from stakesim.runner.narrative import narrate
    from stakesim.runner.scenario_run import run_scenario

    result = run_scenario(config.stash[_ENVIRONMENT].get(), scenario)
    if result.findings:
        raise AssertionError(narrate(result.findings))
    return result


@pytest.fixture(scope="session")
def stakesim_trace(request: pytest.FixtureRequest) -> Iterator[ExecutionTrace | None]:
    """Records which instructions py-evm executes, for `open_engine("py-evm", trace=...)`.

    It is written to the file of `--stakesim-coverage-trace` at the end of the session. Without that option it is None.
    """
    file = request.config.getoption("--stakesim-coverage-trace")
    if file is None:
        yield None
        return
    from stakesim.evm.in_process.trace import ExecutionTrace

    trace = ExecutionTrace()
    yield trace
    trace.save(Path(file))


@pytest.fixture(scope="session")
def stakesim_environment(request: pytest.FixtureRequest) -> Environment:
    """The session's environment, as `stakesim.runner.scenario_run.run_scenario` takes it."""
    return request.config.stash[_ENVIRONMENT].get()


@pytest.fixture
def stakesim_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The session's engine. The chain is restored after the test."""
    engine = request.config.stash[_ENVIRONMENT].get().engine
    snapshot = engine.snapshot()
    yield engine
    engine.revert(snapshot)


@pytest.fixture
def run_scenario(request: pytest.FixtureRequest) -> Callable[[Scenario | str | Path], ScenarioResult]:
    """Runs a scenario, or a scenario file, and returns its result. The test fails if the scenario has findings."""

    def run(scenario_or_file: Scenario | str | Path) -> ScenarioResult:
        from stakesim.scenario.scenario import Scenario, load

        scenario = scenario_or_file if isinstance(scenario_or_file, Scenario) else load(scenario_or_file)
        return _run(request.config, scenario)

    return run
