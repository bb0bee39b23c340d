"""Random campaigns: reproducible, in the format of scripted scenarios, and reaching what they should."""

from collections import Counter
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from stakesim.generate.administrators import DEPUTY
from stakesim.generate.agents import HOSTILE_AGENTS
from stakesim.generate.hostile_actions import HostileKind
from stakesim.generate.moves import MOVES
from stakesim.generate.profiles import Profile, load_profile
from stakesim.generate.random_scenario import generate
from stakesim.model.rates import current_rate
from stakesim.model.rehearsal import RehearsedStep, rehearse
from stakesim.scenario.actions import Action, SetPrice
from stakesim.scenario.administration import Administration
from stakesim.scenario.scenario import Scenario, dump, loads
from stakesim.schema.errors import InputError
from stakesim.search.walks import walk

pytestmark = pytest.mark.slow

FILES = sorted((Path(__file__).parents[2] / "scenarios/profiles").glob("*.yaml"))
PROFILES = [file.stem for file in FILES]
RUNS = 100


@cache
def profile(name: str) -> Profile:
    return load_profile(next(file for file in FILES if file.stem == name))


@cache
def campaign(name: str) -> list[tuple[Scenario, list[RehearsedStep]]]:
    scenarios = [generate(profile(name), 0, index) for index in range(RUNS)]
    return [(scenario, rehearse(scenario)) for scenario in scenarios]


def test_the_profiles() -> None:
    assert PROFILES == ["administered", "calm", "flaky", "hostile", "volatile"]


@pytest.mark.parametrize("name", PROFILES)
class TestCampaign:
    def test_reaches_what_a_campaign_must(self, name: str) -> None:
        reached: Counter[str] = Counter()
        for scenario, steps in campaign(name):
            reached["price swing"] += swings(scenario, steps)
            reached += Counter(step.outcome.status for step in steps)
            reached += Counter(booking.status.name for booking in steps[-1].state.bookings.values())
            reached += Counter(run.status.name for run in steps[-1].state.runs.values())
            reached += Counter(f"payment {payment.status}" for payment in steps[-1].state.payments)
            reached["payment disputed"] += sum(payment.disputed for payment in steps[-1].state.payments)
            reached["cancelled alone"] += sum(
                step.action.do == "cancel_booking" and step.outcome.status == "ok" for step in steps
            )
        too_rare = {name: reached[name] for name in MUST_REACH if reached[name] < 3}
        assert too_rare == {}

    def test_closes_every_run(self, name: str) -> None:
        for scenario, steps in campaign(name):
            assert [run for run in steps[-1].state.runs.values() if run.open] == [], scenario.name

    def test_is_about_as_long_as_a_lifecycle(self, name: str) -> None:
        sent = sum(step.outcome.signer is not None for _, steps in campaign(name) for step in steps)
        assert 9 <= sent / RUNS <= 17

    def test_direct_actions_succeed_only_for_the_deputy(self, name: str) -> None:
        for scenario, steps in campaign(name):
            for step in steps:
                if getattr(step.action, "direct", False) and step.outcome.status == "ok":
                    assert step.outcome.signer == DEPUTY, scenario.name

    def test_is_written_and_read_like_a_scripted_one(self, name: str, request: pytest.FixtureRequest) -> None:
        count = 5 if request.config.getoption("--profile") == "quick" else 25
        for scenario, _ in campaign(name)[:count]:
            assert loads(dump(scenario), scenario.name) == scenario

    def test_needs_few_accounts(self, name: str) -> None:
        assert max(len(scenario.actors) for scenario, _ in campaign(name)) <= 30


MUST_REACH = [
    "price swing",
    "rejected",
    "NO_SHOW",
    "COMPLETED",
    "CANCELLED",
    "EXPIRED",
    "cancelled alone",
    "payment used",
    "payment refunded",
    "payment expired",
    "payment disputed",
]


def swings(scenario: Scenario, steps: list[RehearsedStep]) -> bool:
    """The feed's rate moved by a tenth or more while the scenario lasted."""
    market = scenario.rate_path()
    rates = [current_rate(step.state, market(step.at)).rate for step in steps]
    rates = [rate for rate in rates if rate.is_finite() and rate > 0]
    return max(rates) >= Decimal("1.1") * min(rates)


def test_the_hostile_campaign_is_hostile() -> None:
    outcomes = [step.outcome for _, steps in campaign("hostile") for step in steps]
    assert {outcome.error for outcome in outcomes} >= {
        "NotAuthorized",
        "OwnableUnauthorizedAccount",
        "WrongValue",
        "BookingNotActive",
        "BookingNotOfRun",
        "TooEarly",
        "TooLate",
        "TransferFailed",
        "PriceError",
    }
    assert sum(payout.deferred for outcome in outcomes for payout in outcome.payouts) > 50
    receivers = {actor.receiver for scenario, _ in campaign("hostile") for actor in scenario.actors.values()}
    assert receivers == {"accepts", "refuses", "burns_gas", "floods", "reenters"}
    assert set(profile("hostile").kinds) == set(HOSTILE_AGENTS) - NOT_IN_A_PROFILE


NOT_IN_A_PROFILE = {"impossible_run", "impossible_booking"}
"""Kinds whose addition to a profile would change all of its scenarios."""
BY_TIME = {"on_the_edge"}
"""Kinds that are ordinary actions at a certain time, which walks choose apart from the move."""


def test_campaigns_and_walks_are_hostile_in_the_same_ways() -> None:
    assert set(HOSTILE_AGENTS) == set(get_args(HostileKind))
    assert {kind for move in MOVES for kind in move.kinds} | BY_TIME == set(get_args(HostileKind))
    assert all(move.hostile for move in MOVES if move.kinds)


@pytest.mark.parametrize("kind", sorted(HOSTILE_AGENTS))
def test_each_hostile_kind_reaches_a_rejection(kind: str) -> None:
    """Except for forced ether, which nobody can reject."""
    hostile = profile("hostile").model_copy(update={"kinds": (kind,), "mischief": 20.0, "bad_feed": 0.0, "crash": 0.0})
    honest = hostile.model_copy(update={"mischief": 0.0})
    rejected = {p: sum(rejections(generate(p, 0, index)) for index in range(20)) for p in (hostile, honest)}
    assert (rejected[hostile] > rejected[honest]) == (kind != "force_ether")


def rejections(scenario: Scenario) -> int:
    return sum(step.outcome.status == "rejected" for step in rehearse(scenario))


def test_the_administered_campaign_changes_who_acts_for_the_platform() -> None:
    steps = [step for _, steps in campaign("administered") for step in steps]
    done = Counter(step.action.do for step in steps if step.outcome.status == "ok")
    for kind in ("set_operator", "pause", "unpause", "transfer_ownership", "accept_ownership"):
        assert done[kind] > 10, kind
    by_deputy = [step for step in steps if step.outcome.signer == DEPUTY]
    assert {step.action.do for step in by_deputy if step.outcome.status == "ok"} >= {
        "cancel_booking",
        "cancel_run",
        "complete",
        "book",
    }
    refused = {step.outcome.error for step in by_deputy}
    assert refused >= {"OwnableUnauthorizedAccount", "NotAuthorized"}
    assert "EnforcedPause" in {step.outcome.error for step in steps if step.outcome.signer != DEPUTY}


@pytest.mark.parametrize("name", PROFILES)
def test_administration_changes_nothing_else_of_a_scenario(name: str) -> None:
    without = profile(name).model_copy(update={"administration": 0.0})
    with_it = profile(name).model_copy(update={"administration": 1.0})
    for index in range(10):
        expected, scenario = generate(without, 0, index), generate(with_it, 0, index)
        rest = [action for action in scenario.actions if not _is_administrative(action)]
        assert (rest, scenario.price) == ([*expected.actions], expected.price)
        assert len(scenario.actions) > len(rest)


def _is_administrative(action: Action) -> bool:
    return DEPUTY in (getattr(action, "by", None), getattr(action, "paid_by", None)) or isinstance(
        action, Administration
    )


def test_a_faulty_feed_is_repaired() -> None:
    feeds = [s for s, _ in campaign("volatile") if any(isinstance(a, SetPrice) for a in s.actions)]
    assert len(feeds) > 10
    for scenario in feeds:
        last = [action for action in scenario.actions if isinstance(action, SetPrice)][-1]
        assert last.rate > 0
        assert last.age == 0


def test_seed_and_index_make_the_scenario() -> None:
    calm = profile("calm")
    assert generate(calm, 3, 4) == generate(calm, 3, 4)
    assert len({dump(generate(calm, seed, index)) for seed in range(3) for index in range(3)}) == 9

    actions = {
        repr(made(seed, index).actions)
        for made in (lambda seed, index: generate(calm, seed, index), lambda seed, index: walk(calm, seed, index, 5))
        for seed in (5, 5 + 2**32, 5 + 2**64)
        for index in range(3)
    }
    assert len(actions) == 2 * 3 * 3  # a large seed shares none with a small one


CALM = next(file for file in FILES if file.stem == "calm").read_text()
MISTAKES = [
    ("seats: [6, 16]", "seats: [16, 6]", ":4: seats: the range ends before it begins; write [6, 16]"),
    ("no_show: 0.1", "no_show: 1.5", ":9: no_show: is 1.5; write at most 1.0"),
    ("no_show: 0.1", "noshow: 0.1", ":9: noshow: is no field here; did you mean 'no_show'?"),
    ("mischief: 0", "mischief: 1", "kinds: `mischief` needs kinds to choose from; add `kinds: [wrong_caller]`"),
    (
        "lead_time: [10d",
        "lead_time: [1d",
        "lead_time: nobody could cancel in time; begin 3h above the cancellation cutoff",
    ),
    (
        "walletless: 0.2",
        "walletless: 0.9",
        "the file: `pays_self`, `walletless`, `hostile_receiver` exclude each other; keep the sum below 1",
    ),
    ("name: calm", "name: storm", ":1: name: 'storm' is not the file's name; write `name: calm`"),
]


@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_a_mistake_in_a_profile(right: str, wrong: str, message: str, tmp_path: Path) -> None:
    assert right in CALM
    file = tmp_path / "calm.yaml"
    file.write_text(CALM.replace(right, wrong))
    with pytest.raises(InputError) as error:
        load_profile(file)
    assert str(error.value).startswith(f"{file}:")
    assert str(error.value).endswith(message)
