"""Records which instructions of a contract py-evm runs, for coverage."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from stakesim.evm.in_process.py_evm import GasWatchingComputation

Code: TypeAlias = bytes
"""Bytecode, as it ran."""
_JUMPI = 0x57


@dataclass
class ExecutionTrace:
    """Where the machine was, by the code that ran: program counters, and conditional jumps with whether they jumped."""

    executed: dict[Code, set[int]] = field(default_factory=lambda: defaultdict(set))
    jumps: dict[Code, set[tuple[int, bool]]] = field(default_factory=lambda: defaultdict(set))

    def computation(self) -> type[GasWatchingComputation]:
        """What py-evm is to run code with, so that it is noted here."""
        noted = {value: self._noted(value, run) for value, run in GasWatchingComputation.opcodes.items()}
        return type("Traced", (GasWatchingComputation,), {"opcodes": noted})

    def _noted(self, opcode: int, run: Callable[..., None]) -> Callable[..., None]:
        executed, jumps = self.executed, self.jumps

        def note(computation: Any) -> None:
            code, at = computation.msg.code, computation.code.program_counter - 1
            executed[code].add(at)
            run(computation=computation)
            if opcode == _JUMPI:
                jumps[code].add((at, computation.code.program_counter != at + 1))

        return note

    def save(self, file: Path) -> None:
        """For `read`, by another process."""
        rows = [
            {"code": code.hex(), "executed": sorted(counters), "jumps": sorted(self.jumps[code])}
            for code, counters in self.executed.items()
        ]
        file.write_text(json.dumps(rows))

    def read(self, file: Path) -> None:
        """Adds what another process saved."""
        for row in json.loads(file.read_text()):
            code = bytes.fromhex(row["code"])
            self.executed[code].update(row["executed"])
            self.jumps[code].update((at, jumped) for at, jumped in row["jumps"])
