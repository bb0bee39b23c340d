"""The corpus of a guided search: sequences that reached something new, on disk as scenario files.

Each thing that was reached belongs to the shortest sequence that reaches it, cut off right after it, so the corpus does
not fill with long ones. A sequence to which nothing belongs any more is deleted. What few sequences reach is mutated
more often.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from stakesim.scenario.scenario import Scenario, dump, load
from stakesim.schema.errors import InputError

if TYPE_CHECKING:
    from numpy.random import Generator


@dataclass(eq=False)
class _Entry:
    scenario: Scenario
    reached: set[Hashable] = field(default_factory=set)


class Corpus:
    """Sequences by what they reach.

    Attributes:
        folder: Where they are kept.
        unreadable: Files of the folder that are no valid scenarios, as after a change of the file format.
    """

    def __init__(self, folder: Path) -> None:
        """Starts empty; `stored` has the sequences of earlier searches. The folder is made if it is missing."""
        self.folder = folder
        self.unreadable: list[Path] = []
        self._entries: list[_Entry] = []
        self._owners: dict[Hashable, _Entry] = {}
        self._counts: Counter[Hashable] = Counter()
        folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def reached(self) -> int:
        """Number of different things that were reached."""
        return len(self._counts)

    def stored(self) -> dict[Path, Scenario]:
        """The scenarios in the folder, in the order of their names.

        Whoever plays one deletes its file before: `add` writes it again if it still reaches something of its own.
        """
        scenarios = {}
        for file in sorted(self.folder.glob("*.yaml")):
            try:
                scenarios[file] = load(file)
            except InputError:
                self.unreadable.append(file)
        return scenarios

    def add(self, scenario: Scenario, reached: Mapping[Hashable, int]) -> bool:
        """Counts what a sequence reached, and keeps it if something is new, or was reached by longer ones only.

        Args:
            scenario: The sequence.
            reached: What it reached, each with the number of actions after which that was.

        Returns:
            Whether something is new.
        """
        new = [one for one in reached if one not in self._counts]
        self._counts.update(reached.keys())
        gained = [one for one, length in reached.items() if one in new or self._length(one) > 2 * length]
        if not gained:
            return False
        entry = _Entry(_cut(scenario, max(reached[one] for one in gained)))
        for one in gained:
            self._give(one, entry)
        self._entries.append(entry)
        self._file(entry).write_text(dump(entry.scenario), encoding="utf-8")
        return bool(new)

    def choose(self, rng: Generator) -> Scenario:
        """Draws a sequence: rather one that reaches what few others reach, and rather a short one."""
        weights = [
            sum(1 / self._counts[one] for one in entry.reached) / sqrt(len(entry.scenario.actions) or 1)
            for entry in self._entries
        ]
        point = rng.random() * sum(weights)
        for entry, weight in zip(self._entries, weights, strict=True):
            point -= weight
            if point <= 0:
                return entry.scenario
        return self._entries[-1].scenario

    def _length(self, one: Hashable) -> int:
        return len(self._owners[one].scenario.actions)

    def _give(self, one: Hashable, entry: _Entry) -> None:
        """Makes something belong to an entry, and removes the one that it belonged to if that has nothing left."""
        before = self._owners.get(one)
        self._owners[one] = entry
        entry.reached.add(one)
        if before is None:
            return
        before.reached.discard(one)
        if not before.reached:
            self._entries.remove(before)
            self._file(before).unlink(missing_ok=True)

    def _file(self, entry: _Entry) -> Path:
        return self.folder / f"{entry.scenario.name}.yaml"


def _cut(scenario: Scenario, length: int) -> Scenario:
    """The first actions of a scenario, under a name that follows from its content."""
    actions = scenario.actions[:length]
    if getattr(actions[-1], "pending", False):  # nothing comes after it
        actions = (*actions[:-1], actions[-1].model_copy(update={"pending": False}))
    scenario = scenario.model_copy(update={"actions": actions, "name": "corpus", "origin": None})
    name = hashlib.sha256(dump(scenario).encode()).hexdigest()[:16]
    return scenario.model_copy(update={"name": f"c{name}"})
