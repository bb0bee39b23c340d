"""Everything about one operation, for `stakesim operations show`.

Rows come from the database. What node and wallet tell is added if settings and node allow it, and otherwise a sentence
says why it is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from app.bootstrap.check import NotReady
from app.bootstrap.checks import read_settings
from app.bootstrap.container import connect_services
from app.bootstrap.rehearsal import Rehearsal
from app.bootstrap.services import Services
from app.core.errors import AppError
from app.db.database import Database
from app.services import rpc
from app.services.interventions import COMMANDS, Interventions
from app.services.operation_list import find_operation, history, list_orphans
from app.services.operation_types import Operation
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable
from sqlalchemy import func, select

from stakesim_adapter.operation_views import (
    OperationsDocument,
    OperationView,
    describe_operation,
    view_history,
    view_operation,
)


def describe_details(database: Database, key: str, env_file: Path, *, as_json: bool) -> Iterator[str]:
    """Yields the lines about an operation, or one with JSON.

    Raises:
        InterventionRefused: There is no such operation.
    """
    operation = find_operation(database, key)
    with database.autocommit() as connection:
        now = connection.execute(select(func.clock_timestamp())).scalar_one()
    view = view_operation(operation, now)
    view.history = view_history(history(database, operation.key))
    missing = _add_what_node_and_wallet_know(view, operation, env_file)
    if as_json:
        document = OperationsDocument(operations=[view], next=None, orphans=len(list_orphans(database)))
        yield document.model_dump_json(indent=2)
        return
    yield from describe_operation(view)
    if missing:
        yield f"  not known: {missing}"


def _add_what_node_and_wallet_know(view: OperationView, operation: Operation, env_file: Path) -> str | None:
    """Returns why something is missing; None if nothing is."""
    try:
        settings = read_settings(env_file)
    except NotReady as error:
        return f"what the node knows, and the commands that may be used, as settings are missing: {error}"
    services = connect_services(settings)
    commands = Interventions(services.w3, services.database, services.sender, operator="nobody")
    view.commands = [name for name in COMMANDS if commands.reason_against(name, operation) is None]
    try:
        _add_what_node_knows(view, services)
        if not operation.closed:
            view.next_step = Rehearsal(services).describe(operation)
    except NODE_ERRORS as error:
        return f"what the node knows: {as_chain_unavailable(operation.kind, error).message}"
    except AppError as error:
        return f"what the node knows: {error.message}"
    return None


def _add_what_node_knows(view: OperationView, services: Services) -> None:
    for attempt in view.attempts:
        receipt = rpc.receipt(services.w3, attempt.hash)
        if receipt is not None:
            attempt.node = f"{'mined' if receipt.succeeded else 'reverted'} in block {receipt.block_number}"
        elif rpc.transaction(services.w3, attempt.hash) is not None:
            attempt.node = "in the mempool"
        else:
            attempt.node = "unknown to the node"
