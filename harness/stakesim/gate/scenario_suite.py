"""The scenarios that mutants and coverage are measured with."""

from __future__ import annotations

from stakesim.generate.random_scenario import generate, load_profile
from stakesim.runner import scenario_files
from stakesim.scenario.scenario import Scenario, load
from stakesim.search.walks import walk

SEED = 1
LIFECYCLES = 3
"""Random scenarios of each profile."""
WALKS = 12
"""Random walks of the hostile profile."""
WALK_STEPS = 40


def scenario_suite() -> list[Scenario]:
    """All scripted scenarios, all regressions, and a few random lifecycles and hostile walks."""
    files = [*scenario_files.scripted(include_shipped=True), *scenario_files.regressions()]
    profiles = [load_profile(file) for file in scenario_files.profiles().values()]
    hostile = next(profile for profile in profiles if profile.name == "hostile")
    return [
        *(load(file) for file in files),
        *(generate(profile, SEED, index) for profile in profiles for index in range(LIFECYCLES)),
        *(walk(hostile, SEED, index, WALK_STEPS) for index in range(WALKS)),
    ]
