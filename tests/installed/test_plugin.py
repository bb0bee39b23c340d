"""The pytest plugin is loaded in every project of the environment, and must not disturb any."""

import shutil

import pytest
from stakesim.paths import checkout

pytestmark = pytest.mark.slow
NO_SHOW = checkout() / "scenarios" / "no-show.yaml"

FOREIGN_CONFTEST = """
import pytest


def pytest_addoption(parser):
    for name in ("--engine", "--contract", "--driver", "--through", "--coverage-trace"):
        parser.addoption(name, default="theirs")


@pytest.fixture
def engine(request):
    return request.config.getoption("--engine")


@pytest.fixture
def world():
    return "theirs"


@pytest.fixture
def trace():
    return "theirs"
"""
FOREIGN_TEST = """
import sys


def test_own_options_and_fixtures(engine, world, trace):
    assert (engine, world, trace) == ("postgresql", "theirs", "theirs")


def test_the_library_is_not_imported():
    heavy = {"web3", "eth", "eth_account", "pandas", "numpy", "pydantic", "yaml", "stakesim.project", "stakesim.runner"}
    assert heavy & sys.modules.keys() == set()
"""


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_a_project_with_options_fixtures_and_yaml_files_of_these_names(installed, tmp_path, mode):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text(FOREIGN_CONFTEST)
    (tmp_path / "tests" / "test_it.py").write_text(FOREIGN_TEST)
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "load.yaml").write_text("users: 500\n")
    args = ["-q", "-p", "no:cacheprovider", f"--import-mode={mode}", "tests", "scenarios", "--engine", "postgresql"]
    process = installed(tmp_path, "pytest", *args, "-p", "no:hypothesispytest", PYTHONDONTWRITEBYTECODE="1")
    assert process.returncode == 0, process.stdout + process.stderr
    assert "2 passed" in process.stdout


@pytest.mark.sampled(2)
@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_a_project_that_uses_the_plugin(installed, tmp_path, mode):
    (tmp_path / "pytest.ini").write_text("[pytest]\nstakesim_scenarios = stories\n")
    (tmp_path / "stories").mkdir()
    shutil.copy(NO_SHOW, tmp_path / "stories")
    (tmp_path / "test_it.py").write_text(
        "def test_it(run_scenario, stakesim_environment):\n"
        "    assert run_scenario('stories/no-show.yaml').transactions == 5\n"
        "    assert stakesim_environment.driver == 'contract'\n"
    )
    process = installed(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", f"--import-mode={mode}", ".")
    assert process.returncode == 0, process.stdout + process.stderr
    assert "2 passed" in process.stdout
