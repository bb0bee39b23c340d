"""An episode as data: what clients asked, and what happened around which request. Replaying it needs no random numbers.

An event is addressed by the method of a request and its number among the requests with this method in the same step.
So most addresses stay right if another step is left out, or if the service changes how often it reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from stakesim.schema import yaml_file
from stakesim.schema.fields import Count, StrictModel, Whole

BLOCK = "block"
"""Event: a block is mined before the request."""
OTHER_WORKER = "other worker"
"""Event: another worker of the service runs a round before the request."""


class Event(StrictModel):
    """Something that happens before, at or after a request.

    Attributes:
        request: JSON-RPC method of the request.
        nth: Number of the request among those with this method in the step, from 1.
        event: Name of a fault, `BLOCK` or `OTHER_WORKER`.
        choices: What was chosen at random in it, by name.
    """

    request: str
    nth: Whole = Field(ge=1)
    event: str
    choices: dict[str, Any] = Field(default_factory=dict)


class Step(StrictModel):
    """One request of a client, or one round of work that the service does by itself.

    Attributes:
        do: What is done; the campaign of the service knows it by this name.
        args: Its arguments.
        events: Events around the service's RPC requests in this step, in order.
    """

    do: str
    args: dict[str, Any] = Field(default_factory=dict)
    events: tuple[Event, ...] = ()


class EpisodeScript(StrictModel):
    """A script of an episode, as a file in `scenarios/regressions/faults/` has it.

    Attributes:
        schema_version: Of this format.
        kind: Kind of the episode.
        invariant: Id of the invariant that it violated when it was found; None in a script that violates none.
        story: The violation, in words.
        seed: Seed of the campaign that found it.
        number: Number of the episode in that campaign.
        settings: How the service is set up, such as confirmations and waiting times.
        steps: Empty for episodes of several processes: they run again from seed and number, and may go differently.
    """

    schema_version: Literal[1] = 1
    kind: str
    invariant: str | None = None
    story: str = ""
    seed: Count = 0
    number: Count = 0
    settings: dict[str, Any] = Field(default_factory=dict)
    steps: tuple[Step, ...] = ()

    @property
    def fault_count(self) -> int:
        """Number of events that are faults."""
        return sum(event.event not in (BLOCK, OTHER_WORKER) for step in self.steps for event in step.events)


def load_script(file: Path) -> EpisodeScript:
    """Reads a script.

    Raises:
        InputError: The file can't be read, or is not valid.
    """
    return yaml_file.load(file, EpisodeScript, "fault episode")


def save_script(script: EpisodeScript, file: Path) -> None:
    """Writes a script, with a line for each event, and for each step without events."""
    fields = {"schema_version": script.schema_version} | script.model_dump(mode="json", exclude_defaults=True)
    first_line = f"# Replay it: stakesim faults --replay {file.name}, with this file's path\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml_file.write(fields, first_line), encoding="utf-8")
