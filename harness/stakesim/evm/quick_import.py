"""Imports web3 and py-evm without packages that take half a second to import, and that scenarios hardly ever use.

web3 imports aiohttp for its asynchronous providers, and eth-account imports py_ecc by `eth_keyfile.keyfile`, for the
keys of validators. py-evm imports py_ecc for the precompiled contracts of EIP-2537. All are imported when one of their
functions or classes is first called.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _StandIn(ModuleType):
    """A module whose functions and classes, as far as they are only called, import the real one at the first call."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(_: type, *arguments: Any, **options: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*arguments, **options)

        return type(name, (), {"__new__": call})  # a class, as web3 writes `ClientSession | None`


def import_web3() -> None:
    """Imports web3 quickly. Whatever imports one of the packages later gets the real one."""
    _import("web3", without=("aiohttp", "eth_keyfile.keyfile"))


def import_precompiles() -> None:
    """Imports py-evm's precompiled contracts quickly, as `import_web3` imports web3."""
    _import("eth.precompiles", without=("eth.precompiles.bls12_381",))


def _import(name: str, without: tuple[str, ...]) -> None:
    stand_ins = {seldom: _StandIn(seldom) for seldom in without if seldom not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        import_module(name)
    finally:
        for seldom in stand_ins:
            del sys.modules[seldom]
