"""Finds what ships with the library, and the folder for its state."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parents[1]


def checkout() -> Path | None:
    """Returns the root of the source checkout that the library runs from; None if it is installed from a wheel."""
    return _CHECKOUT if (_CHECKOUT / "contracts" / "EventStake.sol").is_file() else None


def shipped(name: str) -> Path:
    """Returns a file or folder that ships with the library, such as `contracts` or `scenarios/profiles`.

    In a checkout it is below the root; a wheel has a copy in `stakesim/_data`.
    """
    return (checkout() or package_data("")) / name


def package_data(name: str) -> Path:
    """Returns a file or folder that is in `stakesim/_data` in a checkout, too."""
    return _PACKAGE / "_data" / name


def state_dir() -> Path:
    """Returns the folder for caches and the embedded database.

    It is `STAKESIM_HOME`, else the checkout's `.stakesim` if this user may write there, else the user's data directory.
    """
    if home := os.environ.get("STAKESIM_HOME"):
        return _expand_user(home)
    if (root := checkout()) and _is_writable(root / ".stakesim"):
        return root / ".stakesim"
    if sys.platform == "darwin":
        return _expand_user("~/Library/Application Support/stakesim")
    return _expand_user(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "stakesim"


def _is_writable(folder: Path) -> bool:
    """Whether this user may write into the folder, or make it."""
    return os.access(folder if folder.exists() else folder.parent, os.W_OK)


def _expand_user(path: str) -> Path:
    """Expands `~`. Unlike pathlib, it leaves the path unchanged if there is no such user."""
    return Path(os.path.expanduser(path))
