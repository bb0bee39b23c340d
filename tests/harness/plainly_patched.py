"""Contracts on a build that takes a second instead of five to forty: `EventStake` with one piece replaced, and others.

They do the same for more gas, so these tests judge no gas: a fault that shows in gas needs `patched_event_stake` or
`load_contract`.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stakesim.evm.compiler import Artifact, Compiler, artifacts_from_output, error_messages
from stakesim.evm.contract_file import patched_sources
from stakesim.evm.import_resolver import collect_sources
from stakesim.gate.plain_build import PLAIN_SETTINGS, compile_contract, compile_plain
from stakesim.runner.environment import Environment


@functools.cache
def plainly_patched(old: str, new: str, *more: tuple[str, str]) -> Artifact:
    """Returns what `patched_event_stake` does, on a build without optimizer; `more` are further replacements."""
    sources = patched_sources(old, new)
    for another, replacement in more:
        assert sources["EventStake.sol"].count(another) == 1
        sources["EventStake.sol"] = sources["EventStake.sol"].replace(another, replacement)
    output = compile_plain(_compiler(), sources, "EventStake.sol")
    assert not error_messages(output.get("errors", ()))
    return artifacts_from_output(output, sources)["EventStake"]


@functools.cache
def plainly_compiled(contract: str | Path) -> Artifact:
    """Returns what `load_contract` does of FILE.sol or FILE.sol:NAME, on a build without optimizer or source maps."""
    file, _, name = str(contract).partition(":")
    path = Path(file)
    artifact = compile_contract(_compiler(), collect_sources(path), path.name, name or path.stem, PLAIN_SETTINGS)
    assert artifact is not None
    return artifact


@functools.cache
def _compiler() -> Compiler:
    """One compiler for all tests of this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(Compiler())


@contextmanager
def without_gas_budgets(environment: Environment, contract: Artifact) -> Iterator[None]:
    """Runs scenarios on another contract, to which the budgets of `EventStake` do not apply."""
    environment.set_contract(contract)
    environment.foreign = True
    try:
        yield
    finally:
        environment.set_contract(None)
        environment.foreign = False
