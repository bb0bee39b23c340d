"""The intensity of this repository's own tests: `--profile quick` (default), `ci` or `deep`.

Each profile runs the same tests; a higher one gives them more examples, scenarios and steps.
"""

import pytest

HYPOTHESIS_EXAMPLES = {"quick": 25, "ci": 200, "deep": 5_000}
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
        "markers", "slow: takes a third of a second or longer, or starts a node, a server, workers or a compiler"
    )
    if config.option.slow is None:  # pytest-xdist passes the controller's value to its workers
        is_whole_run = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        config.option.slow = config.option.profile != "quick" or not is_whole_run
    for name, examples in HYPOTHESIS_EXAMPLES.items():
        settings.register_profile(
            name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
    settings.load_profile(config.getoption("--profile"))


@pytest.fixture(scope="session")
def engine_name(request):
    """The in-process engine for tests that run on any: "revm" with `--stakesim-engine revm`, otherwise "py-evm"."""
    return "revm" if request.config.getoption("--stakesim-engine") == "revm" else "py-evm"


@pytest.fixture(scope="session")
def profile(request):
    """The name of the active profile: "quick", "ci" or "deep"."""
    return request.config.getoption("--profile")


def pytest_collection_modifyitems(config, items):
    if not config.option.slow:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
