"""Imports web3 without two packages that take half a second to import, and that a run of scenarios hardly ever uses.

web3 imports aiohttp for its asynchronous providers, and eth-account imports py_ecc by `eth_keyfile.keyfile`, for the
keys of validators. Here both are imported when one of their functions or classes is first called.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_SELDOM_USED = ("aiohttp", "eth_keyfile.keyfile")


class _StandIn(ModuleType):
    """A module whose functions and classes, as far as they are only called, import the real one at the first call."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(_: type, *arguments: Any, **options: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*arguments, **options)

        return type(name, (), {"__new__": call})  # a class, as web3 writes `ClientSession | None`


def import_web3() -> None:
    """Imports web3 quickly. Whatever imports one of the two packages later gets the real one."""
    stand_ins = {name: _StandIn(name) for name in _SELDOM_USED if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        import_module("web3")
    finally:
        for name in stand_ins:
            del sys.modules[name]
