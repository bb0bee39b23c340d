"""What a remote signer is asked, and which of its answers are a signature: without a server."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from app.services.transactions import remote_account as module
from app.services.transactions.accounts import SignerError
from app.services.transactions.remote_account import MAX_WORDS, RemoteAccount
from eth_account import Account
from pydantic import SecretStr

KEY, OTHER = (Account.from_key(f"0x{number:064x}") for number in (0x9C0883A6, 0xAC0883A6))
URL, TIMEOUT_S = "http://someone:secret@signer/", 3.0
FIELDS: dict[str, Any] = {
    "type": 2,
    "chainId": 31_337,
    "to": "0x" + "11" * 20,
    "value": 7,
    "data": b"\x01\x02",
    "nonce": 3,
    "gas": 60_000,
    "maxFeePerGas": 10**10,
    "maxPriorityFeePerGas": 10**9,
}


class World:
    """An account at a signer whose answers a test sets."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.asked, self.sessions = 100.0, list[Any](), list[Any]()
        self.answer: Any = None
        patch.setattr(module.rpc_http, "open_session", self._open)
        patch.setattr(module.rpc_http, "post", self._post)
        self.account = RemoteAccount(SecretStr(URL), KEY.address.lower(), TIMEOUT_S, lambda: self.now)

    def _open(self, url: str) -> Any:
        assert url == URL
        self.sessions.append(SimpleNamespace())
        return self.sessions[-1]

    def _post(self, session: Any, url: str, body: bytes, timeout: float) -> Any:
        assert (session in self.sessions, url, timeout) == (True, URL, TIMEOUT_S)
        self.asked.append(json.loads(body))
        answer = self.answer
        if isinstance(answer, Exception):
            raise answer
        status, content = answer if isinstance(answer, tuple) else (200, answer)
        return SimpleNamespace(status=status, content=content)

    def signs(self, key: Any = KEY, **changes: Any) -> None:
        raw = key.sign_transaction(FIELDS | changes).raw_transaction.to_0x_hex()
        self.answer = json.dumps({"jsonrpc": "2.0", "id": 1, "result": raw}).encode()

    def refusal(self) -> tuple[str, str]:
        with pytest.raises(SignerError) as caught:
            self.account.sign_transaction(FIELDS)
        return caught.value.cause, caught.value.words


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_signature_is_what_the_key_itself_signs(world: World) -> None:
    world.signs()
    signed, expected = world.account.sign_transaction(FIELDS), KEY.sign_transaction(FIELDS)
    assert signed == expected
    numbers = {"chainId": "0x7a69", "value": "0x7", "nonce": "0x3", "gas": "0xea60"}
    fees = {"maxFeePerGas": "0x2540be400", "maxPriorityFeePerGas": "0x3b9aca00"}
    call = {"from": KEY.address, "to": FIELDS["to"], "data": "0x0102", "type": "0x2"}
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_signTransaction", "params": [call | numbers | fees]}
    assert world.asked == [request]
    assert set(world.account.failures.values()) == {0}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"chainId": 31_338}, "chainId"),
        ({"value": 8}, "value"),
        ({"nonce": 4}, "nonce"),
        ({"gas": 60_001}, "gas"),
        ({"maxFeePerGas": 10**10 + 1}, "maxFeePerGas"),
        ({"maxPriorityFeePerGas": 10**9 - 1}, "maxPriorityFeePerGas"),
        ({"to": "0x" + "22" * 20}, "to"),
        ({"data": b"\x01\x03"}, "data"),
        ({"accessList": [{"address": "0x" + "33" * 20, "storageKeys": []}]}, "accessList"),
        ({"value": 8, "data": b""}, "value, data"),
    ],
)
def test_a_signature_of_something_else_is_none(world: World, changes: dict[str, Any], named: str) -> None:
    world.signs(**changes)
    assert world.refusal() == ("mismatch", f"the signer's answer is for another {named}")
    world.signs(OTHER)
    assert world.refusal() == ("mismatch", f"the signer's answer is signed by {OTHER.address}, not {KEY.address}")
    assert (world.account.failures["mismatch"], world.account.failures.total()) == (2, 2)


def test_a_signature_of_another_type_is_none(world: World) -> None:
    fields = FIELDS | {"type": 3, "maxFeePerBlobGas": 1, "blobVersionedHashes": [b"\x01" * 32]}
    raw = KEY.sign_transaction(fields).raw_transaction.to_0x_hex()
    world.answer = json.dumps({"result": raw}).encode()
    assert world.refusal() == ("mismatch", "the signer's answer is for another type")


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (requests.ReadTimeout(), "timeout", "the signer did not answer within 3 seconds"),
        (requests.ConnectionError(f"at {URL}"), "unavailable", "can't be reached (ConnectionError)"),
        ((503, b"{}"), "unavailable", "the signer answers with HTTP status 503"),
        ((201, b'{"result": "0x"}'), "unavailable", "HTTP status 201"),
        ((500, b'{"error": {"message": "no key"}}'), "refused", "the signer refuses: no key"),
        ((500, b'{"error": null}'), "unavailable", "HTTP status 500"),
        (b'{"error": "no\\u0007 key"}', "refused", "the signer refuses: no key"),
        (b'{"error": {"code": 1}}', "refused", "the signer refuses: it does not say why"),
        (b"[]", "malformed", "the signer's answer is no JSON-RPC response"),
        (b"{}", "malformed", "the signer's answer is no JSON-RPC response"),
        (b'{"result": "0x02"}', "malformed", "the signer's answer is no signed transaction of type 2"),
        (b'{"result": {"raw": "0x"}}', "malformed", "the signer's answer is no signed transaction of type 2"),
    ],
)
def test_an_answer_without_a_signature(world: World, answer: Any, cause: str, words: str) -> None:
    world.answer = answer
    said = world.refusal()
    assert said[0] == cause
    assert words in said[1]
    assert "secret" not in said[1]
    assert world.account.failures == {name: int(name == cause) for name in world.account.failures}
    assert set(world.account.failures) == {"timeout", "unavailable", "refused", "malformed", "mismatch"}


def test_long_words_are_cut(world: World) -> None:
    world.answer = json.dumps({"error": {"message": "a" * (MAX_WORDS + 1)}}).encode()
    assert world.refusal()[1] == "the signer refuses: " + "a" * 200


def test_after_a_silence_it_is_not_asked_for_as_long(world: World) -> None:
    world.answer = requests.ReadTimeout()
    silence = world.refusal()
    world.signs()
    world.now += TIMEOUT_S - 0.1
    assert world.refusal() == silence
    assert (len(world.asked), world.account.failures["timeout"]) == (1, 1)
    world.now += 0.1
    assert world.account.sign_transaction(FIELDS).hash == KEY.sign_transaction(FIELDS).hash
    world.answer = (503, b"")
    world.refusal()
    world.signs()
    assert world.account.sign_transaction(FIELDS), "only a silence takes time"


@pytest.mark.parametrize(
    ("accounts", "is_known"), [([OTHER.address], False), ([OTHER.address, KEY.address.lower()], True), ([], False)]
)
def test_whether_the_signer_has_the_key(world: World, accounts: list[str], is_known: bool) -> None:
    world.answer = json.dumps({"result": accounts}).encode()
    assert world.account.is_known() == is_known
    assert world.asked == [{"jsonrpc": "2.0", "id": 1, "method": "eth_accounts", "params": []}]
    world.answer = json.dumps({"result": KEY.address}).encode()
    with pytest.raises(SignerError, match="is no list") as caught:
        world.account.is_known()
    assert caught.value.cause == "malformed"


def test_each_thread_has_a_session(world: World) -> None:
    world.signs()
    for _ in range(2):
        world.account.sign_transaction(FIELDS)
        thread = threading.Thread(target=world.account.sign_transaction, args=(FIELDS,))
        thread.start()
        thread.join()
    assert len(world.sessions) == 3
