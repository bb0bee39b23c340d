"""Walks and the stateful search reach every action and error, find planted faults, and shrink them."""

from collections import Counter
from contextlib import closing

import pytest
from plainly_patched import plainly_patched, without_gas_budgets
from stakesim import run
from stakesim.campaign.report import save_failures
from stakesim.generate.moves import MOVES
from stakesim.generate.profiles import load_profile
from stakesim.model.rehearsal import rehearse
from stakesim.paths import checkout, shipped
from stakesim.runner.environment import open_environment
from stakesim.runner.findings import Finding
from stakesim.runner.narrative import narrate
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import dump, load, loads
from stakesim.search.shrink import shrink
from stakesim.search.stateful import search
from stakesim.search.walks import walk

SCENARIOS = shipped("scenarios")
PROFILES = SCENARIOS / "profiles"

ROOT = checkout()

HOSTILE = load_profile(PROFILES / "hostile.yaml")
WALKS = {"quick": 5, "ci": 20, "deep": 2_000}
SEARCHES = {"quick": (3, 15), "ci": (12, 50), "deep": (500, 50)}
"""Examples, and steps of each."""

PLANTED = {
    "the fee takes a wei more": (
        "uint256 fee = revenue * FEE_BPS / BPS;",
        "uint256 fee = revenue * FEE_BPS / BPS + (revenue == 0 ? 0 : 1);",
        ["create_run", "book", "complete"],
    ),
    "stakes are too large": (
        "return amount * STAKE_BPS / BPS;",
        "return amount * (STAKE_BPS + 1) / BPS;",
        ["create_run"],
    ),
    "a cancelled booking's stake is kept": (
        "        _push(user, refund);",
        "        _push(user, refund - _stakeOf(uint256(run.pricePerSeat) * booking.seats));",
        ["create_run", "book", "cancel_booking"],
    ),
    "only host and platform can let a run expire": (
        "        uint256 opens = run.start + COMPLETION_GRACE;",
        "        _checkAuthorized(run.host);\n        uint256 opens = run.start + COMPLETION_GRACE;",
        ["create_run"],  # seen at the end of a walk; before it once so much time has passed that only `expire` is left
        ["create_run", "create_run"],
        ["create_run", "book"],
    ),
    "a booking may come too late": (
        "        if (block.timestamp >= run.start) revert TooLate(run.start);\n        if (seats == 0)",
        "        if (block.timestamp > run.start) revert TooLate(run.start);\n        if (seats == 0)",
        ["create_run", "book"],
    ),
}
"""By fault: the line of the contract, what it is changed to, and the actions of the shortest scenarios that show it."""


@pytest.fixture(scope="module")
def shared_environment(engine_name):
    with closing(open_environment(engine_name)) as environment:
        yield environment


@pytest.fixture(params=PLANTED)
def planted(request, shared_environment):
    """The actions of the shortest scenarios, while the contract of the environment has that fault."""
    old, new, *shortest = PLANTED[request.param]
    with without_gas_budgets(shared_environment, plainly_patched(old, new)):
        yield shortest


def failing(environment):
    """The first walk that fails."""
    for index in range(100):
        result = run_scenario(environment, walk(HOSTILE, 0, index, 30))
        if result.findings:
            return result
    return pytest.fail("no walk of a hundred finds it")


@pytest.mark.in_turn
@pytest.mark.slow
def test_walks_find_nothing_in_the_sound_contract(shared_environment, profile):
    for index in range(WALKS[profile]):
        result = run_scenario(shared_environment, walk(HOSTILE, 7, index, 30))
        assert not result.findings, narrate(result.findings)


@pytest.mark.slow
def test_walks_make_every_move_and_meet_every_error():
    """ScenarioResult by the model alone."""
    reached: Counter[str] = Counter()
    for index in range(150):
        scenario = walk(HOSTILE, 0, index, 30)
        for step in rehearse(scenario):
            reached[step.action.do] += 1
            reached[step.outcome.error or step.outcome.status] += 1
            reached["deferred"] += sum(payout.deferred for payout in step.outcome.payouts)
    errors = {
        "NotAuthorized",
        "EventNotOpen",
        "BookingNotActive",
        "BookingNotOfRun",
        "TooEarly",
        "TooLate",
        "WrongValue",
    }
    errors |= {"NotEnoughSeats", "InvalidSeats", "InvalidStart", "PriceError", "NothingToWithdraw", "TransferFailed"}
    errors |= {"OwnableUnauthorizedAccount", "deferred", "ok"}
    actions = {"create_run", "book", "cancel_booking", "cancel_run", "complete", "expire", "withdraw", "withdraw_fees"}
    assert {what for what in errors | actions | {"force_ether", "set_price", "wait"} if reached[what] < 5} == set()


def test_a_walk_is_a_scenario_and_the_same_each_time():
    one = walk(HOSTILE, 3, 4, 20)
    assert len(one.actions) == 20
    assert one == walk(HOSTILE, 3, 4, 20) != walk(HOSTILE, 3, 5, 20)
    assert loads(dump(one), one.name) == one


@pytest.mark.slow
def test_a_calm_walk_makes_no_hostile_move():
    calm = load_profile(PROFILES / "calm.yaml")
    assert not any(
        getattr(action, "direct", False) for index in range(20) for action in walk(calm, 0, index, 30).actions
    )
    assert sum(move.hostile for move in MOVES) > 5


@pytest.mark.slow
def test_a_failing_walk_is_shrunk_to_the_shortest_scenario(shared_environment, planted):
    """Which fails again when it is written to a file and read back, and is as plain as can be."""
    result = failing(shared_environment)
    shrunk = shrink(shared_environment, result)
    assert [action.do for action in shrunk.scenario.actions] in planted
    assert shrunk.findings[0].id == result.findings[0].id
    assert {f.id for f in run_scenario(shared_environment, loads(dump(shrunk.scenario))).findings} == {
        f.id for f in shrunk.findings
    }
    assert all(action.run == "run1" for action in shrunk.scenario.actions if hasattr(action, "run"))
    assert len(shrunk.scenario.actors) == 1


@pytest.mark.slow
def test_what_does_not_fail_again_is_left_as_it_is(shared_environment):
    result = run_scenario(shared_environment, load(ROOT / "scenarios" / "no-show.yaml"))
    result.findings.append(Finding("INV-01", "", "", result.scenario, step=5))
    assert shrink(shared_environment, result) is result


@pytest.mark.in_turn
@pytest.mark.slow
def test_stateful_search_finds_nothing_in_the_sound_contract(shared_environment, profile):
    examples, steps = SEARCHES[profile]
    for failure in search(shared_environment, examples, steps, seed=1):
        pytest.fail(narrate(failure.findings))


@pytest.mark.slow
def test_stateful_search_finds_what_is_planted(shared_environment, planted):
    [failure] = search(shared_environment, 200, 30, most=1)
    assert [action.do for action in failure.scenario.actions] in planted


@pytest.mark.slow
def test_a_campaign_saves_the_shortest_scenario_and_it_can_be_replayed(tmp_path, monkeypatch, engine_name):
    """The service, not the contract, is broken here: it asks for a seat less."""
    from app.services.booking_service import BookingService

    book = BookingService.book

    def a_seat_less(self, run, user, seats, **more):
        return book(self, run, user, max(seats - 1, 1), **more)

    monkeypatch.setattr(BookingService, "book", a_seat_less)
    result = run("calm", engine_name, runs=3, seed=1, steps=20)
    assert not result.ok
    save_failures(result, tmp_path)
    files = sorted(tmp_path.glob("*.yaml"))
    shrunk = load(files[0])
    assert [action.do for action in shrunk.actions] == ["create_run", "book"]
    assert shrunk.actions[1].seats == 2
    assert "actions" in shrunk.origin["shrunk_from"]
    assert {f.id for f in run(files[0], engine_name).findings} >= {shrunk.origin["finding"]}
