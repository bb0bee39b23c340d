"""The guided search finds what is planted, and nothing in what is sound."""

import json
from pathlib import Path

import pytest
from lane_helpers import findings, planted_contract, sound_contract
from plainly_patched import plainly_patched
from planted_bugs import together
from stakesim.evm.contract_file import patched_event_stake
from stakesim.lane.corpus import FILE, load_sequences, save_sequences
from stakesim.lane.judge import LaneJudge, learn
from stakesim.lane.knowledge import Entry
from stakesim.lane.moves import SCRIPT, Move, Nested, When
from stakesim.lane.play import Player, World
from stakesim.lane.search import LaneSearch
from stakesim.lane.worlds import worlds
from stakesim.runner.narrative import narrate
from stakesim.search.contract_search import confirm, open_search, save_corpus

pytestmark = pytest.mark.slow

QUICK = (  # each stands for a kind; all are found within some hundred sequences
    "withdraw-clears-after-call",
    "platform-by-origin",
    "operator-names-operators",
    "withdrawal-with-a-stipend",
    "rescue-by-owner",
    "plain-ether-taken",
    "credit-of-64-bits",
    "eleventh-person-refused",
    "removed-operator-owns",
)


def test_nothing_is_found_in_the_contract(campaign_seed: int) -> None:
    assert findings(sound_contract(), campaign_seed, sequences=250) == []


def test_what_is_settled_in_any_world_is_sound_as_a_scenario_too(campaign_seed: int) -> None:
    """A search plays some of what it kept as scenarios, with all invariants, whoever the attendees are."""
    search = open_search(sound_contract(), campaign_seed)
    for world in worlds():
        runs = [run.id for run in search.open_player(world).state.runs.values() if run.open]
        settled = (Move("expireEvent", "guest", (run,), when=When("deadline", run, 0)) for run in runs)
        search.corpus += [Entry(world.name, tuple(settled))] * bool(runs)
    assert 10 < len(search.corpus) <= 20, "the search plays 20 at least"
    assert [narrate(found.findings) for found in confirm(search)] == []


@pytest.mark.sampled
@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str, campaign_seed: int) -> None:
    found = findings(planted_contract(name), campaign_seed, sequences=6_000)
    assert found, name
    assert len(found[0].moves) <= 15


def test_an_inner_function_that_anybody_may_call_is_found(campaign_seed: int) -> None:
    """It takes no ether, so only runs of which no stake is due can be made with it."""
    head = (
        "_create(address host, string calldata experienceId, uint256 price, uint256 maxSeats, uint256 start)\n        "
    )
    contract = plainly_patched(f"{head}private", f"{head}public")
    assert findings(contract, campaign_seed, sequences=1_000)


def test_one_finding_does_not_hide_the_next(campaign_seed: int) -> None:
    name = next(iter(together()))
    found = findings(planted_contract(name), campaign_seed, sequences=1_000, most=5)
    assert len({finding.difference.cause for finding in found}) >= 5


def test_what_is_wrong_from_the_start_is_told_once_and_hides_nothing(campaign_seed: int) -> None:
    """A view that says something wrong before any call, and a thief who needs calls that bring money."""
    sound = "return _stakeOf(pricePerSeat * seats);"
    fees = "platformBalance += fee + forfeits - forfeitsToHost;"
    contract = plainly_patched(sound, "return _stakeOf(pricePerSeat * seats) + 1;", (fees, fees.replace("+=", "=")))
    search = LaneSearch(contract, campaign_seed)
    search.run(sequences=400, watch=lambda: True)
    causes = list(search.findings)
    assert [cause for cause in causes if cause[1] == "calculateRequiredStake"] == [
        ("view", "calculateRequiredStake", "after the deployment")
    ]
    assert any("platformBalance" in cause or cause[0] == "wei" for cause in causes), causes
    assert len(search.corpus) > 100
    assert not any("already show a finding" in reason for reason in search.skipped.values())


def test_a_view_that_is_wrong_for_long_does_not_hide_who_gets_too_much(campaign_seed: int) -> None:
    """The run's seats are wrong from the first booking on; who hosts a booked run gets a wei too much, silently."""
    host = "_push(run.host, hostPayout + stake);"
    contract = plainly_patched(
        host,
        host.replace("stake)", "stake + (run.seatsBooked == 0 ? 0 : 1))"),
        ("seatsBooked: run.seatsBooked,", "seatsBooked: run.seatsBooked * 2,"),
    )
    search = LaneSearch(contract, campaign_seed)
    search.run(sequences=3_000, watch=lambda: not any(cause[0] == "wei" for cause in search.findings))
    assert {("view", "getEventRun"), ("wei", "wallets")} <= {cause[:2] for cause in search.findings}


@pytest.mark.parametrize(
    ("sound", "wrong", "view"),
    [
        (
            "_sorted(_read(_runBookings[eventRunId], 0, _runs[eventRunId].bookings))",
            "_sorted(_read(_runBookings[eventRunId], 0, _existing(eventRunId).bookings))",
            "getEventBookings",
        ),
        ("hostStakeWithdrawn: run.status != RunStatus.Active,", "hostStakeWithdrawn: false,", "getEventRun"),
    ],
    ids=["of what does not exist", "of what does"],
)
def test_a_wrong_view_keeps_no_world_from_being_tried(sound: str, wrong: str, view: str, campaign_seed: int) -> None:
    search = LaneSearch(plainly_patched(sound, wrong), campaign_seed)
    search.run(sequences=50, watch=lambda: True)
    assert {(kind, function) for kind, function, _ in search.findings} == {("view", view)}
    assert search.skipped == {}


def test_a_mutant_that_is_wrong_from_the_start_is_killed() -> None:
    sound = LaneSearch(sound_contract(), 1)
    sound.run(sequences=5, watch=lambda: True)
    judge = LaneJudge(sound_contract(), learn(sound_contract(), sound), 0)
    mutant = plainly_patched("return _stakeOf(pricePerSeat * seats);", "return _stakeOf(pricePerSeat * seats) + 1;")
    kill = judge.judge(mutant)
    assert kill is not None
    assert (kill.kind, kill.shown_by) == ("view", "calculateRequiredStake")


def test_the_same_seed_gives_the_same_search(campaign_seed: int) -> None:
    def entries() -> list[tuple[str, tuple[Move, ...]]]:
        search = LaneSearch(sound_contract(), campaign_seed, worlds()[:2])
        search.run(sequences=60, watch=lambda: True)
        return [(entry.world, entry.moves) for entry in search.corpus]

    assert entries() == entries() != []


@pytest.mark.in_turn
def test_a_contract_whose_counters_are_not_found_is_searched_without_those_worlds() -> None:
    contract = patched_event_stake("++_totals.lastBookingId", "_totals.lastBookingId += 2")
    search = LaneSearch(contract, 1)
    assert "ids above 255" in search.skipped


def test_ids_are_not_set_where_all_up_to_the_last_are_taken_for_given(campaign_seed: int) -> None:
    """As where they are places of a list: set, they would make a sound contract look broken."""
    unknown = "if (run.host == address(0)) revert U"
    given = "if (eventRunId == 0 || eventRunId > _totals.lastRunId) revert U"
    bookings = [
        (
            f"if ({name}user == address(0)) revert UnknownBooking({id_})",
            f"if ({id_} == 0 || {id_} > _totals.lastBookingId) revert UnknownBooking({id_})",
        )
        for name, id_ in (("booking.", "id"), ("", "bookingId"))
    ]
    search = LaneSearch(plainly_patched(unknown, given, *bookings), campaign_seed)
    assert "ids can't be set" in search.skipped["ids above 255"]
    search.run(sequences=300, watch=lambda: True)
    assert [finding.difference.text for finding in search.findings.values()] == []


def test_a_corpus_is_read_as_it_was_written(tmp_path: Path) -> None:
    move = Move("completeEvent", "host", (1, (2, 3)), 0, When("start", 1, 0), 90_000, None)
    script = Move(SCRIPT, "trudy", ("accepts", Nested("completeEvent", (1, (2,)))))
    save_sequences(tmp_path, [("plain", [move, script])])
    assert load_sequences(tmp_path) == [("plain", (move, script))]


def test_lines_of_a_corpus_that_are_no_sequences_are_left_out(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"world": "plain"}\nnonsense\n[1]\n' + json.dumps({"world": "plain", "moves": []}))
    assert load_sequences(tmp_path) == [("plain", ())]


@pytest.mark.in_turn
def test_what_was_found_is_found_at_once_by_the_next_search(tmp_path: Path, campaign_seed: int) -> None:
    contract = planted_contract(next(iter(together())))
    search = LaneSearch(contract, campaign_seed)
    search.run(sequences=1_000, watch=lambda: len(search.findings) < 8)
    save_corpus(search, tmp_path)
    again = LaneSearch(contract, campaign_seed + 1)
    again.begin_with(load_sequences(tmp_path))
    for _ in search.findings:
        again.play_one()
    assert search.findings.keys() <= again.findings.keys()


def test_only_functions_that_the_interface_has_not_are_drawn_as_the_contracts_own() -> None:
    assert Player(sound_contract(), World("plain")).own_functions == []
    assert [name for name, _ in Player(planted_contract("rescue-by-owner"), World("plain")).own_functions] == ["rescue"]
