"""Errors of chains, contracts and their ABIs."""

from stakesim.errors import StakesimError


class EngineError(StakesimError):
    """A chain, or the contract on it, can't be used."""


class NotSupported(EngineError):
    """The engine lacks a capability. `Engine.capabilities` lists those that it has."""


class AbiError(StakesimError):
    """Arguments do not fit a function, or data is not what the ABI describes."""


class MistakenCall(AbiError):
    """A scenario calls a function that the contract does not have, or with arguments that it does not take."""


class CannotPay(StakesimError):
    """A scenario has somebody send wei that they do not have."""


class CallReverted(StakesimError):
    """The contract, or the EVM, refused a call.

    Attributes:
        data: Data of the revert; empty if the node returned none.
    """

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data
