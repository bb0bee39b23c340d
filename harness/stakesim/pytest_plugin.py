"""The pytest plugin: scenario files are tests, and environments are fixtures.

Options: `--stakesim-engine`, `--stakesim-driver`, `--stakesim-contract`, `--stakesim-coverage-trace`. Setting
`stakesim_scenarios`: folders whose YAML files, and those in their `regressions/`, are collected; where it is not set,
nothing is. Fixtures: `stakesim_environment`, `stakesim_engine`, `run_scenario`, `stakesim_trace`.

Nothing of the library is imported before one of these is used: the plugin is loaded in every project that shares the
environment with it.
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


class _Environments:
    """The one environment of a test session, opened when it is first needed."""

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


_ENVIRONMENTS = pytest.StashKey[_Environments]()
_FOLDERS = pytest.StashKey[list[Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stakesim", "scenarios for a stake contract and its backend")
    group.addoption("--stakesim-engine", default=None, help="py-evm (default), revm, anvil, or rpc:URL")
    group.addoption(
        "--stakesim-driver", default=None, help="contract, or a way to call the backend; its first by default"
    )
    group.addoption(
        "--stakesim-contract", default=None, help="a contract instead of EventStake: FILE.sol:Name, or an artifact.json"
    )
    group.addoption(
        "--stakesim-coverage-trace", default=None, help="write where py-evm was in the code, for stakesim coverage"
    )
    parser.addini("stakesim_scenarios", "folders with scenario files", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    environments = config.stash[_ENVIRONMENTS] = _Environments(config)
    config.add_cleanup(environments.close)
    config.stash[_FOLDERS] = [_folder(config, name) for name in config.getini("stakesim_scenarios")]


def _folder(config: pytest.Config, name: str) -> Path:
    folder = (config.rootpath / name).resolve()
    if not folder.is_dir():
        raise pytest.UsageError(
            f"stakesim_scenarios names {name}, and there is no such folder in {config.rootpath}: make or name one."
        )
    return folder


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    folders = parent.config.stash[_FOLDERS]
    if not folders or file_path.suffix not in (".yaml", ".yml"):
        return None
    home = file_path.parent.parent if file_path.parent.name == "regressions" else file_path.parent
    return ScenarioFile.from_parent(parent, path=file_path) if home.resolve() in folders else None


class ScenarioFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield ScenarioItem.from_parent(self, name=self.path.stem)


class ScenarioItem(pytest.Item):
    """A scenario in the session's environment; it fails with the story of what went wrong."""

    def runtest(self) -> None:
        from stakesim.scenario.scenario import load

        _run(self.config, load(self.path))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        from stakesim.errors import StakesimError

        if isinstance(excinfo.value, AssertionError | StakesimError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"scenario {self.name}"


def _run(config: pytest.Config, scenario: Scenario) -> ScenarioResult:
    from stakesim.runner.narrative import narrate
    from stakesim.runner.scenario_run import run_scenario

    played = run_scenario(config.stash[_ENVIRONMENTS].get(), scenario)
    if played.findings:
        raise AssertionError(narrate(played.findings))
    return played


@pytest.fixture(scope="session")
def stakesim_trace(request: pytest.FixtureRequest) -> Iterator[ExecutionTrace | None]:
    """For `open_engine("py-evm", trace=...)`: notes where the code was, with `--stakesim-coverage-trace`."""
    file = request.config.getoption("--stakesim-coverage-trace")
    if file is None:
        yield None
        return
    from stakesim.evm.in_process.trace import ExecutionTrace

    noted = ExecutionTrace()
    yield noted
    noted.save(Path(file))


@pytest.fixture(scope="session")
def stakesim_environment(request: pytest.FixtureRequest) -> Environment:
    """The session's environment, for `stakesim.runner.scenario_run.run_scenario`."""
    return request.config.stash[_ENVIRONMENTS].get()


@pytest.fixture
def stakesim_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The session's engine; the test's changes to its chain are undone."""
    engine = request.config.stash[_ENVIRONMENTS].get().engine
    snapshot = engine.snapshot()
    yield engine
    engine.revert(snapshot)


@pytest.fixture
def run_scenario(request: pytest.FixtureRequest) -> Callable[[Scenario | str | Path], ScenarioResult]:
    """Runs a scenario or a file; the test fails with its story when something that must hold does not."""

    def run(what: Scenario | str | Path) -> ScenarioResult:
        from stakesim.scenario.scenario import Scenario, load

        return _run(request.config, what if isinstance(what, Scenario) else load(what))

    return run
