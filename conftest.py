"""Profiles of the tests, `--profile quick` (default), `ci` or `deep`: the same tests with more examples."""

import pytest

EXAMPLES = {"quick": 25, "ci": 200, "deep": 5_000}
"""Examples of each Hypothesis test, by profile."""


def pytest_addoption(parser):
    parser.addoption("--profile", choices=EXAMPLES, default="quick", help="how many examples the tests try")
    parser.addoption(
        "--slow",
        action="store_true",
        default=None,
        help="also run tests marked as slow; the default, except when all tests run in the quick profile",
    )


def pytest_configure(config):
    from hypothesis import HealthCheck, settings

    config.addinivalue_line(
        "markers", "slow: takes a third of a second, or starts a node, a server, workers or a compiler"
    )
    if config.option.slow is None:  # workers of xdist have the value of the main process
        all_tests = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        config.option.slow = config.option.profile != "quick" or not all_tests
    for name, examples in EXAMPLES.items():
        settings.register_profile(
            name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
    settings.load_profile(config.getoption("--profile"))


@pytest.fixture(scope="session")
def simulated(request):
    """Name of the engine for tests that run on any in-process engine. `--stakesim-engine revm` makes it the fast one."""
    return "revm" if request.config.getoption("--stakesim-engine") == "revm" else "py-evm"


@pytest.fixture(scope="session")
def profile(request):
    """Name of the profile: quick, ci or deep."""
    return request.config.getoption("--profile")


def pytest_collection_modifyitems(config, items):
    if not config.option.slow:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
