"""A command imports nothing that is slow to import and that it does not need. Times are measured by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from stakesim.paths import checkout

pytestmark = pytest.mark.slow

SLOW = {
    "aiohttp",
    "app",
    "eth",
    "eth_account",
    "numba",
    "numpy",
    "pandas",
    "py_ecc",
    "rich",
    "sqlalchemy",
    "web3",
    "yaml",
}
"""Packages that take a noticeable time to import."""
RUN = ("run", "scenarios/no-show.yaml", "--engine", "revm")


def in_a_new_process(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=checkout(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def imported_by(*command: str) -> set[str]:
    """The packages of `SLOW` that a command imports."""
    program = f"""
import sys, json
sys.argv = ["stakesim", *{command}]
from stakesim.commands.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end
print(json.dumps([package for package in {sorted(SLOW)} if package in sys.modules]))
"""
    return set(json.loads(in_a_new_process(program)))


@pytest.mark.parametrize("command", [("--help",), ("run", "--help"), ("faults", "--help")], ids=" ".join)
def test_help_needs_only_typer(command: tuple[str, ...]) -> None:
    assert imported_by(*command) == set()


def test_a_run_on_revm_needs_neither_py_evm_nor_what_web3_hardly_uses() -> None:
    pytest.importorskip("pyrevm", reason="the engine revm is an extra: pip install -e '.[revm]'")
    assert imported_by(*RUN) == {"app", "eth_account", "rich", "sqlalchemy", "web3", "yaml"}
    assert imported_by(*RUN, "--driver", "contract") == {"eth_account", "rich", "web3", "yaml"}


def test_what_was_put_off_works_when_it_is_used() -> None:
    """A key file is read, and a session of web3's asynchronous provider opened; others import the packages as usual."""
    program = """
import asyncio, sys
from stakesim.evm.quick_import import import_web3
import_web3()
assert not {"py_ecc", "aiohttp", "eth_keyfile.keyfile"} & set(sys.modules)
from eth_account import Account
from web3.providers.rpc import AsyncHTTPProvider
stored = Account.encrypt(b"\\1" * 32, "password", iterations=2)
assert bytes(Account.decrypt(stored, "password")) == b"\\1" * 32

async def session():
    provider = AsyncHTTPProvider("http://127.0.0.1:1")
    opened = await provider._request_session_manager.async_cache_and_return_session(provider.endpoint_uri)
    import aiohttp
    assert isinstance(opened, aiohttp.ClientSession)
    await opened.close()

asyncio.run(session())
print("done")
"""
    assert in_a_new_process(program) == "done"
