"""What a failure is called, and that it stays the same failure: simplified, shrunk, told and listed."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal

import pytest
from plainly_patched import plainly_compiled, plainly_patched
from stakesim import run
from stakesim.campaign.selection import select
from stakesim.evm.compiler import CONTRACTS, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.engines import fastest_engine
from stakesim.evm.errors import EngineError
from stakesim.generate.terms_draws import CHOICES
from stakesim.model.rehearsal import rehearse
from stakesim.runner.causes import Cause
from stakesim.runner.environment import open_environment
from stakesim.runner.findings import Finding
from stakesim.runner.known_faults import ContractWeakness
from stakesim.runner.narrative import narrate
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import (
    Actor,
    Book,
    CallFunction,
    Complete,
    CreateRun,
    ForceEther,
    Terms,
    Wait,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.scenario import Scenario
from stakesim.search import shrink as shrink_module
from stakesim.search.contract_diagnosis import classify, diagnose_contract
from stakesim.search.probes import largest_run_probes
from stakesim.search.shrink import shrink
from stakesim.search.stateful import search
from stakesim.units import DAY, HOUR

pytestmark = pytest.mark.slow

PLANTED = CONTRACTS / "test" / "Planted.sol"
SOUND = CONTRACTS / "test" / "sound"
DEPLOYED = SOUND / "OfTheDeployedInterface.sol"
WHOLE = SOUND / "OtherMakes.sol"
STAND_IN = CONTRACTS / "test" / "MinimalEventStake.sol"
OWN_TERMS = Terms(
    stake_bps=1_500,
    fee_bps=333,
    forfeit_to_host_bps=5_000,
    cancellation_cutoff=2 * HOUR,
    completion_grace=3 * DAY,
)
STARTS = 2 * DAY
NO_CREDIT = ("            creditOf[to] += amount;\n", "")
FEES_AND_ALL_ELSE = (
    "        uint256 amount = platformBalance;\n        if (amount == 0) revert NothingToWithdraw();",
    "        uint256 amount = address(this).balance - _totals.escrow - _totals.credits;",
)
RESCUE = (
    "    function pause() external onlyOwner {",
    "    function rescue() external onlyOwner {\n"
    "        _send(msg.sender, address(this).balance - _totals.escrow - _totals.credits - platformBalance);\n    }\n\n"
    "    function pause() external onlyOwner {",
)
TOO_EARLY = ("        if (block.timestamp < run.start) revert TooEarly(run.start);\n", "")
NO_FORFEITS_TO_HOST = ("forfeits * FORFEIT_TO_HOST_BPS / BPS", "0")
LATE_BOOKING = (
    "        if (block.timestamp >= run.start) revert TooLate(run.start);\n        if (seats == 0)",
    "        if (seats == 0)",
)
SHUT_BY_PAUSE = (
    "uint256[] calldata attendedBookingIds) external nonReentrant {",
    "uint256[] calldata attendedBookingIds) external nonReentrant whenNotPaused {",
)
PAYER = Actor(pays="self")


def opened(artifact, terms=None):
    return closing(open_environment(fastest_engine(), artifact, "contract", terms=terms))


def story(*actions, strict=False, **more):
    names = {getattr(action, field, None) for action in actions for field in ("by", "to")}
    actors = {name: more.get(name, PAYER) for name in sorted(names - {None, "platform"})}
    return Scenario(name="told", story="A test.", strict=strict, actors=actors, actions=actions)


def opens(**more):
    return CreateRun(**{"run": "run1", "by": "host", "price_inr": Decimal(20_000), "seats": 2, "starts": STARTS} | more)


def books(name, booking="booking1", **more):
    return Book(booking=booking, run="run1", by=name, seats=1, **more)


# ------------------------------------------------------------------------------------------------------------- terms


@pytest.mark.parametrize("steps", [None, 5])
@pytest.mark.parametrize("usual", [None, Terms(fee_bps=400)])
def test_drawn_scenarios_have_the_usual_terms_and_others_up_to_the_ends(steps, usual):
    """Also where the usual ones are given, as the gate does."""
    drawn = [one.terms for one in select(["hostile"], runs=150, seed=3, steps=steps, terms=usual).scenarios]
    for name, (low, high, *_) in CHOICES.items():
        assert {low, high} <= {getattr(terms, name) for terms in drawn}, name
    assert 50 < drawn.count(usual or Terms(forfeit_to_host_bps=2_500)) < 100


@pytest.mark.parametrize("name", CHOICES)
def test_the_drawn_ends_are_those_of_the_terms(name):
    low, high, *between = CHOICES[name]
    assert all(low < value < high for value in between)
    Terms(**{name: low}), Terms(**{name: high})
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValueError, match=name):
            Terms(**{name: beyond})


def test_people_can_cancel_in_time_however_long_before_the_start_it_must_be():
    scenarios = select(["flaky"], runs=60, seed=0, steps=None, terms=None).scenarios
    long = [one for one in scenarios if one.terms.cancellation_cutoff == 30 * DAY]
    steps = [step for scenario in long for step in rehearse(scenario)]
    assert any(step.action.do == "cancel_booking" and step.outcome.status == "ok" for step in steps)


def test_a_share_of_forfeits_that_the_host_does_not_get_is_found_with_the_usual_terms_given():
    contract = plainly_patched(*NO_FORFEITS_TO_HOST)
    result = run("flaky", fastest_engine(), runs=10, driver="contract", contract=contract, terms=Terms(), probing=False)
    assert ContractWeakness.HOST_LOSES in {finding.weakness for finding in result.findings}


# ------------------------------------------------------------------------------------------------- the same failure


def test_what_is_left_out_leaves_the_same_failure():
    """Played again with ordinary people, its own expectations fail instead; that is another story."""
    scenario = story(
        opens(seats=1),
        books("refuser"),
        Complete(at=STARTS, run="run1", attended=("booking1",)),
        Withdraw(by="refuser", fails="TransferFailed"),
        strict=True,
        refuser=Actor(receiver="refuses"),
    )
    with opened(plainly_patched(*NO_CREDIT)) as environment:
        failure = run_scenario(environment, scenario)
        told = diagnose_contract(environment, failure, set())
    assert told.kind == failure.kind
    assert told.kind.place == "complete"
    assert "refuser: a contract that refuses ether" in narrate(told.findings)


def test_a_mistaken_expectation_is_told_as_it_is():
    scenario = story(opens(), CallFunction(function="pause", by="platform"), books("guest"), strict=True)
    with opened(compile_contracts()["EventStake"]) as environment:
        failure = run_scenario(environment, scenario)
        assert diagnose_contract(environment, failure, set()) is failure
    assert {finding.id for finding in failure.findings} == {"EXPECTATION"}


def test_what_is_left_out_leaves_no_other_failure():
    """Without the call that shuts the exit, only a view is wrong."""
    forgets = ("return _read(_hostRuns[host], 1, _hostRuns[host].at[0]);", "return _read(_hostRuns[host], 1, 0);")
    scenario = story(opens(), CallFunction(function="pause"), Complete(at=STARTS, run="run1", attended=()))
    with opened(plainly_patched(*SHUT_BY_PAUSE, forgets)) as environment:
        failure = run_scenario(environment, scenario)
        told = diagnose_contract(environment, failure, set())
    assert told.kind == failure.kind
    assert {finding.weakness for finding in told.findings} == {ContractWeakness.OWNER_SHUTS_EXITS}


def test_a_refused_closing_is_named_by_what_else_is_possible():
    """That is tried where the failure is, and not only at the end of the story."""
    scenario = story(opens(), Complete(at=STARTS, run="run1", by="platform", attended=()), Wait())
    with opened(plainly_compiled(f"{PLANTED}:FundsStayLocked")) as environment:
        told = diagnose_contract(environment, run_scenario(environment, scenario), set())
    assert {finding.weakness for finding in told.findings} == {ContractWeakness.FUNDS_LOCKED}


def test_shrinking_does_not_change_the_failing_action(monkeypatch):
    """Every story without a completion breaks the same invariant in another place, and is shorter."""
    scenario = story(opens(), books("guest"), Complete(run="run1", attended=("booking1",)))
    real = shrink_module.run_scenario

    def broken_everywhere(environment, scenario):
        result = real(environment, scenario)
        if not result.findings:
            place = {"scenario": scenario, "step": len(scenario.actions), "cause": Cause.NOT_REFUSED}
            result.findings = [Finding("INV-16", "", "", **place)]
        return result

    with opened(plainly_patched(*TOO_EARLY)) as environment:
        failure = run_scenario(environment, scenario)
        monkeypatch.setattr(shrink_module, "run_scenario", broken_everywhere)
        shrunk = shrink(environment, failure)
    assert [action.do for action in shrunk.scenario.actions] == ["create_run", "complete"]


def test_a_long_failure_is_made_short_by_bounded_work(monkeypatch):
    """Not by 600 runs of it, which take many minutes without a word."""
    scenario = story(*[Wait()] * 20, opens(), books("guest"), Complete(run="run1", attended=("booking1",)))
    played = []
    real = shrink_module.run_scenario

    def counted(environment, scenario):
        played.append(len(scenario.actions))
        return real(environment, scenario)

    with opened(plainly_patched(*TOO_EARLY)) as environment:
        failure = run_scenario(environment, scenario)
        monkeypatch.setattr(shrink_module, "run_scenario", counted)
        monkeypatch.setattr(shrink_module, "MAX_ACTIONS", 100)
        shrunk = shrink(environment, failure, name=lambda result: len(result.scenario.actions))  # no shorter one counts
    assert len(shrunk.scenario.actions) == len(scenario.actions)
    assert 100 <= sum(played) <= 100 + len(scenario.actions)


def test_overpayment_does_not_become_underpayment():
    """A wei too many is refused, and nothing else."""
    odd = ("        if (msg.value != amount) revert", "        if (msg.value == amount + 1) revert")
    with opened(plainly_patched(*odd)) as environment:
        scenario = story(opens(value_off=10**9, direct=True))
        told = diagnose_contract(environment, run_scenario(environment, scenario), set())
    assert {finding.weakness for finding in told.findings} == {ContractWeakness.OVERPAYMENT_KEPT}
    assert told.scenario.actions[-1].value_off == 10**9


# ------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("contract", "names"),
    [
        ("PayoutsAreDropped", {("a payout that was refused can't be had any more", "")}),
        ("PayoutsComeTwice", {("a payout can be had twice", "")}),
        ("FundsStayLocked", {("funds stay locked for ever", "")}),
        (
            "HostCantCancel",
            {
                ("a run can't be closed in a way in which it must", "cancel_run"),
                ("a run can't be closed in a way in which it must", "complete"),
            },
        ),
    ],
)
def test_one_cause_has_one_name(contract, names):
    scenarios = ["refusing-attendee", "host-cancels-full", "expired-with-bookings", "everybody-comes"]
    artifact = plainly_compiled(f"{PLANTED}:{contract}")
    result = run([*scenarios, "hostile"], fastest_engine(), driver="contract", runs=8, contract=artifact, probing=False)
    found = {(finding.weakness, finding.place) for finding in result.findings if finding.id != "VACUOUS"}
    assert found == names


def test_a_loss_is_told_by_who_has_it():
    artifact = plainly_compiled(f"{PLANTED}:AttendeesLoseAWei")
    result = run("no-show", fastest_engine(), driver="contract", contract=artifact, probing=False)
    assert {finding.weakness for finding in result.findings} == {ContractWeakness.ATTENDEE_LOSES}


@pytest.mark.parametrize(
    ("patch", "last"),
    [(FEES_AND_ALL_ELSE, WithdrawFees()), (RESCUE, CallFunction(function="rescue"))],
    ids=["fees", "rescue"],
)
def test_taking_forced_ether_takes_no_escrow(patch, last):
    scenario = story(opens(), books("guest"), ForceEther(by="guest", wei=7), last)
    with opened(plainly_patched(*patch)) as environment:
        assert classify(run_scenario(environment, scenario)).text == ContractWeakness.FORCED_ETHER_TAKEN


def test_taking_more_than_was_forced_in_takes_escrow():
    all_of_it = (FEES_AND_ALL_ELSE[0], "        uint256 amount = address(this).balance;")
    scenario = story(opens(), books("guest"), ForceEther(by="guest", wei=7), WithdrawFees())
    with opened(plainly_patched(*all_of_it)) as environment:
        assert classify(run_scenario(environment, scenario)).text == ContractWeakness.OWNER_TAKES_ESCROW


def test_a_function_that_shuts_exits_changes_no_terms():
    """Whether the last exit is tried at the end, or an action of the story is it."""
    with opened(plainly_patched(*SHUT_BY_PAUSE)) as environment:
        for end in (Wait(), Complete(at=STARTS, run="run1", attended=())):
            scenario = story(opens(), CallFunction(function="pause"), end)
            name = classify(run_scenario(environment, scenario))
            assert name == (ContractWeakness.OWNER_SHUTS_EXITS, "pause")


def test_every_cause_is_listed():
    """Two functions change terms: neither hides the other, and each is named."""
    result = run("no-show", fastest_engine(), driver="contract", contract=plainly_compiled(STAND_IN))
    found = {finding.place for finding in result.findings if finding.weakness == ContractWeakness.TERMS_CHANGE}
    assert found == {"setStakePercentage", "setPlatformFeePercentage"}


def test_a_search_goes_on_after_a_failure():
    with opened(plainly_patched(*LATE_BOOKING, TOO_EARLY)) as environment:
        failures = [*search(environment, 60, 25, seed=2)]
    assert {failure.kind.place for failure in failures} >= {"book", "complete"}
    assert len({classify(failure) for failure in failures}) == len(failures)


# ------------------------------------------------------------------------------------------------------ largest run


def test_the_largest_run_is_full_of_hostile_people_and_is_settled_in_every_way():
    with opened(load_contract(f"{PLANTED}:FullRunNeedsTooMuch")) as environment:
        assert environment.contract.traits.max_seats == 350
        failures = largest_run_probes(environment)
        named = {classify(failure).text for failure in failures}
    assert {failure.scenario.name for failure in failures} == {
        "probe-crowd-of-350-complete",
        "probe-crowd-of-350-cancel-run",
    }
    assert named == {ContractWeakness.RUN_TOO_LARGE}
    assert len(narrate(failures[0].findings).splitlines()) < 20


def test_a_run_at_the_limit_of_a_sound_contract_expires_too():
    with opened(compile_contracts()["EventStake"]) as environment:
        [last] = largest_run_probes(environment)
    assert (last.scenario.name, last.ok) == ("probe-crowd-of-200-expire", True)
    assert last.reached["runs expired"] == 1
    assert last.reached["payouts deferred"] > 100


def test_a_run_that_fails_at_any_size_is_not_too_large():
    with opened(plainly_compiled(f"{PLANTED}:HostCantCancel")) as environment:
        named = {classify(failure).text for failure in largest_run_probes(environment)}
    assert ContractWeakness.RUN_TOO_LARGE not in named


# --------------------------------------------------------------------------------------- contracts of another make


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("contract", "traits"),
    [
        (f"{DEPLOYED}:ClaimedPayments", {"pays_by_credit": True, "fees_by_credit": True}),
        (f"{DEPLOYED}:OtherPercentages", {"terms": Terms(stake_bps=1_000, fee_bps=300, forfeit_to_host_bps=2_500)}),
        (f"{DEPLOYED}:SmallRuns", {"max_seats": 12}),
        (f"{WHOLE}:PackedWords", {"terms": None, "max_seats": 200}),
        (f"{WHOLE}:PullPayments", {"pays_by_credit": True, "fees_by_credit": False}),
        (f"{WHOLE}:HostPaidFirst", {"pays_by_credit": False}),
        (f"{WHOLE}:FewSeats", {"max_seats": 7}),
        (
            f"{WHOLE}:OwnTerms",
            {"terms": OWN_TERMS},
        ),
        (f"{WHOLE}:StringErrors", {"pays_by_credit": False}),
    ],
    ids=lambda value: value.rpartition(":")[2] if isinstance(value, str) else "",
)
def test_nothing_is_found_in_a_sound_contract_of_another_make(contract, traits):
    artifact = plainly_compiled(contract)
    with opened(artifact) as environment:
        found = environment.contract.traits
        assert {name: getattr(found, name) for name in traits} == traits
    items = ["no-show", "refusing-attendee", "impossible-runs", "host-cancels-full", "hostile", "flaky"]
    result = run(items, fastest_engine(), driver="contract", runs=10, contract=artifact)
    assert result.ok, narrate(result.findings)


def test_a_contract_is_judged_by_the_terms_that_are_given():
    artifact = plainly_compiled(f"{DEPLOYED}:OtherPercentages")
    result = run("no-show", fastest_engine(), driver="contract", contract=artifact, terms=Terms(), probing=False)
    assert not result.ok


def test_what_a_contract_says_of_its_terms_is_believed(tmp_path):
    """And not what its payouts show, which may be wrong."""
    file = tmp_path / "MinimalEventStake.sol"
    text = STAND_IN.read_text().replace("stakePercentage = 20", "stakePercentage = 30")
    file.write_text(text.replace("uint256 fee = revenue * platformFeePercentage", "uint256 fee = revenue * 6"))
    artifact = load_contract(file)
    with opened(artifact) as environment:
        assert environment.contract.traits.terms == Terms(stake_bps=3_000, fee_bps=500)
    result = run("no-show", fastest_engine(), driver="contract", contract=artifact, probing=False)
    assert {finding.weakness for finding in result.findings} == {ContractWeakness.HOST_LOSES}


def test_terms_that_no_rule_knows_are_refused_in_one_sentence(tmp_path):
    file = tmp_path / "MinimalEventStake.sol"
    file.write_text(STAND_IN.read_text().replace("stakePercentage = 20", "stakePercentage = 60"))
    with pytest.raises(EngineError, match="its stake_bps is 6000, which is out of the bounds"):
        open_environment(fastest_engine(), load_contract(file), "contract")


# ------------------------------------------------------------------------------------------------- who can't pay


@pytest.mark.parametrize(
    "action", [ForceEther(by="guest", wei=10**30), opens(run="run2", price_inr=10**15, direct=True)]
)
def test_an_actor_who_cant_pay_is_told_in_one_sentence(action):
    with opened(None) as environment:
        result = run_scenario(environment, story(opens(), books("guest"), action, strict=True))
        [finding] = result.findings
        assert finding.id == "EXPECTATION"
        assert "has 999999" in finding.message or "has 1000000 ETH" in finding.message
        assert finding.message.endswith("lower the amount, the price or the seats")
        drawn = run_scenario(environment, story(opens(), books("guest"), action))
        assert drawn.ok
        assert drawn.reached[f"not supported: {action.do} of more wei than its sender has"] == 1
