"""Whether every view of the contract says what the model says. Views are only called, which changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stakesim.evm.errors import AbiError, CallReverted
from stakesim.evm.required_abi import stake_abi
from stakesim.model.state import State
from stakesim.model.views import ZERO_ADDRESS, ExpectedView, expected_views
from stakesim.runner.observe import Requests
from stakesim.runner.parties import EXPERIENCE_ID
from stakesim.runner.session import Session

_STRANGER = "0x" + "57" * 20


def wrong_views(session: Session, model: State) -> list[str]:
    """Calls the views of a contract with the full interface; other contracts say what they like of what is not there.

    Returns:
        A sentence for each view that does not say what the model says.
    """
    if not session.contract.full_interface:
        return []
    addresses = (*session.parties.addresses, ZERO_ADDRESS, _STRANGER, session.contract_address)
    expected = list(expected_views(model, addresses, EXPERIENCE_ID, roles=session.contract.has_roles))
    refused = [view for view in expected if view.error]
    answered = [view for view in expected if not view.error]
    alone = refused if _all_agree(session, answered) else expected
    return [message for view in alone for message in _difference(session, view)]


def _all_agree(session: Session, views: Sequence[ExpectedView]) -> bool:
    """Whether all of these are right, asked in one call."""
    requests: Requests = {}
    due: dict[str, list[Any]] = {}
    for view in views:
        requests.setdefault(view.function, []).append(_arguments(session, view))
        due.setdefault(view.function, []).append(view.results)
    try:
        return bool(_with_names(session, session.reader.answers(requests)) == due)
    except (CallReverted, AbiError):
        return False


def _difference(session: Session, view: ExpectedView) -> Iterator[str]:
    """Asks for one view alone, and says what is wrong with its answer."""
    call = f"{view.function}({', '.join(map(str, view.args))})"
    try:
        data = session.chain.call(
            session.contract_address, stake_abi().encode(view.function, *_arguments(session, view))
        )
        results = _with_names(session, stake_abi().decode(view.function, data))
    except CallReverted as reverted:
        reason = stake_abi().revert_reason(reverted.data)
        if view.error is None:
            yield f"{call} must return {view.results}, and fails: {reason.text}"
        elif session.contract.has_specified_errors and (reason.name, reason.args) != view.error:
            yield f"{call} must fail with {view.error}, and fails: {reason.text}"
    except AbiError as error:
        yield f"{call}: {error}"
    else:
        if view.error or results != view.results:
            yield f"{call} must {_due(view)}, and returns {results}"


def _due(view: ExpectedView) -> str:
    return f"return {view.results}" if view.error is None else f"fail with {view.error}"


def _arguments(session: Session, view: ExpectedView) -> tuple[Any, ...]:
    return tuple(session.parties.addresses.get(arg, arg) if isinstance(arg, str) else arg for arg in view.args)


def _with_names(session: Session, value: Any) -> Any:
    """The value with parties for addresses, and tuples for lists."""
    names = session.parties.names()

    def named(value: Any) -> Any:
        if isinstance(value, str):
            return names.get(value, value)
        return tuple(map(named, value)) if isinstance(value, list | tuple) else value

    if isinstance(value, dict):
        return {name: [named(results) for results in answers] for name, answers in value.items()}
    return named(value)
