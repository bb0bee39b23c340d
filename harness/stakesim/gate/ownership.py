"""What the owner of a stake contract does: hands the ownership over, pauses, names operators.

The owner may be a multisig, whose members sign elsewhere: each call is prepared here and sent by whoever can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.types import TxReceipt

from stakesim.evm.abi import ContractAbi
from stakesim.evm.errors import EngineError
from stakesim.evm.required_abi import stake_abi
from stakesim.gate.contract_state import NOBODY, Contract, abi_item
from stakesim.gate.errors import ReleaseError
from stakesim.gate.node import NODE_ERRORS, node_error, with_fees
from stakesim.gate.sending import ignore, send_signed, sent

DELEGATION = b"\xef\x01\x00"
"""Start of the code of an account with a key that delegates to a contract (EIP-7702)."""
FUNCTIONS = ContractAbi(
    [
        abi_item("transferOwnership", inputs=["address"]),
        abi_item("acceptOwnership"),
        abi_item("pause"),
        abi_item("unpause"),
        abi_item("setOperator", inputs=["address", "bool"]),
    ]
)


class OwnerCall(NamedTuple):
    """A call that only one account may make.

    Attributes:
        sender: Who has to send it: the owner, or whom the ownership was offered.
        sender_is_contract: Whether that is a contract, such as a multisig.
        to: The stake contract.
        data: Call data. The value is 0 wei.
        meaning: What it does, in a sentence.
        done: View, its arguments, and what it returns once the call is done.
    """

    sender: ChecksumAddress
    sender_is_contract: bool
    to: ChecksumAddress
    data: bytes
    meaning: str
    done: tuple[str, tuple[Any, ...], Any]


class _Effect(NamedTuple):
    arguments: tuple[Any, ...]
    meaning: str
    done: tuple[str, tuple[Any, ...], Any]


def prepare(w3: Web3, address: ChecksumAddress, function: str, *arguments: Any) -> OwnerCall | None:
    """Prepares a call of the owner, and tries it without sending it.

    Args:
        w3: Connected to the node.
        address: Of the stake contract.
        function: One of `FUNCTIONS`.
        arguments: Its arguments.

    Returns:
        None if the contract is as the call would make it.

    Raises:
        ReleaseError: The contract has no such function, or would refuse the call.
        EngineError: The node fails.
    """
    try:
        contract = Contract(w3, address)
        if (owner := contract.view("owner")) is None:
            raise ReleaseError(f"There is no contract with an owner at {address}: correct --address.")
        sender = _offered_to(contract) if function == "acceptOwnership" else owner
        effect = _effect(contract, function, owner, arguments)
        view, view_arguments, result = effect.done
        current = contract.view(view, *view_arguments)
        if current == result:
            return None
        if current is None:
            raise ReleaseError(f"The contract at {address} has no {view}, so {function} is nothing that it can do.")
        data = FUNCTIONS.encode(function, *effect.arguments)
        call = {"from": sender, "to": address, "data": HexBytes(data), "value": 0}
        try:
            w3.eth.call(cast(Any, call))
        except ContractLogicError as error:
            raise ReleaseError(f"The contract refuses {function} from {sender}: {_reason(error)}.") from None
        code = bytes(w3.eth.get_code(sender))
        is_contract = bool(code) and not code.startswith(DELEGATION)
        return OwnerCall(sender, is_contract, address, data, effect.meaning, effect.done)
    except NODE_ERRORS as error:
        raise node_error(f"Preparing {function}", error) from error


def _offered_to(contract: Contract) -> ChecksumAddress:
    pending = contract.view("pendingOwner")
    if pending is None:
        raise ReleaseError(f"{contract.address} hands its ownership over in one step: there is nothing to accept.")
    if pending == NOBODY:
        raise ReleaseError("The ownership was offered to nobody: the owner has to transfer it first.")
    return cast(ChecksumAddress, pending)


def _effect(contract: Contract, function: str, owner: str, arguments: tuple[Any, ...]) -> _Effect:
    """Returns what a call does to this contract, in words and as a view says it afterwards."""
    at = contract.address
    match function, arguments:
        case "transferOwnership", (new,):
            return _transfer(contract, owner, new)
        case "acceptOwnership", ():
            pending = _offered_to(contract)
            return _Effect((), f"{pending} becomes the owner of {at}, instead of {owner}.", ("owner", (), pending))
        case "pause", ():
            meaning = f"{at} takes no new runs and bookings until it is unpaused. Money can leave it as before."
            return _Effect((), meaning, ("paused", (), True))
        case "unpause", ():
            return _Effect((), f"{at} takes new runs and bookings again.", ("paused", (), False))
        case "setOperator", (account, True):
            meaning = (
                f"{account} acts for the platform at {at}: it opens runs, books, completes and cancels for others, and "
                "can't withdraw fees, pause, or hand over the ownership."
            )
            return _Effect(arguments, meaning, ("isOperator", (account,), True))
        case "setOperator", (account, False):
            meaning = f"{account} acts no longer for the platform at {at}."
            return _Effect(arguments, meaning, ("isOperator", (account,), False))
        case _:
            raise ReleaseError(f"{function} is no call of an owner.")


def _transfer(contract: Contract, owner: str, new: str) -> _Effect:
    at = contract.address
    if new == at:
        raise ReleaseError(f"{at} can't own itself: nobody could act as its owner.")
    if contract.view("pendingOwner") is None:
        if new == NOBODY:
            raise ReleaseError(f"Nobody would own {at}: give the address of the new owner.")
        meaning = f"{new} owns {at} at once, instead of {owner}, who can't take it back."
        return _Effect((new,), meaning, ("owner", (), new))
    meaning = f"The ownership of {at} is offered to {new}, who owns it from accepting on. Until then {owner} does."
    if new == NOBODY:
        meaning = f"The ownership of {at} is offered to nobody any more."
    return _Effect((new,), meaning, ("pendingOwner", (), new))


def _reason(error: ContractLogicError) -> str:
    """Returns why a call was refused, in the words of the ABI."""
    data = error.data if isinstance(error.data, str) and error.data.startswith("0x") else "0x"
    return stake_abi().revert_reason(bytes(HexBytes(data))).text


def carry_out(
    w3: Web3, account: LocalAccount, call: OwnerCall, after_sending: Callable[[str], None] = ignore
) -> TxReceipt:
    """Sends a call, waits until it is mined, and checks that it did what it means.

    Args:
        w3: Connected to the node.
        account: Who signs and pays.
        call: As `prepare` returns it.
        after_sending: Called with the transaction's hash at once when the node has it.

    Raises:
        EngineError: The transaction fails, has no effect, or the node fails. After sending, the sentence has the
            transaction.
    """
    action = "Sending the transaction"
    try:
        transaction = with_fees(w3, account.address, {"to": call.to, "data": HexBytes(call.data)})
    except NODE_ERRORS as error:
        raise node_error(action, error) from error
    signed = account.sign_transaction(transaction)
    with sent(signed.hash.to_0x_hex(), action):
        receipt = send_signed(w3, signed, after_sending)
        view, arguments, result = call.done
        if (found := Contract(w3, call.to).view(view, *arguments)) != result:
            raise EngineError(f"The transaction was mined without its effect: {view} is {found}, not {result}.")
    return receipt
