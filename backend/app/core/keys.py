"""Settings of the keys that sign transactions: where each is, and the secret of the seals."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from eth_account import Account
from eth_account.signers.local import LocalAccount
from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from web3 import Web3

SETTINGS_CONFIG = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True)
"""Of all settings: errors show no values, as these may be secrets."""
MIN_SECRET_BYTES = 32
"""Minimum key length of HMAC-SHA-256 (RFC 7518, 3.2)."""
MIN_DIFFERENT_CHARACTERS = 10
"""Minimum number of different characters of a secret; one with fewer looks like a default."""
_SOURCES = ("platform_private_key", "platform_keystore", "signer_address")
_AT_SIGNER = ("signer_address", "signer_operator_addresses", "signer_previous_addresses")
_OPERATORS = ("platform_operator_keys", "platform_operator_keystores", "signer_operator_addresses")


class KeySourcesWrong(ValueError):
    """Several settings do not fit together; the message names them."""


def account_from_key(private_key: SecretStr) -> LocalAccount:
    """Returns the account of a private key.

    This checks the length, as `eth_account` pads a key that lacks a digit, and returns another account.

    Args:
        private_key: 32 bytes in hex, with or without 0x.

    Raises:
        ValueError: The key is malformed. The message does not contain the key.
    """
    text = private_key.get_secret_value()
    if re.fullmatch("(0x)?[0-9a-fA-F]{64}", text):
        with suppress(ValueError):
            account: LocalAccount = Account.from_key(text)
            return account
    raise ValueError("The private key is not 32 bytes in hex, or out of the curve's range.")


def check_address(text: str) -> str:
    """Returns an address with a checksum. Raises `ValueError`."""
    if not Web3.is_address(text):
        raise ValueError("This is no Ethereum address: give 0x and 40 hex digits.")
    return Web3.to_checksum_address(text)


def check_secret(secret: SecretStr | None) -> SecretStr | None:
    """Refuses secrets that can be guessed: too short, a usual default, or few different characters."""
    if secret is None:
        return None
    text = secret.get_secret_value()
    if len(text.encode()) < MIN_SECRET_BYTES:
        raise ValueError(
            f"The secret is too short: give at least {MIN_SECRET_BYTES} bytes, as `stakesim wallet new` does."
        )
    default = re.search("change.?me|secret|password|example|default", text, re.IGNORECASE)
    if default or len(set(text)) < MIN_DIFFERENT_CHARACTERS:
        raise ValueError("The secret looks like a default: give a random one, as `stakesim wallet new` does.")
    return secret


def _check_private_key(private_key: SecretStr | None) -> SecretStr | None:
    if private_key is not None:
        account_from_key(private_key)
    return private_key


def _check_private_keys(private_keys: SecretStr) -> SecretStr:
    for key in _split(private_keys.get_secret_value()):
        account_from_key(SecretStr(key))
    return private_keys


def _check_addresses(text: str) -> str:
    return ",".join(check_address(address) for address in _split(text))


def _check_signer_url(url: SecretStr | None) -> SecretStr | None:
    if url is not None and not re.match(r"https?://[^/\s]+", url.get_secret_value()):
        raise ValueError("Give the signer's address as https:// or http://.")
    return url


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_given(value: str | SecretStr) -> bool:
    return bool(_split(value.get_secret_value() if isinstance(value, SecretStr) else value))


_Key = Annotated[SecretStr | None, AfterValidator(_check_private_key)]
_Address = Annotated[str | None, AfterValidator(lambda text: text and check_address(text))]
_Secret = Annotated[SecretStr | None, AfterValidator(check_secret)]


class KeySettings(BaseSettings):
    """Where the keys are that sign transactions.

    Attributes:
        platform_private_key: Key of the account that acts on the contract and pays the gas: 32 bytes in hex.
        platform_keystore: A keystore file (V3) with that key, instead of the key itself.
        platform_keystore_password_file: File with the keystore's password; if None, a terminal is asked.
        signer_address: Address of that account, whose key a remote signer has.
        signer_url: URL of the remote signer, such as web3signer: it answers `eth_signTransaction`.
        signer_timeout_seconds: Seconds that the signer may take for an answer.
        platform_operator_keys: Keys of further operators of the contract, separated by commas. Each sends operations
            beside the platform's account, in a queue of its own (a lane).
        platform_operator_keystores: Keystore files with such keys, separated by commas.
        platform_operator_keystores_password_file: File with their password; if None, a terminal is asked.
        signer_operator_addresses: Addresses of such accounts whose keys the remote signer has, separated by commas.
        platform_previous_keys: Keys of accounts before, separated by commas: they sign what is left of their
            operations, and nothing new. Set them while keys are rotated.
        platform_previous_keystore: A keystore file with such a key.
        platform_previous_keystore_password_file: File with its password; if None, a terminal is asked.
        signer_previous_addresses: Addresses of such accounts whose keys the remote signer has, separated by commas.
        seal_secret: Key of the seals of operations; at least 32 bytes. If None, it is derived from the platform's key,
            which is not possible with a remote signer. With several operators it must be set, so that each key can be
            rotated alone.
        seal_secret_previous: Key of the seals before: operations with such a seal are still signed.
        custody_address: Address under which people without a wallet are entered in the contract, and which gets their
            money back; the platform's own if None.
    """

    model_config = SETTINGS_CONFIG

    platform_private_key: _Key = None
    platform_keystore: Path | None = None
    platform_keystore_password_file: Path | None = None
    signer_address: _Address = None
    signer_url: Annotated[SecretStr | None, AfterValidator(_check_signer_url)] = None
    signer_timeout_seconds: float = Field(default=3, gt=0, le=30)
    platform_operator_keys: Annotated[SecretStr, AfterValidator(_check_private_keys)] = SecretStr("")
    platform_operator_keystores: str = ""
    platform_operator_keystores_password_file: Path | None = None
    signer_operator_addresses: Annotated[str, AfterValidator(_check_addresses)] = ""
    platform_previous_keys: Annotated[SecretStr, AfterValidator(_check_private_keys)] = SecretStr("")
    platform_previous_keystore: Path | None = None
    platform_previous_keystore_password_file: Path | None = None
    signer_previous_addresses: Annotated[str, AfterValidator(_check_addresses)] = ""
    seal_secret: _Secret = Field(default=None, validate_default=True)
    seal_secret_previous: _Secret = None
    custody_address: _Address = None

    @field_validator("seal_secret")
    @classmethod
    def _fits_together(cls, seal_secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """Checks what is about several settings, with the last of them, unless one of them is wrong by itself."""
        values = info.data
        if not {*_SOURCES, "signer_url", *_AT_SIGNER, *_OPERATORS} <= values.keys():
            return seal_secret
        given = [name.upper() for name in _SOURCES if values[name]]
        if not given:
            message = "PLATFORM_PRIVATE_KEY is not set, nor PLATFORM_KEYSTORE or SIGNER_ADDRESS instead of it"
        elif len(given) > 1:
            message = f"{' and '.join(given)} are set: set only one of them, as the platform's account has one key"
        elif values["signer_url"] is None and any(values[name] for name in _AT_SIGNER):
            message = "SIGNER_URL is not set, but an address whose key a remote signer has"
        elif values["signer_address"] and seal_secret is None:
            message = "SEAL_SECRET is not set, and can't be derived from a key that a remote signer has"
        elif seal_secret is None and any(_is_given(values[name]) for name in _OPERATORS):
            message = "SEAL_SECRET is not set: with several operators it must not depend on the key of one of them"
        else:
            return seal_secret
        raise KeySourcesWrong(message)

    @property
    def operator_keys(self) -> list[SecretStr]:
        """The keys of `platform_operator_keys`."""
        return [SecretStr(key) for key in _split(self.platform_operator_keys.get_secret_value())]

    @property
    def operator_keystores(self) -> list[Path]:
        """The files of `platform_operator_keystores`."""
        return [Path(path) for path in _split(self.platform_operator_keystores)]

    @property
    def operator_addresses(self) -> list[str]:
        """The addresses of `signer_operator_addresses`."""
        return _split(self.signer_operator_addresses)

    @property
    def previous_keys(self) -> list[SecretStr]:
        """The keys of `platform_previous_keys`."""
        return [SecretStr(key) for key in _split(self.platform_previous_keys.get_secret_value())]

    @property
    def previous_addresses(self) -> list[str]:
        """The addresses of `signer_previous_addresses`."""
        return _split(self.signer_previous_addresses)
