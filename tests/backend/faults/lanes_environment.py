"""Workers with several operators: each a lane of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from app.bootstrap.services import build_services
from app.services.blockchain_service import BlockchainService
from app.services.operation_types import Operation
from app.services.transactions.accounts import SigningAccount
from app.services.transactions.limits import Sealer
from app.services.transactions.sender import TransactionSender
from eth_account import Account
from eth_account.signers.local import LocalAccount
from fault_environment import (
    POLICY,
    SEND,
    Fault,
    FaultEnvironment,
    NodeConnection,
    all_operations,
    effects,
    http,
    refusal,
)
from hexbytes import HexBytes
from web3 import Web3

SEAL_KEY = b"0123456789abcdefghijklmnopqrstuv"
OPERATORS = [Account.from_key(f"0x{number:064x}") for number in (0x9C0883A6, 0xAC0883A6, 0xBC0883A6)]


def call_as(environment: FaultEnvironment, by: LocalAccount, function: str, *arguments: str | bool) -> None:
    """Calls a function of ownership, in a block of its own."""
    types = [{"name": "", "type": "address" if isinstance(each, str) else "bool"} for each in arguments]
    abi = {"type": "function", "name": function, "stateMutability": "nonpayable", "outputs": [], "inputs": types}
    contract = environment.w3.eth.contract(Web3.to_checksum_address(environment.address), abi=[abi])  # type: ignore[list-item]
    fields = {"from": by.address, "nonce": environment.w3.eth.get_transaction_count(by.address), "gas": 100_000}
    signed = by.sign_transaction(contract.functions[function](*arguments).build_transaction(fields))  # type: ignore[arg-type]
    environment.w3.eth.send_raw_transaction(signed.raw_transaction)
    environment.mine()
    assert environment.w3.eth.get_transaction_receipt(signed.hash)["status"] == 1


def hire(environment: FaultEnvironment, *operators: SigningAccount) -> None:
    """Makes somebody else the contract's owner, and the platform and these accounts its operators."""
    owner = environment.engine.accounts[-1]
    call_as(environment, environment.platform, "transferOwnership", owner.address)
    call_as(environment, owner, "acceptOwnership")
    for operator in (environment.platform, *operators):
        call_as(environment, owner, "setOperator", operator.address, True)
        environment.rpc("anvil_setBalance", operator.address, hex(10**22))
    environment.mine(POLICY.confirmations)


def dismiss(environment: FaultEnvironment, operator: SigningAccount, allowed: bool = False) -> None:
    """Takes its role from an operator, or gives it back."""
    call_as(environment, environment.engine.accounts[-1], "setOperator", operator.address, allowed)


def with_lanes(
    environment: FaultEnvironment, *operators: SigningAccount, clock: Callable[[], float] | None = None, **policy: Any
) -> FaultEnvironment:
    """Returns a process with the platform's key and these operators' ones."""
    connection = NodeConnection(http(environment.engine), environment.database)
    w3 = Web3(connection, [])
    sealer = Sealer(environment.platform.address, [SEAL_KEY])
    options = {} if clock is None else {"clock": clock}
    sender = TransactionSender(
        *(w3, environment.platform, environment.database, replace(POLICY, **policy)),
        operators=operators,
        sealer=sealer,
        **options,  # type: ignore[arg-type]
    )
    chain = BlockchainService(w3, environment.address, sender)
    services = build_services(w3, environment.database, chain, environment.services.pricing)
    environment.opened.append(services)
    return replace(environment, connection=connection, services=services)


def finish(environment: FaultEnvironment, rounds: int = 12) -> None:
    """Lets the reconciler alone carry everything on, as after a restart."""
    for _ in range(rounds):
        environment.services.reconciler.run_once(timedelta())
        environment.mine()
    environment.services.reconciler.run_once(timedelta())


def for_sender(account: LocalAccount | SigningAccount, fault: Fault) -> Fault:
    """Returns a fault of transactions from one account only."""

    def only(method: str, params: Any, forward: Callable[[], Any]) -> Any:
        is_theirs = method == SEND and Account.recover_transaction(HexBytes(params[0])) == account.address
        return fault(method, params, forward) if is_theirs else forward()

    return only


def refused(words: str) -> Fault:
    return lambda method, params, forward: refusal(words)


def check_lanes(environment: FaultEnvironment, lanes: Sequence[SigningAccount], bookings: int) -> None:
    """Checks that all is quiet, with one effect for each confirmed operation, and nonces of each lane without gaps."""
    everything = all_operations(environment.database)
    by_sender: dict[str, list[int]] = defaultdict(list)
    counts = effects(environment)
    for operation in everything:
        assert operation.closed, (operation.kind, operation.state, operation.held)
        assert counts[operation.key] == (operation.state == "confirmed" and operation.kind != "fillNonceGap") or (
            operation.kind == "fillNonceGap"
        )
        if operation.nonce is not None:
            by_sender[operation.sender].append(operation.nonce)
    assert set(by_sender) <= {lane.address for lane in lanes}
    for sender, taken in by_sender.items():
        first = min(taken)
        assert sorted(taken) == list(range(first, first + len(taken))), sender
        used = environment.w3.eth.get_transaction_count(Web3.to_checksum_address(sender))
        assert used == first + len(taken), sender
    assert environment.pool() == 0
    assert environment.created()["bookings"] == bookings
    report = environment.services.reconciler.dry_run()
    assert (report.differences, report.pending) == ([], [])


def senders(operations: Sequence[Operation]) -> Counter[str]:
    return Counter(operation.sender for operation in operations)
