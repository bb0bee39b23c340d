"""A platform wallet of one's own, in the `.env` file."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from pathlib import Path

from eth_account import Account

from app.core.errors import InvalidRequest

KEY, SECRET = "PLATFORM_PRIVATE_KEY", "JWT_SECRET"


def new_wallet(env_file: Path) -> str:
    """Puts the private key of a new account into the file, and a random JWT_SECRET if it has none; returns the address.

    The other lines stay; only the owner can read the file afterwards. The key is shown nowhere. Raises
    `InvalidRequest` where the file has a key already: without it, the ETH of its wallet would be lost.
    """
    path = env_file.resolve()
    text = path.read_text() if path.exists() else ""
    if _has(text, KEY):
        raise InvalidRequest(f"{env_file} has a {KEY} already: it is kept. Give another file, or remove that line.")
    account = Account.create()
    text = _with(text, KEY, account.key.to_0x_hex())
    if not _has(text, SECRET):
        text = _with(text, SECRET, secrets.token_hex(32))
    _replace(path, text)
    return str(account.address)


def _line(name: str) -> str:
    return rf"^[ \t]*(?:export[ \t]+)?{name}[ \t]*"


def _has(text: str, name: str) -> bool:
    return bool(re.search(_line(name) + r"=[ \t]*['\"]?[^\s'\"#]", text, re.MULTILINE))


def _with(text: str, name: str, value: str) -> str:
    """The text with the setting: in its line where there is one, which is empty, else at the end."""
    filled, count = re.subn(_line(name) + "(?:=.*)?$", f"{name}={value}", text, flags=re.MULTILINE)
    if count:
        return filled
    return f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{name}={value}\n"


def _replace(path: Path, text: str) -> None:
    """All at once, so that no crash leaves half a file; readable for its owner only, as `mkstemp` makes it."""
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
