"""Row 42: the contract is paused, changes its owner, its percentages or its code while the service runs."""

from __future__ import annotations

from typing import Any

import pytest
from app.services.blockchain_service import BlockchainService
from app.services.contract_watch import ContractWatch
from app.services.operation_types import Operation
from backend_environment import deploy
from eth_utils.abi import function_signature_to_4byte_selector
from fault_environment import FaultEnvironment
from monitoring import errors, metrics, ready

pytestmark = pytest.mark.slow


def as_platform(environment: FaultEnvironment, function: str, *args: Any, by: int = 0) -> None:
    """Calls the contract with the platform's key past the service, or with another account's."""
    call: Any = environment.services.chain._codec.call(environment.services.chain.address, function, *args)
    transaction = {"from": environment.engine.accounts[by].address, "to": call.to, "data": "0x" + call.data.hex()}
    environment.rpc("anvil_impersonateAccount", transaction["from"])
    tx_hash = environment.rpc("eth_sendTransaction", transaction)
    environment.foreign.add(tx_hash)
    environment.mine(3)
    assert environment.w3.eth.get_transaction_receipt(tx_hash)["status"] == 1


def stopped(environment: FaultEnvironment, operation: Operation, caplog: pytest.LogCaptureFixture) -> Operation:
    """Checks that the operation is held for the contract's sake, and that everything says so."""
    operation = environment.find(operation)
    assert (operation.state, operation.held_cause, operation.nonce) == ("prepared", "contract", None)
    assert operation.held is not None
    status, checks = ready(environment.services)
    assert status == 503
    assert operation.held in checks["contract"]
    numbers = metrics(environment.services)
    assert numbers["stakesim_operations_held{contract}"] >= 1
    assert numbers["stakesim_problem{true}{contract}"] == 1
    assert errors(caplog).count(operation.held) == 1  # said once as the contract's problem, and once for the operation
    assert errors(caplog).count(f"{operation.kind} is held: {operation.held}") == 1
    return operation


@pytest.mark.parametrize("seen", ["by a round", "by a revert"])
def test_42_paused(environment: FaultEnvironment, caplog: pytest.LogCaptureFixture, seen: str) -> None:
    """New runs and bookings wait; cancelling goes on. Also if the pause is younger than the last round."""
    reconciler, services = environment.services.reconciler, environment.services
    first, second = environment.open_run(), environment.open_run()
    reconciler.run_full()
    held = environment.prepare_run(idempotency_key="held")
    as_platform(environment, "pause")
    if seen == "by a revert":
        environment.step(held)
    reconciler.run_full()
    for _ in range(3):
        reconciler.run_full()
        stopped(environment, held, caplog)
    environment.settle(services.runs.prepare_cancel(first))
    assert services.runs.get(first).status == "cancelled"
    as_platform(environment, "unpause")
    reconciler.run_full()
    assert ready(services) == (200, {})
    assert environment.settle(environment.find(held)).state == "confirmed"
    assert services.runs.get(second).status == "active"


def test_42_another_owner(environment: FaultEnvironment, caplog: pytest.LogCaptureFixture) -> None:
    reconciler, services = environment.services.reconciler, environment.services
    run = environment.open_run()
    reconciler.run_full()
    stranger = environment.engine.accounts[5].address
    create, cancel = environment.prepare_run(), services.runs.prepare_cancel(run)
    as_platform(environment, "transferOwnership", stranger)
    as_platform(environment, "acceptOwnership", by=5)
    for _ in range(2):
        reconciler.run_full()
    for operation in (create, cancel):
        stopped(environment, operation, caplog)
    as_platform(environment, "transferOwnership", environment.platform.address, by=5)
    as_platform(environment, "acceptOwnership")
    reconciler.run_full()
    assert ready(services) == (200, {})
    assert {environment.settle(environment.find(o)).state for o in (create, cancel)} == {"confirmed"}


def test_42_another_owner_while_the_platform_is_an_operator(
    environment: FaultEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything goes on but the withdrawal of fees; dismissed by the owner, the platform acts for nobody."""
    reconciler, services = environment.services.reconciler, environment.services
    run = environment.open_run()
    reconciler.run_full()
    owner = environment.engine.accounts[5].address
    as_platform(environment, "setOperator", environment.platform.address, True)
    as_platform(environment, "transferOwnership", owner)
    as_platform(environment, "acceptOwnership", by=5)
    for _ in range(2):
        reconciler.run_full()
    assert ready(services) == (200, {})
    assert environment.settle(environment.prepare_run(idempotency_key="as-operator")).state == "confirmed"
    as_platform(environment, "setOperator", environment.platform.address, False, by=5)
    create, cancel = environment.prepare_run(idempotency_key="dismissed"), services.runs.prepare_cancel(run)
    for _ in range(2):
        reconciler.run_full()
    for operation in (create, cancel):
        assert "neither owner nor operator" in (stopped(environment, operation, caplog).held or "")
    as_platform(environment, "setOperator", environment.platform.address, True, by=5)
    reconciler.run_full()
    assert ready(services) == (200, {})
    assert {environment.settle(environment.find(o)).state for o in (create, cancel)} == {"confirmed"}


@pytest.mark.parametrize("proxy", [False, True], ids=["code", "implementation of a proxy"])
def test_42_other_code_signs_nothing_at_all(
    environment: FaultEnvironment, caplog: pytest.LogCaptureFixture, proxy: bool
) -> None:
    reconciler, services = environment.services.reconciler, environment.services
    run = environment.open_run()
    sent = environment.follow(environment.prepare_run())
    reconciler.run_full()
    code = environment.rpc("eth_getCode", environment.address, "latest")
    cancel = services.runs.prepare_cancel(run)
    if proxy:
        slot = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"
        environment.rpc("anvil_setStorageAt", environment.address, slot, "0x" + environment.address[2:].zfill(64))
    else:
        environment.rpc("anvil_setCode", environment.address, code + "00")
    reconciler.run_full()
    stopped(environment, cancel, caplog)
    worker = environment.worker(bump_after=0)
    worker.services.sender.contract_watch = services.sender.contract_watch
    assert len(worker.step(worker.step(sent)).attempts) == 1
    if proxy:
        environment.rpc("anvil_setStorageAt", environment.address, slot, "0x" + "0" * 64)
    else:
        environment.rpc("anvil_setCode", environment.address, code)
    reconciler.run_full()
    assert ready(services) == (200, {})
    assert {environment.settle(environment.find(o)).state for o in (sent, cancel)} == {"confirmed"}


def test_42_percentages_of_the_older_contract(environment: FaultEnvironment) -> None:
    """Its owner can change them at any time; that holds what would pay by them."""
    w3, platform = environment.w3, environment.platform
    environment.rpc("evm_setAutomine", True)
    address = deploy(environment.engine, "MinimalEventStake")
    chain = BlockchainService(w3, address, environment.services.sender)
    watch = ContractWatch(w3, chain.address, platform.address)
    assert watch.look() is None
    environment.rpc("anvil_impersonateAccount", platform.address)
    data = function_signature_to_4byte_selector("setStakePercentage(uint256)") + (30).to_bytes(32)
    environment.rpc("eth_sendTransaction", {"from": platform.address, "to": chain.address, "data": "0x" + data.hex()})
    assert "were 20 and 5 percent and are 30 and 5" in (watch.look() or "")
    draft = environment.services.sender.draft(chain._call("bookEvent", 1, 1, value=1), None)
    operation: Any = type("Drafted", (), {"to_address": draft.call.to, "kind": "bookEvent", "sender": platform.address})
    assert "restart the service" in (watch.reason_to_hold(operation) or "")
    operation.kind = "cancelEvent"
    assert watch.reason_to_hold(operation) is None
