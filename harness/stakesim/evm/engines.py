"""The registry of engines, by the names that `--engine` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stakesim.evm.engine import Engine
from stakesim.evm.errors import EngineError

if TYPE_CHECKING:
    from stakesim.evm.in_process.trace import ExecutionTrace


def open_engine(name: str, *, keys: Sequence[str] = (), trace: ExecutionTrace | None = None) -> Engine:
    """Starts an engine, or connects to one.

    Args:
        name: `py-evm`, `revm`, `anvil`, or a node's URL, with or without the prefix `rpc:`.
        keys: Private keys of the accounts on a node behind a URL, in hex.
        trace: Records which instructions run. Only py-evm can do this.

    Raises:
        EngineError: The name is unknown, the engine can't be started or reached, or it can't take an option.
        NotInstalled: `revm` was chosen and pyrevm is not installed.
    """
    url = name.removeprefix("rpc:")
    is_url = url.startswith(("http://", "https://"))
    if name not in ("py-evm", "revm", "anvil") and not is_url:
        raise EngineError(f"Unknown engine {name!r}: choose py-evm, revm, anvil, or rpc:http://HOST:PORT.")
    if keys and not is_url:
        raise EngineError(f"The engine {name} has accounts of its own: leave out the keys, or give a node's URL.")
    if trace is not None and name != "py-evm":
        raise EngineError(f"The engine {name} can't record which instructions run: use py-evm.")
    if is_url:
        from stakesim.evm.remote import RemoteEngine

        return RemoteEngine(url, keys)
    if name == "anvil":
        from stakesim.evm.anvil import AnvilEngine

        return AnvilEngine()
    from stakesim.evm.in_process.engine import InProcessEngine

    return InProcessEngine(name, trace)
