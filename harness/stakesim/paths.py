"""Where files are: what ships with the library, and where it keeps its state."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parents[1]


def checkout() -> Path | None:
    """The root of the source checkout that this library runs from; None where it is installed from a wheel."""
    return _CHECKOUT if (_CHECKOUT / "contracts" / "EventStake.sol").is_file() else None


def shipped(name: str) -> Path:
    """A file or folder that ships with the library, as `contracts` or `scenarios/profiles`.

    In a checkout it is the one at its root; the wheel has a copy in `stakesim/_data`.
    """
    return (checkout() or data("")) / name


def data(name: str) -> Path:
    """A file or folder of the package's own data, in a checkout and in a wheel alike."""
    return _PACKAGE / "_data" / name


def state_dir() -> Path:
    """Where caches and the embedded database are: `STAKESIM_HOME`, else the checkout's `.stakesim`, else the user's
    data directory."""
    if home := os.environ.get("STAKESIM_HOME"):
        return _expanded(home)
    if root := checkout():
        return root / ".stakesim"
    if sys.platform == "darwin":
        return _expanded("~/Library/Application Support/stakesim")
    return _expanded(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "stakesim"


def _expanded(place: str) -> Path:
    """With ~ as the user's folder; as it stands where there is no such user, for which pathlib raises an error."""
    return Path(os.path.expanduser(place))
