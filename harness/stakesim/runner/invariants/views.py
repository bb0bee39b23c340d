"""INV-23: what the contract says of itself."""

from __future__ import annotations

from collections.abc import Iterator

from stakesim.runner.invariants.registry import Violation, invariant
from stakesim.runner.step import Step


@invariant(
    "INV-23",
    "views",
    "every view says what the model says, at every edge of its arguments, for things that exist and things that don't "
    "(checked at the end; by receivers that look, while they are paid)",
)
def _views(s: Step) -> Iterator[Violation]:
    for message in s.wrong_views:
        yield Violation(message, about=message.partition("(")[0])
