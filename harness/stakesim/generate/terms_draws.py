"""The terms of a random scenario: usual ones, and others up to the edges of what the contract takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stakesim.generate.draws import pick
from stakesim.scenario.actions import Terms
from stakesim.units import DAY, HOUR

if TYPE_CHECKING:
    from numpy.random import Generator

CHOICES: Mapping[str, Sequence[int]] = {
    "stake_bps": (0, 5_000, 1, 2_000, 3_333),
    "fee_bps": (0, 1_000, 1, 500, 333),
    "forfeit_to_host_bps": (0, 10_000, 1, 5_000, 3_333),
    "cancellation_cutoff": (0, 30 * DAY, 1, DAY),
    "completion_grace": (HOUR, 90 * DAY, DAY, 7 * DAY),
}
"""Values of each term; the first two are the ends of what the contract takes."""


def random_terms(rng: Generator) -> Terms:
    """Draws each term by itself."""
    return Terms(**{name: pick(rng, values) for name, values in CHOICES.items()})


def usual_or_other(rng: Generator, usual: Terms, probability: float) -> Terms:
    """Other terms than the usual ones, with this probability."""
    return random_terms(rng) if rng.random() < probability else usual
