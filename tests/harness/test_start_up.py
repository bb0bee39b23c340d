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
    "py_ecc.bls",
    "rich",
    "sqlalchemy",
    "stakesim.generate.random_scenario",
    "stakesim.search.backend_diagnosis",
    "web3",
    "yaml",
}
"""Packages and modules that take a noticeable time to import."""
RUN = ("run", "scenarios/no-show.yaml")
ALWAYS = {"eth_account", "rich", "web3", "yaml"}
BACKEND = {"app", "sqlalchemy"}


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
    assert imported_by(*RUN, "--engine", "revm") == ALWAYS | BACKEND
    assert imported_by(*RUN, "--engine", "revm", "--driver", "contract") == ALWAYS


def test_a_run_on_py_evm_needs_no_constants_of_bls12_381() -> None:
    """py_ecc's other curve is small, and py-evm builds its precompiled contracts when it is imported."""
    assert imported_by(*RUN) == ALWAYS | BACKEND | {"eth", "py_ecc"}


def test_the_name_of_an_engine_is_checked_without_a_client() -> None:
    """`pytest --stakesim-engine` checks it in the controller of pytest-xdist, which runs no test."""
    program = "import sys, stakesim.evm.engines; print({'web3', 'eth_account'} & set(sys.modules))"
    assert in_a_new_process(program) == "set()"


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


def test_precompiled_contracts_that_were_put_off_work_when_they_are_called() -> None:
    """The generator of BLS12-381 twice is the same by addition and by multiplication (EIP-2537)."""
    program = """
import sys
from stakesim.evm.quick_import import import_web3
import_web3()
from stakesim.evm.engines import open_engine
w3 = open_engine("py-evm").w3
assert "py_ecc.bls" not in sys.modules

def call(contract, data):
    return w3.eth.call({"to": w3.to_checksum_address(f"0x{contract:040x}"), "data": data, "gas": 1_000_000}).hex()

x = 0x17F1D3A73197D7942695638C4FA9AC0FC3688C4F9774B905A14E3A3F171BAC586C55E83FF97A1AEFFB3AF00ADB22C6BB
y = 0x08B3F481E3AAA0F1A09E30ED741D8AE4FCF5E095D5D00AF600DB18CB2C04B3EDD03CC744A2888AE40CAA232946C5E7E1
generator = f"{x:0128x}{y:0128x}"
twice = call(0x0B, "0x" + 2 * generator)
assert twice == call(0x0C, f"0x{generator}{2:064x}") and int(twice, 16)
assert "py_ecc.bls" in sys.modules
print("done")
"""
    assert in_a_new_process(program) == "done"
