"""The platform's key at a remote signer: what it answers is verified, and what can't be signed waits with its words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from app.api.metrics import _signer
from app.bootstrap.access_checks import check_signer
from app.bootstrap.services import build_services
from app.services.blockchain_service import BlockchainService
from app.services.operation_types import HeldCause
from app.services.transactions.accounts import SignerError, derived_sealer
from app.services.transactions.limits import Sealer
from app.services.transactions.remote_account import RemoteAccount
from app.services.transactions.sender import TransactionSender
from eth_account import Account
from fault_environment import POLICY, FaultEnvironment, NodeConnection, http
from pydantic import SecretStr
from remote_signer import RemoteSigner, remote_signer
from stakesim.evm.anvil import start_anvil
from web3 import HTTPProvider, Web3

pytestmark = pytest.mark.slow
TIMEOUT_S = 2
"""Long enough for a signer that works on a busy machine."""
SEAL_KEY = b"0123456789abcdefghijklmnopqrstuv"
OTHER = Account.from_key("0x" + "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
ELSEWHERE = "0x00000000000000000000000000000000000000AA"
FIELDS: dict[str, Any] = {
    "type": 2,
    "chainId": 31337,
    "to": ELSEWHERE,
    "value": 7,
    "data": b"\x01\x02",
    "nonce": 3,
    "gas": 60_000,
    "maxFeePerGas": 10**10,
    "maxPriorityFeePerGas": 10**9,
}


@pytest.fixture
def signer(environment: FaultEnvironment) -> Iterator[RemoteSigner]:
    with remote_signer(environment.platform) as server:
        yield server


def with_signer(environment: FaultEnvironment, signer: RemoteSigner, **policy: Any) -> FaultEnvironment:
    """Returns a process whose key is at the signer."""
    connection = NodeConnection(http(environment.engine), environment.database)
    w3 = Web3(connection, [])
    account = RemoteAccount(
        signer.url, environment.platform.address, timeout=TIMEOUT_S, clock=count(step=TIMEOUT_S).__next__
    )
    sealer = Sealer(account.address, [SEAL_KEY])
    sender = TransactionSender(w3, account, environment.database, replace(POLICY, **policy), sealer=sealer)
    chain = BlockchainService(w3, environment.address, sender)
    services = build_services(w3, environment.database, chain, environment.services.pricing)
    environment.opened.append(services)
    return replace(environment, connection=connection, services=services)


def account_of(environment: FaultEnvironment) -> RemoteAccount:
    account = environment.services.sender.accounts[0]
    assert isinstance(account, RemoteAccount)
    return account


def test_a_lifecycle_with_the_key_elsewhere(environment: FaultEnvironment, signer: RemoteSigner) -> None:
    remote = with_signer(environment, signer)
    run = remote.open_run()
    booking = remote.settle(remote.prepare_booking(run))
    remote.settle(remote.services.bookings.prepare_cancel(booking.subject))
    assert [each["from"] for each in signer.asked] == [environment.platform.address] * 3
    remote.check(runs=1, bookings=1)


def test_anvil_signs_as_a_remote_signer() -> None:
    """A node of somebody else's that speaks the same method; its own bytes pass the verification."""
    url, stop = start_anvil(accounts=1)
    try:
        w3 = Web3(HTTPProvider(url))
        account = RemoteAccount(SecretStr(url), w3.eth.accounts[0], 5)
        assert account.is_known()
        signed = account.sign_transaction(FIELDS | {"chainId": w3.eth.chain_id})
        assert Account.recover_transaction(signed.raw_transaction) == account.address
        with pytest.raises(SignerError, match="the signer refuses: ") as caught:
            RemoteAccount(SecretStr(url), OTHER.address, 5).sign_transaction(FIELDS)
        assert caught.value.cause == "refused"
    finally:
        stop()


def test_higher_fees_and_no_effect_are_signed_there_too(environment: FaultEnvironment, signer: RemoteSigner) -> None:
    remote = with_signer(environment, signer, bump_after=0)
    operation = remote.step(remote.step(remote.prepare_run()))
    bumped = remote.step(operation)
    assert len(bumped.attempts) == len(operation.attempts) + 1
    remote.settle(bumped)
    remote.check(runs=1)


def changed(**values: Any) -> Any:
    return lambda fields: fields | values


FAILURES: dict[str, tuple[dict[str, Any], str, str]] = {
    "another key": ({"key": OTHER}, "mismatch", f"the signer's answer is signed by {OTHER.address}, not"),
    "another receiver": ({"change": changed(to=ELSEWHERE)}, "mismatch", "the signer's answer is for another to"),
    "more wei": ({"change": lambda fields: fields | {"value": fields["value"] + 1}}, "mismatch", "for another value"),
    "other data": ({"change": changed(data="0x1234")}, "mismatch", "for another data"),
    "another nonce": ({"change": lambda fields: fields | {"nonce": fields["nonce"] + 1}}, "mismatch", "another nonce"),
    "another network": ({"change": changed(chainId=1)}, "mismatch", "another chainId"),
    "more gas": ({"change": changed(gas=9_999_999)}, "mismatch", "another gas"),
    "a higher fee": ({"change": changed(maxFeePerGas=10**15)}, "mismatch", "another maxFeePerGas"),
    "a higher tip": (
        {"change": lambda fields: fields | {"maxPriorityFeePerGas": 1}},
        "mismatch",
        "maxPriorityFeePerGas",
    ),
    "an access list": (
        {"change": changed(accessList=[{"address": ELSEWHERE, "storageKeys": []}])},
        "mismatch",
        "another accessList",
    ),
    "no bytes": ({"answer": b'{"jsonrpc":"2.0","id":1,"result":"signed"}'}, "malformed", "no signed transaction"),
    "cut bytes": ({"answer": b'{"jsonrpc":"2.0","id":1,"result":"0x02f8"}'}, "malformed", "no signed transaction"),
    "an object": ({"answer": b'{"jsonrpc":"2.0","id":1,"result":{"raw":"0x"}}'}, "malformed", "no signed transaction"),
    "no JSON": ({"answer": b"<html>"}, "malformed", "no JSON-RPC response"),
    "a list": ({"answer": b"[]"}, "malformed", "no JSON-RPC response"),
    "a refusal": (
        {"answer": b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"policy\\u0007 denies it"}}'},
        "refused",
        "the signer refuses: policy denies it",
    ),
    "an HTTP error": ({"answer": b"", "status": 503}, "unavailable", "HTTP status 503"),
    "silence": ({"answer": "silence"}, "timeout", f"the signer did not answer within {TIMEOUT_S} seconds"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_is_not_signed_rightly_waits_and_nothing_is_stored_or_sent(
    environment: FaultEnvironment, signer: RemoteSigner, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    failure, cause, words = FAILURES[name]
    remote = with_signer(environment, signer)
    remote.prepare_run()
    for attribute, value in failure.items():
        setattr(signer, attribute, value)
    caplog.set_level(logging.INFO)
    operation = remote.services.sender.step(remote.prepare_run())
    held = remote.services.sender.step(operation)
    assert (held.state, held.held_cause, held.attempts) == ("prepared", HeldCause.SIGNER, [])
    assert words in str(held.held)
    assert remote.connection.sent == []
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1, "said once"
    assert words in errors[0].getMessage()
    assert "signer-password" not in caplog.text
    assert account_of(remote).failures == {**dict.fromkeys(account_of(remote).failures, 0), cause: 2}
    [metric] = _signer(remote.services)
    assert {sample.labels["cause"]: sample.value for sample in metric.samples}[cause] == 2
    signer.work()
    assert remote.settle(held).state == "confirmed"


def test_a_signer_that_is_not_there(environment: FaultEnvironment, signer: RemoteSigner) -> None:
    remote = with_signer(environment, signer)
    operation = remote.prepare_run()
    signer.shutdown()
    signer.server_close()
    held = remote.services.sender.step(operation)
    assert (held.held_cause, held.held) == (HeldCause.SIGNER, "the signer can't be reached (ConnectionError)")


def test_a_fee_that_can_not_be_raised_leaves_the_attempts_as_they_are(
    environment: FaultEnvironment, signer: RemoteSigner
) -> None:
    remote = with_signer(environment, signer, bump_after=0)
    submitted = remote.step(remote.step(remote.prepare_run()))
    signer.key = OTHER
    held = remote.step(submitted)
    assert (held.held_cause, held.attempts) == (HeldCause.SIGNER, submitted.attempts)
    assert len(remote.connection.sent) >= 1
    assert set(remote.connection.sent) == {attempt.raw_transaction for attempt in submitted.attempts}
    signer.work()
    remote.settle(held)
    remote.check(runs=1)


def test_a_gap_that_can_not_be_filled_is_filled_later(environment: FaultEnvironment, signer: RemoteSigner) -> None:
    remote = with_signer(environment, signer)
    signer.key = OTHER
    sender = remote.services.sender
    assert sender._signer.fill_gap(sender.accounts[0], sender.chain_id, 5, sender.policy) is None
    signer.work()
    filling = sender._signer.fill_gap(sender.accounts[0], sender.chain_id, 5, sender.policy)
    assert filling is not None
    assert filling.nonce == 5


def test_the_signer_is_asked_for_its_accounts_by_the_checks(
    environment: FaultEnvironment, signer: RemoteSigner
) -> None:
    account = RemoteAccount(signer.url, environment.platform.address, TIMEOUT_S)
    stranger = RemoteAccount(signer.url, OTHER.address, TIMEOUT_S)
    known, unknown = check_signer([account, stranger])
    assert (known.ok, known.finding) == (True, f"The signer has the key of {account.address}.")
    assert (unknown.ok, unknown.fatal, unknown.finding) == (
        False,
        True,
        f"The signer lacks the key of {OTHER.address}.",
    )
    signer.answer = "silence"
    [silent] = check_signer([account])
    assert (silent.ok, silent.fatal) == (False, False)
    assert silent.finding == f"The signer did not answer within {TIMEOUT_S} seconds."
    assert not list(check_signer([environment.platform]))


# --------------------------------------------------------------------------------------------------------- seals


def test_seals_change_over_to_a_secret_of_their_own(environment: FaultEnvironment) -> None:
    """An operation that was sealed with the derived key is signed after the change, if that key is still there."""
    operation = environment.prepare_run()
    derived, platform = derived_sealer(environment.platform), environment.platform.address
    own_only, both = Sealer(platform, [SEAL_KEY]), Sealer(platform, [SEAL_KEY, derived._keys[0]])
    assert (derived.has_sealed(operation), own_only.has_sealed(operation), both.has_sealed(operation)) == (
        True,
        False,
        True,
    )
    new = with_sealer(environment, both)
    later = new.prepare_run()
    assert (derived.has_sealed(later), own_only.has_sealed(later)) == (False, True)
    for each in (operation, later):
        assert new.settle(each).state == "confirmed"


def test_a_previous_keys_seal_is_good_for_its_own_operations_only(environment: FaultEnvironment) -> None:
    operation = environment.prepare_run()
    derived, sender = derived_sealer(environment.platform), operation.sender
    elsewhere = Sealer(OTHER.address, [SEAL_KEY], {sender: derived._keys[0]})
    assert elsewhere.has_sealed(operation)
    forged = replace(operation, sender=OTHER.address)
    columns = {name: getattr(forged, name) for name in forged.__dataclass_fields__}
    assert not elsewhere.has_sealed(replace(forged, seal=derived.seal(columns)))


def with_sealer(environment: FaultEnvironment, sealer: Sealer) -> FaultEnvironment:
    worker = environment.worker()
    worker.services.sender.sealer = worker.services.sender._signer._sealer = sealer
    return worker
