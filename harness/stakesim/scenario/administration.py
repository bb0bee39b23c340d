"""Actions about who acts for the platform, and about the pause. They move no money."""

from typing import Literal, TypeAlias

from stakesim.scenario.base_action import PLATFORM, BaseAction


class _Administration(BaseAction):
    """The fields of an action that only the contract's owner may take. There is no backend for it.

    Attributes:
        by: Who sends the transaction.
    """

    by: str = PLATFORM


class SetOperator(_Administration):
    """Lets an actor act for the platform, or no longer.

    Attributes:
        operator: The actor.
        allowed: Whether they may act for the platform from now on.
    """

    do: Literal["set_operator"] = "set_operator"
    operator: str
    allowed: bool = True


class Pause(_Administration):
    """Stops new runs and bookings."""

    do: Literal["pause"] = "pause"


class Unpause(_Administration):
    """Allows new runs and bookings again."""

    do: Literal["unpause"] = "unpause"


class TransferOwnership(_Administration):
    """Offers the ownership to an actor, who has it once they accept.

    Attributes:
        to: The actor.
    """

    do: Literal["transfer_ownership"] = "transfer_ownership"
    to: str


class AcceptOwnership(_Administration):
    """Takes the ownership that was offered.

    Attributes:
        by: Who takes it: only the actor whom it was offered to may.
    """

    do: Literal["accept_ownership"] = "accept_ownership"


Administration: TypeAlias = SetOperator | Pause | Unpause | TransferOwnership | AcceptOwnership
"""Any of them."""
