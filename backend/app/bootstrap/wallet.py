"""Creates the platform's wallet: in the `.env` file, or in a keystore."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from pathlib import Path

from eth_account import Account

from app.core.errors import InvalidRequest

KEY_VARIABLE, KEYSTORE_VARIABLE, SECRET_VARIABLE = "PLATFORM_PRIVATE_KEY", "PLATFORM_KEYSTORE", "JWT_SECRET"

MIN_PASSWORD_LENGTH = 12
"""Minimum length of a keystore's password in characters."""


def create_wallet(env_file: Path) -> str:
    """Writes the private key of a new account into the file, and a random JWT_SECRET if it has none.

    Other lines stay as they are. Afterwards only the file's owner can read it. The key is not shown or logged.

    Returns:
        The address of the account.

    Raises:
        InvalidRequest: The file already has a key. It is kept, as its wallet may hold ETH.
    """
    account = Account.create()
    _write_settings(env_file, KEY_VARIABLE, account.key.to_0x_hex())
    return str(account.address)


def create_keystore(env_file: Path, keystore: Path, password: str) -> str:
    """Writes a new account's key into an encrypted keystore (V3), and the keystore's path into the settings.

    Only the owner can read the keystore. A random JWT_SECRET is written if there is none.

    Returns:
        The address of the account.

    Raises:
        InvalidRequest: The keystore exists, the settings have a key already, or the password is too short.
    """
    if keystore.exists():
        raise InvalidRequest(f"{keystore} exists already: it is kept, as its wallet may hold ETH. Give another file.")
    if len(password) < MIN_PASSWORD_LENGTH:
        raise InvalidRequest(f"The password is too short: give at least {MIN_PASSWORD_LENGTH} characters.")
    _require_no_key(env_file)
    account = Account.create()
    _replace_file(keystore.resolve(), json.dumps(Account.encrypt(account.key, password)))
    _write_settings(env_file, KEYSTORE_VARIABLE, str(keystore.resolve()))
    return str(account.address)


def _require_no_key(env_file: Path) -> str:
    """Returns the file's text. Raises `InvalidRequest` if it has a key."""
    text = env_file.read_text() if env_file.exists() else ""
    for variable in (KEY_VARIABLE, KEYSTORE_VARIABLE):
        if _has_value(text, variable):
            raise InvalidRequest(
                f"{env_file} has a {variable} already: it is kept. Give another file, or remove that line."
            )
    return text


def _write_settings(env_file: Path, variable: str, value: str) -> None:
    text = _set_value(_require_no_key(env_file), variable, value)
    if not _has_value(text, SECRET_VARIABLE):
        text = _set_value(text, SECRET_VARIABLE, secrets.token_hex(32))
    _replace_file(env_file.resolve(), text)


def _line_start(variable: str) -> str:
    """Returns a regular expression for the start of a variable's line, up to the `=`."""
    return rf"^[ \t]*(?:export[ \t]+)?{variable}[ \t]*"


def _has_value(text: str, variable: str) -> bool:
    return bool(re.search(_line_start(variable) + r"=[ \t]*['\"]?[^\s'\"#]", text, re.MULTILINE))


def _set_value(text: str, variable: str, value: str) -> str:
    """Fills in the variable's empty line, or appends a line."""
    changed, count = re.subn(_line_start(variable) + "(?:=.*)?$", f"{variable}={value}", text, flags=re.MULTILINE)
    if count:
        return changed
    newline = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{newline}{variable}={value}\n"


def _replace_file(path: Path, text: str) -> None:
    """Replaces the file atomically, so that a crash can't leave half of it.

    `mkstemp` creates a file that only the owner can read.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
