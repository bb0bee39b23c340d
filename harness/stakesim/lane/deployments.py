"""What a contract says when it is deployed with terms at the edges of what is allowed, and beyond them."""

from __future__ import annotations

from typing import Any, TypeAlias

from pyrevm import EVM, CfgEnv, Env

from stakesim.evm.chain_spec import CHAIN_ID
from stakesim.evm.compiler import Artifact
from stakesim.evm.deployment import constructor_types, init_code
from stakesim.evm.in_process.pyrevm_text import parse_failure
from stakesim.scenario.actions import Terms
from stakesim.units import DAY, HOUR

Outcome: TypeAlias = tuple[bool, tuple[tuple[tuple[str, ...], bytes], ...], bytes]
"""Whether it was deployed, topics and data of its logs, and the data of a revert."""
_EDGES = (
    (0, 5_000, 5_001, 2**16 - 1),
    (0, 1_000, 1_001, 2**16 - 1),
    (0, 10_000, 10_001, 2**16 - 1),
    (0, 30 * DAY, 30 * DAY + 1, 2**32 - 1),
    (0, HOUR - 1, HOUR, 90 * DAY, 90 * DAY + 1, 2**32 - 1),
)
"""Values of each term, in the order of the constructor's struct: basis points, then seconds."""
_OWNER = "0x" + "a0" * 20
_GAS = 2**30


def deployments(contract: Artifact) -> dict[tuple[str, tuple[int, ...]], Outcome]:
    """Deploys a contract with each edge of each term, by an owner and by nobody.

    Returns:
        The outcome by owner and terms; the terms are in the order of the constructor's struct.
    """
    usual = Terms().as_struct()
    edges = [(*usual[:place], value, *usual[place + 1 :]) for place, values in enumerate(_EDGES) for value in values]
    cases = [(_OWNER, usual), ("0x" + "00" * 20, usual), *((_OWNER, terms) for terms in edges)]
    return {case: _deploy(contract, *case) for case in cases}


def _deploy(contract: Artifact, owner: str, terms: tuple[int, ...]) -> Outcome:
    evm = EVM(Env(cfg=CfgEnv(chain_id=CHAIN_ID)), gas_limit=_GAS, spec_id="CANCUN")
    args = (owner, terms)[: len(constructor_types(contract))]
    try:
        evm.deploy(_OWNER, init_code(contract, args), 0, _GAS)
    except RuntimeError as failure:
        return False, (), parse_failure(failure)[1]
    result: Any = evm.result
    logs = tuple((tuple(log.topics), bytes(log.data[1])) for log in result.logs)
    return True, logs, b""
