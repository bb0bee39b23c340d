"""Opens the platform's accounts from the settings: keys, keystore files, and a remote signer."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from app.bootstrap.check import NotReady
from app.core.keys import KeySettings, account_from_key
from app.services.transactions.accounts import Accounts, SigningAccount
from app.services.transactions.limits import Sealer, derived_seal_key
from app.services.transactions.remote_account import RemoteAccount

OTHERS_MAY = 0o007
"""Permissions of a file with a key or password that nobody but its owner and group may have."""


def open_accounts(settings: KeySettings) -> Accounts:
    """Opens the accounts. Asks a terminal for the password of a keystore without a password file.

    Raises:
        NotReady: A keystore can't be opened.
    """
    platform = _open_platform(settings)
    operators = _without(_open_operators(settings), {platform.address})
    previous = _without(_open_previous(settings), {platform.address, *(each.address for each in operators)})
    keys = [
        secret.get_secret_value().encode()
        for secret in (settings.seal_secret, settings.seal_secret_previous)
        if secret is not None
    ]
    if isinstance(platform, LocalAccount):
        keys.insert(1 if settings.seal_secret else 0, derived_seal_key(platform))
    local = [each for each in previous if isinstance(each, LocalAccount)]
    by_sender: dict[str, bytes] = {each.address: derived_seal_key(each) for each in local}
    return Accounts(platform, operators, previous, Sealer(platform.address, keys, by_sender))


def _open_platform(settings: KeySettings) -> SigningAccount:
    if settings.platform_private_key is not None:
        return account_from_key(settings.platform_private_key)
    if settings.platform_keystore is not None:
        return open_keystore(settings.platform_keystore, settings.platform_keystore_password_file)
    assert settings.signer_address is not None
    return _remote(settings, settings.signer_address)


def _open_operators(settings: KeySettings) -> list[SigningAccount]:
    accounts: list[SigningAccount] = [account_from_key(key) for key in settings.operator_keys]
    password_file = settings.platform_operator_keystores_password_file
    accounts += [open_keystore(keystore, password_file) for keystore in settings.operator_keystores]
    return accounts + [_remote(settings, address) for address in settings.operator_addresses]


def _without(accounts: Iterable[SigningAccount], addresses: Collection[str]) -> list[SigningAccount]:
    """Returns each account once, without those at these addresses."""
    return list({each.address: each for each in accounts if each.address not in addresses}.values())


def _open_previous(settings: KeySettings) -> list[SigningAccount]:
    accounts: list[SigningAccount] = [account_from_key(key) for key in settings.previous_keys]
    if settings.platform_previous_keystore is not None:
        password_file = settings.platform_previous_keystore_password_file
        accounts.append(open_keystore(settings.platform_previous_keystore, password_file))
    return accounts + [_remote(settings, address) for address in settings.previous_addresses]


def _remote(settings: KeySettings, address: str) -> RemoteAccount:
    assert settings.signer_url is not None
    return RemoteAccount(settings.signer_url, address, settings.signer_timeout_seconds)


@cache
def open_keystore(keystore: Path, password_file: Path | None) -> LocalAccount:
    """Decrypts a keystore file (V3), once in a process, as that takes a second.

    Args:
        keystore: The file.
        password_file: File with the password, of which the first line counts; if None, a terminal is asked.

    Raises:
        NotReady: A file can't be read, others may read it, the password is wrong, or no terminal can be asked.
    """
    text = _read(keystore, "keystore")
    try:
        content = json.loads(text)
        is_keystore = isinstance(content, dict) and content["version"] == 3 and "crypto" in content
    except (ValueError, KeyError):
        is_keystore = False
    if not is_keystore:
        raise NotReady(f"The file {keystore} is no keystore of version 3: `stakesim wallet new --keystore` makes one.")
    try:
        key = bytes(Account.decrypt(content, _password(keystore, password_file)))
    except (ValueError, KeyError, TypeError) as error:
        if "MAC mismatch" in str(error):
            raise NotReady(f"The password of the keystore {keystore} is wrong.") from None
        raise NotReady(f"The keystore {keystore} is damaged, or encrypted in a way that is not known here.") from None
    account: LocalAccount = Account.from_key(key)
    return account


def read_password(password_file: Path) -> str:
    """Returns the first line of a password file. Raises `NotReady`."""
    lines = _read(password_file, "password file").splitlines()
    if not lines or not lines[0]:
        raise NotReady(f"The password file {password_file} is empty.")
    return lines[0]


def _password(keystore: Path, password_file: Path | None) -> str:
    if password_file is not None:
        return read_password(password_file)
    if not sys.stdin.isatty():
        raise NotReady(
            f"The keystore {keystore} needs a password, and there is no terminal to ask: "
            "set PLATFORM_KEYSTORE_PASSWORD_FILE."
        )
    return getpass.getpass(f"Password of {keystore}: ")


def _read(path: Path, what: str) -> str:
    try:
        if path.stat().st_mode & OTHERS_MAY:
            raise NotReady(f"Everybody on this machine may read the {what} {path}: run `chmod 600 {path}`.")
        return path.read_text()
    except FileNotFoundError:
        raise NotReady(f"There is no {what} {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise NotReady(f"The {what} {path} can't be read ({type(error).__name__}).") from None
