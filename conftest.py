"""The intensity of this repository's own tests: `--profile quick` (default), `ci` or `deep`.

Each profile runs the same tests; a higher one gives them more examples, scenarios and steps.
"""

import functools
import gc
import os
import random
import re
import secrets
import subprocess
from pathlib import Path

import pytest

CAMPAIGN_SEED = "STAKESIM_TEST_SEED"
"""Environment variable with the seed of campaigns in tests."""

HYPOTHESIS_EXAMPLES = {"quick": 10, "ci": 100, "deep": 5_000}
"""Number of examples of each Hypothesis test, by profile."""


def pytest_addoption(parser):
    parser.addoption("--profile", choices=HYPOTHESIS_EXAMPLES, default="quick", help="intensity of the tests")
    parser.addoption(
        "--slow",
        action="store_true",
        default=None,
        help="run tests marked slow as well; always on except for a whole run (no path given) in the quick profile",
    )


def pytest_configure(config):
    from hypothesis import HealthCheck, settings

    config.addinivalue_line(
        "markers",
        "sampled(n=3): below the deep profile one of n of its cases runs, drawn by the seed of campaigns",
    )
    config.addinivalue_line(
        "markers",
        "in_turn(n=3): below the deep profile, a whole run has it for one of n commits, drawn by the seed of campaigns",
    )
    config.addinivalue_line(
        "markers",
        "slow: takes 50 ms of processor time or longer, or 250 ms with all its cases, or starts a process: a node, a "
        "server, workers, a compiler; `pytestmark` if most of a module's time is of such tests",
    )
    config.addinivalue_line("markers", "asyncio: on tests in web3.py's own modules, of which only the others run here")
    if config.option.slow is None:  # pytest-xdist passes the controller's values to its workers
        config.option.whole_run = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        config.option.slow = config.option.profile != "quick" or not config.option.whole_run
    for name, examples in HYPOTHESIS_EXAMPLES.items():
        settings.register_profile(
            name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
    settings.load_profile(config.getoption("--profile"))


@pytest.fixture(scope="session")
def engine_name(request):
    """The in-process engine for tests that run on any: "revm" with `--stakesim-engine revm`, otherwise "py-evm"."""
    return "revm" if request.config.getoption("--stakesim-engine") == "revm" else "py-evm"


@functools.cache
def _seed_of_commit():
    """The seed of campaigns in tests, from the commit's hash; a fresh one outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return secrets.randbits(40)
    return int(commit[:10], 16)


def _campaign_seed():
    return int(os.environ.setdefault(CAMPAIGN_SEED, str(_seed_of_commit())))


def pytest_report_header():
    """Names the seed at the top of each run. Processes of pytest-xdist get it by an environment variable."""
    return f"seed of campaigns: {_campaign_seed()}"


@pytest.fixture(scope="session")
def campaign_seed():
    """The seed of campaigns: another one for each commit. Set STAKESIM_TEST_SEED to repeat a run."""
    return _campaign_seed()


@pytest.fixture
def sampled(request, profile):
    """Draws a third of a list by the seed of campaigns; the deep profile takes it whole."""

    def sample(cases):
        cases = list(cases)
        drawn = random.Random(f"{_campaign_seed()} {request.node.nodeid}").sample(cases, -(-len(cases) // 3))
        return cases if profile == "deep" else drawn

    return sample


@pytest.fixture(scope="session")
def profile(request):
    """The name of the active profile: "quick", "ci" or "deep"."""
    return request.config.getoption("--profile")


_SLOW_MODULE = re.compile(r"^pytestmark = .*\bpytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path, config):
    """Leaves out modules that are slow as a whole without importing them, which would take as long as many tests."""
    if not config.option.slow and collection_path.suffix == ".py":
        return bool(_SLOW_MODULE.search(collection_path.read_text())) or None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Collects without the garbage collector, and keeps it from looking at modules and tests ever again.

    It finds nothing there, and takes a tenth of the time of a whole run.
    """
    gc.disable()
    try:
        if hasattr(session.config, "workerinput") or not session.config.getoption("tx", None):
            from stakesim.evm.quick_import import import_web3

            import_web3()  # not in the controller of pytest-xdist, which imports no tests
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config, items):
    if not config.option.slow:
        _deselect(config, items, {item for item in items if item.get_closest_marker("slow")})
    if config.option.profile != "deep":
        _deselect(config, items, set(_left_out(items)))
        if getattr(config.option, "whole_run", False):
            _deselect(config, items, {item for item in items if not _has_its_turn(item)})


def _deselect(config, items, deselected):
    config.hook.pytest_deselected(items=[item for item in items if item in deselected])
    items[:] = [item for item in items if item not in deselected]


def _has_its_turn(item):
    """Whether a test that is marked as in_turn runs for this commit, with all of its cases."""
    marker = item.get_closest_marker("in_turn")
    n = ((marker.args or (3,))[0]) if marker else 1
    return random.Random(f"{_campaign_seed()} turn of {item.nodeid.partition('[')[0]}").randrange(n) == 0


def _left_out(items):
    """Most cases of each test that is marked as sampled: other ones for each commit."""
    cases = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, group in cases.items():
        share = (group[0].get_closest_marker("sampled").args or (3,))[0]
        left_out = len(group) - -(-len(group) // share)
        yield from random.Random(f"{_campaign_seed()} {name}").sample(group, left_out)
