"""Whether every view of the contract says what the model says. Views are only called, which changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stakesim.evm.batch_reader import ViewAnswer
from stakesim.evm.errors import AbiError, CallReverted
from stakesim.evm.required_abi import stake_abi
from stakesim.model.rules import CONTRACT, NOBODY
from stakesim.model.state import State, readable
from stakesim.model.views import ZERO_ADDRESS, ExpectedView, expected_views
from stakesim.runner.session import Session

_STRANGER = "0x" + "57" * 20


def wrong_views(session: Session, model: State) -> list[str]:
    """Calls the views of a contract with the full interface; other contracts say what they like of what is not there.

    Returns:
        A sentence for each view that does not say what the model says.
    """
    if not session.contract.full_interface:
        return []
    addresses = (*session.parties.addresses, NOBODY, _STRANGER, CONTRACT)
    views = list(expected_views(model, addresses, roles=session.contract.has_roles))
    answers = session.reader.answers([(view.function, _arguments(session, view)) for view in views])
    return [
        message for view, answer in zip(views, answers, strict=True) for message in _difference(session, view, answer)
    ]


def _difference(session: Session, view: ExpectedView, answer: ViewAnswer) -> Iterator[str]:
    """Says what is wrong with an answer."""
    call = f"{view.function}({', '.join(map(str, view.args))})"
    try:
        results = _with_names(session, stake_abi().decode(view.function, answer.returned()))
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


def _arguments(session: Session, view: ExpectedView) -> tuple[Any, ...]:
    addresses = {**session.parties.addresses, NOBODY: ZERO_ADDRESS, CONTRACT: session.contract_address}
    return tuple(addresses.get(arg, arg) if isinstance(arg, str) else arg for arg in view.args)


def _with_names(session: Session, results: Any) -> Any:
    """The results with parties for addresses, and tuples for lists."""
    if isinstance(results, str):
        return session.parties.names().get(results, results)
    return tuple(_with_names(session, value) for value in results) if isinstance(results, list | tuple) else results
