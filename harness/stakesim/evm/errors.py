"""What goes wrong with a chain, in a sentence for whoever asked for it."""

from stakesim.errors import StakesimError


class EngineError(StakesimError):
    """One sentence: what is wrong, and what to do about it."""


class NotSupported(EngineError):
    """The engine lacks this capability; `Engine.capabilities` says beforehand."""


class AbiError(StakesimError):
    """Arguments that don't fit a function, or data that is not what the ABI describes."""


class MistakenCall(AbiError):
    """A scenario calls a function that the contract does not have, or with other arguments than it takes."""


class CallReverted(Exception):
    """A call that the contract, or the EVM, refused.

    Attributes:
        data: What came with the revert; empty where the node hands nothing on.
    """

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data
