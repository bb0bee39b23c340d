"""An account whose key a remote signer has, such as web3signer, which is asked by JSON-RPC for each signature.

What comes back is not trusted: it is decoded, its signer is recovered, and every field is compared with what was asked
for. So neither a signer that was taken over nor one with another configuration makes the service store or send
something else.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import requests
from eth_account import Account
from eth_account.datastructures import SignedTransaction
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_hash.auto import keccak
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from pydantic import SecretStr
from web3 import Web3

from app.services import rpc_http
from app.services.transactions.accounts import SignerError, SignerFailure

MAX_WORDS = 200
"""Length to which the signer's own words are cut."""
_NUMBERS = ("chainId", "value", "nonce", "gas", "maxFeePerGas", "maxPriorityFeePerGas")

log = logging.getLogger(__name__)


class RemoteAccount:
    """An account at a remote signer that answers `eth_signTransaction` and `eth_accounts`.

    Args:
        url: URL of the signer. It may contain a password, so it is never shown.
        address: Address of the account.
        timeout: Seconds that an answer may take. After a silence the signer is not asked for as long, so that
            operations that need it take no more than half of the time of those that step them.
        clock: Returns seconds; never goes back.

    Attributes:
        address: Address of the account.
        failures: How many signatures could not be had, by cause.
    """

    def __init__(
        self, url: SecretStr, address: str, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.address: ChecksumAddress = Web3.to_checksum_address(address)
        self.failures: Counter[SignerFailure] = Counter(dict.fromkeys(get_args(SignerFailure), 0))
        self._url, self._timeout, self._clock = url, timeout, clock
        self._silence: SignerError | None = None
        self._silent_until = float("-inf")
        self._local = threading.local()  # a session belongs to one thread

    def sign_transaction(self, transaction_dict: dict[str, Any], /) -> SignedTransaction:
        """Has a transaction of type 2 signed, and verifies what comes back.

        Raises:
            SignerError: There is no signature, or not the one that was asked for.
        """
        silence = self._silence
        if silence is not None and self._clock() < self._silent_until:
            raise SignerError(silence.cause, silence.words)
        numbers = {name: hex(transaction_dict[name]) for name in _NUMBERS}
        data = "0x" + bytes(transaction_dict["data"]).hex()
        request = {"from": self.address, "to": transaction_dict["to"], "data": data, "type": "0x2", **numbers}
        try:
            return _verified(self._ask("eth_signTransaction", [request]), transaction_dict, self.address)
        except SignerError as error:
            self.failures[error.cause] += 1
            if error.cause == "timeout":
                self._silence, self._silent_until = error, self._clock() + self._timeout
            raise

    def is_known(self) -> bool:
        """Returns whether the signer has the account's key, as it says. Raises `SignerError`."""
        answer = self._ask("eth_accounts", [])
        if not isinstance(answer, list):
            raise SignerError("malformed", "the signer's answer to eth_accounts is no list")
        return self.address.lower() in (str(each).lower() for each in answer)

    def _ask(self, method: str, params: list[Any]) -> Any:
        """Returns the result of a request. Raises `SignerError`."""
        session: requests.Session | None = getattr(self._local, "session", None)
        url = self._url.get_secret_value()
        if session is None:
            session = self._local.session = rpc_http.open_session(url)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        try:
            http_answer = rpc_http.post(session, url, body, self._timeout)
        except rpc_http.TIME_OUTS:
            raise SignerError("timeout", f"the signer did not answer within {self._timeout:g} seconds") from None
        except rpc_http.HTTP_ERRORS as error:
            raise SignerError("unavailable", f"the signer can't be reached ({type(error).__name__})") from None
        answer = rpc_http.decode(http_answer.content)
        if isinstance(answer, dict) and answer.get("error") is not None:
            raise SignerError("refused", f"the signer refuses: {_words(answer['error'])}")
        if http_answer.status != requests.codes.ok:
            raise SignerError("unavailable", f"the signer answers with HTTP status {http_answer.status}")
        if not isinstance(answer, dict) or "result" not in answer:
            raise SignerError("malformed", "the signer's answer is no JSON-RPC response")
        return answer["result"]


def _verified(result: Any, asked: dict[str, Any], address: str) -> SignedTransaction:
    """Returns a signed transaction if it is just the one that was asked for. Raises `SignerError`."""
    try:
        raw = HexBytes(result)
        fields = TypedTransaction.from_bytes(raw).as_dict()
        signer = Account.recover_transaction(raw)
        to, data = HexBytes(fields["to"]), HexBytes(fields["data"])
        differing = [name for name in _NUMBERS if fields[name] != asked[name]]
    except Exception as error:  # noqa: BLE001 - the answer may be anything, and so may the decoder's error
        kind = type(error).__name__
        raise SignerError("malformed", f"the signer's answer is no signed transaction of type 2 ({kind})") from None
    if signer != address:
        raise SignerError("mismatch", f"the signer's answer is signed by {signer}, not {address}")
    differing += ["to"] if to != HexBytes(asked["to"]) else []
    differing += ["data"] if data != HexBytes(asked["data"]) else []
    differing += ["accessList"] if fields["accessList"] else []
    differing += ["type"] if fields["type"] != asked["type"] else []
    if differing:
        raise SignerError("mismatch", f"the signer's answer is for another {', '.join(differing)}")
    return SignedTransaction(raw, HexBytes(keccak(raw)), fields["r"], fields["s"], fields["v"])


def _words(error: Any) -> str:
    """Returns a JSON-RPC error's message, cut, and without characters that a log or terminal interprets."""
    message = str(error.get("message", "") if isinstance(error, dict) else error)
    return "".join(each for each in message if each.isprintable())[:MAX_WORDS] or "it does not say why"
