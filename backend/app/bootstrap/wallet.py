"""Creates the platform's wallet in the `.env` file."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from pathlib import Path

from eth_account import Account

from app.core.errors import InvalidRequest

KEY_VARIABLE, SECRET_VARIABLE = "PLATFORM_PRIVATE_KEY", "JWT_SECRET"


def create_wallet(env_file: Path) -> str:
    """Writes the private key of a new account into the file, and a random JWT_SECRET if it has none.

    Other lines stay as they are. Afterwards only the file's owner can read it. The key is not shown or logged.

    Returns:
        The address of the account.

    Raises:
        InvalidRequest: The file already has a key. It is kept, as its wallet may hold ETH.
    """
    path = env_file.resolve()
    text = path.read_text() if path.exists() else ""
    if _has_value(text, KEY_VARIABLE):
        raise InvalidRequest(
            f"{env_file} has a {KEY_VARIABLE} already: it is kept. Give another file, or remove that line."
        )
    account = Account.create()
    text = _set_value(text, KEY_VARIABLE, account.key.to_0x_hex())
    if not _has_value(text, SECRET_VARIABLE):
        text = _set_value(text, SECRET_VARIABLE, secrets.token_hex(32))
    _replace_file(path, text)
    return str(account.address)


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
