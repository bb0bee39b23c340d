"""A report of a gate that everything passed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from stakesim.evm.contract_file import production_contract
from stakesim.evm.coverage import Coverage
from stakesim.gas_table import GasChange
from stakesim.gate import report
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_result import MutantStatus, MutationResult, Stage, Verdict
from stakesim.gate.profiles import PARTS
from stakesim.gate.proofs import PROVED, Proof
from stakesim.gate.result import GatePart, GateResult
from stakesim.gate.static_analysis import ToolReport
from stakesim.scenario.actions import Terms


def passing_report(written_at: datetime) -> dict[str, Any]:
    """The content of gate.json if `EventStake` has passed all of the profile `release`."""
    mutant = Mutant("add", 0, 1, "+", "-", "pay", 4, 1, "total += fee;")
    proof = Proof("check_payout", PROVED, 1.25)
    figures = {"scenarios": 40, "steps": 400, "transactions": 300}
    figures |= {"functions": 34, "examples": 500, "calls": 10_000_000, "properties": 1, "mutants": 1, "episodes": 200}
    gate = GateResult(production_contract(), None, Terms(), "release", "revm", 7)
    gate.parts = [GatePart(name, "", figures=dict(figures), seeds=[7]) for name in PARTS]
    gate.coverage = Coverage("EventStake.sol", {1: True}, ())
    gate.mutation = MutationResult("", [Verdict(mutant, MutantStatus.KILLED, stage=Stage.LANE)])
    gate.analyses = [ToolReport("slither", [], {"findings": 0}, 1.0), ToolReport("halmos", [], {}, 1.0, [proof])]
    gate.revision = {"commit": "c0ffee" * 6 + "abcd", "dirty": False}
    gate.gas = [GasChange("somebody books", 100_000, 100_000)]
    gate.reached.update({"runs": 3})
    content: dict[str, Any] = json.loads(json.dumps(report.as_json(gate, written_at, "stakesim gate")))
    return content
