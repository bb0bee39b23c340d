"""A scenario is data: actors, the contract's terms, a price model, and actions with their times.

Scripted, random, shrunk and replayed scenarios are one type and one file format (YAML). `load` and `dump` are each
other's inverse; the first error of a file is reported as one `InputError` with file, line and field.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from stakesim.prices.formula_paths import RateAt
from stakesim.prices.price_models import Constant, PriceModel
from stakesim.prices.price_paths import rate_path
from stakesim.scenario.actions import (
    ACTOR_FIELDS,
    PLATFORM,
    Action,
    Actor,
    AnyAction,
    Book,
    CallFunction,
    Complete,
    CreateRun,
    ForceEther,
    ScriptReceiver,
    Terms,
    Withdraw,
)
from stakesim.scenario.administration import Administration
from stakesim.schema import yaml_file
from stakesim.schema.errors import FieldError, FieldPath, InputError, suggestion
from stakesim.schema.fields import Label, StrictModel, Wei
from stakesim.schema.yaml_loader import line_of

PAUSE = 60
"""Seconds between an action without a time and the action before it."""


def _check_name(name: str) -> str:
    if not all((part.isalnum() and part.islower()) or part.isdigit() for part in name.split("-")):
        raise ValueError(f"{name!r} is not a name; write small letters and digits joined by -, like the file's name")
    return name


class Scenario(StrictModel):
    """A scenario.

    Attributes:
        name: Small letters and digits joined by hyphens; the name of the scenario's file.
        story: What happens, in a sentence.
        terms: The terms that the contract is deployed with.
        price: The market's price model.
        seed: The seed of a random scenario.
        strict: Whether an action without `fails` must succeed. In a random scenario the model alone decides.
        actors: The actors by name, without the platform.
        actions: The actions in their order.
        received: Wei that each actor receives over the whole scenario, pushed or as a credit, which counts when it
            arises. The platform's fees count when they are withdrawn.
        origin: Where a random, shrunk or replayed scenario comes from.
    """

    name: Annotated[str, AfterValidator(_check_name)]
    story: str
    terms: Terms = Terms()
    price: PriceModel = Constant()
    seed: Annotated[int, Field(ge=0)] = 0
    strict: bool = True
    actors: dict[Label, Actor]
    actions: tuple[AnyAction, ...]
    received: dict[Label, Wei] = Field(default_factory=dict)
    origin: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if PLATFORM in self.actors:
            raise FieldError(("actors", PLATFORM), "the platform is always there; leave it out, or take another name")
        _check_received(self)
        _check_labels(self)
        for index, action in enumerate(self.actions):
            check_actors(self.actors, index, action)
        if self.actions and getattr(self.actions[-1], "pending", False):
            path = ("actions", len(self.actions) - 1, "pending")
            raise FieldError(path, "it waits for the next action's transaction, and there is none; add one after it")
        return self

    def timeline(self) -> list[tuple[int, Action]]:
        """Each action with its time in seconds from the scenario's start.

        Times of blocks must rise, so an action that is not later than the one before it happens one second after it.
        """
        timeline: list[tuple[int, Action]] = []
        for action in self.actions:
            previous = timeline[-1][0] if timeline else None
            at = action.at if action.at is not None else (0 if previous is None else previous + PAUSE)
            timeline.append((at if previous is None else max(at, previous + 1), action))
        return timeline

    def rate_path(self) -> RateAt:
        """The market's rate at each second from the scenario's start; `set_price` overrides it for the price feed."""
        return rate_path(self.price)


# Checks of one field against another


def _check_received(scenario: Scenario) -> None:
    for name, wei in scenario.received.items():
        path = ("received", name)
        if wei < 0:
            raise FieldError(path, f"is {wei}; write 0 or more, for nobody gets less than nothing")
        if name != PLATFORM:
            _check_exists(path, "actor", name, scenario.actors)
            if scenario.actors[name].wallet == "none":
                raise FieldError(path, f"{name} has no wallet, the platform gets it; name `platform` instead")


def _check_labels(scenario: Scenario) -> None:
    """Every run and booking has a label of its own, and every label in an action exists."""
    runs: dict[str, int] = {}
    bookings: dict[str, int] = {}
    for index, action in enumerate(scenario.actions):
        if isinstance(action, CreateRun):
            _check_new(("actions", index, "run"), action.run, runs)
            runs[action.run] = index
        elif isinstance(action, Book):
            _check_new(("actions", index, "booking"), action.booking, bookings)
            bookings[action.booking] = index
    for index, action in enumerate(scenario.actions):
        for field, labels in (("run", runs), ("booking", bookings)):
            if (label := getattr(action, field, None)) is not None:
                _check_exists(("actions", index, field), field, label, labels)
        for position, label in enumerate(action.attended if isinstance(action, Complete) else ()):
            _check_exists(("actions", index, "attended", position), "booking", label, bookings)


def check_actors(actors: Mapping[str, Actor], index: int, action: Action) -> None:
    """Every actor in an action exists, and can sign a transaction that they must sign themselves."""
    all_actors = {**actors, PLATFORM: Actor()}
    for field in ACTOR_FIELDS:
        if (name := getattr(action, field, None)) is not None:
            _check_exists(("actions", index, field), "actor", name, all_actors)
    payer = getattr(action, "paid_by", None)
    field, by = ("paid_by", payer) if payer else ("by", getattr(action, "by", None) or PLATFORM)
    actor = all_actors[by]
    if getattr(action, "payment", "in_time") != "in_time" and actor.pays == "self":
        raise FieldError(("actions", index, "payment"), f"{by} pays wei, and no INR; leave out `payment`")
    if isinstance(action, ScriptReceiver) and actor.receiver != "scripted":
        raise FieldError(("actions", index, "by"), f"{by} can't be told what to do; give it `receiver: scripted`")
    if isinstance(action, ForceEther) and actor.is_contract:
        raise FieldError(("actions", index, "by"), f"{by} is a contract and signs nothing; name another actor")
    if isinstance(action, ForceEther | CallFunction) and actor.wallet == "none":
        raise FieldError(("actions", index, "by"), f"{by} has no wallet and signs nothing; name another actor")
    if (payer or isinstance(action, Administration)) and actor.wallet == "none":
        raise FieldError(("actions", index, field), f"{by} has no wallet and signs nothing; name another actor")
    if getattr(action, "direct", False) and actor.wallet == "none":
        advice = "leave out `direct`" if isinstance(action, Withdraw) else "leave out `direct`, or name another actor"
        raise FieldError(("actions", index, "direct"), f"{by} has no wallet and signs nothing; {advice}")


def _check_new(path: FieldPath, label: str, taken: Mapping[str, int]) -> None:
    if label in taken:
        raise FieldError(path, f"{label!r} is taken by actions[{taken[label]}]; give each one a name of its own")


def _check_exists(path: FieldPath, kind: str, name: str, names: Mapping[str, object]) -> None:
    if name not in names:
        raise FieldError(path, f"there is no {kind} {name!r}; {suggestion(name, names)}")


# Files


def load(file: str | Path) -> Scenario:
    """Reads a scenario from a YAML file that has the scenario's name.

    Raises:
        InputError: The file can't be read, is no valid scenario, or has no actions.
    """
    scenario: Scenario = yaml_file.load_named(file, Scenario, "scenario file")
    if not scenario.actions:
        line = line_of(Path(file).read_text(encoding="utf-8"), ("actions",))
        raise InputError(
            f"{file}, line {line}, actions: is empty; write at least one, as a scenario of none does nothing"
        )
    return scenario


def loads(text: str, source: str = "scenario") -> Scenario:
    """Reads a scenario from YAML; it may have no actions.

    Args:
        text: The YAML.
        source: Its name for errors.

    Raises:
        InputError: The text is no valid scenario.
    """
    return yaml_file.read(text, source, Scenario)


def dump(scenario: Scenario) -> str:
    """Writes a scenario as YAML, without the fields that have their default."""
    data = scenario.model_dump(exclude_defaults=True, exclude={"actions"})
    data["actions"] = [_action_fields(action) for action in scenario.actions]
    if "price" in data:
        data["price"] = {"path": scenario.price.path, **data["price"]}
    order = [name for name in Scenario.model_fields if name in data]
    return yaml_file.write({name: data[name] for name in order})


def _action_fields(action: Action) -> dict[str, Any]:
    """The fields of an action in the order in which they are written: time and kind first, modifiers last."""
    fields = action.model_dump(exclude_defaults=True)
    first = {"at": fields.pop("at", None), "do": action.do}
    modifiers = (
        *("direct", "paid_by", "pending", "retried", "answer_lost", "reorganised"),
        *("value_off", "payment", "feed_moves", "fails"),
    )
    last = {name: fields.pop(name, None) for name in modifiers}
    return {name: value for name, value in {**first, **fields, **last}.items() if value is not None}


def json_schema() -> dict[str, Any]:
    """The file format as JSON schema, for editors. It does not check references between fields, which `load` does."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}


if __name__ == "__main__":
    import json
    import sys

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
