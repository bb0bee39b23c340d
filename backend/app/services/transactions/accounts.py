"""The accounts that the service signs with: each has a key here, or at a remote signer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from eth_account.datastructures import SignedTransaction
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress

from app.services.transactions.limits import Sealer, derived_seal_key

SignerFailure = Literal["timeout", "unavailable", "refused", "malformed", "mismatch"]
"""How a remote signer fails: no answer in time, none at all, an error as the answer, an answer that is no signed
transaction, and one that is signed with another key or for something else."""


class SignerError(Exception):
    """A transaction could not be signed. Nothing was stored or sent.

    Attributes:
        cause: How the signer failed, for metrics.
        words: Why, as the end of a sentence.
    """

    def __init__(self, cause: SignerFailure, words: str) -> None:
        super().__init__(words)
        self.cause, self.words = cause, words


class SigningAccount(Protocol):
    """An account that signs transactions. `eth_account`'s `LocalAccount` is one."""

    @property
    def address(self) -> ChecksumAddress:
        """Address of the account."""

    def sign_transaction(self, transaction_dict: dict[str, Any], /) -> SignedTransaction:
        """Signs a transaction of type 2 (EIP-1559).

        Raises:
            SignerError: The key is elsewhere, and could not sign.
        """


@dataclass(frozen=True)
class Accounts:
    """The platform's accounts.

    Attributes:
        platform: Signs what is new; alone, or together with the operators.
        operators: Sign what is new as well, each its own operations.
        previous: Sign what is left of their operations, after a rotation of keys.
        sealer: Seals operations, and tells the services' ones from others.
    """

    platform: SigningAccount
    operators: Sequence[SigningAccount]
    previous: Sequence[SigningAccount]
    sealer: Sealer


def derived_sealer(platform: SigningAccount) -> Sealer:
    """Returns the sealer with the key that is derived from the platform's.

    Raises:
        TypeError: The platform's key is at a remote signer, so nothing can be derived from it.
    """
    if not isinstance(platform, LocalAccount):
        raise TypeError("No seal can be derived from a key that a remote signer has.")
    return Sealer(platform.address, [derived_seal_key(platform)])
