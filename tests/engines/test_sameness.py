"""The same transactions have the same hashes, addresses, gas and fees each time, and on py-evm, revm and anvil.

Measured with py-evm 0.12.1b1 and anvil 1.7.1: each number below is equal on both.
"""

from contextlib import closing

import pytest
from stakesim.evm.chain_spec import GENESIS_TIMESTAMP
from stakesim.evm.engines import open_engine

from tests.engines.transactions import deploy, send


def observe_transactions(name):
    """Mines various transactions and returns everything observable, except block hashes: the genesis blocks differ."""
    with closing(open_engine(name)) as engine:
        probe = deploy(engine)
        call = probe.functions
        observed = [probe.address, [account.address for account in engine.accounts]]
        for seconds, action, value in [
            (None, call.recordTime(), 0),
            (1_000, call.recordTime(), 0),
            (None, call.note(3, "pay"), 7),
            (50, call.fill(30), 0),
            (None, call.clear(), 0),
            (None, call.failWithError(1), 0),
            (None, call.failHard(), 0),
            (None, call.forward(6, 4), 0),
            (None, call.guarded(), 0),
            (None, call.note(4, "data " * 400), 0),  # pays the floor of EIP-7623, so Prague rules are on
            (None, call.noteTwice(5), 0),
            (86_400, engine.accounts[7].address, 10**18),
        ]:
            if seconds:
                engine.set_next_timestamp(engine.now() + seconds)
            receipt = send(engine, action, sender=1, value=value, gas=2_000_000)
            observed.append(
                (
                    receipt["transactionHash"].hex(),
                    receipt["status"],
                    receipt["gasUsed"],
                    receipt["effectiveGasPrice"],
                    receipt["blockNumber"],
                    engine.now() - GENESIS_TIMESTAMP,
                    [(log["logIndex"], log["data"].hex()) for log in receipt["logs"]],
                )
            )
        observed.append([engine.w3.eth.get_balance(account.address) for account in engine.accounts])
        return observed


@pytest.fixture(scope="module")
def on_py_evm():
    return observe_transactions("py-evm")


@pytest.mark.slow
def test_py_evm_is_deterministic(on_py_evm):
    assert observe_transactions("py-evm") == on_py_evm


@pytest.mark.slow
def test_anvil_is_deterministic_and_equals_py_evm(on_py_evm):
    assert observe_transactions("anvil") == on_py_evm
    assert observe_transactions("anvil") == on_py_evm
    assert observe_transactions("anvil:osaka") == on_py_evm


@pytest.mark.slow
def test_revm_is_deterministic_and_equals_py_evm(on_py_evm):
    pytest.importorskip("pyrevm", reason="the engine revm is an extra: pip install -e '.[revm]'")
    assert observe_transactions("revm") == on_py_evm
    assert observe_transactions("revm") == on_py_evm


def test_py_evm_block_hashes_are_deterministic():
    def last_hash():
        with closing(open_engine("py-evm")) as engine:
            deploy(engine)
            return engine.w3.eth.get_block("latest")["hash"]

    assert last_hash() == last_hash()
