"""The registry of engines, by the names that `--engine` takes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, get_args

from stakesim.evm.engine import Engine
from stakesim.evm.errors import EngineError
from stakesim.evm.hardfork import DEFAULT_HARDFORK, Hardfork

if TYPE_CHECKING:
    from web3.providers.base import BaseProvider

    from stakesim.evm.in_process.trace import ExecutionTrace


def fastest_engine() -> str:
    """Returns the name of the fastest engine that is installed: revm, else py-evm."""
    return "revm" if find_spec("pyrevm") else "py-evm"


def open_engine(name: str, *, keys: Sequence[str] = (), trace: ExecutionTrace | None = None) -> Engine:
    """Starts an engine, or connects to one.

    Args:
        name: `py-evm`, `revm`, `anvil`, or a node's URL, with or without the prefix `rpc:`. `anvil:osaka` is an anvil
            with the rules of that hard fork.
        keys: Private keys of the accounts on a node behind a URL, in hex.
        trace: Records which instructions run. Only py-evm can do this.

    Raises:
        EngineError: The name is unknown, the engine can't be started or reached, or it can't take an option.
        NotInstalled: `revm` was chosen and pyrevm is not installed.
    """
    check_name(name)
    url, is_url = name.removeprefix("rpc:"), _is_url(name)
    program, _, hardfork = name.partition(":")
    if keys and not is_url:
        raise EngineError(f"The engine {name} has accounts of its own: leave out the keys, or give a node's URL.")
    if trace is not None and name != "py-evm":
        raise EngineError(f"The engine {name} can't record which instructions run: use py-evm.")
    if is_url:
        from stakesim.evm.remote import RemoteEngine

        return RemoteEngine(url, keys)
    if program == "anvil":
        from stakesim.evm.anvil import AnvilEngine

        return AnvilEngine(_hardfork(hardfork) if hardfork else DEFAULT_HARDFORK)
    from stakesim.evm.in_process.engine import InProcessEngine

    return InProcessEngine(name, trace)


def provider(engine: str = "py-evm") -> BaseProvider:
    """Starts a chain of its own for a web3 client: `Web3(provider())`.

    The node signs for its accounts (`w3.eth.accounts`), and has the methods of a development node; `docs/NODE.md` lists
    them. An anvil ends with this process, or by `provider.engine.close()`.

    Args:
        engine: As `open_engine` takes it.

    Raises:
        EngineError: As `open_engine` raises it.
        NotInstalled: As `open_engine` raises it.
    """
    if engine in ("py-evm", "revm"):
        from stakesim.evm.in_process.engine import development_node

        return development_node(engine)
    check_name(engine)
    program, _, hardfork = engine.partition(":")
    if program != "anvil":
        return open_engine(engine).w3.provider
    from stakesim.evm.anvil import AnvilEngine

    anvil = AnvilEngine(_hardfork(hardfork) if hardfork else DEFAULT_HARDFORK, unlocked=10)
    opened = anvil.w3.provider
    vars(opened)["engine"] = anvil
    return opened


def check_name(name: str) -> None:
    """Checks that there is such an engine, without opening it.

    Raises:
        EngineError: There is none.
    """
    if not _is_url(name) and name not in ("py-evm", "revm", "anvil") and not name.startswith("anvil:"):
        raise EngineError(f"Unknown engine {name!r}: choose py-evm, revm, anvil, or rpc:http://HOST:PORT.")


def _is_url(name: str) -> bool:
    return name.removeprefix("rpc:").startswith(("http://", "https://"))


def engine_with_rules(engine: str | None, hardfork: str | None) -> str | None:
    """Returns the name of an engine with the rules of a hard fork.

    Args:
        engine: Name of the engine; None for the default one.
        hardfork: Name of the hard fork; None: `engine` is returned as it is.

    Raises:
        EngineError: Only an anvil that is started here can have them.
    """
    if hardfork is None:
        return engine
    if engine not in (None, "anvil"):
        raise EngineError(f"The engine {engine} has rules of its own: leave out --hardfork, or take --engine anvil.")
    return f"anvil:{_hardfork(hardfork)}"


def _hardfork(name: str) -> Hardfork:
    for hardfork in get_args(Hardfork):
        if hardfork == name:
            return hardfork  # type: ignore[no-any-return]
    raise EngineError(f"There are no rules {name!r}: choose {', '.join(get_args(Hardfork))}.")
