"""The pytest plugin: scenario files are tests, and worlds are fixtures.

Options: `--engine py-evm|revm|anvil|rpc:URL`, `--through services|api`, `--contract FILE`,
`--coverage-trace FILE`. Setting `stakesim_scenarios` (default `scenarios`): folders whose YAML files, and those in
their `regressions/`, are collected. Fixtures: `engine`, `world`, `run_scenario`, `trace`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stakesim.evm.coverage import Trace
    from stakesim.evm.engine import Engine
    from stakesim.runner.play import Played
    from stakesim.runner.world import Through, World
    from stakesim.scenario.scenario import Scenario


class _Stage:
    """The one world of a connection, opened when it is first needed."""

    def __init__(self, engine: str, through: Through, contract: str | None) -> None:
        self._engine, self._through, self._contract = engine, through, contract
        self._world: World | None = None

    def world(self) -> World:
        from stakesim.evm.contract_file import load_contract
        from stakesim.runner.world import open_world

        if self._world is None:
            contract = load_contract(self._contract) if self._contract else None
            self._world = open_world(self._engine, contract, self._through)
        return self._world

    def close(self) -> None:
        if self._world is not None:
            self._world.close()


_STAGE = pytest.StashKey[_Stage]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stakesim", "scenarios for the stake contract and its backend")
    group.addoption("--engine", default="py-evm", help="engine: py-evm (default), revm, anvil, or rpc:URL")
    group.addoption("--through", default="services", help="how scenarios ask the backend: services (default), or api")
    group.addoption(
        "--contract", default=None, help="a contract to play instead of EventStake: FILE.sol:Name, or .json"
    )
    group.addoption("--coverage-trace", default=None, help="write where py-evm was in the code, for stakesim coverage")
    parser.addini("stakesim_scenarios", "folders with scenario files", type="args", default=["scenarios"])


def pytest_configure(config: pytest.Config) -> None:
    stage = config.stash[_STAGE] = _Stage(
        config.getoption("--engine"), config.getoption("--through"), config.getoption("--contract")
    )
    config.add_cleanup(stage.close)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    folders = [parent.config.rootpath / name for name in parent.config.getini("stakesim_scenarios")]
    home = file_path.parent.parent if file_path.parent.name == "regressions" else file_path.parent
    if file_path.suffix == ".yaml" and home in folders:
        return ScenarioFile.from_parent(parent, path=file_path)
    return None


class ScenarioFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield ScenarioItem.from_parent(self, name=self.path.stem)


class ScenarioItem(pytest.Item):
    """A scenario, played on the session's engine; it fails with the story of what went wrong."""

    def runtest(self) -> None:
        from stakesim.scenario.scenario import load

        _play(self.config, load(self.path))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        if isinstance(excinfo.value, AssertionError) or type(excinfo.value).__name__ in (
            "ScenarioError",
            "EngineError",
        ):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"scenario {self.name}"


def _play(config: pytest.Config, scenario: Scenario) -> Played:
    from stakesim.runner.play import play
    from stakesim.runner.story import tell

    played = play(config.stash[_STAGE].world(), scenario)
    if played.findings:
        raise AssertionError(tell(played.findings))
    return played


@pytest.fixture(scope="session")
def trace(request: pytest.FixtureRequest) -> Iterator[Trace | None]:
    """For `open_engine("py-evm", trace=trace)`: notes where the code was, with the option `--coverage-trace`."""
    file = request.config.getoption("--coverage-trace")
    if file is None:
        yield None
        return
    from stakesim.evm.coverage import Trace

    noted = Trace()
    yield noted
    noted.save(Path(file))


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> World:
    """The session's world: `stakesim.runner.play.play(world, scenario)` plays in it."""
    return request.config.stash[_STAGE].world()


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The session's engine, taken back after the test to where it was."""
    engine = request.config.stash[_STAGE].world().engine
    snapshot = engine.snapshot()
    yield engine
    engine.revert(snapshot)


@pytest.fixture
def run_scenario(request: pytest.FixtureRequest) -> Callable[[Scenario | str | Path], Played]:
    """Plays a scenario or a file; the test fails with its story when something that must hold does not."""

    def run(what: Scenario | str | Path) -> Played:
        from stakesim.scenario.scenario import Scenario, load

        return _play(request.config, what if isinstance(what, Scenario) else load(what))

    return run
