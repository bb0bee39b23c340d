"""What the lane draws can be sent: no argument is negative, as the rules and the contract would read it differently."""

from random import Random

from stakesim.lane.draw import draw_boundary
from stakesim.lane.moves import ACTORS
from stakesim.model.state import initial_state
from stakesim.scenario.actions import Terms


def test_no_argument_is_drawn_below_0():
    rng, state = Random(1), initial_state(Terms(), ACTORS, 10**9, takes_payments=False)
    drawn = {draw_boundary(rng, state, value) for value in (0, 1, 2**256 - 1) for _ in range(300)}
    assert min(drawn) == 0
    assert max(drawn) == 2**256 - 1
