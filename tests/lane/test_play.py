"""The lane's parts: what it encodes, what it plays, and what it makes of a sequence."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from random import Random
from typing import get_args

import pytest
from lane_helpers import findings, planted_contract, sound_contract
from plainly_patched import plainly_patched
from stakesim.evm.required_abi import stake_abi
from stakesim.lane.arena import Arena
from stakesim.lane.counters import find_counters
from stakesim.lane.draw import WIDTHS, draw_move
from stakesim.lane.moves import LEAST, PREPARATIONS, SAME_BLOCK, SCRIPT, SET_IDS, Move, Nested, When, call_of
from stakesim.lane.play import Difference, Player, World
from stakesim.lane.shrink import renumbered
from stakesim.lane.story import pytest_file, to_scenario
from stakesim.lane.worlds import worlds
from stakesim.model.rules import CALLS_OF_NOTHING, CONTRACT, FALLBACK
from stakesim.runner.environment import open_environment
from stakesim.runner.narrative import describe_action
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.actions import Actor, CallFunction, ReceiverMode, ScriptReceiver
from stakesim.scenario.scenario import Scenario, dump, loads
from stakesim.schema.fields import MOST_SEATS

pytestmark = pytest.mark.slow

PRICE = 10**16
DAY = 86_400
CREATE = Move("createEventRun", "host", ("a", PRICE, 4, 10 * DAY))
NO_DIFFERENCE = Difference("", "", "", "A random sequence.", 0)


def _drawn(player: Player, seed: int, count: int) -> list[Move]:
    rng = Random(seed)
    moves: list[Move] = []
    for position in range(count):
        move = draw_move(rng, player.state)
        if not player.play(move, position).undone:
            moves.append(move)
    return moves


def _differences(player: Player, moves: Sequence[Move]) -> list[Difference]:
    return [found for position, move in enumerate(moves) for found in player.play(move, position).differences]


def test_calls_are_encoded_as_eth_abi_encodes_them(campaign_seed: int) -> None:
    player = Player(sound_contract(), World("plain"))
    codec, addresses, compared = player.arena.codec, player.arena.addresses, 0
    for move in _drawn(player, campaign_seed, 300):
        if move.function in (*PREPARATIONS, *CALLS_OF_NOTHING):
            continue
        if any(isinstance(arg, str) and not arg.isprintable() for arg in move.args):
            continue
        call = call_of(player.state, move)
        if any("\udcff" in arg for arg in call.args if isinstance(arg, str)):
            continue  # no text, so eth-abi can't encode it
        args = [f"0x{addresses[arg]:040x}" if arg in addresses else arg for arg in call.args]
        assert codec.call(call.function, call.args) == stake_abi().encode(call.function, *args)
        compared += 1
    assert compared > 150


@pytest.mark.parametrize("world", worlds(), ids=lambda world: world.name)
def test_every_world_is_what_the_model_says(world: World) -> None:
    player = Player(sound_contract(), world)
    assert player.spoiled_by == ()
    assert player.check_state(0, after="nothing") == []


def test_a_sequence_of_the_lane_is_the_same_as_a_scenario(campaign_seed: int) -> None:
    """What the lane accepts, all invariants accept, on an engine with blocks, fees and signatures."""
    contract = sound_contract()
    environment = open_environment("revm", None, "contract")
    for number, world in enumerate(worlds()[:3]):
        player = Player(contract, world)
        moves = _drawn(player, campaign_seed + number, 25)
        scenario = to_scenario(
            Player(contract, World("plain", world.terms, world.time)),
            world,
            moves,
            NO_DIFFERENCE,
            name="drawn",
            seed=campaign_seed,
        )
        result = run_scenario(environment, loads(dump(scenario)))
        assert [finding.message for finding in result.findings] == [], dump(scenario)
    environment.close()


def test_numbers_at_the_edges_of_their_types_can_be_told_in_a_scenario() -> None:
    """Files have bounds of their own, beyond which a booking is a call of the function."""
    numbers = [0, MOST_SEATS, MOST_SEATS + 1] + [2**bits + off for bits in (*WIDTHS, 255) for off in (-1, 0, 1)]
    moves = [CREATE]
    for number in (*numbers, 2**256 - 1):
        moves += [Move("bookEvent", "guest", (1, number)), Move("cancelBooking", "guest", (number,))]
        terms = (("a", number, 4, DAY), ("a", PRICE, number, DAY), ("a", PRICE, 4, number))
        moves += [Move("createEventRun", "host", each) for each in terms]
    player = Player(sound_contract(), World("plain"))
    scenario = to_scenario(player, player.world, moves, NO_DIFFERENCE, name="edges")
    assert loads(dump(scenario)) == scenario
    kinds = Counter(type(action).__name__ for action in scenario.actions)
    assert min(kinds[kind] for kind in ("Book", "CreateRun", "CallFunction")) > 5


def test_a_payout_that_is_entered_again_takes_the_gas_that_it_takes_on_a_chain() -> None:
    """Else a re-entry may fit into the gas of a push in the lane alone."""
    moves = [
        CREATE,
        Move("bookEvent", "mallory", (1, 1)),
        Move("bookEvent", "trudy", (1, 1)),
        Move("bookEvent", "guest", (1, 1)),
        Move(SCRIPT, "mallory", ("accepts", Nested("cancelBooking", (1,)))),
        Move(SCRIPT, "trudy", ("refuses", None)),
        Move("cancelEvent", "host", (1,)),
    ]
    player = Player(sound_contract(), World("plain"))
    executed = [player.play(move, position).executed for position, move in enumerate(moves)][-1]
    assert executed is not None
    scenario = to_scenario(Player(sound_contract(), World("plain")), player.world, moves, NO_DIFFERENCE, name="gas")
    environment = open_environment("revm", None, "contract")
    rows = run_scenario(environment, scenario).rows
    environment.close()
    assert executed.gas == next(row.gas for row in reversed(rows) if row.gas)


@pytest.mark.parametrize("name", ["fee-rounded-up", "withdraw-clears-after-call", "unknown-calls-take-ether"])
def test_a_story_fails_as_a_scenario_and_passes_on_the_sound_contract(name: str, campaign_seed: int) -> None:
    contract = planted_contract(name)
    (found, *_) = findings(contract, campaign_seed, sequences=6_000)
    scenario = to_scenario(
        Player(contract, World("plain", found.world.terms, found.world.time)),
        found.world,
        found.moves,
        found.difference,
        name="found",
    )
    text = dump(scenario)
    for judged, fails in ((contract, True), (None, False)):
        environment = open_environment("revm", judged, "contract")
        assert bool(run_scenario(environment, loads(text)).findings) == fails, text
        environment.close()
    compile(pytest_file([text]), "test_found.py", "exec")


def test_a_receiver_that_enters_again_while_it_is_paid_is_refused() -> None:
    moves = [
        CREATE,
        Move("bookEvent", "mallory", (1, 1)),
        Move("bookEvent", "guest", (1, 3)),
        Move(SCRIPT, "mallory", ("refuses", None)),
        Move("cancelBooking", "mallory", (1,)),
        Move(SCRIPT, "mallory", ("accepts", Nested("withdraw"))),
        Move("withdraw", "mallory"),
    ]
    for contract, refused in ((sound_contract(), True), (planted_contract("withdraw-clears-after-call"), False)):
        player = Player(contract, World("plain"))
        differences = [
            found for position, move in enumerate(moves) for found in player.play(move, position).differences
        ]
        assert (differences == []) == refused


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        (
            "cancel-booking-during-withdrawal",
            [
                CREATE,
                *(Move("bookEvent", "mallory", (1, 1)) for _ in range(2)),
                Move(SCRIPT, "mallory", ("refuses", None)),
                Move("cancelBooking", "mallory", (1,)),
                Move(SCRIPT, "mallory", ("accepts", Nested("cancelBooking", (2,)))),
                Move("withdraw", "mallory"),
            ],
        ),
        (
            "second-booking-of-a-second-refused",
            [CREATE, Move("bookEvent", "guest", (1, 1)), Move("bookEvent", "guest", (1, 1), when=SAME_BLOCK)],
        ),
        ("unknown-calls-take-ether", [Move(FALLBACK, "guest", value_off=1)]),
    ],
)
def test_what_shows_a_planted_bug_is_right_on_the_sound_contract(name: str, moves: list[Move]) -> None:
    assert _differences(Player(sound_contract(), World("plain")), moves) == []
    assert len(_differences(Player(planted_contract(name), World("plain")), moves)) == 1


def test_who_enters_again_is_told_where_they_try_it_once_more_meanwhile() -> None:
    """The refund of the booking that is cancelled meanwhile is a payment, too: its call fails, and is told first."""
    contract = planted_contract("cancel-booking-during-withdrawal")
    moves = [
        CREATE,
        *(Move("bookEvent", "trudy", (1, 1)) for _ in range(2)),
        Move(SCRIPT, "trudy", ("refuses", None)),
        Move("cancelBooking", "trudy", (1,)),
        Move(SCRIPT, "trudy", ("accepts", Nested("cancelBooking", (2,)))),
        Move("withdraw", "trudy"),
    ]
    (found,) = _differences(Player(contract, World("plain")), moves)
    entered = "cancelBooking while it was paid, which must fail"
    assert found.cause == ("reentered", "withdraw", entered)
    story = to_scenario(Player(contract, World("plain")), World("plain"), moves, found, name="entered")
    with closing(open_environment("revm", contract, "contract")) as environment:
        (broken,) = run_scenario(environment, story).findings
    assert broken.message == f"trudy called {entered}"


def test_only_calls_of_one_second_are_in_one_block() -> None:
    price = "uint256 payment = run.pricePerSeat * seats;"
    once = f"if (_bookings[_totals.lastBookingId].bookedAt == block.number) revert InvalidSeats(seats); {price}"
    contract = plainly_patched(price, once, ("bookedAt = uint40(block.timestamp)", "bookedAt = uint40(block.number)"))
    book = Move("bookEvent", "guest", (1, 1))
    for when, fails in ((When(seconds=1), False), (SAME_BLOCK, True)):
        found = _differences(Player(contract, World("plain")), [CREATE, book, book._replace(when=when)])
        assert bool(found) == fails


def test_a_contract_may_say_in_its_own_words_that_there_is_no_such_function() -> None:
    own_words = """
        error NotAFunction();
        receive() external payable { revert NotAFunction(); }
        fallback() external payable { revert NotAFunction(); }
    """
    place = "// ---------------------------------------------------------------- money in"
    contract = plainly_patched(place, own_words)
    moves = [Move(call, "guest", value_off=wei) for call in CALLS_OF_NOTHING for wei in (0, 1)]
    assert _differences(Player(contract, World("plain")), moves) == []
    calls = tuple(
        CallFunction(function=move.function, by=move.by, value=move.value_off, fails="NoSuchFunction") for move in moves
    )
    story = Scenario(name="refused", story="Nothing is called.", actors={"guest": Actor()}, actions=calls)
    with closing(open_environment("revm", contract, "contract")) as environment:
        assert run_scenario(environment, story).findings == []


def test_least_gas_is_the_least_with_which_a_settlement_succeeds() -> None:
    player, least = Player(sound_contract(), World("plain")), None
    for missing in (None, 1, 0):
        player.restart()
        player.play(CREATE, 0)
        player.arena.settle()
        data = player.arena.codec.call("cancelEvent", (1,))
        if missing is None:
            least = player.arena.least_gas("host", data, 0, None)
        assert least is not None
        assert missing is None or player.arena.call("host", data, 0, least - missing).ok == (missing == 0)


def test_a_move_with_the_least_gas_succeeds() -> None:
    player = Player(sound_contract(), World("plain"))
    result = [player.play(move, 0) for move in (CREATE, Move("cancelEvent", "host", (1,), gas=LEAST))][-1]
    assert result.executed is not None
    assert (result.executed.ok, result.differences) == (True, [])


def test_a_smart_wallet_is_paid_by_a_push_and_a_greedy_one_by_a_withdrawal() -> None:
    for how, deferred in (("spends_little", False), ("spends_much", True)):
        player = Player(sound_contract(), World("plain"))
        moves = (
            CREATE,
            Move("bookEvent", "mallory", (1, 1)),
            Move(SCRIPT, "mallory", (how, None)),
            Move("cancelBooking", "mallory", (1,)),
        )
        assert _differences(player, moves) == []
        assert bool(player.state.credits) == deferred
        if deferred:
            assert player.play(Move("withdraw", "mallory"), 4).differences == []
        assert player.check_state(4, after="withdraw") == []


def test_counters_are_found_in_the_storage_of_the_contract() -> None:
    counters = find_counters(sound_contract())
    player = Player(sound_contract(), World("plain", moves=(Move(SET_IDS, "platform", (70_000, 300)),)))
    arena: Arena = player.arena
    assert arena.slot(counters.run[0]) >> counters.run[1] & 0xFFFF_FFFF == 70_000
    assert player.play(CREATE, 0).returned == 70_001
    assert player.play(Move("bookEvent", "guest", (70_001, 1)), 1).returned == 301
    assert player.check_state(1, after="bookEvent") == []


def test_ids_follow_when_a_move_that_made_one_is_left_out() -> None:
    moves = [
        CREATE,
        CREATE._replace(by="guest"),
        Move("bookEvent", "friend", (1, 1)),
        Move("bookEvent", "friend", (2, 1)),
        Move("completeEvent", "guest", (2, (2,)), when=When("start", 2, 0)),
    ]
    player = Player(sound_contract(), World("plain"))
    from stakesim.lane.shrink import _made

    made = _made(player, moves)
    kept = [1, 3, 4]
    assert list(renumbered([moves[position] for position in kept], made, kept)) == [
        moves[1],
        Move("bookEvent", "friend", (1, 1)),
        Move("completeEvent", "guest", (1, (1,)), when=When("start", 1, 0)),
    ]


def test_a_story_says_what_a_contract_does_when_it_is_paid() -> None:
    for how in get_args(ReceiverMode):
        told = describe_action(ScriptReceiver(by="trudy", how=how))
        assert told.startswith("from now on trudy ")
        assert "_" not in told


ROLES_OF_NOBODY = """
name: roles
story: Roles are given to addresses of nobody who takes part.
strict: false
actors: {a: {}}
actions:
  - {do: call, function: setOperator, args: [zero address, true], by: platform}
  - {do: call, function: setOperator, args: [the contract, true], by: platform}
  - {do: call, function: pause, by: platform}
  - {do: call, function: transferOwnership, args: [the contract], by: platform}
  - {do: call, function: acceptOwnership, by: a}
  - {do: call, function: transferOwnership, args: [zero address], by: platform}
  - {do: call, function: transferOwnership, args: ["0x5757575757575757575757575757575757575757"], by: platform}
  - {do: call, function: setOperator, args: ["0x5757575757575757575757575757575757575757", true], by: platform}
  - {do: call, function: setOperator, args: [zero address, false], by: platform}
"""


def test_a_story_says_what_is_called_where_there_is_no_function_and_no_letter() -> None:
    told = [
        describe_action(CallFunction(function=function, args=args, by="guest"))
        for function, args in (("receive", ()), ("fallback", ()), ("createEventRun", ("\x00\udcff", 1)))
    ]
    assert told[0].startswith("guest sends plain ether")
    assert told[1].startswith("guest calls a function that does not exist")
    assert told[2] == "guest calls createEventRun('\\x00\\udcff', 1)"


def test_roles_of_addresses_that_are_no_partys_are_no_finding() -> None:
    environment = open_environment("revm", None, "contract")
    assert run_scenario(environment, loads(ROLES_OF_NOBODY)).findings == []
    environment.close()


_CALLS = Nested("transferOwnership", ("operator",))
_LITTLE_GAS = [
    (CREATE, *script, Move("bookEvent", by, (3, 1), PRICE, gas=gas))
    for by, script in (("guest", ()), ("mallory", ()), ("mallory", (Move(SCRIPT, "mallory", ("accepts", _CALLS)),)))
    for gas in range(22_000, 40_000, 3_000)
]
"""Calls that are refused, or fail before that for want of gas; the last ones through a contract with code to run."""


@pytest.mark.parametrize(
    "moves",
    [
        *_LITTLE_GAS,
        (Move("transferOwnership", "platform", (CONTRACT,)),),
        (Move("transferOwnership", "platform", ("mallory",)), Move("transferOwnership", "platform", (CONTRACT,))),
    ],
    ids=lambda moves: f"{moves[-1].function} by {moves[-1].by}, gas {moves[-1].gas}",
)
def test_what_the_lane_finds_nothing_in_is_no_finding_as_a_scenario(moves: tuple[Move, ...]) -> None:
    """A gate failed after ten million calls: of each kept sequence a scenario is made."""
    player = Player(sound_contract(), World("plain"))
    assert [result.differences for result in map(player.play, moves, range(len(moves))) if result.differences] == []
    scenario = to_scenario(player, World("plain"), moves, NO_DIFFERENCE, name="kept", seed=0)
    with closing(open_environment("revm", driver="contract")) as environment:
        assert run_scenario(environment, scenario).findings == []
