"""Records which instructions of a contract py-evm runs, for `stakesim.evm.coverage`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from stakesim.evm.in_process.py_evm import GasWatchingComputation

Code: TypeAlias = bytes
"""Bytecode that ran."""
_JUMPI = 0x57


@dataclass
class ExecutionTrace:
    """What ran, by code.

    Attributes:
        executed: Program counters of the instructions that ran.
        jumps: Program counters of the conditional jumps that ran, each with whether it jumped.
    """

    executed: dict[Code, set[int]] = field(default_factory=lambda: defaultdict(set))
    jumps: dict[Code, set[tuple[int, bool]]] = field(default_factory=lambda: defaultdict(set))

    def computation(self) -> type[GasWatchingComputation]:
        """Returns the class with which py-evm must run code so that this trace records it."""
        opcodes = {value: self._recording(value, run) for value, run in GasWatchingComputation.opcodes.items()}
        return type("TracedComputation", (GasWatchingComputation,), {"opcodes": opcodes})

    def _recording(self, opcode: int, run: Callable[..., None]) -> Callable[..., None]:
        executed, jumps = self.executed, self.jumps

        def run_and_record(computation: Any) -> None:
            code, counter = computation.msg.code, computation.code.program_counter - 1
            executed[code].add(counter)
            run(computation=computation)
            if opcode == _JUMPI:
                jumps[code].add((counter, computation.code.program_counter != counter + 1))

        return run_and_record

    def save(self, file: Path) -> None:
        """Writes the trace to a JSON file."""
        rows = [
            {"code": code.hex(), "executed": sorted(counters), "jumps": sorted(self.jumps[code])}
            for code, counters in self.executed.items()
        ]
        file.write_text(json.dumps(rows))

    def add(self, file: Path) -> None:
        """Adds a trace that another process has saved."""
        for row in json.loads(file.read_text()):
            code = bytes.fromhex(row["code"])
            self.executed[code].update(row["executed"])
            self.jumps[code].update((counter, jumped) for counter, jumped in row["jumps"])
