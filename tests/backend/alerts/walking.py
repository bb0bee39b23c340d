"""Follows a section of the runbook as its reader does: runs its commands, and does by hand what has none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import runbook
from runbook import Section, Step
from stand_in import StandIn

SHOWN = {
    "KEY": r"(?m)^([0-9a-f-]{36}:[\w-]+|forged:1)",
    "HASH": r"(0x[0-9a-f]{64})",
    "PID": r"(?m)^ *(\d+) \|",
    "PAYMENT": r"(?m)^([0-9a-f-]{36})  (?:refund|dispute)",
}
"""What the reader takes from the output of a check, by placeholder."""


TRIES = 20
"""How often a check is run again that does not show what it is for."""


@dataclass
class Reader:
    """What a reader knows and does in one incident.

    Attributes:
        decides: Values that the reader decides about, by placeholder.
        leaves_out: Beginnings of the steps whose condition does not hold.
        by_hand: What the reader does in steps without commands, by the beginnings of these.
        shown: Patterns of what a check shows, where they are others than in `SHOWN`.
    """

    decides: Mapping[str, str] = field(default_factory=dict)
    leaves_out: tuple[str, ...] = ()
    by_hand: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Following:
    """A reader who follows the page at a stand-in.

    Attributes:
        output: What the commands printed so far.
        steps: The steps that were done.
        unused: Beginnings of steps that were not met yet.
    """

    stand_in: StandIn
    reader: Reader
    output: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.unused = {*self.reader.leaves_out, *self.reader.by_hand}
        self._sections = runbook.sections()
        [self._functions] = self._sections["Before you begin"].blocks
        self._last_check = ""

    def follow(self, name: str) -> None:
        """Follows a section, and those that its steps lead to."""
        section: Section = self._sections[name]
        for commands in section.check:
            self._run(commands, must_succeed=False)
            self._last_check = commands
        for step in section.steps:
            if self._meets(step, self.reader.leaves_out) is None:
                self._do(name, step)

    def finish(self) -> None:
        """Fails if the page lacks a step that the test expects, as its text was changed."""
        assert not self.unused, f"the page has no step that begins with {self.unused}; done: {self.steps}"

    def _do(self, section: str, step: Step) -> None:
        self.steps.append(f"{section}: {step.text[:60]}")
        by_hand = self._meets(step, self.reader.by_hand)
        if by_hand is not None:
            self.reader.by_hand[by_hand]()
        if step.commands:
            self._run(step.commands, must_succeed=True)
        if step.follows and by_hand is None:
            self.follow(step.follows)
        assert by_hand is not None or step.commands or step.follows, f"what does the reader do here? {step.text}"

    def _meets(self, step: Step, beginnings: Mapping[str, object] | tuple[str, ...]) -> str | None:
        found = next((each for each in beginnings if step.text.startswith(each)), None)
        self.unused -= {found or ""}
        return found

    def _run(self, commands: str, *, must_succeed: bool) -> None:
        """Runs commands; once for each value, if a placeholder has several."""
        names = [name for name in SHOWN if f'"${name}"' in commands or f"(${name})" in commands]
        values = [(name, self._shown(name)) for name in names]
        [(name, found)] = values or [("", [""])]
        for value in found:
            chosen = dict(self.reader.decides) | ({name: value} if name else {})
            self.output.append(self.stand_in.run(self._functions + commands, chosen, must_succeed=must_succeed))

    def _shown(self, name: str) -> list[str]:
        """Returns what the last output shows that has the placeholder; runs the last check again if none does."""
        pattern = {**SHOWN, **self.reader.shown}[name]
        for _ in range(TRIES):
            for output in reversed(self.output):
                if found := re.findall(pattern, output):
                    return list(dict.fromkeys(found))
            self._run(self._last_check, must_succeed=False)
        raise AssertionError(f"no check shows what ${name} is: {self.output}")
