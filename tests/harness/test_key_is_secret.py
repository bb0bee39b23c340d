"""After a whole campaign, the platform's key is nowhere: not in logs, errors, reprs, reports or the database."""

import logging
import traceback

import pytest
from app.core.errors import AppError
from sqlalchemy import MetaData, select
from stakesim.evm.compiler import ROOT
from stakesim.runner import ledger
from stakesim.runner.campaign import PROFILES
from stakesim.runner.play import play
from stakesim.runner.story import stories
from stakesim.scenario.generate import generate, load_profile
from stakesim.scenario.scenario import load

DRAWN = {"quick": 1, "ci": 5, "deep": 50}
"""Random scenarios of each profile."""


def everything_in(world) -> str:
    """All rows of all tables of the world's database, as text."""
    tables = MetaData()
    with world.database.single() as connection:
        tables.reflect(connection)
        assert {"users", "event_runs", "event_run_bookings", "operations", "nonces"} <= tables.tables.keys()
        return "\n".join(repr(row) for table in tables.tables.values() for row in connection.execute(select(table)))


@pytest.mark.slow
def test_the_platforms_key_is_nowhere(world, profile, caplog):
    caplog.set_level(logging.DEBUG)
    key = world.engine.accounts[0].key.hex()
    assert len(key) == 64
    files = [load(path) for path in sorted((ROOT / "scenarios").glob("*.yaml"))]
    drawn = [
        generate(load_profile(path), seed, index)
        for seed, path in enumerate(sorted(PROFILES.glob("*.yaml")))
        for index in range(DRAWN[profile])
    ]
    shown: list[str] = []
    transactions = 0
    for scenario in files[:: 20 if profile == "quick" else 1] + drawn:
        played = play(world, scenario)
        transactions += played.transactions
        shown += [repr(played), *stories(played.findings), ledger.to_frame(played.rows).to_csv(), everything_in(world)]
        shown += [repr(vars(one)) for one in (world, world.chain, world.chain.sender, world.event_runs)]
    with pytest.raises(AppError) as caught:
        world.bookings.book(world.experience, world.experience, 1)
    shown += traceback.format_exception(caught.value)
    text = "\n".join([*shown, caplog.text]).lower()
    assert transactions > 30
    assert key not in text
    assert str(int(key, 16)) not in text
    assert "createeventrun" in text  # it looks where something is
