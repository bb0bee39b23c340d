"""Whether every view of the contract says what the model says, also while it pays. Views are only called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eth_utils.crypto import keccak

from stakesim.evm.batch_reader import ViewAnswer
from stakesim.evm.client import TransactionReceipt
from stakesim.evm.errors import AbiError, CallReverted
from stakesim.evm.required_abi import stake_abi
from stakesim.model.rules import CONTRACT, NOBODY
from stakesim.model.state import State, readable
from stakesim.model.views import ZERO_ADDRESS, ExpectedView, expected_views, twins
from stakesim.runner.session import Session

SAW = keccak(text="Saw(bytes32,uint256,uint256)")
"""Topic of what a receiver saw while it was paid (`contracts/adversaries/Receivers.sol`)."""
_STRANGER = "0x" + "57" * 20


def wrong_views(session: Session, model: State) -> list[str]:
    """Calls the views of a contract with the full interface; other contracts say what they like of what is not there.

    Returns:
        A sentence for each view that does not say what the model says.
    """
    if not session.contract.full_interface:
        return []
    known = session.parties.addresses
    addresses = [*known, NOBODY, _STRANGER, CONTRACT]
    for address in [known[party] for party in known if party in model.credits]:
        addresses += twins(address)
    views = list(expected_views(model, addresses, roles=session.contract.has_roles))
    at = {**session.parties.addresses, NOBODY: ZERO_ADDRESS, CONTRACT: session.contract_address}
    answers = session.reader.answers([(view.function, tuple(_address(arg, at) for arg in view.args)) for view in views])
    names = session.parties.names() | {session.contract_address: CONTRACT}
    return [
        message
        for view, answer in zip(views, answers, strict=True)
        for message in _difference(session, names, view, answer)
    ]


def stale_views(session: Session, model: State, receipts: Sequence[TransactionReceipt]) -> Iterator[str]:
    """Compares what receivers saw while they were paid with what the views say after it (rule 8 of the contract).

    What is owed changes once more if a payment is refused, and becomes a credit.

    Args:
        session: The contract, after the transactions.
        model: The model before them, which knows what receivers looked at.
        receipts: The transactions.

    Yields:
        A sentence for each view that said something else than it says now.
    """
    looks = {name: script.look for name, script in model.receivers.items() if script.look is not None}
    if not looks:
        return
    names, at = session.parties.names(), {**session.parties.addresses, CONTRACT: session.contract_address}
    logs = [log for receipt in receipts for log in receipt.logs]
    refused = any(event.name == "PaymentDeferred" for event in stake_abi().events(logs, session.contract_address))
    for log in logs:
        name = names.get(log.address, "")
        if name not in looks or log.topics[0] != SAW:
            continue
        views = [looks[name], ("platformBalance", ()), ("totalLiabilities", ())]
        calls = [(function, tuple(_address(arg, at) for arg in args)) for function, args in views]
        view, *amounts = [answer.data for answer in session.reader.answers(calls)]
        seen = [log.data[:32], log.data[32:64], log.data[64:]]
        for (function, args), then, now in zip(views, seen, [keccak(view), *amounts], strict=True):
            if then != now and not (function == "totalLiabilities" and refused):
                yield f"{function}({', '.join(map(str, args))}) says something else while {name} is paid than after it"


def _difference(session: Session, names: Mapping[str, str], view: ExpectedView, answer: ViewAnswer) -> Iterator[str]:
    """Says what is wrong with an answer."""
    call = f"{view.function}({', '.join(map(str, view.args))})"
    try:
        results = _with_names(names, stake_abi().decode(view.function, answer.returned()))
    except CallReverted as reverted:
        reason = stake_abi().revert_reason(reverted.data)
        if view.error is None:
            yield f"{call} must return {view.results}, and fails: {reason.text}"
        elif session.contract.has_specified_errors and (reason.name, reason.args) != view.error:
            yield f"{call} must fail with {view.error}, and fails: {reason.text}"
    except AbiError as error:
        yield f"{call}: {error}"
    else:
        if view.error or results != readable(view.results):
            yield f"{call} must {_due(view)}, and returns {results}"


def _due(view: ExpectedView) -> str:
    return f"return {view.results}" if view.error is None else f"fail with {view.error}"


def _address(argument: Any, addresses: Mapping[str, str]) -> Any:
    return addresses.get(argument, argument) if isinstance(argument, str) else argument


def _with_names(names: Mapping[str, str], results: Any) -> Any:
    """The results with parties for addresses, and tuples for lists."""
    if isinstance(results, str):
        return names.get(results, results)
    return tuple(_with_names(names, value) for value in results) if isinstance(results, list | tuple) else results
