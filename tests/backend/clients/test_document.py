"""What is written about the API is true: the document in the repository, `API.md`, and the examples of the clients."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable

import pytest
from app.api.problem_types import CLIENT_ACTIONS, PROBLEM_TYPES, TYPE_PREFIX
from app.main import api_document
from app.services.codec import ARTIFACT
from client_environment import CLIENTS, ROOT, BuiltClient, run

pytestmark = pytest.mark.slow

PAGE = (ROOT / "backend/API.md").read_text(encoding="utf-8")
NOT_OF_CLIENTS = {
    "InvalidTerms",  # of the constructor
    "ExpectedPause",  # of functions for the owner
    "OwnableInvalidOwner",
    "OwnershipRequired",
    "NothingToWithdraw",  # of withdrawals, which the API does not have
    "TransferFailed",
    "ReentrancyGuardReentrantCall",  # a payout that fails becomes a credit
}
"""Errors of the contract that no request to the API leads to."""
OF_NO_ABI = {"OutOfGas", "Panic", "Error", "Unknown"}


def test_the_document_is_what_the_app_serves() -> None:
    kept = json.loads((ROOT / "backend/openapi.json").read_text(encoding="utf-8"))
    assert kept == api_document(), "renew it with `make openapi`"


def test_the_page_has_the_catalogue_of_problems() -> None:
    types = [
        (str(kind.status), f"`{kind.code}`", f"`{kind.action}`", kind.meaning, kind.advice)
        for kind in PROBLEM_TYPES.values()
    ]
    assert TYPE_PREFIX in PAGE
    assert _table(types) in PAGE, f"the table has to be\n{_table(types)}"
    actions = [(f"`{name}`", text) for name, text in CLIENT_ACTIONS.items()]
    assert _table(actions) in PAGE, f"the table has to be\n{_table(actions)}"


def test_the_page_has_all_routes() -> None:
    listed = {name.replace("{id}", "{}") for name in re.findall(r"^\| `([A-Z]+ /[^`]+)`", PAGE, re.MULTILINE)}
    listed |= {"GET /health", "GET /ready", "GET /metrics"}
    assert {name.replace("{key}", "{}") for name in listed} == {
        f"{method.upper()} {re.sub('{[^}]*}', '{}', path)}"
        for path, methods in api_document()["paths"].items()
        for method in methods
    }


def test_the_page_has_the_errors_of_the_contract_that_a_client_may_see() -> None:
    [table] = re.findall(r"^\| `error` \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    listed = [name for row in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    of_contract = {item["name"] for item in json.loads(ARTIFACT.read_text())["abi"] if item["type"] == "error"}
    assert sorted(listed) == sorted((of_contract - NOT_OF_CLIENTS) | OF_NO_ABI)


@pytest.mark.in_turn
def test_clients_and_their_examples_fit_the_types(client: BuiltClient) -> None:
    """The strictest checks of mypy and tsc; the build has compiled the TypeScript client already."""
    fence, name = ("python", "example.py") if client.language == "python" else ("ts", "example.ts")
    [example] = re.findall(rf"```{fence}\n(.*?)```", (CLIENTS / "README.md").read_text(), re.DOTALL)
    (client.folder / name).write_text(example)
    if client.language == "python":
        run([sys.executable, "-m", "mypy", "--strict", "."], client.folder)
    else:
        node, _ = client.command
        run([node, "node_modules/typescript/bin/tsc", "--noEmit"], client.folder)


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
