"""What the lane finds is made short: the way there ends, and the same difference shows."""

from random import Random

import pytest
from lane_helpers import planted_contract, sound_contract
from plainly_patched import plainly_patched
from stakesim.lane.draw import draw_move
from stakesim.lane.moves import Move, When
from stakesim.lane.play import Player, World
from stakesim.lane.shrink import first_difference, shrink, simpler_moves
from stakesim.lane.worlds import worlds
from stakesim.scenario.base_action import PLATFORM
from stakesim.units import DAY

pytestmark = pytest.mark.slow


def test_no_move_can_be_made_simpler_for_ever(campaign_seed: int) -> None:
    rng, player = Random(campaign_seed), Player(sound_contract(), World("plain"))
    drawn = [draw_move(rng, player.state) for _ in range(2_000)]
    drawn += [Move("createEventRun", "host", ("a", 10**16, seats, 10 * DAY)) for seats in range(6)]
    for move in drawn:
        simplest, steps = move, 0
        while simpler := list(simpler_moves(simplest)):
            simplest, steps = rng.choice(simpler), steps + 1
            assert steps < 300, move


def test_a_sequence_is_made_short_and_shows_the_same() -> None:
    contract = planted_contract("create-for-by-anyone")
    players = []

    def open_player(world: World) -> Player:
        players.append(Player(contract, world))
        return players[-1]

    run = Move("createEventRun", "host", ("abc", 10_001, 7, 10 * DAY))
    moves = (run, run, Move("bookEvent", "guest", (1, 2)), Move("createEventRunFor", "stranger", ("host", *run.args)))
    difference = first_difference(Player(contract, World("plain")), moves, CAUSE)
    assert difference is not None
    world, short, shown = shrink(open_player, World("an hour later", time=4_102_448_400), moves, difference)
    assert (world, shown.cause) == (World("plain"), CAUSE)
    assert short == (Move("createEventRunFor", "stranger", ("host", "a", 10**16, 1, 10 * DAY)),)
    assert sum(player.played for player in players) < 200


def test_a_wrong_error_is_told_by_the_call_that_must_succeed() -> None:
    contract = plainly_patched("start > type(uint40).max", "start > 2 ** 39")
    moves = (Move("createEventRun", "host", ("a", 10**16, 4, 2**39 + 1), value_off=1),)
    (found,) = Player(contract, World("plain")).play(moves[0], 0).differences
    assert (found.kind, found.detail) == ("error", "WrongValue, not InvalidStart")
    _, short, shown = shrink(lambda world: Player(contract, world), World("plain"), moves, found)
    assert (shown.kind, shown.detail, short[0].value_off) == ("refused", "InvalidStart", 0)


def test_a_call_that_only_lets_time_pass_is_left_out() -> None:
    wrong = "if (block.timestamp >= deadline) revert TooLate(run.start);\n\n        uint256 stake"
    contract = plainly_patched(
        "if (block.timestamp >= deadline) revert TooLate(deadline);\n\n        uint256 stake", wrong
    )
    moves = (
        Move("createEventRun", "host", ("a", 10**16, 1, 10 * DAY)),
        Move("createEventRun", "host", ("a", 10**16, 1, 30 * DAY)),
        Move("expireEvent", "guest", (2,), when=When("deadline", 2, 0)),
        Move("cancelEvent", "platform", (1,)),
    )
    difference = first_difference(
        Player(contract, World("plain")), moves, ("error", "cancelEvent", "TooLate, not TooLate")
    )
    assert difference is not None
    _, short, _ = shrink(lambda world: Player(contract, world), World("plain"), moves, difference)
    assert short == (moves[0], moves[-1]._replace(when=When("deadline", 1, 0)))


def test_a_full_run_of_the_most_seats_becomes_a_small_one_that_is_full() -> None:
    deadline = "if (block.timestamp >= deadline && _isPlatform()) deadline += COMPLETION_GRACE;"
    contract = plainly_patched(deadline, f"{deadline} if (run.seatsBooked == run.maxSeats) deadline = 0;")
    world = next(world for world in worlds() if world.name == "a full run of the most seats")
    moves = (Move("cancelEvent", "host", (1,)),)
    difference = Player(contract, world).play(moves[0], 0).differences[0]
    simplest, short, shown = shrink(lambda world: Player(contract, world), world, moves, difference)
    assert (simplest.moves, shown.cause) == ((), difference.cause)
    assert len(short) <= 3, short


@pytest.mark.parametrize("booking", [1, 97, 200])
def test_the_bookings_that_are_named_later_are_those_that_stay(booking: int) -> None:
    """The run has to be full, and is sold out again twice; see the bug's description."""
    contract = planted_contract("sold-out-again-and-again")
    world = next(world for world in worlds() if world.name == "a full run of the most seats")
    moves = (
        Move("cancelBooking", PLATFORM, (booking,)),
        Move("bookEvent", "friend", (1, 1)),
        Move("cancelBooking", "friend", (201,)),
        Move("cancelEvent", "host", (1,)),
    )
    difference = first_difference(Player(contract, world), moves, ("wei", "wallets", "after cancelEvent"))
    assert difference is not None
    simplest, short, _ = shrink(lambda world: Player(contract, world), world, moves, difference)
    assert (simplest.moves, len(short)) == ((), 6), short


CAUSE = ("accepted", "createEventRunFor", "OwnableUnauthorizedAccount")
