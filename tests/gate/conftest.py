"""A node, an account, and commands for the tests of deployments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from eth_account import Account
from eth_account.signers.local import LocalAccount
from stakesim.commands.cli import cli
from stakesim.evm.anvil import start_anvil
from stakesim.evm.source_build import SourceBuild, build_from_source
from stakesim.gate import node as node_module
from typer.testing import CliRunner
from web3 import Web3

from tests.gate.passing_report import passing_report

Stakesim = Callable[..., Result]
"""Calls a command line in this process."""


@pytest.fixture(scope="session")
def node() -> Iterator[str]:
    """URL of an anvil."""
    url, stop = start_anvil()
    yield url
    stop()


@pytest.fixture(scope="session")
def w3(node: str) -> Web3:
    return node_module.connect(node)


@pytest.fixture(scope="session")
def build() -> SourceBuild:
    """`EventStake`, compiled from its sources."""
    built = build_from_source()
    assert built is not None
    return built


def funded_account(w3: Web3) -> LocalAccount:
    account: LocalAccount = Account.create()
    w3.provider.make_request("anvil_setBalance", [account.address, hex(10**20)])  # type: ignore[arg-type]
    return account


@pytest.fixture
def account(w3: Web3) -> LocalAccount:
    """An account with 100 ETH."""
    return funded_account(w3)


@pytest.fixture
def report_file(tmp_path: Path) -> str:
    """A report that `EventStake` has just passed."""
    file = tmp_path / "gate.json"
    file.write_text(json.dumps(passing_report(datetime.now(UTC))))
    return str(file)


@pytest.fixture
def stakesim(account: LocalAccount, build: SourceBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stakesim:
    """Calls `stakesim` in an empty folder, with `account` as the platform's. `EventStake` is built only once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLATFORM_PRIVATE_KEY", account.key.to_0x_hex())

    def build_once(contract: str | None = None) -> SourceBuild | None:
        return build_from_source(contract) if contract else build

    monkeypatch.setattr("stakesim.evm.source_build.build_from_source", build_once)
    return lambda *arguments: CliRunner().invoke(cli, list(arguments))
