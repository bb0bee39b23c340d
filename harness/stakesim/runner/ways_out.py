"""Whether somebody can get what a contract owes them, by whatever functions it has.

A contract with the interface deployed on Sepolia has no view and no function for a payout that its receiver refused,
and a contract may pay nothing but by withdrawal. So money is judged by balances: every function that might pay is
tried, and what arrives is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from stakesim.evm.abi import Abi, AbiItem, ContractAbi, abi_type
from stakesim.evm.client import ChainClient, TransactionReceipt
from stakesim.evm.engine import Engine
from stakesim.evm.errors import AbiError
from stakesim.evm.required_abi import own_transactions

_NO_EXITS = ("transferOwnership", "renounceOwnership", "acceptOwnership", "receive", "fallback")
_MAX_CALLS = 64
"""Calls that are tried for one creditor."""


class Creditor(NamedTuple):
    """Somebody who is owed money.

    Attributes:
        account: Signs for them; for a hostile contract its controller.
        address: Theirs.
        is_contract: Whether they are a hostile contract, which then takes ether as long as it acts itself.
    """

    account: LocalAccount
    address: str
    is_contract: bool = False


class Paid(NamedTuple):
    """A call that paid its sender.

    Attributes:
        function: Name of the function.
        data: Call data.
        wei: How much it paid.
    """

    function: str
    data: bytes
    wei: int


class WaysOut:
    """Functions by which a contract pays its caller what it owes them."""

    def __init__(self, engine: Engine, chain: ChainClient, abi: Abi, address: str, account_abi: ContractAbi) -> None:
        """Looks for them in the contract's ABI.

        Args:
            engine: Takes snapshots.
            chain: Sends transactions.
            abi: Of the contract.
            address: Of the contract.
            account_abi: ABI of hostile contracts.
        """
        self._engine, self._chain, self._address, self._account_abi = engine, chain, address, account_abi
        self._functions = {item["name"]: item for item in abi if item.get("name") in ("withdraw", "withdrawTo")}
        self._functions |= {name: item for name, item in own_transactions(abi).items() if name not in _NO_EXITS}

    def take(self, creditor: Creditor, wei: int, ids: Iterable[int]) -> list[Paid]:
        """Takes out, on the chain as it is, what the creditor can get by calling functions of the contract's own.

        Args:
            creditor: Who calls.
            wei: What they are due; with that much they stop.
            ids: Of runs and bookings, for functions that take one.

        Returns:
            The calls that paid. Those that did not have left nothing on the chain.
        """
        paid: list[Paid] = []
        for function, data in self._calls(creditor.address, wei, [*ids]):
            if sum(one.wei for one in paid) >= wei:
                break
            snapshot = self._engine.snapshot()
            gained = self.call(creditor, data)
            if gained > 0:
                paid.append(Paid(function, data, gained))
            else:
                self._engine.revert(snapshot)
        return paid

    def take_too_much(self, creditor: Creditor, wei: int, ids: Iterable[int]) -> list[Paid]:
        """Begins with each function that pays, and goes on with all others: calls that paid more than is due in all.

        The chain is as before. See `take` for the arguments.
        """
        calls = [*self._calls(creditor.address, wei, [*ids])]
        for function, data in calls:
            snapshot = self._engine.snapshot()
            paid = [Paid(function, data, self.call(creditor, data))]
            if paid[0].wei > 0:
                paid += [Paid(name, more, self.call(creditor, more)) for name, more in calls]
            self._engine.revert(snapshot)
            if sum(one.wei for one in paid) > wei:
                return [one for one in paid if one.wei > 0]
        return []

    def call(self, creditor: Creditor, data: bytes) -> int:
        """Sends a call of the contract in the creditor's name, and returns the wei that they got."""
        before = self.balance(creditor.address)
        receipt = self._send(creditor, data)
        fee = 0 if creditor.is_contract else receipt.gas_used * receipt.gas_price
        return self.balance(creditor.address) - before + fee

    def _send(self, creditor: Creditor, data: bytes) -> TransactionReceipt:
        to = self._address
        if creditor.is_contract:
            data = self._account_abi.encode("executeAccepting", to, 0, data)
            to = creditor.address
        return self._chain.transact(creditor.account, to, data)

    def balance(self, address: str) -> int:
        """Returns what an account has, in wei."""
        return int(self._engine.w3.eth.get_balance(to_checksum_address(address)))

    def _calls(self, address: str, wei: int, ids: list[int]) -> Iterator[tuple[str, bytes]]:
        """Calls with arguments that might be meant: the own address, the amount, or the id of a run or booking."""
        calls = 0
        for function, item in self._functions.items():
            for args in _argument_lists(item, address, wei, ids):
                try:
                    data = ContractAbi([item]).encode(item["name"], *args)
                except AbiError:  # the amount is larger than the type
                    continue
                if calls == _MAX_CALLS:
                    return
                calls += 1
                yield function, data


def _argument_lists(item: AbiItem, address: str, wei: int, ids: list[int]) -> Iterator[tuple[Any, ...]]:
    """None for a function that takes something else than addresses and numbers."""
    choices: list[list[Any]] = []
    for parameter in item["inputs"]:
        kind = abi_type(parameter)
        if kind == "address":
            choices.append([address])
        elif kind.startswith("uint") and kind[-1].isdigit():
            choices.append([wei, *ids])
        else:
            return
    yield from product(*choices)
