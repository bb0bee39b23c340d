"""The guided search of a backend: what it can say, what steers it, what it keeps, and planted faults that it finds."""

import sys
from contextlib import ExitStack, closing
from functools import partial
from importlib import import_module
from pathlib import Path

import app.main  # noqa: F401 - its functions are patched
import pytest
from numpy.random import default_rng
from planted_in_backend import PLANTS, planted
from stakesim.model.rehearsal import rehearse
from stakesim.runner.environment import open_environment
from stakesim.runner.findings import Finding
from stakesim.runner.narrative import narrate
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import Book, Complete
from stakesim.scenario.scenario import Scenario, dump, load, loads
from stakesim.search.backend_search import cause_of, search
from stakesim.search.branches import Branches
from stakesim.search.mutations import fresh, mutate
from stakesim.search.stateful import ACTORS
from stakesim.search.variants import Tried, options_of

EASY = ("a start at +05:30 is stored", "a run with its last seat booked")
"""Planted faults that quick runs look for, by the beginning of their names."""
SCENARIOS = Path(__file__).parents[2] / "scenarios"
SAID = ("the rate is read twice", "a refund is lost", "the idempotency key is dropped on the route that expires")

EVERY_USE_CASE = """
name: replaced
story: The block of each transaction is replaced, and prices move while people pay.
actors: {host: {}, a: {}, w: {wallet: none}, s: {pays: self}}
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 4, starts: 7d, feed_moves: true, OPTION}
  - {do: book, booking: a1, run: gig, by: a, seats: 1, feed_moves: true, retried: true, OPTION}
  - {do: book, booking: w1, run: gig, by: w, seats: 1, answer_lost: true, OPTION}
  - {do: book, booking: s1, run: gig, by: s, seats: 1, feed_moves: true, OPTION}
  - {do: book, booking: w2, run: gig, by: w, seats: 1, OPTION}
  - {do: cancel_booking, booking: w1, retried: true, OPTION}
  - {do: create_run, run: two, by: w, price_inr: "20000", seats: 4, starts: 7d}
  - {do: book, booking: x1, run: two, by: w, seats: 1, OPTION}
  - {do: cancel_run, run: two, OPTION}
  - {do: create_run, run: three, by: w, price_inr: "20000", seats: 4, starts: 7d}
  - {at: 7d, do: complete, run: gig, attended: [w2], retried: true, OPTION}
  - {do: withdraw_fees, OPTION}
  - {at: 14d, do: expire, run: three, retried: true, OPTION}
"""


@pytest.fixture(scope="module")
def environments():
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(closing(open_environment("revm", driver=name))) for name in ("services", "api")
        }
        yield opened


def found_in(environment, folder, **options):
    """What a search finds first, with its progress; fails if it finds nothing."""
    progress = search(environment, corpus=folder, report=lambda progress: not progress.found, shrink_runs=40, **options)
    if progress.found:
        return progress.found[0]
    return pytest.fail(f"nothing in {progress.actions} actions, seed {progress.seed}")


# ----------------------------------------------------------------------------------------------- what sequences can say


@pytest.mark.slow
@pytest.mark.parametrize("effect", ["moved", "dropped"])
@pytest.mark.parametrize("driver", ["services", "api"])
def test_the_backend_is_right_after_the_block_of_any_transaction_was_replaced(environments, driver, effect):
    story = loads(EVERY_USE_CASE.replace("OPTION", f"reorganised: {effect}"))
    result = run_scenario(environments[driver], story)
    assert result.ok, narrate(result.findings)
    assert loads(dump(story)) == story


@pytest.mark.in_turn
@pytest.mark.slow
@pytest.mark.parametrize("plant", [plant for plant in PLANTS if plant.name.startswith(SAID)], ids=lambda one: one.name)
def test_one_scenario_can_say_what_shows_the_kinds_that_no_scenario_could(environments, plant):
    story = loads(EVERY_USE_CASE.replace("OPTION", "reorganised: moved"))
    with planted(plant):
        assert not run_scenario(environments[plant.driver], story).ok


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "scenario"),
    [("who is listed and has cancelled", "wrong-attendance-list"), ("a rate is compared", "bad-price-feed")],
)
def test_a_scripted_scenario_shows_what_a_short_search_may_miss(environments, plant, scenario):
    story = load(SCENARIOS / f"{scenario}.yaml")
    with planted(next(one for one in PLANTS if one.name.startswith(plant))):
        assert not run_scenario(environments["services"], story).ok
    assert run_scenario(environments["services"], story).ok


@pytest.mark.slow
def test_a_transaction_that_was_dropped_and_is_not_sent_again_is_found(environments, monkeypatch):
    from app.services.finality import Finality

    monkeypatch.setattr(Finality, "undo_reorganised", lambda self, head: None)
    result = run_scenario(environments["services"], loads(EVERY_USE_CASE.replace("OPTION", "reorganised: dropped")))
    assert {"INV-16"} <= {finding.id for finding in result.findings}
    assert result.findings[0].step == 1


# ---------------------------------------------------------------------------------------------------------- what steers


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of its own package with a function that has branches."""
    (tmp_path / "steered.py").write_text(
        "def sign(number):\n"
        '    """Its sign."""\n'
        "    if number and number > 0:\n"
        "        return 1\n"
        "    for _ in range(number, 0):\n"
        "        return -1\n"
        "    return 0\n\n\n"
        "def make(base):\n"
        "    return lambda: base if base else None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("steered")
    del sys.modules["steered"]


@pytest.mark.slow
def test_each_branch_is_told_apart_and_the_functions_are_as_before_afterwards(module):
    before, branches = module.sign.__code__, Branches()
    with branches.observed(["steered"]):
        ran = []
        for number in (5, -5, 0, 5):
            branches.take()
            assert module.sign(number) == (number > 0) - (number < 0)
            ran.append(branches.take())
    assert len({*ran}) == 3
    assert ran[0] == ran[3]
    assert module.sign.__code__ is before
    module.sign(1)
    assert not branches.take()


@pytest.mark.slow
def test_functions_within_functions_are_observed_and_patched_ones_are_left_alone(module):
    branches = Branches()
    patched = module.sign = lambda number: 7
    with branches.observed(["steered"]):
        assert module.sign is patched
        assert module.sign(1) == 7
        assert module.make(3)() == 3
        assert len(branches.take()) == 2
        assert branches.total > len(branches.take())


# ------------------------------------------------------------------------------------------------------- sequences


@pytest.mark.slow
def test_every_child_is_a_valid_scenario_and_all_options_come_up(campaign_seed):
    rng, tried, corpus, seen, actions = default_rng(campaign_seed), Tried(), [], set(), set()
    base = Scenario(name="base", story="", strict=False, actors=ACTORS, actions=())
    options = {(name, True) for name in ("direct", "pending", "retried", "answer_lost", "feed_moves")}
    options |= {("reorganised", "moved"), ("reorganised", "dropped"), ("payment", "late")}
    every_action = {"create_run", "book", "cancel_booking", "cancel_run", "complete", "expire"}
    while len(corpus) < 60 or not options <= seen or not every_action <= actions:
        assert len(corpus) < 1_000, (options - seen, every_action - actions)
        child = (
            fresh(rng, base, 12, tried)
            if len(corpus) < 30
            else mutate(rng, corpus[len(corpus) % 20], corpus[rng.integers(len(corpus))], tried)
        )
        corpus.append(child)
        assert loads(dump(child)) == child
        for step in rehearse(child):
            seen |= {(name, value) for _, name, value in options_of(step.action)}
            actions.add(step.action.do)
            tried.update(options_of(step.action))


def test_failures_are_of_one_cause_by_invariant_kind_and_place():
    actors = {"host": {}, "a": {}}
    book = Book(booking="b", run="r", by="a", seats=1)
    complete = Complete(run="r", attended=("b",))

    def failure(message, *actions, finding="INV-16"):
        scenario = Scenario.model_construct(actors=actors, actions=actions)
        return ScenarioResult(
            scenario, "revm", "services", [Finding(finding, "", message, scenario, step=len(actions))]
        )

    wrong_status = "booking 3: the model says ('active', 2, 'a'), the database ('no_show', 2, 'a')"
    another = "booking 12: the model says ('completed', 1, 'host'), the database ('no_show', 1, 'host')"
    wrong_seats = "booking 3: the model says ('active', 2, 'a'), the database ('active', 1, 'a')"
    cause = cause_of(failure(wrong_status, book, complete))
    assert cause == cause_of(failure(another, complete))
    assert cause != cause_of(failure(wrong_seats, book, complete))
    assert cause != cause_of(failure(wrong_status, book))
    assert cause != cause_of(failure(wrong_status, complete, finding="INV-18"))
    assert cause_of(failure("a's wallet: 5", book)) == cause_of(failure("host's wallet: 71", book))


# ------------------------------------------------------------------------------------------------------- the search


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["services", "api"])
def test_nothing_is_found_in_the_sound_backend(environments, driver, profile, tmp_path):
    most_actions = {"quick": 15, "ci": 40, "deep": 5_000}[profile]
    progress = search(environments[driver], seconds=3_600, most_actions=most_actions, corpus=tmp_path)
    stories = [narrate(found.result.findings) for found in progress.found]
    assert stories == [], f"seed {progress.seed}"
    assert progress.actions == most_actions
    assert progress.branches > 300


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_planted_faults_are_found_and_replay(environments, plant, profile, tmp_path):
    """With a fresh seed."""
    if profile != "deep" and not plant.name.startswith(EASY):
        pytest.skip("takes up to minutes: run with --profile deep")
    environment = environments[plant.driver]
    begin = None if profile == "deep" else [loads(EVERY_USE_CASE.replace(", OPTION", ""))]
    with planted(plant):
        found = found_in(environment, tmp_path, seconds=600, scenarios=begin)
        assert found.replays
        again = run_scenario(environment, loads(dump(found.result.scenario)))
        assert cause_of(again) == found.cause
    assert run_scenario(environment, found.result.scenario).ok


@pytest.mark.in_turn
@pytest.mark.slow
def test_the_search_goes_on_after_a_finding_and_reports_each_cause_once(environments, tmp_path):
    story = loads(EVERY_USE_CASE.replace(", OPTION", ""))
    by_name = {plant.name: plant for plant in PLANTS}
    names = (
        "attended and no-show are swapped in a refresh",
        "the idempotency key is dropped when a booking is cancelled",
    )
    direct = story.model_copy(
        update={
            "actions": tuple(
                action.model_copy(update={"by": "host", "direct": True, "retried": False})
                if isinstance(action, Complete)
                else action.model_copy(update={"retried": False} if action.do == "cancel_booking" else {})
                for action in story.actions
            )
        }
    )

    def goes_on(progress):
        return not {"complete", "cancel_booking"} <= {one.result.scenario.actions[-1].do for one in progress.found}

    with ExitStack() as stack:
        for name in names:
            stack.enter_context(planted(by_name[name]))
        scenarios, options = [story, direct] * 8, {"corpus": tmp_path, "report": goes_on, "shrink_runs": 15}
        progress = search(environments["services"], seconds=100, scenarios=scenarios, **options)
    assert not goes_on(progress)
    for of in (lambda found: found.cause, lambda found: found.result.scenario.name):
        assert len({of(found) for found in progress.found}) == len(progress.found)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_sequences_and_the_corpus_is_read_again(environments, tmp_path):
    story = loads(EVERY_USE_CASE.replace(", OPTION", ""))
    once = partial(search, environments["services"], seconds=60, seed=11, most_actions=15, scenarios=[story])
    files = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        progress = once(corpus=folder)
        files.append(sorted(file.name for file in folder.glob("*.yaml")))
        assert len(files[-1]) == progress.corpus > 1
    assert files[0] == files[1]
    assert all(load(tmp_path / "one" / name).actions for name in files[0])
    (tmp_path / "one" / "old.yaml").write_text("name: old\nstory: No scenario any more.\n")
    progress = search(environments["services"], seconds=60, most_actions=5, scenarios=[], corpus=tmp_path / "one")
    assert progress.unreadable == [tmp_path / "one" / "old.yaml"]
    assert progress.reached > 100
