"""A finding: something that must hold and does not."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from stakesim.runner.causes import Cause
from stakesim.scenario.scenario import Scenario


class FailureKind(NamedTuple):
    """What two failures have in common if they are the same one.

    Attributes:
        invariant: Id of the first broken invariant.
        cause: See `Finding`.
        about: See `Finding`.
        place: Kind of the failing action, with the function for a call; empty for what is checked at the end.
    """

    invariant: str
    cause: Cause | None
    about: str
    place: str


@dataclass(frozen=True)
class Finding:
    """Something that must hold and does not. `stakesim.runner.narrative` puts it into words.

    Attributes:
        id: The invariant's id; or EXPECTATION for what the scenario itself expects, CRASH for an unexpected exception,
            HANG for an action that never ends, VACUOUS for a campaign that reached too little.
        statement: What must hold.
        message: What is wrong.
        scenario: The scenario that failed; None for a finding about a whole campaign.
        engine: Name of the engine.
        driver: Name of the driver.
        step: Number of the failing action within the scenario, from 1.
        expected: The right amount in wei, where the finding is about an amount.
        actual: The amount found in wei, where the finding is about an amount.
        rate: INR per ETH at that step.
        saved: Path of the YAML file that replays it, with the option `--contract` where one is needed.
        weakness: What the diagnosis calls it: a `BackendFault`, a `ContractWeakness`, or other text; empty without one.
        at_stake: Wei in the contract before or after the step, whichever is more.
        party: Whose amount it is.
        place: Where the weakness is, if a contract may have it in several places: a function, an action.
        cause: What kind of difference it is, for the diagnosis; None for the kinds that no diagnosis asks for.
        about: What it is about, where the invariant is about several things: a view, an event, a way out.
    """

    id: str
    statement: str
    message: str
    scenario: Scenario | None = None
    engine: str = "py-evm"
    driver: str = ""
    step: int = 0
    expected: int | None = None
    actual: int | None = None
    rate: Decimal | None = None
    saved: str | None = None
    weakness: str = ""
    place: str = ""
    at_stake: int = 0
    party: str | None = None
    cause: Cause | None = None
    about: str = ""
