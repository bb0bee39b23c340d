"""Which version of the service runs."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple


class Build(NamedTuple):
    """Version of the distribution, and the commit that it was built from."""

    version: str
    commit: str


def current_build() -> Build:
    """Returns what runs. Each part is "unknown" if nobody said.

    The commit is the environment variable BUILD_COMMIT, which whoever builds an image sets.
    """
    try:
        distribution = version("stakesim")
    except PackageNotFoundError:  # the backend is started from a checkout
        distribution = "unknown"
    return Build(distribution, os.environ.get("BUILD_COMMIT") or "unknown")
