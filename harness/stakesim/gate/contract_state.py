"""Reads the state of a stake contract, of which nothing is known but that it may have some of these views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3RPCError

from stakesim.evm.abi import ContractAbi, Log
from stakesim.evm.errors import AbiError

NOBODY = "0x" + "00" * 20
FEWEST_BLOCKS = 100
"""Number of blocks whose logs every node gives in one response."""


def abi_item(name: str, *outputs: str, inputs: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the entry of a function in an ABI; it changes nothing if it has outputs."""
    parameters = [[{"name": "", "type": each} for each in types] for types in (inputs, outputs)]
    return {
        "type": "function",
        "name": name,
        "inputs": parameters[0],
        "outputs": parameters[1],
        "stateMutability": "view",
    }


_VIEWS = ContractAbi(
    [
        abi_item("owner", "address"),
        abi_item("pendingOwner", "address"),
        abi_item("isOperator", "bool", inputs=["address"]),
        abi_item("paused", "bool"),
        abi_item("terms", *["uint256"] * 5),  # a struct of five numbers, each in a word of its own
        abi_item("stakePercentage", "uint256"),
        abi_item("platformFeePercentage", "uint256"),
        abi_item("totalLiabilities", "uint256"),
        {
            "type": "event",
            "name": "OperatorSet",
            "inputs": [
                {"name": "account", "type": "address", "indexed": True},
                {"name": "allowed", "type": "bool", "indexed": False},
            ],
        },
    ]
)
"""What is asked of a contract. It need not have all of it."""
_OPERATOR_SET = Web3.keccak(text="OperatorSet(address,bool)")


class Contract:
    """A contract as of one block.

    Attributes:
        address: Its address.
        block: Number of the block.
    """

    def __init__(self, w3: Web3, address: ChecksumAddress) -> None:
        self.address, self.block = address, w3.eth.block_number
        self._w3 = w3

    def view(self, function: str, *args: Any) -> Any:
        """Returns what a view returns: a value, or a tuple of several; None if the contract has no such view."""
        call = {"to": self.address, "data": HexBytes(_VIEWS.encode(function, *args))}
        try:
            values = _VIEWS.decode(function, bytes(self._w3.eth.call(cast(Any, call), self.block)))
        except (ContractLogicError, AbiError):
            return None
        return values[0] if len(values) == 1 else values

    def balance(self) -> int:
        """Returns the balance in wei."""
        return self._w3.eth.get_balance(self.address, self.block)

    def operators(self, since: int) -> list[str]:
        """Returns all accounts that were made operators since a block, and still are, in the order of their events."""
        named = {event.args["account"] for event in _VIEWS.events(self._logs(since, self.block), self.address)}
        return sorted(account for account in named if self.view("isOperator", account))

    def _logs(self, first: int, last: int) -> Iterator[Log]:
        """Yields the logs of OperatorSet. Asks for half as many blocks where the node refuses so many."""
        query = {"address": self.address, "topics": [_OPERATOR_SET], "fromBlock": first, "toBlock": last}
        try:
            logs = self._w3.eth.get_logs(cast(Any, query))
        except Web3RPCError:
            if last - first < FEWEST_BLOCKS:
                raise
            middle = (first + last) // 2
            yield from self._logs(first, middle)
            yield from self._logs(middle + 1, last)
            return
        yield from (Log(log["address"], [bytes(topic) for topic in log["topics"]], bytes(log["data"])) for log in logs)
