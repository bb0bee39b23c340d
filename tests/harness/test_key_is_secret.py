"""After a whole campaign, the platform's key is nowhere: not in logs, errors, reprs, reports or the database."""

import logging
import traceback
import uuid

import pytest
from app.core.errors import AppError
from sqlalchemy import MetaData, select
from stakesim.generate.profiles import load_profile
from stakesim.generate.random_scenario import generate
from stakesim.paths import checkout, shipped
from stakesim.runner import ledger
from stakesim.runner.narrative import narratives
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import load

SCENARIOS = shipped("scenarios")
PROFILES = SCENARIOS / "profiles"

ROOT = checkout()

DRAWN = {"quick": 1, "ci": 2, "deep": 50}
"""Random scenarios of each profile."""


def all_rows(environment) -> str:
    """All rows of all tables of the environment's database, as text."""
    tables = MetaData()
    with environment.backend.database.autocommit() as connection:
        tables.reflect(connection)
        assert {"users", "event_runs", "event_run_bookings", "operations", "nonces"} <= tables.tables.keys()
        return "\n".join(repr(row) for table in tables.tables.values() for row in connection.execute(select(table)))


@pytest.mark.slow
def test_the_platforms_key_is_nowhere(environment, profile, sampled, caplog):
    caplog.set_level(logging.DEBUG)
    key = environment.engine.accounts[0].key.hex()
    assert len(key) == 64
    files = [load(path) for path in sorted((ROOT / "scenarios").glob("*.yaml"))]
    drawn = [
        generate(load_profile(path), seed, index)
        for seed, path in enumerate(sorted(PROFILES.glob("*.yaml")))
        for index in range(DRAWN[profile])
    ]
    texts: list[str] = []
    transactions = 0
    for scenario in (files[::20] if profile == "quick" else sampled(files)) + drawn:
        result = run_scenario(environment, scenario)
        transactions += result.transactions
        texts += [
            repr(result),
            *narratives(result.findings),
            ledger.to_frame(result.rows).to_csv(),
            all_rows(environment),
        ]
        services = environment.backend.services
        texts += [
            repr(vars(one))
            for one in (environment, environment.backend, services, services.chain, services.sender, services.runs)
        ]
    with pytest.raises(AppError) as caught:
        services.bookings.book(uuid.uuid4(), uuid.uuid4(), 1)
    texts += traceback.format_exception(caught.value)
    text = "\n".join([*texts, caplog.text]).lower()
    assert transactions > 30
    assert key not in text
    assert str(int(key, 16)) not in text
    assert "createeventrun" in text  # it looks where something is
