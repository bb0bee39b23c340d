"""The pytest plugin: scenario files are tests, and the environment that runs them is a fixture.

Options:
    --stakesim-engine: py-evm (the default), revm, anvil, or rpc:URL.
    --stakesim-driver: `contract`, or a driver of the project's backend; by default the backend's first.
    --stakesim-contract: FILE.sol, FILE.sol:Name, or an artifact (.json); by default the project's contract.
    --stakesim-coverage-trace: File for the trace that `stakesim coverage --tests` reads.

Settings:
    stakesim_scenarios: Folders whose YAML files are collected as tests, and also the YAML files in their
        `regressions/`. They count from the file with the setting. Nothing is collected by default.

Fixtures:
    run_scenario: Runs a scenario, and fails the test if the scenario has findings. A path counts from the test's file.
    stakesim_environment: The session's environment.
    stakesim_engine: The session's engine; each test's changes to the chain are reverted.
    w3: A web3 client of a chain in this process, or of another engine; each test's changes to it are reverted.
    stakesim_provider: The session's provider of `w3`.
    stakesim_trace: The session's trace, for `open_engine("py-evm", trace=...)`.

pytest loads the plugin in every project of the Python environment. So nothing else of the library is imported before
an option, setting or fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from web3 import Web3
    from web3.providers.base import BaseProvider

    from stakesim.errors import StakesimError
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
        self._error: StakesimError | None = None

    def get(self) -> Environment:
        """Returns the environment.

        Raises:
            StakesimError: It can't be opened.
        """
        from stakesim.errors import StakesimError
        from stakesim.evm.contract_file import load_contract
        from stakesim.project import current_project
        from stakesim.runner.environment import open_environment

        if self._error is not None:
            raise self._error
        if self._environment is None:
            option = self._config.getoption
            try:
                file = option("--stakesim-contract") or current_project().contract
                contract = load_contract(file) if file else None
                self._environment = open_environment(option("--stakesim-engine"), contract, option("--stakesim-driver"))
            except StakesimError as error:  # each test would wait for the same one
                self._error = error.with_traceback(None)
                raise
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
    parser.addini("stakesim_scenarios", "folders whose scenario files are tests", type="paths", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Checks options and setting, and closes the environment at the end of the session."""
    _check_options(config)
    environment = config.stash[_ENVIRONMENT] = _LazyEnvironment(config)
    config.add_cleanup(environment.close)
    config.stash[_FOLDERS] = [_folder(folder) for folder in config.getini("stakesim_scenarios")]


def _check_options(config: pytest.Config) -> None:
    """Refuses what can be seen to be wrong before any test runs; imports nothing for options that are not given."""
    engine, contract, driver = (config.getoption(f"--stakesim-{name}") for name in ("engine", "contract", "driver"))
    if engine is not None:
        from stakesim.errors import StakesimError
        from stakesim.evm.engines import check_name

        try:
            check_name(engine)
        except StakesimError as error:
            raise pytest.UsageError(f"--stakesim-engine: {error}") from None
    if driver not in (None, "contract"):
        from stakesim.project import current_project

        if current_project().backend is None:
            raise pytest.UsageError(f"--stakesim-driver: there is no {driver}, as the project names no backend.")
    if contract is not None and not Path(contract.partition(":")[0]).is_file():
        raise pytest.UsageError(f"--stakesim-contract: there is no file {contract.partition(':')[0]}: name another.")


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise pytest.UsageError(
            f"stakesim_scenarios names {folder.name}, and there is no such folder in {folder.parent}: create it, or "
            "name another."
        )
    return folder.resolve()


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
        _run(self.config, self.path)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Shows findings, and errors that the user can mend, without a traceback."""
        from stakesim.errors import StakesimError

        if isinstance(excinfo.value, AssertionError | StakesimError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the test is, and its name."""
        return self.path, 0, f"scenario {self.name}"


def _run(config: pytest.Config, scenario_or_file: Scenario | Path) -> ScenarioResult:
    """Runs a scenario in the session's environment.

    Raises:
        AssertionError: It has findings; `FILE:LINE` of the step comes first, if there is a file.
        StakesimError: The file is not valid, or the environment can't be opened.
    """
    __tracebackhide__ = True
    from stakesim.runner.narrative import narrate
    from stakesim.runner.scenario_run import run_scenario
    from stakesim.scenario.scenario import load
    from stakesim.schema.errors import place
    from stakesim.schema.yaml_file import line_in_file

    if not isinstance(scenario_or_file, Path):
        result, where = run_scenario(config.stash[_ENVIRONMENT].get(), scenario_or_file), ""
    else:
        file = Path(os.path.relpath(scenario_or_file))
        scenario = load(file)
        result = run_scenario(config.stash[_ENVIRONMENT].get(), scenario)
        step = result.findings[0].step if result.findings else 1
        where = f"{place(file, line_in_file(file, ('actions', step - 1)))}: "
    if result.findings:
        raise AssertionError(f"{where}{narrate(result.findings)}")
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
    return _environment(request)


@pytest.fixture
def stakesim_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The session's engine. The chain is restored after the test."""
    engine = _environment(request).engine
    snapshot = engine.snapshot()
    yield engine
    engine.revert(snapshot)


@pytest.fixture(scope="session")
def stakesim_provider(request: pytest.FixtureRequest) -> BaseProvider:
    """The session's chain for web3 clients, on the engine of `--stakesim-engine`. It has no contract."""
    from stakesim.errors import StakesimError
    from stakesim.evm import provider

    try:
        return provider(request.config.getoption("--stakesim-engine") or "py-evm")
    except StakesimError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def w3(stakesim_provider: BaseProvider) -> Iterator[Web3]:
    """A web3 client with unlocked, funded accounts (`w3.eth.accounts`). The chain is restored after the test."""
    from web3 import Web3
    from web3.exceptions import Web3RPCError
    from web3.types import RPCEndpoint

    client = Web3(stakesim_provider)
    try:
        snapshot = client.manager.request_blocking(RPCEndpoint("evm_snapshot"), [])
    except Web3RPCError:
        pytest.fail("w3: the node of --stakesim-engine takes no snapshots: choose another engine", pytrace=False)
    yield client
    client.manager.request_blocking(RPCEndpoint("evm_setAutomine"), [True])
    client.manager.request_blocking(RPCEndpoint("evm_revert"), [snapshot])


def _environment(request: pytest.FixtureRequest) -> Environment:
    """The session's environment; if it can't be opened, a sentence without a traceback."""
    from stakesim.errors import StakesimError

    try:
        return request.config.stash[_ENVIRONMENT].get()
    except StakesimError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def run_scenario(request: pytest.FixtureRequest) -> Callable[[Scenario | str | Path], ScenarioResult]:
    """Runs a scenario, and returns its result. The test fails if the scenario has findings.

    It takes a scenario, the name of one, or a path, which counts from the test's file, or else from pytest's root.
    """

    def run(scenario_or_file: Scenario | str | Path) -> ScenarioResult:
        __tracebackhide__ = True
        from stakesim.errors import StakesimError

        try:
            chosen = _find(request, scenario_or_file) if isinstance(scenario_or_file, str | Path) else scenario_or_file
            return _run(request.config, chosen)
        except (AssertionError, StakesimError) as error:
            raise error.with_traceback(None) from None  # the library's frames say nothing about the scenario

    return run


def _find(request: pytest.FixtureRequest, name: str | Path) -> Path:
    """The file of a path, or of a scenario's name."""
    from stakesim.runner.scenario_files import ENDINGS, files_of

    if not str(name).endswith(ENDINGS):
        return files_of(str(name))[0]
    beside = request.path.parent / name
    return beside if beside.exists() else request.config.rootpath / name
